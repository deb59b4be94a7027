//! Which events an operator asks for: a filter in three steps, from what costs nothing to what costs a read.
//!
//! First what a list holds of each event, then its bytes, then its attempts. Each step is asked for only when the query needs it, so
//! that a look for a source among a million events reads no body.

use serde::{Deserialize, Serialize};

use crate::model::{Answer, Attempt, DeadReason, ErrorClass, Event, EventId, Name};
use crate::time::Timestamp;

/// Longest text that is searched for, in bytes.
pub const MAX_NEEDLE: usize = 256;

/// What an event must be like; what is left empty is not asked. Within a list any fits, between the lists all must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Sources by name.
    pub source: Vec<String>,
    /// Event names; `*` stands for any text.
    pub event: Vec<String>,
    /// Targets by name: the event has a delivery there (in one of `state`, if that is given).
    pub target: Vec<String>,
    /// States of a delivery.
    pub state: Vec<StateWord>,
    /// Why a delivery is dead, in the words of the metrics.
    pub reason: Vec<String>,
    /// Received at or after this moment.
    pub since: Option<Timestamp>,
    /// Received before this moment.
    pub until: Option<Timestamp>,
    /// A delivery with at least so many attempts.
    pub attempts: Option<u32>,
    /// A delivery whose latest attempt was answered so: `503`, or `5xx` for a class.
    pub status: Vec<String>,
    /// A delivery whose latest attempt failed so, in the words of the metrics.
    pub error: Vec<String>,
    /// A text in the body or in a header field, letter case of ASCII ignored.
    pub q: Option<String>,
    /// A header field, `name` or `name: text`, which its value contains.
    pub header: Option<String>,
    /// A JSON pointer into the body and the value it leads to, as text.
    pub pointer: Option<(String, String)>,
    /// These ids and no others.
    pub ids: Vec<String>,
}

/// A state of a delivery as it is written in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    /// Ready, waiting or in flight.
    Pending,
    /// Due.
    Ready,
    /// Due later.
    Waiting,
    /// Being attempted.
    InFlight,
    /// The target has it.
    Delivered,
    /// A dead letter.
    Dead,
    /// Given up by an operator.
    Discarded,
}

/// What a list holds of one event.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'a> {
    /// The event.
    pub id: EventId,
    /// The source that received it.
    pub source: &'a str,
    /// Its name.
    pub name: &'a str,
    /// When it was received.
    pub received_at: Timestamp,
}

/// What a list holds of one delivery.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryOutline<'a> {
    /// The target.
    pub target: &'a Name,
    /// Its state; never [`StateWord::Pending`].
    pub state: StateWord,
    /// Why it is dead, if it is.
    pub reason: Option<DeadReason>,
    /// Attempts made and counted.
    pub attempts: u32,
}

impl Query {
    /// Whether only deliveries that are not all delivered are asked for: those are known without a read.
    pub fn is_of_unfinished(&self) -> bool {
        !self.state.is_empty() && !self.state.contains(&StateWord::Delivered)
            || !self.reason.is_empty()
    }

    /// Whether [`Query::fits_content`] asks anything.
    pub fn needs_content(&self) -> bool {
        self.q.is_some() || self.header.is_some() || self.pointer.is_some()
    }

    /// Whether [`Query::fits_attempt`] asks anything.
    pub fn needs_attempts(&self) -> bool {
        !self.status.is_empty() || !self.error.is_empty()
    }

    /// The first step for the event itself.
    pub fn fits(&self, event: Outline<'_>) -> bool {
        let after = self.since.is_none_or(|since| event.received_at >= since);
        let before = self.until.is_none_or(|until| event.received_at < until);
        let source = any(&self.source, |name| name == event.source);
        let name = any(&self.event, |pattern| glob(pattern, event.name));
        let id = any(&self.ids, |id| EventId::parse(id) == Some(event.id));
        after && before && source && name && id
    }

    /// Whether it asks for events by where they came from or what they are called.
    pub fn asks_name(&self) -> bool {
        !self.source.is_empty() || !self.event.is_empty()
    }

    /// Whether it asks anything of a delivery: else an event without any fits, too.
    pub fn asks_delivery(&self) -> bool {
        !self.target.is_empty()
            || !self.state.is_empty()
            || !self.reason.is_empty()
            || self.attempts.is_some()
            || self.needs_attempts()
    }

    /// The first step for one delivery of the event.
    pub fn fits_delivery(&self, delivery: DeliveryOutline<'_>) -> bool {
        let state = |word: &StateWord| *word == delivery.state || word.means(delivery.state);
        let reason = |word: &String| delivery.reason.is_some_and(|reason| reason.as_str() == word);
        any(&self.target, |name| name == delivery.target.as_str())
            && any(&self.state, state)
            && any(&self.reason, reason)
            && self.attempts.is_none_or(|least| delivery.attempts >= least)
    }

