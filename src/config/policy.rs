//! How a target's policies are written: the types of value that no other table has.

use std::time::Duration;

use super::mistake::Findings;
use super::secret;
use super::setting::{Setting, text};
use super::table::{Field, Shape};
use super::tree::{Datum, KeyPath, Node};
use crate::model::Secret;
use crate::rules::outbound::speaks_of_a_secret;
use crate::rules::retry::Jitter;

/// `retry.jitter`: a fraction, or the word "full".
pub(super) struct SpreadBy(pub(super) Jitter);

impl Setting for SpreadBy {
    const SHAPE: Shape = Shape::NumberOr("full");

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        if let Datum::Text(text) = &node.datum {
            if text == "full" {
                return Some(Self(Jitter::Full));
            }
            let remedy = r#"write a fraction without quotes, such as 0.2, or "full""#;
            findings.mistake(at, "this is not a jitter", remedy);
            return None;
        }
        f64::read(node, at, field, findings).map(|part| Self(Jitter::Proportional(part)))
    }
}

/// `rate`: a number and a unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frequency {
    /// From one attempt to the next.
    pub(super) interval: Duration,
    /// What it allows in a second, at least one.
    pub(super) in_a_second: u32,
}

impl Frequency {
    /// Most attempts in a second that can be told from no bound at all.
    const MOST: u32 = 100_000;

    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        let count: u32 = count.parse().ok().filter(|n| digits && (1..=Self::MOST).contains(n))?;
        let in_a_second = (count / seconds).max(1);
        Some(Self { interval: Duration::from_secs(seconds.into()) / count, in_a_second })
    }
}

impl Setting for Frequency {
    const SHAPE: Shape = Shape::Frequency;

    fn read(node: &Node, at: &KeyPath, _: &Field, findings: &mut Findings) -> Option<Self> {
        let parsed = text(node).and_then(|text| Self::parse(&text));
        if parsed.is_none() {
            let remedy = r#"write how many a second, minute, hour or day: "50/s", "10/m", "300/h""#;
            findings.mistake(at, "this is not a rate", remedy);
        }
        parsed
    }
}

impl Setting for bool {
    const SHAPE: Shape = Shape::Boolean;

    fn read(node: &Node, at: &KeyPath, _: &Field, findings: &mut Findings) -> Option<Self> {
        if let Datum::Boolean(value) = &node.datum {
            return Some(*value);
        }
        findings.mistake(at, "expected a boolean", "write true or false without quotes");
        None
    }
}

/// `headers`: fields that are set on each request.
pub(super) struct HeaderFields(pub(super) Vec<(String, Secret)>);

impl Setting for HeaderFields {
    const SHAPE: Shape = Shape::HeaderFields;

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        let Datum::Table(entries) = &node.datum else {
            let remedy = r#"write headers = { Authorization = "env:NAME" }"#;
            findings.mistake(at, "this is not a table of header fields", remedy);
            return None;
        };
        let (fewest, most) = field.size.unwrap_or((1, 32));
        if !(fewest..=most).contains(&entries.len()) {
            let problem = format!("{} fields are out of bounds", entries.len());
            findings.mistake(at, problem, format!("write {fewest} to {most} fields"));
            return None;
        }
        let read = |(name, node): (&String, &Node)| {
            let value = header_value(name, node, &at.key(name), findings)?;
            Some((name.clone(), value))
        };
        // A field that cannot be used is left out, so that the others are still checked.
        Some(Self(entries.iter().filter_map(read).collect()))
    }
}

/// A reference is resolved; other text is itself, unless the field's name says that it is a secret.
fn header_value(name: &str, node: &Node, at: &KeyPath, findings: &mut Findings) -> Option<Secret> {
    let Some(written) = text(node) else {
        findings.mistake(at, "expected a text", r#"write it in quotes, "...""#);
        return None;
    };
    let name = name.to_ascii_lowercase();
    if secret::is_reference(&written) || speaks_of_a_secret(&name) {
        return secret::resolve(&written, at, findings);
    }
    Some(Secret::new(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, millis, burst) in [
            ("1/s", 1_000, 1),
            ("50/s", 20, 50),
            ("10/m", 6_000, 1),
            ("600/m", 100, 10),
            ("300/h", 12_000, 1),
        ] {
            let interval = Duration::from_millis(millis);
            assert_eq!(Frequency::parse(text), Some(Frequency { interval, in_a_second: burst }));
        }
        for text in ["", "5", "/s", "0/s", "5/", "5/w", "+5/s", "-1/s", "1.5/s", "5 /s", "100001/s"]
        {
            assert_eq!(Frequency::parse(text), None, "{text}");
        }
    }
}
