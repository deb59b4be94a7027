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

/// What a request is that has the key of an earlier one and another body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Its repeat all the same, as the provider says: counted, and its body kept.
    #[default]
    Duplicate,
    /// An event of its own.
    New,
}

/// Why a rule has no use for [`OnConflict::New`].
const NO_CONFLICT: &str = "no two requests of this source are the same one by a key of their fields, so none can conflict; \
                           remove `on_conflict`";

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
        /// What a request with the values of an earlier one and another body is.
        on_conflict: OnConflict,
        /// Whether a key leaves that open.
        may_conflict: bool,
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
    pub(super) fn off(on_conflict: OnConflict) -> Result<Self, String> {
        match on_conflict {
            OnConflict::New => Err(NO_CONFLICT.into()),
            OnConflict::Duplicate => Ok(Self { kind: RuleKind::Off, window: Duration::ZERO }),
        }
    }

    /// Compiles a preset's rule.
    pub(super) fn preset(
        repeats: &Repeats,
        source: &Name,
        set: &mut FieldSet,
        window: Duration,
        on_conflict: OnConflict,
    ) -> Result<Self, String> {
        match *repeats {
            Repeats::Off => Self::off(on_conflict),
            Repeats::Fields { keys, exempt } => {
                let key = |key: &&[&str]| {
                    key.iter().map(|field| Field::parse(field)).collect::<Result<Vec<_>, _>>()
                };
                let keys: Vec<_> = keys.iter().map(key).collect::<Result<_, _>>()?;
                let exempt = (!exempt.is_empty()).then(|| Patterns::parse(exempt)).transpose()?;
                Ok(Self::equal(&keys, exempt, source, set, window).on_conflict(on_conflict))
            }
            Repeats::Latest { .. } if on_conflict == OnConflict::New => Err(NO_CONFLICT.into()),
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
        let may_conflict = keys.iter().any(|fields| !fields.contains(&Field::Body));
        let keys = keys.iter().map(&mut key).collect();
        let on_conflict = OnConflict::Duplicate;
        Self { kind: RuleKind::Fields { keys, exempt, on_conflict, may_conflict }, window }
    }

    /// The same with what a conflict is.
    pub(super) fn on_conflict(mut self, what: OnConflict) -> Self {
        if let RuleKind::Fields { on_conflict, .. } = &mut self.kind {
            *on_conflict = what;
        }
        self
    }

    /// Whether a repeat may have another body than the event it repeats.
    pub(super) fn may_conflict(&self) -> bool {
        match self.kind {
            RuleKind::Fields { on_conflict, may_conflict, .. } => {
                may_conflict && on_conflict == OnConflict::Duplicate
            }
            RuleKind::Off | RuleKind::Latest(_) => false,
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
            RuleKind::Fields { keys, exempt, on_conflict, .. } => {
                if exempt.as_ref().is_some_and(|events| events.matches(asked.event)) {
                    return Vec::new();
                }
                let key = |(base, ids): &(Hash, Vec<FieldId>)| {
                    let hash = base.clone().values(ids, asked.fields)?;
                    Some(match on_conflict {
                        OnConflict::Duplicate => hash.finish(),
                        OnConflict::New => hash.part(b"body").part(asked.body).finish(),
                    })
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
