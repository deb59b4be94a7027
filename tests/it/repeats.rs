//! What providers send again, in the sequences in which they really do: every event once, and none lost.

use everhook::time::Clock;

use crate::harness::api::{Api, each};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::ingress::Ingress;
use crate::harness::receiver::Receiver;
use crate::harness::sign;

/// A relay for the providers whose repeats are hard to tell from news.
struct Relay {
    home: Home,
    daemon: Daemon,
    _receiver: Receiver,
    /// Seconds; each request of Buildkite is dispatched one later.
    dispatched: u64,
}

impl Relay {
    async fn start() -> Self {
        let receiver = Receiver::good().await;
        let home = Home::new(&format!(
            "[source.streampixel]\nprovider = \"streampixel\"\n\
             [source.buildkite]\nprovider = \"buildkite\"\nsecret = \"plain:secret\"\n\
             [source.strict]\nprovider = \"streampixel\"\non_conflict = \"new\"\n\
             [source.declared]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n\
             dedup = {{ key = [\"/id\", \"header:x-part\"], window = \"24h\" }}\n\
             [target.t]\nurl = {:?}\n",
            receiver.url()
        ));
        let daemon = home.start().await;
        let now = u64::try_from(Clock::system().wall().as_secs()).expect("after 1970");
        Self { home, daemon, _receiver: receiver, dispatched: now - 200 }
    }

    /// Whether a request is answered as a new event.
    async fn admits(&self, path: &str, headers: &[(&str, &str)], body: &str) -> bool {
        let (_, status) = self.daemon.post(path, headers, body.as_bytes()).await.ack();
        status == "accepted"
    }

    async fn streampixel(&self, body: &str) -> bool {
        self.admits("/in/streampixel", &[], body).await
    }

    /// Dispatched a second after the one before, so that its signature is another one.
    async fn buildkite(&mut self, event: &str, body: &str) -> bool {
        self.dispatched += 1;
        self.dispatched_at(self.dispatched, event, body).await
    }

    async fn dispatched_at(&self, at: u64, event: &str, body: &str) -> bool {
        let signature = sign::buildkite("secret", at, body.as_bytes());
        let headers = [("x-buildkite-event", event), ("x-buildkite-signature", &*signature)];
        self.admits("/in/buildkite", &headers, body).await
    }

    async fn counted(&self, source: &str) -> f64 {
        self.daemon.metric(&format!("everhook_events_accepted_total{{source=\"{source}\"}}")).await
    }
}

