//! Values that are a table, or a word in its place.

use super::mistake::Findings;
use super::raw::{BreakerKeys, DedupKey};
use super::setting::{Setting, word};
use super::table::{Field, Shape};
use super::tree::{Datum, KeyPath, Node};

/// `dedup`: the word "none", or a table.
pub(super) enum Dedup {
    Off,
    Key(DedupKey),
}

impl Setting for Dedup {
    const SHAPE: Shape = Shape::Either("none", &DedupKey::TABLE);

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        if let Datum::Table(_) = &node.datum {
            return DedupKey::read(node, at, field, findings).map(Self::Key);
        }
        word(node, at, &["none"], findings).map(|_| Self::Off)
    }
}

/// `breaker`: the word "none", or a table.
pub(super) enum Breaker {
    Off,
    On(BreakerKeys),
}

impl Setting for Breaker {
    const SHAPE: Shape = Shape::Either("none", &BreakerKeys::TABLE);

    fn read(node: &Node, at: &KeyPath, field: &Field, findings: &mut Findings) -> Option<Self> {
        if let Datum::Table(_) = &node.datum {
            return BreakerKeys::read(node, at, field, findings).map(Self::On);
        }
        word(node, at, &["none"], findings).map(|_| Self::Off)
    }
}
