//! The histories that the naive keys get wrong, against a small store with the journal's promise.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Headers, Secret};
use crate::rules::intake::{Intake, IntakeSpec, OnConflict};
use crate::rules::provider::preset;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_775_000_000);
const WINDOW: Duration = Duration::from_secs(3600);

/// One source in front of a store that remembers as the journal does.
struct History {
    intake: Intake,
    exact: HashMap<u128, Timestamp>,
    latest: HashMap<u128, u128>,
    now: Timestamp,
}

impl History {
    fn of(provider: &str) -> Self {
        let provider = preset(provider).unwrap();
        let secrets =
            if provider.needs_secret() { vec![Secret::new("secret")] } else { Vec::new() };
        let spec = IntakeSpec {
            source: Name::parse("source").unwrap(),
            provider,
            verify: None,
            secrets,
            handshake_token: None,
            public_url: None,
            admit: Vec::new(),
            event: None,
            dedup: None,
            on_conflict: OnConflict::Duplicate,
            own_window: None,
            order_key: None,
            dedup_window: WINDOW,
            targets: Vec::new(),
        };
        let intake = Intake::new(spec).unwrap();
        Self { intake, exact: HashMap::new(), latest: HashMap::new(), now: NOW }
    }

    /// Whether a request is a new event.
    fn admits(&mut self, headers: &Headers, body: &str) -> bool {
        let keys = self.intake.decide(headers, body.as_bytes(), self.now).unwrap().dedup;
        let known = keys.iter().any(|key| match key {
            DedupKey::Exact { key, .. } => self.exact.get(key).is_some_and(|end| *end > self.now),
            DedupKey::Latest { subject, digest, .. } => self.latest.get(subject) == Some(digest),
        });
        for key in keys.into_iter().filter(|_| !known) {
            match key {
                DedupKey::Exact { key, window } => {
                    self.exact.insert(key, self.now.plus(window));
                }
                DedupKey::Latest { subject, digest, .. } => {
                    self.latest.insert(subject, digest);
                }
            }
        }
        !known
    }

    /// Sent and signed anew one second later.
    fn sends(&mut self, event: &str, body: &str) -> bool {
        self.now = self.now.plus(Duration::from_secs(1));
        let headers = self.signed(event, body);
        self.admits(&headers, body)
    }

    fn signed(&self, event: &str, body: &str) -> Headers {
        let event = [("x-buildkite-event", event.as_bytes())];
        let plain = Headers::from_pairs(event);
        let made = self.intake.sign_sample(&plain, body.as_bytes(), self.now).unwrap();
        Headers::from_pairs(event.into_iter().chain(made.iter().map(|(n, v)| (&**n, v.as_bytes()))))
    }
}

const RUNNING: &str = r#"{"event":"build.running","build":{"id":"b1","state":"running"}}"#;
const BLOCKED: &str =
    r#"{"event":"build.finished","build":{"id":"b1","state":"passed","blocked":true}}"#;
const FAILED: &str = r#"{"event":"build.finished","build":{"id":"b1","state":"failed"}}"#;

#[test]
fn a_build_that_runs_again_after_unblocking_is_three_events() {
    let mut history = History::of("buildkite");
    assert!(history.sends("build.running", RUNNING));
    assert!(!history.sends("build.running", RUNNING), "redelivered before anything else happened");
    assert!(history.sends("build.finished", BLOCKED));
    assert!(history.sends("build.running", RUNNING), "the second run, byte for byte the first");
    assert!(!history.sends("build.running", RUNNING));
}