    /// The second step: the event's bytes.
    pub fn fits_content(&self, event: &Event) -> bool {
        let text = self.q.as_deref().is_none_or(|needle| {
            let needle = needle.as_bytes();
            contains(&event.body, needle)
                || event.headers.iter().any(|(_, value)| contains(value, needle))
        });
        let header = self.header.as_deref().is_none_or(|wanted| {
            let (name, needle) = wanted.split_once(':').unwrap_or((wanted, ""));
            let (name, needle) = (name.trim().to_ascii_lowercase(), needle.trim());
            event.headers.get_all(&name).any(|value| contains(value, needle.as_bytes()))
        });
        text && header && self.pointer.as_ref().is_none_or(|wanted| points(event, wanted))
    }

    /// The third step: the latest attempt of a delivery.
    pub fn fits_attempt(&self, latest: Option<&Attempt>) -> bool {
        if !self.needs_attempts() {
            return true;
        }
        match latest.map(|attempt| &attempt.answer) {
            Some(Answer::Status { status, .. }) => self.status.iter().any(|it| is_of(it, *status)),
            Some(Answer::Failed(class)) => self.error.iter().any(|word| word == class.as_str()),
            Some(Answer::Interrupted) | None => false,
        }
    }

    /// What is wrong with it, in a sentence; `None` when nothing is.
    pub fn mistake(&self) -> Option<String> {
        let needles = [self.q.as_deref(), self.header.as_deref()];
        if needles.into_iter().flatten().any(|text| text.is_empty() || text.len() > MAX_NEEDLE) {
            return Some(format!("q and header take between 1 and {MAX_NEEDLE} bytes"));
        }
        if self.pointer.as_ref().is_some_and(|(pointer, _)| !pointer.starts_with('/')) {
            return Some("pointer takes a JSON pointer that begins with /, = and a value".into());
        }
        if let Some(status) = self.status.iter().find(|status| !is_status(status)) {
            return Some(format!("{status:?} is no status: write 503, or 5xx for the whole class"));
        }
        if let Some(word) = self.error.iter().find(|word| ErrorClass::parse(word).is_none()) {
            let all = ErrorClass::ALL.map(ErrorClass::as_str).join(", ");
            return Some(format!("{word:?} is no class of errors; there are {all}"));
        }
        if let Some(word) = self.reason.iter().find(|word| DeadReason::parse(word).is_none()) {
            let all = DeadReason::ALL.map(DeadReason::as_str).join(", ");
            return Some(format!("{word:?} is no reason of a dead letter; there are {all}"));
        }
        let bad = self.ids.iter().find(|id| EventId::parse(id).is_none());
        bad.map(|id| format!("{id:?} is no id of an event: evt_ and 32 hex digits"))
    }
}

impl StateWord {
    /// Every word.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Ready,
        Self::Waiting,
        Self::InFlight,
        Self::Delivered,
        Self::Dead,
        Self::Discarded,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::InFlight => "in_flight",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }

    fn means(self, state: Self) -> bool {
        self == Self::Pending && matches!(state, Self::Ready | Self::Waiting | Self::InFlight)
    }
}

fn any<T>(wanted: &[T], fits: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

/// `*` stands for any text, also for none. Linear in both texts but for stars, of which the last one alone is gone back to.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0usize, 0usize);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p = p.saturating_add(1);
            }
            Some(wanted) if wanted == byte => {
                p = p.saturating_add(1);
                t = t.saturating_add(1);
            }
            Some(_) | None => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from.saturating_add(1)));
                p = at.saturating_add(1);
                t = from.saturating_add(1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Whether bytes contain others, letter case of ASCII ignored.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return true };
    let (lower, upper) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    let mut at = 0usize;
    while let Some(found) = bytes.get(at..).and_then(|b| memchr::memchr2(lower, upper, b)) {
        let after = at.saturating_add(found).saturating_add(1);
        let tail = bytes.get(after..after.saturating_add(rest.len()));
        if tail.is_some_and(|tail| tail.eq_ignore_ascii_case(rest)) {
            return true;
        }
        at = after;
    }
    false
}

fn points(event: &Event, (pointer, wanted): &(String, String)) -> bool {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(&event.body) else { return false };
    match body.pointer(pointer) {
        Some(serde_json::Value::String(text)) => text == wanted,
        Some(value) => serde_json::to_string(value).is_ok_and(|text| text == *wanted),
        None => false,
    }
}

fn is_status(word: &str) -> bool {
    matches!(word.as_bytes(), [b'1'..=b'9', b'x' | b'X', b'x' | b'X'])
        || word.parse::<u16>().is_ok_and(|status| (100..1000).contains(&status))
}

