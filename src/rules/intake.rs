//! The whole decision about one request to one source: verify, read, admit, name, key, route.

use std::time::Duration;

use super::dedup;
use super::filter::{Condition, Patterns};
use super::payload::{Field, FieldId, FieldSet, Fields, Value};
use super::provider::{PerEvent, Preset, Unnamed, Verification};
use super::verify::{Proof, Scheme, Verifier};
use crate::model::{DedupKey, Headers, Name, Secret};
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// Longest name of an event in bytes; a longer one is none.
pub const MAX_EVENT_NAME: usize = 200;
/// Longest order key in bytes; a longer one is replaced by its hash.
pub const MAX_ORDER_KEY: usize = 256;
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
pub struct Intake {
    source: Name,
    provider: &'static Preset,
    /// At least one; see [`Verification::Schemes`] for several.
    verifiers: Vec<Verifier>,
    /// Every field anything below looks at.
    fields: FieldSet,
    admit: Vec<Check>,
    test_event: Vec<(FieldId, &'static str)>,
    event: Naming,
    order: Vec<Grouping>,
    dedup: dedup::Rule,
    routes: Vec<Route>,
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

#[derive(Debug)]
struct Route {
    target: Name,
    events: Option<Patterns>,
    conditions: Vec<Check>,
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
        let preset = spec.provider;
        let verifiers = verifiers(&spec)?;
        let signed = verifiers.iter().all(Verifier::proves);
        let mut set = FieldSet::default();
        let event = match &spec.event {
            Some(field) => Naming {
                fields: vec![set.add(field)],
                unnamed: if signed { Unnamed::Called(UNKNOWN) } else { Unnamed::Malformed },
            },
            None => Naming {
                fields: preset_fields(preset.event.fields, &mut set)?,
                unnamed: preset.event.unnamed,
            },
        };
        let order = match &spec.order_key {
            Some(fields) if fields.is_empty() => Vec::new(),
            Some(fields) => vec![Grouping {
                events: Patterns::parse::<&str>(&[])?,
                fields: fields.iter().map(|field| set.add(field)).collect(),
            }],
            None => preset
                .order
                .iter()
                .map(|per| Grouping::new(per, &mut set))
                .collect::<Result<_, _>>()?,
        };
        let dedup = match &spec.dedup {
            Some(DedupSpec::Off) => dedup::Rule::off(),
            Some(DedupSpec::Key(fields)) if fields.is_empty() => {
                return Err("`dedup.key` is empty: every request would repeat the first one".into());
            }
            Some(DedupSpec::Key(fields)) => {
                dedup::Rule::equal(fields, None, &spec.source, &mut set, spec.dedup_window)
            }
            None => {
                dedup::Rule::preset(&preset.repeats, &spec.source, &mut set, spec.dedup_window)?
            }
        };
        let test_event = preset.test_event.iter().map(|(pointer, constant)| {
            Field::parse(pointer).map(|field| (set.add(&field), *constant))
        });
        // Without a `where` there is nothing the test event would have to pass.
        let test_event = if spec.admit.is_empty() {
            Vec::new()
        } else {
            test_event.collect::<Result<_, _>>()?
        };
        let admit = checks(spec.admit, &mut set);
        let routes = spec.targets.into_iter().map(|interest| Route {
            target: interest.target,
            events: interest.events,
            conditions: checks(interest.conditions, &mut set),
        });
        let routes = routes.collect();
        let (source, provider) = (spec.source, preset);
        Ok(Self {
            source,
            provider,
            verifiers,
            fields: set,
            admit,
            test_event,
            event,
            order,
            dedup,
            routes,
        })
    }

    /// The provider's preset.
    pub fn provider(&self) -> &'static Preset {
        self.provider
    }

    /// Whether a request has to prove where it comes from.
    pub fn verifies(&self) -> bool {
        self.verifiers.iter().all(Verifier::proves)
    }

    /// The header fields that make a sample pass this source's verification at `now`, signed with its first
    /// secret. `headers` are the sample's other fields. The error is a sentence.
    pub fn sign_sample(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        self.verifiers.first().map_or_else(|| Ok(Vec::new()), |v| v.imitate(headers, body, now))
    }

