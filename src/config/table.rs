//! One declaration per table of the configuration; everything else follows from it.
//!
//! [`table!`] turns a list of keys, with doc comment, type, default and bounds, into a struct of options, a
//! reader that goes on after a mistake, and the [`Table`] that the JSON Schema, `config show`, the
//! documentation and its tests are made from. A key cannot exist in one of them and be missing in another.

use super::mistake::Findings;
use super::setting::Setting;
use super::tree::{Datum, KeyPath, Node};
use crate::rules::likeness::likest;

/// A table of the configuration as data.
pub(super) struct Table {
    /// What it is for.
    pub(super) doc: &'static str,
    /// Its keys, in the order a reader should meet them.
    pub(super) fields: &'static [Field],
}

/// A key as data.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) shape: Shape,
    /// The value when nobody sets it, as TOML.
    pub(super) default: Option<&'static str>,
    /// The smallest and the largest value, written as a user would write them.
    pub(super) range: Option<(&'static str, &'static str)>,
    /// The fewest and the most elements of a list, or bytes of a text.
    pub(super) size: Option<(usize, usize)>,
    /// Set when the key must be there: what to write.
    pub(super) required: Option<&'static str>,
}

impl Field {
    /// The key as it is written in a file.
    pub(super) fn key(&self) -> &'static str {
        self.name.strip_prefix("r#").unwrap_or(self.name)
    }

    /// The default as a value.
    pub(super) fn default_node(&self) -> Option<Node> {
        self.default.and_then(super::locate::parse_value)
    }
}

/// What a key takes.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Boolean,
    /// A URL, whose query may hold a secret.
    Url,
    Integer,
    Number,
    /// A number, or this word.
    NumberOr(&'static str),
    Duration,
    /// A duration, or whole seconds without a unit.
    DurationOrSeconds,
    Size,
    /// A number of times in a unit of time.
    Frequency,
    Address,
    /// An address or a network.
    Network,
    /// Requests in a period.
    RequestRate,
    Secret,
    /// The name of a provider preset.
    Provider,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One or several.
    List(&'static Shape),
    /// A field of a request, and the patterns its value must match.
    Conditions,
    /// Header fields and their values, or the secrets that are their values.
    HeaderFields,
    /// A word that stands for "off", or a table.
    Either(&'static str, &'static Table),
    Table(&'static Table),
    /// Tables by name.
    Named(&'static Table),
}

/// Reads the keys of one table, each by itself, so that one mistake hides no other.
pub(super) struct Reader<'a> {
    node: &'a Node,
    at: &'a KeyPath,
    table: &'static Table,
    findings: &'a mut Findings,
}

impl<'a> Reader<'a> {
    /// Starts on a table: what is not one, and keys that are not its own, are mistakes.
    pub(super) fn open(
        node: &'a Node,
        at: &'a KeyPath,
        table: &'static Table,
        findings: &'a mut Findings,
    ) -> Option<Self> {
        let Datum::Table(entries) = &node.datum else {
            let problem = format!("expected a table, found {}", node.kind());
            findings.mistake(at, problem, format!("write [{at}] and its keys below"));
            return None;
        };
        let known: Vec<_> = table.fields.iter().map(Field::key).collect();
        for key in entries.keys().filter(|key| !known.contains(&key.as_str())) {
            let remedy = did_you_mean(key, &known)
                .unwrap_or_else(|| format!("the keys here are {}", known.join(", ")));
            findings.mistake(&at.key(key), "this key is unknown", remedy);
        }
        Some(Self { node, at, table, findings })
    }

    /// The value of one key: what was written or the default. `None` when there is neither, or a mistake.
    pub(super) fn take<T: Setting>(&mut self, name: &str) -> Option<T> {
        let field = self.table.fields.iter().find(|field| field.name == name)?;
        let at = self.at.key(field.key());
        if let Some(node) = self.node.get(field.key()) {
            return T::read(node, &at, field, self.findings);
        }
        if let Some(node) = field.default_node() {
            return T::read(&node, &at, field, self.findings);
        }
        if let Some(remedy) = field.required {
            self.findings.mistake(&at, "this key is missing", remedy);
        }
        None
    }
}

/// A sentence that offers the most similar of the known words, if one is similar enough.
pub(super) fn did_you_mean(written: &str, known: &[&str]) -> Option<String> {
    /// Below this similarity (Jaro-Winkler, 0 to 1) a guess is more confusing than none.
    const SIMILAR: f64 = 0.8;
    likest(&written.to_ascii_lowercase(), known.iter().copied(), SIMILAR)
        .map(|word| format!("did you mean `{word}`?"))
}

/// Declares a table: `key: Type [= "default as TOML"] [, from "low" to "high"] [, size low to high]
/// [, required "remedy"];`.
macro_rules! table {
    ($(
        $(#[doc = $doc:literal])+
        $(#[expect($($lint:tt)*)])?
        pub $name:ident {
            $(
                $(#[doc = $about:literal])+
                $key:ident : $type:ty
                    $(= $default:literal)?
                    $(, from $low:literal to $high:literal)?
                    $(, size $fewest:literal to $most:literal)?
                    $(, required $remedy:literal)?
                ;
            )+
        }
    )+) => {$(
        $(#[doc = $doc])+
        $(#[expect($($lint)*)])?
        pub(super) struct $name {
            $(
                $(#[doc = $about])+
                pub(super) $key: Option<$type>,
            )+
        }

        impl $name {
            /// The table as data.
            pub(super) const TABLE: $crate::config::table::Table = $crate::config::table::Table {
                doc: concat!($($doc),+),
                fields: &[$($crate::config::table::Field {
                    name: stringify!($key),
                    doc: concat!($($about),+),
                    shape: <$type as $crate::config::setting::Setting>::SHAPE,
                    default: $crate::config::table::table!(@option $($default)?),
                    range: $crate::config::table::table!(@option $($low, $high)?),
                    size: $crate::config::table::table!(@option $($fewest, $most)?),
                    required: $crate::config::table::table!(@option $($remedy)?),
                }),+],
            };

            /// Reads each key by itself; `None` only when this is no table at all.
            pub(super) fn read_table(
                node: &$crate::config::tree::Node,
                at: &$crate::config::tree::KeyPath,
                findings: &mut $crate::config::mistake::Findings,
            ) -> Option<Self> {
                let mut reader =
                    $crate::config::table::Reader::open(node, at, &Self::TABLE, findings)?;
                Some(Self { $($key: reader.take(stringify!($key))),+ })
            }
        }

        impl $crate::config::setting::Setting for $name {
            const SHAPE: $crate::config::table::Shape =
                $crate::config::table::Shape::Table(&Self::TABLE);

            fn read(
                node: &$crate::config::tree::Node,
                at: &$crate::config::tree::KeyPath,
                _field: &$crate::config::table::Field,
                findings: &mut $crate::config::mistake::Findings,
            ) -> Option<Self> {
                Self::read_table(node, at, findings)
            }
        }
    )+};
    (@option) => { None };
    (@option $one:literal) => { Some($one) };
    (@option $one:literal, $two:literal) => { Some(($one, $two)) };
}
pub(super) use table;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_word_is_offered() {
        let known = ["listen", "max_body", "max_connections"];
        assert_eq!(did_you_mean("lisen", &known).unwrap(), "did you mean `listen`?");
        assert_eq!(did_you_mean("Max-Body", &known).unwrap(), "did you mean `max_body`?");
        assert_eq!(did_you_mean("zebra", &known), None);
    }
}