fn is_of(word: &str, status: u16) -> bool {
    let digits = status.to_string();
    word == digits
        || word.len() == 3 && word.ends_with(['x', 'X']) && word.get(..1) == digits.get(..1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::Headers;

    fn event(body: &'static str) -> Event {
        Event {
            id: EventId::new(Timestamp::EPOCH, [0; 10]),
            source: Name::parse("ci").unwrap(),
            name: "build.failed".into(),
            order_key: None,
            received_at: Timestamp::from_secs(10),
            headers: Headers::from_pairs([("x-kind", &b"Nightly"[..])]),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn fits(query: &Query) -> bool {
        let event = event(r#"{"a":{"n":7,"s":"main"},"t":"Tail"}"#);
        let outline = Outline {
            id: event.id,
            source: event.source.as_str(),
            name: &event.name,
            received_at: event.received_at,
        };
        query.fits(outline) && query.fits_content(&event)
    }

    #[test]
    fn globs_match_any_text_and_end() {
        let cases = [
            ("build.*", "build.failed", true),
            ("*failed", "build.failed", true),
            ("*.f*d", "build.failed", true),
            ("build", "build.failed", false),
            ("*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("", "", true),
            ("**", "x", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn each_part_of_a_query_can_let_an_event_through_or_not() {
        let some = |text: &str| Some(text.to_owned());
        let at = |seconds| Some(Timestamp::from_secs(seconds));
        let point = |p: &str, v: &str| Some((p.to_owned(), v.to_owned()));
        let all = Query::default;
        let yes = [
            all(),
            Query { source: vec!["other".into(), "ci".into()], ..all() },
            Query { event: vec!["build.*".into()], since: at(10), until: at(11), ..all() },
            Query { q: some("tAIL"), ..all() },
            Query { q: some("nightly"), ..all() },
            Query { header: some("X-Kind: night"), ..all() },
            Query { header: some("x-kind"), ..all() },
            Query { pointer: point("/a/n", "7"), ..all() },
            Query { pointer: point("/a/s", "main"), ..all() },
        ];
        let no = [
            Query { source: vec!["other".into()], ..all() },
            Query { event: vec!["*.passed".into()], ..all() },
            Query { since: at(11), ..all() },
            Query { until: at(10), ..all() },
            Query { q: some("absent"), ..all() },
            Query { header: some("x-none"), ..all() },
            Query { pointer: point("/a/n", "8"), ..all() },
            Query { pointer: point("/none", "null"), ..all() },
        ];
        assert!(yes.iter().all(fits));
        for query in &no {
            assert!(!fits(query), "{query:?}");
        }
    }

    #[test]
    fn a_delivery_fits_by_target_state_reason_and_attempts() {
        let name = Name::parse("deploy").unwrap();
        let dead = DeliveryOutline {
            target: &name,
            state: StateWord::Dead,
            reason: Some(DeadReason::Gone),
            attempts: 3,
        };
        let waiting = DeliveryOutline { state: StateWord::Waiting, reason: None, ..dead };
        let all = Query::default;
        let pending = Query { state: vec![StateWord::Pending], ..all() };
        assert!(pending.fits_delivery(waiting) && !pending.fits_delivery(dead));
        let gone = Query { reason: vec!["gone".into()], attempts: Some(3), ..all() };
        assert!(gone.fits_delivery(dead) && !gone.fits_delivery(waiting));
        assert!(!Query { attempts: Some(4), ..all() }.fits_delivery(dead));
        assert!(!Query { target: vec!["other".into()], ..all() }.fits_delivery(dead));
        assert!(gone.is_of_unfinished() && pending.is_of_unfinished() && !all().is_of_unfinished());
    }

    #[test]
    fn the_latest_attempt_is_found_by_status_class_and_error() {
        let attempt = |answer| Attempt {
            number: 1,
            started_at: Timestamp::EPOCH,
            duration: std::time::Duration::ZERO,
            answer,
            seen: Box::default(),
        };
        let status = attempt(Answer::Status { status: 503, retry_after: None });
        let failed = attempt(Answer::Failed(ErrorClass::Dns));
        let of = |status: &[&str], error: &[&str]| Query {
            status: status.iter().map(ToString::to_string).collect(),
            error: error.iter().map(ToString::to_string).collect(),
            ..Query::default()
        };
        assert!(of(&["5xx"], &[]).fits_attempt(Some(&status)));
        assert!(of(&["200", "503"], &[]).fits_attempt(Some(&status)));
        assert!(!of(&["4xx"], &["dns"]).fits_attempt(Some(&status)));
        assert!(of(&["4xx"], &["dns"]).fits_attempt(Some(&failed)));
        assert!(!of(&["5xx"], &[]).fits_attempt(None) && of(&[], &[]).fits_attempt(None));
    }

    #[test]
    fn mistakes_are_named() {
        let query = |text: &str| serde_json::from_str::<Query>(text).unwrap().mistake();
        assert_eq!(query("{}"), None);
        for bad in [
            r#"{"q":""}"#,
            r#"{"status":["abc"]}"#,
            r#"{"error":["nope"]}"#,
            r#"{"reason":["nope"]}"#,
            r#"{"ids":["evt_1"]}"#,
            r#"{"pointer":["a","b"]}"#,
        ] {
            assert!(query(bad).is_some(), "{bad}");
        }
        assert!(serde_json::from_str::<Query>(r#"{"sorce":["x"]}"#).is_err());
    }
}