fn build(event: &str, state: &str) -> String {
    format!(r#"{{"event":"{event}","build":{{"id":"b1","state":"{state}"}}}}"#)
}

fn job(event: &str, id: &str) -> String {
    format!(r#"{{"event":"{event}","job":{{"id":"{id}"}},"build":{{"id":"b1"}}}}"#)
}

fn upload(event: &str, project: &str, upload: &str, rest: &str) -> String {
    format!(
        r#"{{"event":"{event}","projectId":"{project}","uploadId":{upload},"timestamp":"{rest}"}}"#
    )
}

#[tokio::test]
async fn a_build_that_is_blocked_unblocked_and_retried_loses_nothing() {
    let mut relay = Relay::start().await;
    let (running, blocked) = (build("build.running", "running"), build("build.finished", "passed"));
    let failed = build("build.finished", "failed");
    let story = [
        ("build.scheduled", build("build.scheduled", "scheduled")),
        ("build.running", running.clone()),
        ("build.finished", blocked),
        ("job.activated", job("job.activated", "j0")),
        // Byte for byte the first run.
        ("build.running", running.clone()),
        ("job.finished", job("job.finished", "j1")),
        ("build.finished", failed.clone()),
        ("job.scheduled", job("job.scheduled", "j2")),
        ("build.running", running.clone()),
        ("job.finished", job("job.finished", "j2")),
        // The retry failed as the first try did.
        ("build.finished", failed.clone()),
    ];
    for (event, body) in &story {
        assert!(relay.buildkite(event, body).await, "{event} {body}");
        assert!(!relay.buildkite(event, body).await, "{event} {body}, redelivered at once");
    }
    assert!((relay.counted("buildkite").await - 11.0).abs() < 0.1);
    // A late redelivery, after other events of the build, is passed on: better twice than never.
    assert!(relay.buildkite("build.running", &running).await);
    // But one signature is good for one event, whatever happened since.
    let used = relay.dispatched;
    assert!(relay.buildkite("build.finished", &failed).await);
    assert!(!relay.dispatched_at(used, "build.running", &running).await, "a replay");
}

#[tokio::test]
async fn agents_come_back_and_pings_are_pings() {
    let mut relay = Relay::start().await;
    let agent = |event: &str| format!(r#"{{"event":"{event}","agent":{{"id":"a1"}}}}"#);
    for event in ["agent.connected", "agent.lost", "agent.connected", "agent.disconnected"] {
        assert!(relay.buildkite(event, &agent(event)).await, "{event}");
    }
    let ping = r#"{"event":"ping","service":{"id":"s1"}}"#;
    let blocked = r#"{"event":"agent.blocked","blocked_ip":"192.0.2.1","agent":{"id":"a1"}}"#;
    let refused = r#"{"event":"cluster_token.registration_blocked","cluster_token":{"id":"c1"}}"#;
    for (event, body) in [
        ("ping", ping),
        ("agent.blocked", blocked),
        ("cluster_token.registration_blocked", refused),
    ] {
        for _ in 0..2 {
            assert!(relay.buildkite(event, body).await, "{event}");
        }
    }
}

#[tokio::test]
async fn streampixel_repeats_by_project_upload_and_event_alone() {
    let relay = Relay::start().await;
    let uploaded = |at: &str| upload("build.uploaded", "p1", "\"u1\"", at);
    assert!(relay.streampixel(&uploaded("1")).await);
    assert!(!relay.streampixel(&uploaded("1")).await);
    assert!(!relay.streampixel(&uploaded("2")).await, "whatever else differs");
    assert!(relay.streampixel(&upload("build.approved", "p1", "\"u1\"", "3")).await);
    assert!(relay.streampixel(&upload("build.uploaded", "p2", "\"u1\"", "1")).await);
    assert!(relay.streampixel(&upload("build.uploaded", "p1", "\"u2\"", "1")).await);
    for _ in 0..2 {
        assert!(relay.streampixel(&upload("build.uploaded", "p1", "null", "1")).await);
        let test = upload("webhook.test", "test_project_id", "\"test_upload_id\"", "1");
        assert!(relay.streampixel(&test).await, "each press of the test button");
    }
    assert!((relay.counted("streampixel").await - 8.0).abs() < 0.1);
}

#[tokio::test]
async fn a_copy_that_says_something_else_is_a_repeat_a_conflict_and_kept() {
    let relay = Relay::start().await;
    let uploaded = |at: &str| upload("build.uploaded", "p1", "\"u1\"", at);
    let send =
        async |path: &str, body: String| relay.daemon.post(path, &[], body.as_bytes()).await.ack();
    let (first, _) = send("/in/streampixel", uploaded("1")).await;
    let conflicts = "everhook_events_conflict_total{source=\"streampixel\"}";
    let kept = "everhook_quarantine_rejections{source=\"streampixel\"}";
    assert_eq!(send("/in/streampixel", uploaded("2")).await, (first.clone(), "duplicate".into()));
    relay.daemon.metric_becomes(conflicts, 1.0).await;
    relay.daemon.metric_becomes(kept, 1.0).await;
    assert_eq!(send("/in/streampixel", uploaded("1")).await, (first.clone(), "duplicate".into()));
    assert_eq!(send("/in/streampixel", uploaded("3")).await, (first.clone(), "duplicate".into()));
    relay.daemon.metric_becomes(conflicts, 2.0).await;
    relay.daemon.metric_becomes(kept, 2.0).await;

    let api = Api::of(relay.daemon.admin).await;
    let event = api.get(&format!("events/{first}")).await;
    assert_eq!(
        (&event["repeats"]["count"], event["body"]["data"].as_str()),
        (&3.into(), Some(&*uploaded("1")))
    );
    assert_eq!(event["repeats"]["latest"][2]["client"], "127.0.0.1");
    let kept = api.all("rejections?cause=conflict", 1).await;
    let named = event["conflicts"].as_array().expect("a list");
    assert_eq!((kept.len(), each(&kept, "id")), (2, each(named, "id")));
    assert_eq!(event["conflicts"][0]["client"], "127.0.0.1");
    let (other, _) = send("/in/streampixel", upload("build.saving", "p1", "\"u1\"", "4")).await;
    assert_eq!(api.get(&format!("events/{other}")).await["conflicts"], serde_json::json!([]));

    let mut statuses = Vec::new();
    for _ in 0..2 {
        for body in [uploaded("1"), uploaded("2")] {
            let (_, status) = send("/in/strict", body).await;
            statuses.push(status);
        }
    }
    assert_eq!(statuses, ["accepted", "accepted", "duplicate", "duplicate"]);
    relay.daemon.terminate();
    assert!(relay.daemon.ended().await.success());
    let kept = super::quarantine::rejections(&relay.home).await;
    let bodies: Vec<_> = kept.iter().rev().map(|one| one.body.clone()).collect();
    assert_eq!(bodies, [uploaded("2"), uploaded("3")]);
    for one in kept {
        assert_eq!((one.cause, one.held), (everhook::model::Refusal::Conflict, false));
        assert_eq!(one.headers.get_str("everhook-repeats"), Some(&*first));
    }
}

#[tokio::test]
async fn a_declared_key_holds_whatever_else_differs() {
    let relay = Relay::start().await;
    let send = async |part: &'static str, body: &'static str| {
        relay.admits("/in/declared", &[("x-part", part)], body).await
    };
    assert!(send("1", r#"{"id":7,"n":1}"#).await);
    assert!(!send("1", r#"{"id":7,"n":2}"#).await);
    assert!(send("2", r#"{"id":7,"n":1}"#).await);
    assert!(send("1", r#"{"id":"7","n":1}"#).await, "a number is not its text");
    for _ in 0..2 {
        assert!(send("1", r#"{"id":null}"#).await, "without a value nothing is a repeat");
        assert!(relay.admits("/in/declared", &[], r#"{"id":7}"#).await);
    }
}

#[tokio::test]
async fn copies_that_come_at_once_are_one_event_and_each_is_told_its_id() {
    let relay = Relay::start().await;
    let body = upload("build.uploaded", "p1", "\"u1\"", "1");
    let send = async || relay.daemon.post("/in/streampixel", &[], body.as_bytes()).await.ack();
    let told = futures_util::future::join_all((0..32).map(|_| send())).await;
    let new = told.iter().filter(|(_, status)| status == "accepted").count();
    assert_eq!(new, 1, "{told:?}");
    assert!(told.iter().all(|(id, _)| *id == told[0].0), "{told:?}");
    assert!((relay.counted("streampixel").await - 1.0).abs() < 0.1);
    let repeats = "everhook_events_duplicate_total{source=\"streampixel\"}";
    assert!((relay.daemon.metric(repeats).await - 31.0).abs() < 0.1);
}

#[tokio::test]
async fn a_repeat_is_known_over_a_restart_and_over_a_kill() {
    let mut relay = Relay::start().await;
    let uploaded = upload("build.uploaded", "p1", "\"u1\"", "1");
    let running = build("build.running", "running");
    let (first, _) = relay.daemon.post("/in/streampixel", &[], uploaded.as_bytes()).await.ack();
    assert!(relay.buildkite("build.running", &running).await);
    let used = relay.dispatched;
    for end in ["stopped", "killed"] {
        match end {
            "stopped" => {
                relay.daemon.terminate();
                assert!(relay.daemon.ended().await.success());
            }
            _ => relay.daemon.kill().await,
        }
        relay.daemon = relay.home.start().await;
        let again = relay.daemon.post("/in/streampixel", &[], uploaded.as_bytes()).await.ack();
        assert_eq!(again, (first.clone(), "duplicate".to_owned()), "{end}");
        assert!(!relay.buildkite("build.running", &running).await, "{end}");
        assert!(!relay.dispatched_at(used, "build.running", &running).await, "{end}");
    }
    // The subject's latest body is known as well: what comes after it is news, and so is the same again after that.
    assert!(relay.buildkite("build.finished", &build("build.finished", "passed")).await);
    assert!(relay.buildkite("build.running", &running).await);
}

#[tokio::test]
async fn a_repeat_is_known_to_the_end_of_its_window_and_not_a_second_longer() {
    const NOW: i64 = 1_775_000_000;
    const DAY: i64 = 24 * 60 * 60;
    let sources = "[source.streampixel]\nprovider = \"streampixel\"\n\
                   [source.buildpixel]\nprovider = \"buildpixel\"\nsecret = \"plain:secret\"\n";
    let ingress = Ingress::start(NOW, sources).await;
    let send = async |path: &str, body: &str| {
        let signature = sign::buildpixel("secret", body.as_bytes());
        let headers = [("x-buildpixel-signature", &*signature)];
        let mut connection = ingress.connect().await;
        connection.post(path, &headers, body.to_owned()).await.expect("an answer").ack().1
    };
    let uploaded = upload("build.uploaded", "p1", "\"u1\"", "1");
    let complete = r#"{"type":"build.complete","data":{"build":{"id":"b1"}}}"#;
    assert_eq!(send("/in/streampixel", &uploaded).await, "accepted");
    assert_eq!(send("/in/buildpixel", complete).await, "accepted");
    // Streampixel's window is its own, for it distributes again by hand; the other's is that of the journal.
    for (now, streampixel, buildpixel) in [
        (NOW + DAY - 1, "duplicate", "duplicate"),
        (NOW + DAY + 1, "accepted", "duplicate"),
        (NOW + 2 * DAY, "duplicate", "duplicate"),
        (NOW + 3 * DAY - 1, "accepted", "duplicate"),
        (NOW + 3 * DAY + 1, "duplicate", "accepted"),
    ] {
        ingress.move_to(now);
        let got =
            (send("/in/streampixel", &uploaded).await, send("/in/buildpixel", complete).await);
        assert_eq!((&*got.0, &*got.1), (streampixel, buildpixel), "after {} s", now - NOW);
    }
}
