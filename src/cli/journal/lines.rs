//! The lines of an export: one JSON object each, from `begin` to `end`.
//!
//! Nothing is rounded and no byte is changed: a body or a header's value is text where it is UTF-8, and
//! `{"base64": ".."}` where it is not.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use everhook::journal::{DeliveryState, Note, PastAttempt, Stage};
use everhook::model::{
    DeadReason, DedupKey, Event, EventId, Headers, Name, Refusal, Rejection, RejectionId,
};
use everhook::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::attempts::AttemptLine;

/// The format that this release writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Line {
    /// The first one.
    Begin { format: u32, version: String, at: String },
    /// An event with everything that belongs to it.
    Event(Box<EventLine>),
    /// A dedup key whose event is not kept any more.
    Key { event: String, at: String, key: Key },
    /// A note, such as that a target is paused.
    Note { topic: String, name: String, value: Data },
    /// A request that was refused and kept.
    Rejection(Box<RejectionLine>),
    /// The last one: what stands before it.
    End { events: u64, keys: u64, notes: u64, rejections: u64 },
}

/// An event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventLine {
    id: String,
    source: String,
    event: String,
    order_key: Option<String>,
    received_at: String,
    headers: Vec<(String, Data)>,
    body: Data,
    dedup: Vec<Key>,
    deliveries: Vec<Delivery>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptLine>,
}

/// A refused request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectionLine {
    id: String,
    source: String,
    cause: String,
    received_at: String,
    client: IpAddr,
    held: bool,
    query: Option<String>,
    headers: Vec<(String, Data)>,
    body: Data,
}

/// Bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Data {
    Text(String),
    Base64 { base64: String },
}

/// A dedup key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Key {
    Exact { key: String, window_us: u64 },
    Latest { subject: String, digest: String, window_us: u64 },
}

/// A delivery as it stands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delivery {
    target: String,
    state: Word,
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The states of a delivery.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Ready,
    Waiting,
    Delivered,
    Dead,
    Discarded,
}

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Begin,
    Event {
        event: Event,
        deliveries: Vec<DeliveryState>,
        dedup: Vec<DedupKey>,
        attempts: Vec<PastAttempt>,
    },
    Key(EventId, Timestamp, DedupKey),
    Note(Note),
    Rejection(Box<Rejection>),
    End {
        items: u64,
    },
}

impl Line {
    pub(super) fn event(
        event: &Event,
        deliveries: &[DeliveryState],
        dedup: &[DedupKey],
        attempts: &[PastAttempt],
    ) -> Self {
        Self::Event(Box::new(EventLine {
            id: event.id.to_string(),
            source: event.source.to_string(),
            event: event.name.clone(),
            order_key: event.order_key.clone(),
            received_at: event.received_at.precise(),
            headers: fields(&event.headers),
            body: Data::of(&event.body),
            dedup: dedup.iter().map(Key::of).collect(),
            deliveries: deliveries.iter().map(Delivery::of).collect(),
            attempts: attempts.iter().map(AttemptLine::of).collect(),
        }))
    }

    pub(super) fn key(event: EventId, at: Timestamp, key: &DedupKey) -> Self {
        Self::Key { event: event.to_string(), at: at.precise(), key: Key::of(key) }
    }

    pub(super) fn note(note: &Note) -> Self {
        let Note { topic, name, value } = note;
        Self::Note { topic: topic.clone(), name: name.clone(), value: Data::of(value) }
    }

    pub(super) fn rejection(rejection: &Rejection) -> Self {
        let Rejection { id, source, cause, received_at, client, held, query, headers, body } =
            rejection;
        Self::Rejection(Box::new(RejectionLine {
            id: id.to_string(),
            source: source.to_string(),
            cause: cause.as_str().to_owned(),
            received_at: received_at.precise(),
            client: *client,
            held: *held,
            query: query.clone(),
            headers: fields(headers),
            body: Data::of(body),
        }))
    }

