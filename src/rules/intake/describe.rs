//! What a source does, in words, where its configuration differs from its provider's preset.

use super::{DedupSpec, IntakeSpec};
use crate::rules::payload::Field;
use crate::rules::verify::Scheme;

impl IntakeSpec {
    /// The preset's facts, and in their place what this source says instead.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let own = [
            ("verified by", self.verify.as_ref().map(Scheme::sentence)),
            ("event name", self.event.as_ref().map(ToString::to_string)),
            ("a repeat is", self.dedup.as_ref().map(repeated_by)),
            ("order key", self.order_key.as_deref().map(grouped)),
        ];
        let mut facts = self.provider.facts();
        for (label, fact) in &mut facts {
            let own = own.iter().find(|(other, _)| other == label);
            if let Some((_, Some(own))) = own {
                fact.clone_from(own);
            }
        }
        facts
    }
}

fn repeated_by(dedup: &DedupSpec) -> String {
    match dedup {
        DedupSpec::Off => "never assumed: every request is a new event".to_owned(),
        DedupSpec::Key(fields) => format!("one with the same {}", fields_of(fields)),
    }
}

fn grouped(fields: &[Field]) -> String {
    if fields.is_empty() { "none".to_owned() } else { fields_of(fields) }
}

fn fields_of(fields: &[Field]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
}
