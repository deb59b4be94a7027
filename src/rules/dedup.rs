//! What makes two webhooks the same one.
//!
//! A key is the first 128 bits of SHA-256 over length-prefixed parts, the source's name and the rule with
//! its fields first: parts cannot run into each other, sources cannot touch each other, and a changed rule
//! starts afresh. What is in doubt is a new event: a repeat costs a target little, a lost event is final.

use std::time::Duration;

use ring::digest;

use super::filter::Patterns;
use super::payload::{Field, FieldId, FieldSet, Fields, Value};
use super::provider::{PerEvent, Repeats};
use super::verify::Proof;
use crate::model::{DedupKey, Name};

#[cfg(test)]
mod tests;

/// A dedup rule, compiled for one source.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    kind: RuleKind,
    window: Duration,
}

#[derive(Clone, Debug)]
enum RuleKind {
    Off,
    /// Equal values of all fields.
    Fields {
        /// The first whose fields are all there counts.
        keys: Vec<(Hash, Vec<FieldId>)>,
        exempt: Option<Patterns>,
    },
    /// A signature used again, or a subject's latest body again.
    Latest(Box<Latest>),
}

#[derive(Clone, Debug)]
struct Latest {
    replay: Hash,
    subjects: Vec<Subject>,
    body: Hash,
}

#[derive(Clone, Debug)]
struct Subject {
    events: Patterns,
    base: Hash,
    fields: Vec<FieldId>,
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) event: &'a str,
    pub(super) fields: &'a Fields<'a>,
    pub(super) body: &'a [u8],
    pub(super) proof: &'a Proof,
    /// How long a signature used again is a repeat; `None` when two events may rightly have one signature.
    pub(super) replay_window: Option<Duration>,
}

impl Rule {
    /// No two requests are the same.
    pub(super) fn off() -> Self {
        Self { kind: RuleKind::Off, window: Duration::ZERO }
    }

    /// Compiles a preset's rule.
    pub(super) fn preset(
        repeats: &Repeats,
        source: &Name,
        set: &mut FieldSet,
        window: Duration,
    ) -> Result<Self, String> {
        match *repeats {
            Repeats::Off => Ok(Self::off()),
            Repeats::Fields { keys, exempt } => {
                let key = |key: &&[&str]| {
                    key.iter().map(|field| Field::parse(field)).collect::<Result<Vec<_>, _>>()
                };
                let keys: Vec<_> = keys.iter().map(key).collect::<Result<_, _>>()?;
                let exempt = (!exempt.is_empty()).then(|| Patterns::parse(exempt)).transpose()?;
                Ok(Self::equal(&keys, exempt, source, set, window))
            }
            Repeats::Latest { subjects } => {
                let subject = |per: &PerEvent| Subject::new(per, source, set);
                let subjects = subjects.iter().map(subject).collect::<Result<_, _>>()?;
                let (replay, body) = (Hash::new(source, "replay"), Hash::new(source, "body"));
                let latest = Latest { replay, subjects, body };
                Ok(Self { kind: RuleKind::Latest(Box::new(latest)), window })
            }
        }
    }

    /// Requests with equal values of all fields of the first key that applies are repeats; `exempt` events are
    /// always new.
    pub(super) fn equal(
        keys: &[Vec<Field>],
        exempt: Option<Patterns>,
        source: &Name,
        set: &mut FieldSet,
        window: Duration,
    ) -> Self {
        let mut key = |fields: &Vec<Field>| {
            let base = Hash::of_rule(source, "fields", fields);
            (base, fields.iter().map(|field| set.add(field)).collect())
        };
        Self {
            kind: RuleKind::Fields { keys: keys.iter().map(&mut key).collect(), exempt },
            window,
        }
    }

    /// How long a repeat is recognised.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// What the journal is to remember of a request; empty for one that is new in any case.
    pub(super) fn keys(&self, asked: &Asked<'_>) -> Vec<DedupKey> {
        match &self.kind {
            RuleKind::Off => Vec::new(),
            RuleKind::Fields { keys, exempt } => {
                if exempt.as_ref().is_some_and(|events| events.matches(asked.event)) {
                    return Vec::new();
                }
                let key = |(base, ids): &(Hash, Vec<FieldId>)| {
                    base.clone().values(ids, asked.fields).map(Hash::finish)
                };
                keys.iter()
                    .find_map(key)
                    .map(|key| DedupKey::Exact { key, window: self.window })
                    .into_iter()
                    .collect()
            }
            RuleKind::Latest(latest) => {
                let Latest { replay, subjects, body } = &**latest;
                let replayed = match (asked.proof, asked.replay_window) {
                    (Proof::Content(mac), Some(window)) => Some(DedupKey::Exact {
                        key: replay.clone().part(mac.as_bytes()).finish(),
                        window,
                    }),
                    (Proof::Content(_), None) | (Proof::Sender, _) => None,
                };
                let subject = subjects.iter().find(|subject| subject.events.matches(asked.event));
                let latest = subject.and_then(|subject| {
                    let subject =
                        subject.base.clone().values(&subject.fields, asked.fields)?.finish();
                    let digest = body.clone().part(asked.body).finish();
                    Some(DedupKey::Latest { subject, digest, window: self.window })
                });
                replayed.into_iter().chain(latest).collect()
            }
        }
    }
}

impl Subject {
    fn new(per: &PerEvent, source: &Name, set: &mut FieldSet) -> Result<Self, String> {
        let fields: Vec<_> =
            per.fields.iter().map(|field| Field::parse(field)).collect::<Result<_, _>>()?;
        Ok(Self {
            events: Patterns::parse(per.events)?,
            base: Hash::of_rule(source, "latest", &fields),
            fields: fields.iter().map(|field| set.add(field)).collect(),
        })
    }
}

/// A hash under way; every part is preceded by its length.
#[derive(Clone)]
pub(super) struct Hash(digest::Context);

impl Hash {
    /// A hash for one purpose of one source.
    pub(super) fn new(source: &Name, rule: &str) -> Self {
        Self(digest::Context::new(&digest::SHA256))
            .part(source.as_str().as_bytes())
            .part(rule.as_bytes())
    }

    fn of_rule(source: &Name, rule: &str, fields: &[Field]) -> Self {
        let hash = Self::new(source, rule);
        fields.iter().fold(hash, |hash, field| hash.part(field.to_string().as_bytes()))
    }

    pub(super) fn part(mut self, bytes: &[u8]) -> Self {
        // The same prefix on every machine: a usize is never wider than a u64.
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.0.update(&len.to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds the values of all fields; `None` when one of them is missing or null.
    fn values(self, ids: &[FieldId], fields: &Fields<'_>) -> Option<Self> {
        ids.iter().try_fold(self, |hash, id| match fields.get(*id) {
            Value::Missing | Value::Null => None,
            // The number 1 and the string "1" are different values.
            Value::Text(text) => Some(hash.part(b"text").part(text.as_bytes())),
            Value::Literal(json) | Value::Raw(json) => {
                Some(hash.part(b"json").part(json.as_bytes()))
            }
            Value::Bytes(bytes) => Some(hash.part(b"bytes").part(bytes)),
        })
    }

    /// The first 128 bits.
    pub(super) fn finish(self) -> u128 {
        let digest = self.0.finish();
        digest.as_ref().first_chunk().map_or(0, |first| u128::from_be_bytes(*first))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}
