//! How a target's policies are written: the types of value that no other table has.

use super::mistake::Findings;
use super::setting::Setting;
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
