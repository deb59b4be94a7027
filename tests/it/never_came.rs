//! What a provider did not send is noticed, told to the targets that ask for it, and not forgotten over a restart.

use std::collections::HashSet;

use serde_json::Value;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::{Received, Receiver};

/// A relay for builds, with a target that asks for what never came and two that do not.
struct Relay {
    home: Home,
    daemon: Daemon,
    asking: Receiver,
    others: Receiver,
    /// The ids that the asking target has had: a kill may strike before its answer is written down, and then the same
    /// event comes once more under the same id. Another event of the same content is none of these.
    had: HashSet<String>,
}

impl Relay {
    async fn start(keys: &str) -> Self {
        let (asking, others) = (Receiver::good().await, Receiver::good().await);
        let home = Home::new(&format!(
            "[source.s]\nprovider = \"streampixel\"\n{keys}\n\
             [target.asking]\nurl = {:?}\nevents = [\"everhook.*\"]\nwhere = {{ \"/projectId\" = [\"none\"] }}\n\
             [target.all]\nurl = {others:?}\n\
             [target.builds]\nurl = {others:?}\nevents = [\"*\", \"!build.saving\"]\n",
            asking.url(),
            others = others.url()
        ));
        let daemon = home.start().await;
        Self { home, daemon, asking, others, had: HashSet::new() }
    }

    async fn hears(&self, upload: &str, events: &[&str]) {
        for event in events {
            let body = format!(
                r#"{{"event":"build.{event}","projectId":"p","uploadId":"{upload}","objection":null}}"#
            );
            assert_eq!(self.daemon.post("/in/s", &[], body.as_bytes()).await.ack().1, "accepted");
        }
    }

    /// The next event of our own, and what it says.
    async fn told(&mut self) -> (Received, Value) {
        let mut request = self.asking.next().await;
        while !self.had.insert(request.id().to_owned()) {
            request = self.asking.next().await;
        }
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!(body["event"], request.header("everhook-event"));
        assert_eq!((&body["source"], request.header("everhook-source")), (&"s".into(), "s"));
        (request, body)
    }

    /// The next gap: build and step.
    async fn gap(&mut self) -> (String, String) {
        let (_, body) = self.told().await;
        assert_eq!(body["event"], "everhook.gap", "{body}");
        let text = |name: &str| body[name].as_str().expect("a text").to_owned();
        (text("order_key"), text("missing"))
    }

    async fn restart(mut self) -> Self {
        self.daemon.terminate();
        assert!(self.daemon.ended().await.success());
        self.daemon = self.home.start().await;
        self
    }
}

