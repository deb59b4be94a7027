//! Events of our own: what was noticed, for targets that ask for it by name, and what one target alone is told.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::dedup::Hash;
use super::stages::{Notice, Seen};
use crate::model::{DedupKey, Event, EventId, Headers, Name};
use crate::time::Timestamp;

/// How long the same notice is not stored twice: after a crash it may be made again.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// The source that events for one target alone are said to come from.
const OURSELVES: &str = "everhook";

/// What one target alone is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// An operator tries it.
    Test,
    /// A reload changed these keys of its settings.
    Ping(&'a [String]),
}

impl Told<'_> {
    /// It as an event; `None` never, as long as our own name is a name.
    pub fn event(self, target: &Name, id: EventId, now: Timestamp) -> Option<Event> {
        let name = match self {
            Self::Test => "everhook.test",
            Self::Ping(_) => "everhook.ping",
        };
        let mut body = json!({ "event": name, "target": target.as_str(), "sent_at": now });
        if let (Self::Ping(changes), Some(body)) = (self, body.as_object_mut()) {
            body.insert("changes".to_owned(), json!(changes));
        }
        Some(Event {
            id,
            source: Name::parse(OURSELVES)?,
            name: name.to_owned(),
            order_key: None,
            received_at: now,
            headers: Headers::from_pairs([("content-type", &b"application/json"[..])]),
            body: body.to_string().into(),
        })
    }
}

/// An event of our own before it has an id.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnEvent {
    /// `everhook.gap`, `everhook.stall` or `everhook.silent`.
    pub name: &'static str,
    /// The build it is about.
    pub order_key: Option<String>,
    /// JSON.
    pub body: Vec<u8>,
    /// Tells it from every other.
    pub dedup: DedupKey,
}

impl OwnEvent {
    fn new(
        source: &Name,
        name: &'static str,
        key: &[&[u8]],
        build: Option<&str>,
        body: &Map<String, Value>,
    ) -> Self {
        let hash = Hash::new(source, name);
        let key = key.iter().fold(hash, |hash, part| hash.part(part)).finish();
        Self {
            name,
            order_key: build.map(str::to_owned),
            body: serde_json::to_vec(body).unwrap_or_default(),
            dedup: DedupKey::Exact { key, window: WINDOW },
        }
    }

    /// What was noticed of a build; a gap that healed is good news, and no event.
    pub fn of_build(source: &Name, notice: &Notice, now: Timestamp) -> Option<Self> {
        let (name, build, more, key) = match notice {
            Notice::Gap { build, missing, seen } => {
                let more = [("missing", (*missing).into()), ("seen", told(seen))].map(member);
                ("everhook.gap", build, more.to_vec(), (*missing, last_of(seen)))
            }
            Notice::Stall { build, last, heard_at, seen } => {
                let heard = heard_at.to_string().into();
                let more =
                    [("last", (*last).into()), ("last_heard_at", heard), ("seen", told(seen))];
                ("everhook.stall", build, more.map(member).to_vec(), (*last, *heard_at))
            }
            Notice::Healed { .. } => return None,
        };
        let mut body = common(source, name, now);
        body.insert("order_key".to_owned(), build.as_str().into());
        body.extend(more);
        let at = key.1.as_micros().to_be_bytes();
        let key = [build.as_bytes(), key.0.as_bytes(), &at];
        Some(Self::new(source, name, &key, Some(build), &body))
    }

    /// A source of which nothing was heard.
    pub fn of_silence(source: &Name, every: Duration, since: Timestamp, now: Timestamp) -> Self {
        let name = "everhook.silent";
        let mut body = common(source, name, now);
        body.insert("silent_since".to_owned(), since.to_string().into());
        body.insert("expected_every_seconds".to_owned(), every.as_secs().into());
        Self::new(source, name, &[&since.as_micros().to_be_bytes()], None, &body)
    }
}

/// What each of them says.
fn common(source: &Name, name: &str, now: Timestamp) -> Map<String, Value> {
    let texts = [
        ("event", name.to_owned()),
        ("source", source.to_string()),
        ("noticed_at", now.to_string()),
    ];
    texts.map(|(key, text)| (key.to_owned(), text.into())).into_iter().collect()
}

fn told(seen: &[Seen]) -> Value {
    seen.iter().map(|seen| json!({ "event": seen.event, "at": seen.at })).collect()
}

fn member((key, value): (&str, Value)) -> (String, Value) {
    (key.to_owned(), value)
}

fn last_of(seen: &[Seen]) -> Timestamp {
    seen.iter().map(|seen| seen.at).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_775_000_000);

    fn parsed(event: &OwnEvent) -> Value {
        serde_json::from_slice(&event.body).unwrap()
    }

    #[test]
    fn one_target_alone_is_told_what_changed() {
        let (target, id) = (Name::parse("t").unwrap(), EventId::new(NOW, [7; 10]));
        let changes = ["target.t.timeout".to_owned()];
        let ping = Told::Ping(&changes).event(&target, id, NOW).unwrap();
        assert_eq!(
            (ping.name.as_str(), ping.source.as_str(), ping.id),
            ("everhook.ping", "everhook", id)
        );
        let body: Value = serde_json::from_slice(&ping.body).unwrap();
        let expected = json!({
            "event": "everhook.ping", "target": "t", "sent_at": "2026-03-31T23:33:20.000Z",
            "changes": ["target.t.timeout"],
        });
        assert_eq!(body, expected);
        let test = Told::Test.event(&target, id, NOW).unwrap();
        let body: Value = serde_json::from_slice(&test.body).unwrap();
        assert_eq!((test.name.as_str(), body.get("changes")), ("everhook.test", None));
    }

    #[test]
    fn an_event_says_everything_that_is_known() {
        let source = Name::parse("streampixel").unwrap();
        let seen = vec![
            Seen { event: "build.uploaded", at: NOW },
            Seen { event: "build.saving", at: NOW.plus(Duration::from_secs(5)) },
        ];
        let build = "p1/u1".to_owned();
        let gap =
            Notice::Gap { build: build.clone(), missing: "build.extracting", seen: seen.clone() };
        let gap = OwnEvent::of_build(&source, &gap, NOW.plus(Duration::from_secs(40))).unwrap();
        assert_eq!((gap.name, gap.order_key.as_deref()), ("everhook.gap", Some("p1/u1")));
        let at = |text: &str| format!("2026-03-31T23:33:{text}.000Z");
        let body = json!({
            "event": "everhook.gap", "source": "streampixel", "order_key": "p1/u1",
            "missing": "build.extracting", "noticed_at": "2026-03-31T23:34:00.000Z",
            "seen": [
                { "event": "build.uploaded", "at": at("20") },
                { "event": "build.saving", "at": at("25") },
            ],
        });
        assert_eq!(parsed(&gap), body);
        let stall =
            Notice::Stall { build: build.clone(), last: "build.saving", heard_at: NOW, seen };
        let stall = OwnEvent::of_build(&source, &stall, NOW).unwrap();
        assert_eq!(parsed(&stall)["last_heard_at"], at("20"));
        assert_ne!(stall.dedup, gap.dedup);
        let silent = OwnEvent::of_silence(&source, Duration::from_secs(3600), NOW, NOW);
        assert_eq!(parsed(&silent)["expected_every_seconds"], 3600);
        assert_eq!((silent.name, silent.order_key), ("everhook.silent", None));
        let healed = Notice::Healed { build, event: "build.saving" };
        assert_eq!(OwnEvent::of_build(&source, &healed, NOW), None);
    }
}