    /// Reads a line, or says what is wrong with it.
    pub(super) fn parse(line: &[u8]) -> Result<Item, String> {
        let line: Self = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match line {
            Self::Begin { format, version, .. } if format > FORMAT => Err(format!(
                "it was written by everhook {version} in format {format}, which is newer than this release reads"
            )),
            Self::Begin { .. } => Ok(Item::Begin),
            Self::Event(line) => line.item(),
            Self::Key { event, at, key } => Ok(Item::Key(id(&event)?, time(&at)?, key.key()?)),
            Self::Note { topic, name, value } => {
                Ok(Item::Note(Note { topic, name, value: value.bytes()?.to_vec() }))
            }
            Self::Rejection(line) => line.item(),
            Self::End { events, keys, notes, rejections } => {
                let items = [events, keys, notes, rejections].into_iter();
                Ok(Item::End { items: items.fold(0, u64::saturating_add) })
            }
        }
    }
}

impl EventLine {
    fn item(self) -> Result<Item, String> {
        let event = Event {
            id: id(&self.id)?,
            source: name(&self.source)?,
            name: self.event,
            order_key: self.order_key,
            received_at: time(&self.received_at)?,
            headers: headers(self.headers)?,
            body: self.body.bytes()?,
        };
        let deliveries =
            self.deliveries.into_iter().map(Delivery::state).collect::<Result<_, _>>()?;
        let dedup = self.dedup.into_iter().map(Key::key).collect::<Result<_, _>>()?;
        let attempts =
            self.attempts.into_iter().map(AttemptLine::attempt).collect::<Result<_, _>>()?;
        Ok(Item::Event { event, deliveries, dedup, attempts })
    }
}

impl RejectionLine {
    fn item(self) -> Result<Item, String> {
        let cause = Refusal::ALL.into_iter().find(|cause| cause.as_str() == self.cause);
        Ok(Item::Rejection(Box::new(Rejection {
            id: RejectionId::parse(&self.id)
                .ok_or_else(|| format!("{:?} is no rejection's id", self.id))?,
            source: name(&self.source)?,
            cause: cause.ok_or_else(|| format!("{:?} is no cause", self.cause))?,
            received_at: time(&self.received_at)?,
            client: self.client,
            held: self.held,
            query: self.query,
            headers: headers(self.headers)?,
            body: self.body.bytes()?,
        })))
    }
}

pub(super) fn fields(headers: &Headers) -> Vec<(String, Data)> {
    headers.iter().map(|(name, value)| (name.to_owned(), Data::of(value))).collect()
}

pub(super) fn headers(fields: Vec<(String, Data)>) -> Result<Headers, String> {
    let mut pairs = Vec::new();
    for (name, value) in fields {
        pairs.push((name, value.bytes()?));
    }
    Ok(Headers::from_pairs(pairs.iter().map(|(name, value)| (&name[..], &value[..]))))
}

impl Data {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64 { base64: STANDARD.encode(bytes) },
        }
    }

    pub(super) fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Base64 { base64 } => {
                STANDARD.decode(base64).map(Bytes::from).map_err(|error| format!("base64: {error}"))
            }
        }
    }
}

impl Key {
    fn of(key: &DedupKey) -> Self {
        let micros = |window: Duration| u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        match *key {
            DedupKey::Exact { key, window } => {
                Self::Exact { key: format!("{key:032x}"), window_us: micros(window) }
            }
            DedupKey::Latest { subject, digest, window } => Self::Latest {
                subject: format!("{subject:032x}"),
                digest: format!("{digest:032x}"),
                window_us: micros(window),
            },
        }
    }

    fn key(self) -> Result<DedupKey, String> {
        let number = |text: &str| {
            u128::from_str_radix(text, 16).map_err(|error| format!("dedup key {text:?}: {error}"))
        };
        match self {
            Self::Exact { key, window_us } => {
                let window = Duration::from_micros(window_us);
                Ok(DedupKey::Exact { key: number(&key)?, window })
            }
            Self::Latest { subject, digest, window_us } => {
                let window = Duration::from_micros(window_us);
                Ok(DedupKey::Latest {
                    subject: number(&subject)?,
                    digest: number(&digest)?,
                    window,
                })
            }
        }
    }
}