#[tokio::test]
async fn gaps_stalls_and_silence_reach_those_who_ask_and_nobody_else() {
    let keys = "stages = { gap_after = \"1s\", stall_after = \"2s\" }\nexpect_every = \"3s\"\n";
    let mut relay = Relay::start(keys).await;
    relay.hears("u1", &["uploaded", "saving"]).await;
    let mut missing = Vec::new();
    for _ in 0..2 {
        let (request, body) = relay.told().await;
        assert_eq!((&body["event"], &body["order_key"]), (&"everhook.gap".into(), &"p/u1".into()));
        let seen = body["seen"].as_array().expect("a list");
        let events: Vec<_> = seen.iter().map(|seen| seen["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["build.uploaded", "build.saving"]);
        assert!(seen[0]["at"].as_str() <= seen[1]["at"].as_str());
        assert_eq!(request.header("content-type"), "application/json");
        missing.push(body["missing"].as_str().expect("a text").to_owned());
    }
    missing.sort();
    assert_eq!(missing, ["build.downloading", "build.extracting"]);
    let (_, stall) = relay.told().await;
    assert_eq!(stall["event"], "everhook.stall", "{stall}");
    assert_eq!((&stall["last"], &stall["order_key"]), (&"build.saving".into(), &"p/u1".into()));
    let (_, silent) = relay.told().await;
    assert_eq!(silent["event"], "everhook.silent", "{silent}");
    assert_eq!(
        (&silent["expected_every_seconds"], &silent["order_key"]),
        (&3.into(), &Value::Null)
    );
    assert_eq!(silent["silent_since"], stall["last_heard_at"]);
    for (series, value) in [
        ("everhook_stage_gaps_total", 2.0),
        ("everhook_stage_stalls_total", 1.0),
        ("everhook_source_silences_total", 1.0),
        ("everhook_source_silent", 1.0),
        ("everhook_events_accepted_total", 2.0),
    ] {
        let found = relay.daemon.metric(&format!("{series}{{source=\"s\"}}")).await;
        assert!((found - value).abs() < 0.1, "{series} {found}");
    }
    let mut names: Vec<_> =
        relay.others.seen().iter().map(|it| it.header("everhook-event").to_owned()).collect();
    names.sort();
    assert_eq!(names, ["build.saving", "build.uploaded", "build.uploaded"]);

    // Told once: over a restart, too, and anew when something came in between.
    let mut relay = relay.restart().await;
    assert!((relay.daemon.metric("everhook_source_silent{source=\"s\"}").await - 1.0).abs() < 0.1);
    relay.hears("u2", &["uploaded", "rejected"]).await;
    relay.daemon.metric_becomes("everhook_source_silent{source=\"s\"}", 0.0).await;
    let (_, again) = relay.told().await;
    assert_eq!(again["event"], "everhook.silent", "{again}");
    assert_ne!(again["silent_since"], silent["silent_since"]);
}

#[tokio::test]
async fn what_is_missing_over_a_restart_is_told_once() {
    let keys = "stages = { gap_after = \"1s\", stall_after = \"1h\" }\n";
    let gap = |upload: &str, step: &str| (format!("p/{upload}"), format!("build.{step}"));
    let relay = Relay::start(keys).await;
    relay.hears("u1", &["uploaded"]).await;
    let mut relay = relay.restart().await;
    relay.hears("u1", &["extracting"]).await;
    assert_eq!(relay.gap().await, gap("u1", "downloading"));
    let mut relay = relay.restart().await;
    relay.hears("u1", &["saving", "approved"]).await;
    relay.hears("u2", &["uploaded", "extracting"]).await;
    assert_eq!(relay.gap().await, gap("u2", "downloading"), "nothing more of u1");

    // After a crash the next step is believed, because one may not have been written down, and the rest is watched.
    relay.hears("u3", &["uploaded"]).await;
    relay
        .daemon
        .metric_becomes("everhook_deliveries{state=\"in_flight\",target=\"all\"}", 0.0)
        .await;
    relay.daemon.kill().await;
    relay.daemon = relay.home.start().await;
    relay.hears("u3", &["extracting", "approved"]).await;
    assert_eq!(relay.gap().await, gap("u3", "saving"));
}

#[tokio::test]
async fn a_source_of_which_nothing_is_expected_any_more_is_not_silent() {
    let silent = "everhook_source_silent{source=\"s\"}";
    let relay = Relay::start("expect_every = \"1s\"\n").await;
    relay.daemon.metric_becomes(silent, 1.0).await;
    let url = relay.others.url();
    let without = format!("[source.s]\nprovider = \"streampixel\"\n[target.all]\nurl = {url:?}\n");
    relay.home.configure(&without);
    relay.daemon.hang_up();
    relay.daemon.metric_becomes(silent, 0.0).await;
    relay.hears("u1", &["uploaded"]).await;
    let page = relay.daemon.admin_get("/metrics").await;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(!page.contains("everhook_source_silent{"), "no series says so");
    // And the journal has forgotten it, too.
    let relay = relay.restart().await;
    assert!(relay.daemon.metric(silent).await < 0.5);
}

#[tokio::test]
async fn silence_is_looked_for_as_soon_as_a_reload_expects_something() {
    let relay = Relay::start("").await;
    let url = relay.others.url();
    relay.home.configure(&format!(
        "[source.s]\nprovider = \"streampixel\"\nexpect_every = \"1s\"\n[target.all]\nurl = {url:?}\n"
    ));
    relay.daemon.hang_up();
    relay.daemon.metric_becomes("everhook_source_silent{source=\"s\"}", 1.0).await;
}