    /// Decides one request. `now` is wall time: freshness compares with the sender's clock.
    pub fn decide(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        if self.fields.reads_json() && is_coded(headers) {
            return Err(Refusal::MediaType);
        }
        let (verifier, proof) = self.prove(headers, body, now).ok_or(Refusal::Unverified)?;
        let fields =
            self.fields.extract(headers, body).map_err(|_unreadable| Refusal::Malformed)?;
        if !hold(&self.admit, &fields) && !self.is_test_event(&fields) {
            return Err(Refusal::NotAllowed);
        }
        let event = self.event.of(&fields).ok_or(Refusal::Malformed)?;
        let order_key = self.order_key(&event, &fields);
        let replay_window = verifier.replay_window();
        let asked =
            dedup::Asked { event: &event, fields: &fields, body, proof: &proof, replay_window };
        let dedup = self.dedup.keys(&asked);
        let wants = |route: &&Route| {
            route.events.as_ref().is_none_or(|events| events.matches(&event))
                && hold(&route.conditions, &fields)
        };
        let targets = self.routes.iter().filter(wants).map(|route| route.target.clone()).collect();
        Ok(Admission { event, order_key, dedup, targets })
    }

    /// The verifier that applies, and what it found proved.
    fn prove(&self, headers: &Headers, body: &[u8], now: Timestamp) -> Option<(&Verifier, Proof)> {
        // With two proofs in one request it would be the sender's choice which of them counts.
        let mut addressed = self.verifiers.iter().filter(|verifier| verifier.is_addressed(headers));
        let verifier = addressed.next()?;
        if addressed.next().is_some() {
            return None;
        }
        verifier.prove(headers, body, now).map(|proof| (verifier, proof))
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
        let grouping = self.order.iter().find(|grouping| grouping.events.matches(event))?;
        let mut key = String::new();
        for (position, id) in grouping.fields.iter().enumerate() {
            if position > 0 {
                key.push('/');
            }
            key.push_str(fields.get(*id).as_text()?);
        }
        if is_plain(&key, MAX_ORDER_KEY) {
            return Some(key);
        }
        // Too long or not printable, but still to be told from others.
        let hash = dedup::Hash::new(&self.source, "order").part(key.as_bytes()).finish();
        (!key.is_empty()).then(|| format!("#{hash:032x}"))
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

impl Grouping {
    fn new(per: &PerEvent, set: &mut FieldSet) -> Result<Self, String> {
        let fields = preset_fields(per.fields, set)?;
        Ok(Self { events: Patterns::parse(per.events)?, fields })
    }
}

fn preset_fields(fields: &[&str], set: &mut FieldSet) -> Result<Vec<FieldId>, String> {
    fields.iter().map(|field| Field::parse(field).map(|field| set.add(&field))).collect()
}

fn checks(conditions: Vec<Condition>, set: &mut FieldSet) -> Vec<Check> {
    let compile = |condition: Condition| Check {
        field: set.add(&condition.field),
        patterns: condition.patterns,
    };
    conditions.into_iter().map(compile).collect()
}

fn verifiers(spec: &IntakeSpec) -> Result<Vec<Verifier>, String> {
    let name = spec.provider.name;
    let schemes = match (&spec.verify, spec.provider.verification) {
        (Some(scheme), _) => vec![scheme.clone()],
        (None, Verification::Unsigned) if !spec.secrets.is_empty() => {
            return Err(format!(
                "{name} does not sign its webhooks, so a secret has nothing to verify; \
                 remove it, and protect the source with `path_token`"
            ));
        }
        (None, Verification::Unsigned) => vec![Scheme::none()],
        (None, Verification::Schemes(_)) if spec.secrets.is_empty() => {
            return Err(format!(
                "{name} signs its webhooks; set `secret` to the one it signs with"
            ));
        }
        (None, Verification::Schemes(schemes)) => schemes(),
        (None, Verification::Configured) => {
            return Err(format!(
                "provider \"{name}\" needs `verify`; write verify = {{ kind = \"none\" }} to accept anything"
            ));
        }
    };
    let url = spec.public_url.as_deref();
    schemes.iter().map(|scheme| Verifier::new(scheme, &spec.secrets, url)).collect()
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