impl Delivery {
    fn of(delivery: &DeliveryState) -> Self {
        let (state, due, reason) = match delivery.stage {
            Stage::Ready | Stage::InFlight => (Word::Ready, None, None),
            Stage::Waiting(due) => (Word::Waiting, Some(due.precise()), None),
            Stage::Delivered => (Word::Delivered, None, None),
            Stage::Dead(reason) => (Word::Dead, None, Some(reason.as_str().to_owned())),
            Stage::Discarded => (Word::Discarded, None, None),
        };
        let target = delivery.target.to_string();
        Self { target, state, attempts: delivery.attempts, due, reason }
    }

    fn state(self) -> Result<DeliveryState, String> {
        let stage = match self.state {
            Word::Ready => Stage::Ready,
            Word::Waiting => {
                Stage::Waiting(time(&self.due.ok_or("a delivery that waits has no \"due\"")?)?)
            }
            Word::Delivered => Stage::Delivered,
            Word::Dead => {
                let word = self.reason.ok_or("a dead delivery has no \"reason\"")?;
                let reason = DeadReason::ALL.into_iter().find(|reason| reason.as_str() == word);
                Stage::Dead(reason.ok_or_else(|| format!("{word:?} is no reason"))?)
            }
            Word::Discarded => Stage::Discarded,
        };
        Ok(DeliveryState { target: name(&self.target)?, stage, attempts: self.attempts })
    }
}

fn id(text: &str) -> Result<EventId, String> {
    EventId::parse(text).ok_or_else(|| format!("{text:?} is no event's id"))
}

pub(super) fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).ok_or_else(|| format!("{text:?} is no source's or target's name"))
}

pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|error| format!("{text:?} is no time: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_as_it_was() {
        let at = Timestamp::from_micros(1_774_789_200_123_456);
        let window = Duration::from_micros(1_500);
        let pairs: [(&str, &[u8]); 3] = [("a", b"text"), ("a", b"\xff\x00"), ("empty", b"")];
        let event = Event {
            id: EventId::new(at, [7; 10]),
            source: Name::parse("source").unwrap(),
            name: "build \"x\"".into(),
            order_key: Some(String::new()),
            received_at: at,
            headers: Headers::from_pairs(pairs),
            body: Bytes::from_static(b"\x00\xfe"),
        };
        let stages = [
            Stage::Ready,
            Stage::Waiting(at),
            Stage::Delivered,
            Stage::Dead(DeadReason::Template),
            Stage::Discarded,
        ];
        let delivery = |(number, stage): (u32, Stage)| DeliveryState {
            target: Name::parse(&format!("t{number}")).unwrap(),
            stage,
            attempts: number,
        };
        let deliveries: Vec<_> = (0..).zip(stages).map(delivery).collect();
        let dedup = vec![
            DedupKey::Exact { key: u128::MAX, window },
            DedupKey::Latest { subject: 0, digest: 1, window },
        ];
        let attempts = super::super::attempts::tests::some();
        let line = Line::event(&event, &deliveries, &dedup, &attempts);
        let line = serde_json::to_vec(&line).unwrap();
        assert_eq!(Line::parse(&line), Ok(Item::Event { event, deliveries, dedup, attempts }));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, part) in [
            ("{", "EOF"),
            ("{\"type\":\"nothing\"}", "unknown variant"),
            ("{\"type\":\"begin\",\"format\":2,\"version\":\"9\",\"at\":\"\"}", "newer"),
            (
                "{\"type\":\"key\",\"event\":\"x\",\"at\":\"\",\"key\":{\"kind\":\"exact\",\"key\":\"\",\"window_us\":1}}",
                "event's id",
            ),
        ] {
            let said = Line::parse(line.as_bytes()).unwrap_err();
            assert!(said.contains(part), "{line}: {said}");
        }
    }
}
