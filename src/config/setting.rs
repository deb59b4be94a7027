//! How each kind of value is read and bounded. No mistake shows the text that was written: a secret may have
//! been written in the wrong place.

use std::net::SocketAddr;
use std::time::Duration;

use super::mistake::Findings;
use super::secret;
use super::table::{Field, Shape, did_you_mean};
use super::tree::{Datum, KeyPath, Node, Origin};
use super::units;
use crate::model::{Name, Secret};
use crate::rules::provider::{Preset, preset, presets};

/// Most elements of a list, or entries of a table, that declares no other bound.
const MAX_ELEMENTS: usize = 1_000;
/// Most bytes of a text that declares no other bound.
const MAX_TEXT: usize = 1_024;

/// A type of value.
pub(super) trait Setting: Sized {
    /// The type as data.
    const SHAPE: Shape;

    /// Reads one value within the bounds of its field; `None` after noting a mistake.
    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self>;
}

/// The text of a node. A variable's value that looks like a number or a boolean is still text.
pub(super) fn text(node: &Node) -> Option<String> {
    match (&node.datum, node.origin == Origin::Environment) {
        (Datum::Text(text), _) => Some(text.clone()),
        (Datum::Integer(number), true) => Some(number.to_string()),
        (Datum::Float(number), true) => Some(number.to_string()),
        (Datum::Boolean(value), true) => Some(value.to_string()),
        (
            Datum::Integer(_)
            | Datum::Float(_)
            | Datum::Boolean(_)
            | Datum::List(_)
            | Datum::Table(_),
            _,
        ) => None,
    }
}

/// Notes that a node holds something else than it should.
pub(super) fn wrong_type<T>(
    node: &Node,
    at: &KeyPath,
    expected: &str,
    remedy: &str,
    findings: &mut Findings,
) -> Option<T> {
    findings.mistake(at, format!("expected {expected}, found {}", node.kind()), remedy);
    None
}

/// Passes a value that is inside the field's range; bounds are written like values and read the same way.
fn within<T: PartialOrd>(
    value: T,
    at: &KeyPath,
    field: &Field,
    parse: impl Fn(&str) -> Option<T>,
    findings: &mut Findings,
) -> Option<T> {
    let Some((low, high)) = field.range else { return Some(value) };
    if parse(low).is_some_and(|low| value >= low) && parse(high).is_some_and(|high| value <= high) {
        return Some(value);
    }
    findings.mistake(at, "the value is out of bounds", format!("write {low} to {high}"));
    None
}

/// Passes a length that is inside the field's bounds.
fn sized(
    length: usize,
    unit: &str,
    default: (usize, usize),
    at: &KeyPath,
    field: &Field,
    findings: &mut Findings,
) -> Option<()> {
    let (low, high) = field.size.unwrap_or(default);
    if (low..=high).contains(&length) {
        return Some(());
    }
    findings.mistake(
        at,
        format!("{length} {unit} are out of bounds"),
        format!("write {low} to {high} {unit}"),
    );
    None
}

impl Setting for String {
    const SHAPE: Shape = Shape::Text;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let Some(text) = text(node) else {
            return wrong_type(node, at, "a text", r#"write it in quotes, "...""#, findings);
        };
        // In a list, `size` counts the elements.
        let is_element = matches!(field.shape, Shape::List(_));
        let bounds = field.size.filter(|_| !is_element).unwrap_or((1, MAX_TEXT));
        if !(bounds.0..=bounds.1).contains(&text.len()) {
            let problem = format!("a text of {} bytes is out of bounds", text.len());
            findings.mistake(at, problem, format!("write {} to {} bytes", bounds.0, bounds.1));
            return None;
        }
        Some(text)
    }
}

/// A URL as it was written; `check` decides whether it is one.
pub(super) struct Url(pub(super) String);

impl Setting for Url {
    const SHAPE: Shape = Shape::Url;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        String::read(node, at, field, findings).map(Self)
    }
}

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Setting for $type {
            const SHAPE: Shape = Shape::Integer;

            fn read(
                node: &Node,
                at: &KeyPath,
                field: &Field,
                findings: &mut Findings,
            ) -> Option<Self> {
                let Datum::Integer(number) = &node.datum else {
                    let remedy = "write a whole number without quotes";
                    return wrong_type(node, at, "a whole number", remedy, findings);
                };
                let number = within(*number, at, field, |bound| bound.parse().ok(), findings)?;
                let fits = Self::try_from(number).ok();
                if fits.is_none() {
                    findings.mistake(at, "the number is out of bounds", "write a smaller one");
                }
                fits
            }
        }
    )+};
}
integers!(usize, u32);

impl Setting for f64 {
    const SHAPE: Shape = Shape::Number;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let number = match &node.datum {
            Datum::Float(number) => *number,
            // Every integer that is inside some bound is small enough to be exact.
            Datum::Integer(number) => f64::from(i32::try_from(*number).unwrap_or(i32::MAX)),
            Datum::Text(_) | Datum::Boolean(_) | Datum::List(_) | Datum::Table(_) => {
                return wrong_type(node, at, "a number", "write it without quotes", findings);
            }
        };
        within(number, at, field, |bound| bound.parse().ok(), findings)
    }
}

