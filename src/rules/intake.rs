//! The whole decision about one request to one source: verify, read, admit, name, key, route.

use std::time::Duration;

use super::filter::{Condition, Patterns};
use super::payload::Field;
use super::provider::Preset;
use super::verify::Scheme;
use crate::model::{DedupKey, Headers, Name, Secret};
use crate::time::Timestamp;

/// A source as configured, before it is compiled.
#[derive(Clone, Debug)]
pub struct IntakeSpec {
    /// The source's name; part of every dedup key.
    pub source: Name,
    /// The provider preset.
    pub provider: &'static Preset,
    /// Overrides the preset's verification.
    pub verify: Option<Scheme>,
    /// Any of them verifies.
    pub secrets: Vec<Secret>,
    /// For schemes that sign the URL.
    pub public_url: Option<String>,
    /// The source's `where`: what is admitted at all.
    pub admit: Vec<Condition>,
    /// Overrides the preset's event name.
    pub event: Option<Field>,
    /// Overrides the preset's dedup.
    pub dedup: Option<DedupSpec>,
    /// Overrides the preset's order key; empty means none.
    pub order_key: Option<Vec<Field>>,
    /// How long a repeat is recognised.
    pub dedup_window: Duration,
    /// The targets that listen to this source.
    pub targets: Vec<Interest>,
}

/// `dedup` as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DedupSpec {
    /// Every request is a new event.
    Off,
    /// Requests with the same values of all these fields are repeats; one without any of the values (missing or null) is new.
    Key(Vec<Field>),
}

/// What one target wants.
#[derive(Clone, Debug)]
pub struct Interest {
    /// The target.
    pub target: Name,
    /// Patterns on the event name; `None` wants all.
    pub events: Option<Patterns>,
    /// The target's `where`.
    pub conditions: Vec<Condition>,
}

/// A source, compiled.
#[derive(Debug)]
pub struct Intake {}

/// A request that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The event's name.
    pub event: String,
    /// What groups it with others.
    pub order_key: Option<String>,
    /// For the journal.
    pub dedup: Vec<DedupKey>,
    /// Whom it is for.
    pub targets: Vec<Name>,
}

/// Why a request is refused by its content. Closed: a metric label and the `cause` of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 400: not what the provider sends.
    Malformed,
    /// 401: no proof of origin.
    Unverified,
    /// 403: the source's `where` does not admit it.
    NotAllowed,
    /// 415: a content coding that cannot be read.
    MediaType,
}

impl Intake {
    /// Compiles a source. The error is a sentence for the configuration's author.
    pub fn new(spec: IntakeSpec) -> Result<Self, String> {
        unimplemented!("{spec:?}")
    }

    /// Decides one request. `now` is wall time: freshness compares with the sender's clock.
    pub fn decide(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        unimplemented!("{headers:?} {body:?} {now:?}")
    }
}
