//! The whole decision about one request to one source: verify, read, admit, name, key, route.

use std::time::Duration;

use self::handshake::Handshaker;
pub use self::handshake::Reply;
use self::routes::{Route, Routes};
use super::dedup;
pub use super::dedup::OnConflict;
use super::filter::{Condition, Patterns};
use super::payload::{Field, FieldId, FieldSet, Fields, Value};
use super::provider::{Preset, Unnamed};
use super::verify::{PrivateKey, Proof, Scheme, Verifier};
pub use crate::model::Refusal;
use crate::model::{DedupKey, Headers, Name, Secret};
use crate::time::Timestamp;

mod compile;
mod describe;
mod handshake;
mod once_more;
mod routes;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod once_more_tests;
#[cfg(test)]
mod tests;

pub use self::compile::faults;

/// Longest name of an event in bytes; a longer one is none.
pub const MAX_EVENT_NAME: usize = 200;
/// Longest order key in bytes; a longer one is replaced by its hash.
pub const MAX_ORDER_KEY: usize = 256;
/// What the names of events begin with that no provider sends: a gap, a stall, a silence.
const OWN: &str = "everhook.";
/// What an event is called that has proved its origin but not said its name.
const UNKNOWN: &str = "unknown";

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
    /// What a handshake must show, for providers whose handshake is not signed.
    pub handshake_token: Option<Secret>,
    /// For schemes that sign the URL.
    pub public_url: Option<String>,
    /// The source's `where`: what is admitted at all.
    pub admit: Vec<Condition>,
    /// Overrides the preset's event name.
    pub event: Option<Field>,
    /// Overrides the preset's dedup key.
    pub dedup: Option<DedupSpec>,
    /// What a repeat with another body is.
    pub on_conflict: OnConflict,
    /// Overrides the preset's own window.
    pub own_window: Option<Duration>,
    /// Overrides the preset's order key; empty means none.
    pub order_key: Option<Vec<Field>>,
    /// How long a repeat is recognised when neither source nor preset says it.
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
pub struct Intake {
    source: Name,
    provider: &'static Preset,
    /// None only before the handshake in which a provider says its secret.
    verifiers: Vec<Verifier>,
    /// What counts when a request has the headers of several verifiers.
    choice: Choice,
    handshaker: Handshaker,
    /// Every field anything below looks at.
    fields: FieldSet,
    admit: Vec<Check>,
    test_event: Vec<(FieldId, &'static str)>,
    event: Naming,
    order: Vec<Grouping>,
    dedup: dedup::Rule,
    routes: Routes,
    facts: Vec<(&'static str, String)>,
}

/// What counts when a request has the headers of several verifiers. Those that read the same header are
/// alternatives in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Nothing: with two proofs in one request it would be the sender's choice which of them counts.
    One,
    /// The first verifier whose header is there.
    First,
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// Its method.
    pub method: Method,
    /// What follows `?` in its target.
    pub query: Option<&'a str>,
    /// Its header fields.
    pub headers: &'a Headers,
    /// Its body.
    pub body: &'a [u8],
}

/// The methods that can mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Only ever a handshake.
    Get,
    /// An event, or a handshake.
    Post,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is an event: store it.
    Store(Admission),
    /// It is a handshake: answer it.
    Answer(Reply),
}

/// A condition whose field is compiled.
#[derive(Debug)]
struct Check {
    field: FieldId,
    patterns: Patterns,
}

#[derive(Debug)]
struct Naming {
    fields: Vec<FieldId>,
    unnamed: Unnamed,
}

#[derive(Debug)]
struct Grouping {
    events: Patterns,
    fields: Vec<FieldId>,
}

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
    /// Whether a repeat may have another body than the event it repeats.
    pub may_conflict: bool,
}