impl Setting for Duration {
    const SHAPE: Shape = Shape::Duration;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let remedy = units::DURATION_REMEDY;
        let Datum::Text(text) = &node.datum else {
            return wrong_type(node, at, "a duration in quotes", remedy, findings);
        };
        let Some(duration) = units::parse_duration(text) else {
            findings.mistake(at, "this is not a duration", remedy);
            return None;
        };
        within(duration, at, field, units::parse_duration, findings)
    }
}

/// A duration that may also be written as a whole number of seconds, as signature schemes write theirs.
pub(super) struct Tolerance(pub(super) Duration);

impl Setting for Tolerance {
    const SHAPE: Shape = Shape::DurationOrSeconds;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let duration = match &node.datum {
            Datum::Integer(seconds) => {
                let seconds = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
                within(seconds, at, field, units::parse_duration, findings)?
            }
            Datum::Text(_)
            | Datum::Float(_)
            | Datum::Boolean(_)
            | Datum::List(_)
            | Datum::Table(_) => Duration::read(node, at, field, findings)?,
        };
        Some(Self(duration))
    }
}

/// A number of bytes.
pub(super) struct Bytes(pub(super) u64);

impl Setting for Bytes {
    const SHAPE: Shape = Shape::Size;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let remedy = units::SIZE_REMEDY;
        let Datum::Text(text) = &node.datum else {
            return wrong_type(node, at, "a size in quotes", remedy, findings);
        };
        let Some(size) = units::parse_size(text) else {
            findings.mistake(at, "this is not a size", remedy);
            return None;
        };
        within(size, at, field, units::parse_size, findings).map(Self)
    }
}

impl Setting for SocketAddr {
    const SHAPE: Shape = Shape::Address;

    fn read(node: &Node, at: &KeyPath, _field: &Field, findings: &mut Findings) -> Option<Self> {
        let remedy = r#"write an IP address and a port, such as "127.0.0.1:8080" or "[::1]:8080""#;
        let Some(text) = text(node) else {
            return wrong_type(node, at, "an address in quotes", remedy, findings);
        };
        let address = text.parse().ok();
        if address.is_none() {
            findings.mistake(at, "this is not an address to listen on", remedy);
        }
        address
    }
}

impl Setting for Secret {
    const SHAPE: Shape = Shape::Secret;

    fn read(node: &Node, at: &KeyPath, _field: &Field, findings: &mut Findings) -> Option<Self> {
        let Some(reference) = text(node) else {
            return wrong_type(node, at, "a reference in quotes", secret::REMEDY, findings);
        };
        secret::resolve(&reference, at, findings)
    }
}

impl Setting for &'static Preset {
    const SHAPE: Shape = Shape::Provider;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let name = String::read(node, at, field, findings)?;
        let found = preset(&name);
        if found.is_none() {
            let names: Vec<_> = presets().iter().map(|preset| preset.name).collect();
            let remedy = did_you_mean(&name, &names)
                .unwrap_or_else(|| format!("the providers are {}", names.join(", ")));
            findings.mistake(at, "this provider is unknown", remedy);
        }
        found
    }
}

impl<T: Setting> Setting for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);

    /// One value is a list of one: that is also what a variable can say.
    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let Datum::List(nodes) = &node.datum else {
            return Some(vec![T::read(node, at, field, findings)?]);
        };
        sized(nodes.len(), "elements", (1, MAX_ELEMENTS), at, field, findings)?;
        let read = |(index, node)| T::read(node, &at.index(index), field, findings);
        let items: Vec<_> = nodes.iter().enumerate().map(read).collect();
        items.into_iter().collect()
    }
}

/// Tables by name, sorted.
pub(super) struct Named<T>(pub(super) Vec<(Name, T)>);

/// A table that can stand under a name.
pub(super) trait NamedTable: Setting {
    /// The table as data.
    const NAMED: &'static super::table::Table;
}

impl<T: NamedTable> Setting for Named<T> {
    const SHAPE: Shape = Shape::Named(T::NAMED);

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let Datum::Table(entries) = &node.datum else {
            let remedy = format!("write [{at}.NAME] and its keys below");
            return wrong_type(node, at, "tables by name", &remedy, findings);
        };
        if entries.is_empty() {
            let remedy = format!(
                "write [{at}.NAME] with the keys it needs; config.example.toml has examples"
            );
            findings.mistake(at, format!("there is no {at}"), remedy);
            return None;
        }
        sized(entries.len(), "tables", (1, MAX_ELEMENTS), at, field, findings)?;
        // A table that cannot be used is left out, so that the others are still checked against each other.
        let mut tables = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let name = Name::parse(key);
            if name.is_none() {
                let remedy = "start with a-z or 0-9, then up to 62 more of a-z, 0-9 and -";
                findings.mistake(&at.key(key), format!("this is not a name for a {at}"), remedy);
            }
            tables.extend(name.zip(T::read(node, &at.key(key), field, findings)));
        }
        Some(Self(tables))
    }
}