#[test]
fn a_job_retry_that_fails_again_is_news() {
    let mut history = History::of("buildkite");
    let job = |id: &str, event: &str| {
        format!(r#"{{"event":"{event}","job":{{"id":"{id}"}},"build":{{"id":"b1"}}}}"#)
    };
    for (event, body) in [
        ("job.finished", job("j1", "job.finished")),
        ("build.finished", FAILED.to_owned()),
        ("job.scheduled", job("j2", "job.scheduled")),
        ("build.running", RUNNING.to_owned()),
        ("job.finished", job("j2", "job.finished")),
        ("build.finished", FAILED.to_owned()),
    ] {
        assert!(history.sends(event, &body), "{event}");
        assert!(!history.sends(event, &body), "{event}");
    }
    // Jobs and their build have histories of their own.
    assert!(!history.sends("job.finished", &job("j2", "job.finished")));
}

#[test]
fn pings_and_blocked_registrations_are_always_new() {
    let mut history = History::of("buildkite");
    let agent = r#"{"agent":{"id":"a1"},"cluster_token":{"id":"c1"},"service":{"id":"s1"}}"#;
    for event in ["ping", "agent.blocked", "cluster_token.registration_blocked", "package.created"]
    {
        assert!(history.sends(event, agent), "{event}");
        assert!(history.sends(event, agent), "{event}");
    }
}

#[test]
fn an_agent_that_connects_again_is_news() {
    let mut history = History::of("buildkite");
    let state = |state: &str| format!(r#"{{"agent":{{"id":"a1","connection_state":"{state}"}}}}"#);
    assert!(history.sends("agent.connected", &state("connected")));
    assert!(history.sends("agent.lost", &state("lost")));
    assert!(history.sends("agent.connected", &state("connected")));
    assert!(!history.sends("agent.connected", &state("connected")));
}

#[test]
fn a_signature_used_again_is_a_replay_however_it_is_written() {
    let mut history = History::of("buildkite");
    let first = history.signed("build.running", RUNNING);
    assert!(history.admits(&first, RUNNING));
    assert!(history.sends("build.finished", FAILED));
    assert!(!history.admits(&first, RUNNING), "not the latest body, but the same signature");
    let text = first.get_str("x-buildkite-signature").unwrap();
    let (stamp, signature) = text.split_once(",signature=").unwrap();
    let rewritten = format!("signature={}, {stamp},v=9", signature.to_uppercase());
    let headers = Headers::from_pairs([("x-buildkite-signature", rewritten.as_bytes())]);
    assert!(!history.admits(&headers, RUNNING));
    history.now = NOW.plus(Duration::from_secs(300));
    assert!(!history.admits(&first, RUNNING), "as long as it is fresh");
}

#[test]
fn a_replay_is_known_from_the_earliest_to_the_latest_moment_of_a_signature() {
    let mut history = History::of("buildkite");
    let first = history.signed("ping", "{}");
    history.now = NOW.minus(Duration::from_secs(300));
    assert!(history.admits(&first, "{}"));
    history.now = NOW.plus(Duration::from_secs(300));
    assert!(!history.admits(&first, "{}"));
}

#[test]
fn with_a_token_only_the_latest_body_counts() {
    let mut history = History::of("buildkite");
    let headers = Headers::from_pairs([
        ("x-buildkite-token", &b"secret"[..]),
        ("x-buildkite-event", b"ping"),
    ]);
    assert!(history.admits(&headers, "{}"));
    assert!(history.admits(&headers, "{}"), "two pings in one second");
    let running = [("x-buildkite-token", &b"secret"[..]), ("x-buildkite-event", b"build.running")];
    let headers = Headers::from_pairs(running);
    assert!(history.admits(&headers, RUNNING));
    assert!(!history.admits(&headers, RUNNING));
}

#[test]
fn streampixel_repeats_by_project_upload_and_event() {
    let mut history = History::of("streampixel");
    let body = |event: &str, upload: &str, at: u32| {
        format!(r#"{{"event":"{event}","projectId":"p","uploadId":{upload},"timestamp":{at}}}"#)
    };
    assert!(history.sends("", &body("build.approved", r#""u1""#, 1)));
    assert!(!history.sends("", &body("build.approved", r#""u1""#, 2)));
    assert!(history.sends("", &body("build.approved", r#""u2""#, 2)));
    assert!(history.sends("", &body("build.rejected", r#""u1""#, 3)));
    for unkeyed in [body("build.rejected", "null", 4), r#"{"event":"build.rejected"}"#.to_owned()] {
        assert!(history.sends("", &unkeyed));
        assert!(history.sends("", &unkeyed), "null and missing name no upload");
    }
    assert!(history.sends("", &body("webhook.test", r#""test_upload_id""#, 5)));
    assert!(history.sends("", &body("webhook.test", r#""test_upload_id""#, 5)));
}

#[test]
fn buildpixel_repeats_by_type_and_build() {
    let mut history = History::of("buildpixel");
    let body = |kind: &str, at: u32| {
        format!(r#"{{"type":"{kind}","createdAt":{at},"data":{{"build":{{"id":"b1"}}}}}}"#)
    };
    assert!(history.sends("", &body("build.running", 1)));
    assert!(!history.sends("", &body("build.running", 2)), "a retry may have another createdAt");
    assert!(history.sends("", &body("build.failed", 2)));
}

#[test]
fn a_changed_rule_or_another_source_starts_afresh() {
    let headers = Headers::default();
    let key = |source: &str, field: &str, body: &str| {
        let mut set = FieldSet::default();
        let keys = [vec![Field::parse(field).unwrap()]];
        let rule = Rule::equal(&keys, None, &Name::parse(source).unwrap(), &mut set, WINDOW);
        let fields = set.extract(&headers, body.as_bytes()).unwrap();
        let (body, proof) = (body.as_bytes(), &Proof::Sender);
        rule.keys(&Asked { event: "e", fields: &fields, body, proof, replay_window: None })
    };
    let base = key("a", "/x", r#"{"x":"1","y":"1"}"#);
    assert_eq!(base, key("a", "/x", r#"{"x":"1","y":"2"}"#));
    assert_ne!(base, key("b", "/x", r#"{"x":"1","y":"1"}"#));
    assert_ne!(base, key("a", "/y", r#"{"x":"1","y":"1"}"#));
    assert_ne!(base, key("a", "/x", r#"{"x":1,"y":"1"}"#), "a number is not its text");
}

proptest! {
    #[test]
    fn parts_do_not_run_into_each_other(a in prop::collection::vec("[ab]{0,2}", 0..4), b in prop::collection::vec("[ab]{0,2}", 0..4)) {
        let source = Name::parse("s").unwrap();
        let hash = |parts: &[String]| {
            parts.iter().fold(Hash::new(&source, "r"), |hash, part| hash.part(part.as_bytes())).finish()
        };
        prop_assert_eq!(hash(&a) == hash(&b), a == b);
    }
}
