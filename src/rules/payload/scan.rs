//! One pass over a JSON text along a trie of pointers.

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::{Unreadable, Value};

/// The wanted pointers, merged where they share steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    /// Node 0 is the document itself; empty when nothing is wanted.
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Where this node's own value goes, if it is wanted.
    slot: Option<usize>,
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
struct Child {
    key: String,
    /// The key as an array index: digits without a leading zero (RFC 6901 section 4).
    index: Option<usize>,
    node: usize,
}

impl Trie {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a pointer, given as its escaped steps; the answer is the slot of its value.
    pub(super) fn add<'p>(&mut self, steps: impl Iterator<Item = &'p str>) -> usize {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for step in steps {
            at = self.child(at, step.replace("~1", "/").replace("~0", "~"));
        }
        let free = self.slots;
        let Some(node) = self.nodes.get_mut(at) else { return free };
        let slot = *node.slot.get_or_insert(free);
        self.slots += usize::from(slot == free);
        slot
    }

    fn child(&mut self, at: usize, key: String) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        if let Some(known) = node.children.iter().find(|child| child.key == key) {
            return known.node;
        }
        let index = key.parse().ok().filter(|index: &usize| index.to_string() == key);
        node.children.push(Child { key, index, node: next });
        self.nodes.push(Node::default());
        next
    }

    /// The value of every slot.
    pub(super) fn scan<'de>(&self, body: &'de [u8]) -> Result<Vec<Value<'de>>, Unreadable> {
        let unreadable = |_not_json: serde_json::Error| Unreadable;
        let text = std::str::from_utf8(body).map_err(|_not_utf8| Unreadable)?;
        let mut scan = Scan {
            trie: self,
            values: vec![Value::Missing; self.slots],
            seen: vec![false; self.nodes.len()],
        };
        let mut json = serde_json::Deserializer::from_str(text);
        At { scan: &mut scan, node: 0 }.deserialize(&mut json).map_err(unreadable)?;
        json.end().map_err(unreadable)?;
        Ok(scan.values)
    }
}

struct Scan<'s, 'de> {
    trie: &'s Trie,
    values: Vec<Value<'de>>,
    /// A node is one place in the document, so meeting it twice means a repeated member.
    seen: Vec<bool>,
}

/// The JSON value that stands at a node.
struct At<'p, 's, 'de> {
    scan: &'p mut Scan<'s, 'de>,
    node: usize,
}

impl<'s> At<'_, 's, '_> {
    fn node(&self) -> Option<&'s Node> {
        self.scan.trie.nodes.get(self.node)
    }
}

impl<'de> DeserializeSeed<'de> for At<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.scan.seen.get_mut(self.node).is_some_and(|seen| std::mem::replace(seen, true)) {
            return Err(D::Error::custom("a member occurs twice"));
        }
        let Some(node) = self.node() else { return Ok(()) };
        let Some(slot) = node.slot else {
            return json.deserialize_any(self);
        };
        let raw: &'de RawValue = Deserialize::deserialize(json)?;
        if let Some(value) = self.scan.values.get_mut(slot) {
            *value = Value::of_json(raw.get());
        }
        // Only where one wanted pointer leads through another is a part of the body read again.
        if !node.children.is_empty() && raw.get().starts_with(['{', '[']) {
            serde_json::Deserializer::from_str(raw.get())
                .deserialize_any(self)
                .map_err(D::Error::custom)?;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for At<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let children = self.node().map_or(&[][..], |node| &node.children);
        while let Some(child) = map.next_key_seed(Key(children))? {
            match child {
                Some(node) => map.next_value_seed(At { scan: &mut *self.scan, node })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let children = self.node().map_or(&[][..], |node| &node.children);
        let mut index = 0;
        loop {
            let wanted = children.iter().find(|child| child.index == Some(index));
            let more = match wanted {
                Some(child) => {
                    seq.next_element_seed(At { scan: &mut *self.scan, node: child.node })?.is_some()
                }
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }

    // A scalar where a pointer wants to go deeper: what it points at is missing.
    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Finds the child a member's key leads to, without keeping the key.
struct Key<'s>(&'s [Child]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|child| child.key == key).map(|child| child.node))
    }
}