/// `where`: a field of the request, and the patterns its value must match.
pub(super) struct Conditions(pub(super) Vec<(String, Wanted)>);

/// What one field must be.
pub(super) enum Wanted {
    /// A value that matches the patterns.
    Patterns(Vec<String>),
    /// There, or not.
    Exists(bool),
}

impl Setting for Conditions {
    const SHAPE: Shape = Shape::Conditions;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let Datum::Table(entries) = &node.datum else {
            let remedy = r#"write where = { "/data/build/branch" = ["main", "release/*"] }"#;
            return wrong_type(node, at, "a table of fields and patterns", remedy, findings);
        };
        sized(entries.len(), "fields", (1, MAX_ELEMENTS), at, field, findings)?;
        let read =
            |(key, node): (&String, _)| Some((key.clone(), wanted(node, &at.key(key), findings)?));
        let conditions: Vec<_> = entries.iter().map(read).collect();
        conditions.into_iter().collect::<Option<_>>().map(Self)
    }
}

fn wanted(node: &Node, at: &KeyPath, findings: &mut Findings) -> Option<Wanted> {
    let Datum::Table(entries) = &node.datum else {
        return patterns(node, at, findings).map(Wanted::Patterns);
    };
    let exists = entries.get("exists").filter(|_| entries.len() == 1).map(|node| &node.datum);
    if let Some(Datum::Boolean(exists)) = exists {
        return Some(Wanted::Exists(*exists));
    }
    let remedy = r#"write patterns, ["main"], or { exists = true } or { exists = false }"#;
    findings.mistake(at, "this table is not a condition", remedy);
    None
}

/// One pattern or several. A number or a boolean stands for its JSON text, which is what it is compared with.
fn patterns(node: &Node, at: &KeyPath, findings: &mut Findings) -> Option<Vec<String>> {
    match &node.datum {
        Datum::List(items) if items.len() > MAX_ELEMENTS || items.is_empty() => {
            let problem = format!("{} patterns are out of bounds", items.len());
            findings.mistake(at, problem, format!("write 1 to {MAX_ELEMENTS} patterns"));
            None
        }
        Datum::List(items) => {
            let read = |(index, item)| pattern(item, &at.index(index), findings);
            let items: Vec<_> = items.iter().enumerate().map(read).collect();
            items.into_iter().collect()
        }
        Datum::Text(_)
        | Datum::Integer(_)
        | Datum::Float(_)
        | Datum::Boolean(_)
        | Datum::Table(_) => Some(vec![pattern(node, at, findings)?]),
    }
}

fn pattern(node: &Node, at: &KeyPath, findings: &mut Findings) -> Option<String> {
    match &node.datum {
        Datum::Text(text) if (1..=MAX_TEXT).contains(&text.len()) => Some(text.clone()),
        Datum::Text(text) => {
            let problem = format!("a pattern of {} bytes is out of bounds", text.len());
            findings.mistake(at, problem, format!("write 1 to {MAX_TEXT} bytes"));
            None
        }
        Datum::Integer(number) => Some(number.to_string()),
        Datum::Float(number) => Some(number.to_string()),
        Datum::Boolean(value) => Some(value.to_string()),
        Datum::List(_) | Datum::Table(_) => {
            wrong_type(node, at, "a pattern", r#"write patterns in quotes, ["main"]"#, findings)
        }
    }
}

/// Gives a type its words.
macro_rules! choices {
    ($type:ty { $($word:literal => $value:expr),+ $(,)? }) => {
        impl $crate::config::setting::Setting for $type {
            const SHAPE: $crate::config::table::Shape =
                $crate::config::table::Shape::Choice(&[$($word),+]);

            fn read(
                node: &$crate::config::tree::Node,
                at: &$crate::config::tree::KeyPath,
                _field: &$crate::config::table::Field,
                findings: &mut $crate::config::mistake::Findings,
            ) -> Option<Self> {
                match $crate::config::setting::word(node, at, &[$($word),+], findings)? {
                    $($word => Some($value),)+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use choices;

/// The one of the words that was written.
pub(super) fn word(
    node: &Node,
    at: &KeyPath,
    words: &[&'static str],
    findings: &mut Findings,
) -> Option<&'static str> {
    let list = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let Some(text) = text(node) else {
        return wrong_type(node, at, "a word in quotes", &format!("write one of {list}"), findings);
    };
    let found = words.iter().find(|word| **word == text).copied();
    if found.is_none() {
        let guess = did_you_mean(&text, words).map(|guess| format!("{guess} "));
        let remedy = format!("{}write one of {list}", guess.unwrap_or_default());
        findings.mistake(at, "this word is not one of those that are known here", remedy);
    }
    found
}
