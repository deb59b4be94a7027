//! How a target's policies are written: the types of value that no other table has.

use std::time::Duration;

use super::mistake::Findings;
use super::setting::{Setting, text};
use super::table::{Field, Shape};
use super::tree::{Datum, KeyPath, Node};
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