impl Intake {
    /// The provider's preset.
    pub fn provider(&self) -> &'static Preset {
        self.provider
    }

    /// What there is to know of the source: what its provider does, and what its configuration says instead.
    pub fn facts(&self) -> &[(&'static str, String)] {
        &self.facts
    }

    /// The targets that ask for an event of our own by its name. Their `where` is about what providers send.
    pub fn asking(&self, own: &str) -> Vec<Name> {
        let asks =
            |route: &&Route| route.events.as_ref().is_some_and(|events| events.asks_for(own, OWN));
        self.routes.iter().filter(asks).map(|route| route.target.clone()).collect()
    }

    /// Whether a request has to prove where it comes from.
    pub fn verifies(&self) -> bool {
        self.verifiers.iter().all(Verifier::proves)
    }

    /// The header fields in which a request proves something, in lower case.
    pub fn proof_fields(&self) -> impl Iterator<Item = &str> {
        self.verifiers.iter().filter_map(Verifier::header)
    }

    /// Those of them that hold the secret itself.
    pub fn token_fields(&self) -> impl Iterator<Item = &str> {
        self.verifiers.iter().filter(|verifier| verifier.is_token()).filter_map(Verifier::header)
    }

    /// Whether the provider may ask with GET.
    pub fn answers_get(&self) -> bool {
        self.handshaker.uses_get()
    }

    /// The header fields that make a sample pass this source's verification at `now`, signed with its first
    /// secret. `headers` are the sample's other fields. The error is a sentence.
    pub fn sign_sample(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        self.sign_sample_with(None, headers, body, now)
    }

    /// The same for a source that knows only a public key: `private` signs.
    pub fn sign_sample_with(
        &self,
        private: Option<&PrivateKey>,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        match self.verifiers.first() {
            Some(verifier) => verifier.imitate_with(private, headers, body, now),
            None => Err("this source has no secret yet".into()),
        }
    }

    /// Decides one request. `now` is wall time: freshness compares with the sender's clock.
    pub fn receive(&self, request: &Inbound<'_>, now: Timestamp) -> Result<Decision, Refusal> {
        let Inbound { headers, body, .. } = *request;
        if let Some(answer) = self.handshaker.before_proof(request) {
            return answer.map(Decision::Answer);
        }
        if self.fields.reads_json() && is_coded(headers) {
            return Err(Refusal::MediaType);
        }
        let (verifier, proof) = self.prove(headers, body, now).ok_or(Refusal::Unverified)?;
        let unreadable = |_unreadable| Refusal::Malformed;
        let document = self.fields.document(headers, body).map_err(unreadable)?;
        let fields = self.fields.extract_from(headers, body, &document).map_err(unreadable)?;
        if let Some(answer) = self.handshaker.after_proof(&fields, request, verifier, now) {
            return answer.map(Decision::Answer);
        }
        self.admit(&fields, body, verifier, &proof).map(Decision::Store)
    }

    /// The same for a request that can only be an event, in which a handshake is malformed.
    pub fn decide(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let request = Inbound { method: Method::Post, query: None, headers, body };
        match self.receive(&request, now)? {
            Decision::Store(admission) => Ok(admission),
            Decision::Answer(_) => Err(Refusal::Malformed),
        }
    }

    /// Whether a request can only be a handshake, well-formed or not, and never an event.
    pub fn is_handshake(&self, request: &Inbound<'_>) -> bool {
        self.handshaker.before_proof(request).is_some()
    }

    fn admit(
        &self,
        fields: &Fields<'_>,
        body: &[u8],
        verifier: &Verifier,
        proof: &Proof,
    ) -> Result<Admission, Refusal> {
        if !hold(&self.admit, fields) && !self.is_test_event(fields) {
            return Err(Refusal::NotAllowed);
        }
        let event = self.event.of(fields).ok_or(Refusal::Malformed)?;
        let replay_window = verifier.replay_window(self.dedup.window());
        Ok(self.admission(event, fields, body, proof, replay_window))
    }

    fn admission(
        &self,
        event: String,
        fields: &Fields<'_>,
        body: &[u8],
        proof: &Proof,
        replay_window: Option<Duration>,
    ) -> Admission {
        let order_key = self.order_key(&event, fields);
        let asked = dedup::Asked { event: &event, fields, body, proof, replay_window };
        let dedup = self.dedup.keys(&asked);
        let targets = self.routes.targets(&event, fields);
        let may_conflict = self.dedup.may_conflict();
        Admission { event, order_key, dedup, targets, may_conflict }
    }

    /// The verifier that applies, and what it found proved.
    fn prove(&self, headers: &Headers, body: &[u8], now: Timestamp) -> Option<(&Verifier, Proof)> {
        let addressed = || self.verifiers.iter().filter(|verifier| verifier.is_addressed(headers));
        let header = addressed().next()?.header();
        if self.choice == Choice::One && addressed().any(|other| other.header() != header) {
            return None;
        }
        addressed()
            .filter(|verifier| verifier.header() == header)
            .find_map(|verifier| verifier.prove(headers, body, now).map(|proof| (verifier, proof)))
    }

    fn is_test_event(&self, fields: &Fields<'_>) -> bool {
        !self.test_event.is_empty()
            && self.test_event.iter().all(|(id, constant)| match fields.get(*id) {
                Value::Text(text) => text == *constant,
                Value::Missing
                | Value::Null
                | Value::Literal(_)
                | Value::Raw(_)
                | Value::Bytes(_) => false,
            })
    }

    fn order_key(&self, event: &str, fields: &Fields<'_>) -> Option<String> {
        let mut applies = self.order.iter().filter(|grouping| grouping.events.matches(event));
        let key = applies.find_map(|grouping| grouping.key(fields))?;
        if is_plain(&key, MAX_ORDER_KEY) {
            return Some(key);
        }
        // Too long or not printable, but still to be told from others.
        let hash = dedup::Hash::new(&self.source, "order").part(key.as_bytes()).finish();
        (!key.is_empty()).then(|| format!("#{hash:032x}"))
    }
}

impl Grouping {
    /// The values, joined; `None` when one of them is missing.
    fn key(&self, fields: &Fields<'_>) -> Option<String> {
        let mut key = String::new();
        for (position, id) in self.fields.iter().enumerate() {
            if position > 0 {
                key.push('/');
            }
            key.push_str(fields.get(*id).as_text()?);
        }
        Some(key)
    }
}

impl Naming {
    /// The event's name; `None` is a malformed request.
    fn of(&self, fields: &Fields<'_>) -> Option<String> {
        let name = self.fields.iter().find_map(|id| {
            let value = fields.get(*id);
            let strict = self.unnamed == Unnamed::Malformed;
            let usable = !(strict && matches!(value, Value::Literal(_)));
            let name = value.as_text().filter(|name| usable && is_plain(name, MAX_EVENT_NAME));
            name.map(str::to_owned)
        });
        match self.unnamed {
            Unnamed::Malformed => name,
            Unnamed::Called(otherwise) => Some(name.unwrap_or_else(|| otherwise.to_owned())),
        }
    }
}

fn hold(checks: &[Check], fields: &Fields<'_>) -> bool {
    checks.iter().all(|check| check.patterns.matches_value(&fields.get(check.field)))
}

/// Whether a body is anything but the bytes it says: compressed, for example.
fn is_coded(headers: &Headers) -> bool {
    let plain = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    headers
        .get_all("content-encoding")
        .flat_map(|value| value.split(|&b| b == b','))
        .any(|c| !plain(c))
}

fn is_plain(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && !text.chars().any(char::is_control)
}
