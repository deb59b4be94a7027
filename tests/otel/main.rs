//! The export of traces, in a build with the feature `otel`: the real binary, a collector on loopback.

#![expect(
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[expect(dead_code, reason = "these stories need a part of it")]
#[path = "../it/harness/mod.rs"]
mod harness;
mod wire;

use std::time::Instant;

use self::harness::daemon::{Daemon, Home};
use self::harness::receiver::{Act, OK, Receiver};
use self::wire::Span;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// One source, one target, and spans for a collector.
fn home(target: &Receiver, collector: &Receiver, keys: &str) -> Home {
    Home::new(&format!(
        "[otel]\nendpoint = \"http://{}/v1/traces\"\n{keys}\n\
         [source.a]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n\
         [target.t]\nurl = \"{}\"\nretry = {{ schedule = [\"1ms\"], jitter = 0.0 }}\n",
        collector.address,
        target.url()
    ))
}

/// Posts an event and gives its id's digits.
async fn post(daemon: &Daemon, headers: &[(&str, &str)]) -> String {
    let reply = daemon.post("/in/a", headers, b"{}").await;
    assert_eq!(reply.status, 200);
    let (id, _) = reply.ack();
    id.trim_start_matches("evt_").to_owned()
}

/// The spans of the collector's next requests, until there are so many.
async fn spans(collector: &mut Receiver, count: usize) -> Vec<Span> {
    let mut all = Vec::new();
    while all.len() < count {
        let request = collector.next().await;
        assert_eq!(request.line, "POST /v1/traces HTTP/1.1");
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        let (resource, spans) = wire::export(&request.body);
        assert_eq!(resource["service.name"], "everhook");
        all.extend(spans);
    }
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

fn named(spans: &[Span], name: &str) -> Vec<Span> {
    spans.iter().filter(|span| span.name == name).cloned().collect()
}

#[tokio::test]
async fn receipt_commit_and_attempt_are_spans_of_the_providers_trace() {
    let (mut target, mut collector) = (Receiver::good().await, Receiver::good().await);
    let daemon = home(&target, &collector, "headers = { x-team = \"deploys\" }").start().await;
    let event = post(&daemon, &[("traceparent", PARENT)]).await;
    let sent = target.next().await;
    let spans = spans(&mut collector, 3).await;
    let only = |name| named(&spans, name).pop().expect("a span");
    let (receive, commit, attempt) = (only("receive"), only("commit"), only("attempt"));

    assert!(spans.iter().all(|span| span.trace == TRACE && span.status == 0), "{spans:#?}");
    assert_eq!(receive.parent, "00f067aa0ba902b7");
    assert_eq!((&commit.parent, &attempt.parent), (&receive.id, &receive.id));
    assert_eq!(sent.header("traceparent"), format!("00-{TRACE}-{}-01", attempt.id));
    assert_ne!(commit.id, receive.id);
    assert_eq!([receive.kind, commit.kind, attempt.kind], [2, 1, 3]);
    assert!(receive.began <= commit.began && commit.ended <= receive.ended);
    assert!(commit.began < commit.ended, "a commit takes time: {commit:?}");
    assert!(
        spans.iter().all(|span| span.attributes["everhook.event.id"] == format!("evt_{event}"))
    );
    assert_eq!(receive.attributes["http.response.status_code"], "200");
    assert_eq!(attempt.attributes["http.response.status_code"], "200");
    assert_eq!(attempt.attributes["everhook.target"], "t");
    assert_eq!(collector.seen()[0].header("x-team"), "deploys");
    daemon.metric_becomes("everhook_spans_total{outcome=\"exported\"}", 3.0).await;
}

#[tokio::test]
async fn a_trace_that_begins_here_has_the_events_digits_and_every_attempt() {
    let fails = |n, _: &_| if n == 0 { Act::Answer("503 No", "") } else { OK };
    let (target, mut collector) = (Receiver::scripted(fails).await, Receiver::good().await);
    let daemon = home(&target, &collector, "").start().await;
    let event = post(&daemon, &[]).await;
    let spans = spans(&mut collector, 4).await;
    assert!(spans.iter().all(|span| span.trace == event), "{event}: {spans:#?}");
    let receive = named(&spans, "receive").pop().expect("a span");
    assert_eq!((receive.parent.as_str(), receive.id.as_str()), ("", &event[16..]));
    let attempts = named(&spans, "attempt");
    assert!(attempts.iter().all(|it| it.parent == receive.id));
    assert_ne!(attempts[0].id, attempts[1].id);
    let told = |it: &Span| (it.attributes["everhook.attempt"].clone(), it.status);
    assert_eq!(told(&attempts[0]), ("1".into(), 2));
    assert_eq!(told(&attempts[1]), ("2".into(), 0));
}

#[tokio::test]
async fn a_trace_that_is_not_recorded_is_not_exported_and_says_so_to_the_target() {
    let (mut target, mut collector) = (Receiver::good().await, Receiver::good().await);
    let daemon = home(&target, &collector, "sample = 0.0").start().await;
    post(&daemon, &[]).await;
    assert!(target.next().await.header("traceparent").ends_with("-00"));
    post(&daemon, &[("traceparent", &PARENT.replace("-01", "-00"))]).await;
    assert!(target.next().await.header("traceparent").ends_with("-00"));
    // About this one the provider has decided; it is the only one.
    post(&daemon, &[("traceparent", PARENT)]).await;
    assert!(spans(&mut collector, 3).await.iter().all(|span| span.trace == TRACE));
}

#[tokio::test]
async fn what_is_queued_is_exported_when_the_daemon_stops() {
    let (mut target, mut collector) = (Receiver::good().await, Receiver::good().await);
    let daemon = home(&target, &collector, "").start().await;
    for _ in 0..5 {
        post(&daemon, &[]).await;
        target.next().await;
    }
    daemon.terminate();
    spans(&mut collector, 15).await;
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn a_collector_that_never_answers_delays_nobody_and_costs_what_does_not_fit() {
    let collector = Receiver::scripted(|_, _| Act::Hang).await;
    let mut target = Receiver::good().await;
    let daemon = home(&target, &collector, "queue = 16").start().await;
    let mut connection = daemon.connect().await;
    // What is gathered for a request, what is queued, and some more.
    for _ in 0..250 {
        let reply = connection.post("/in/a", &[], b"{}".to_vec()).await.expect("an answer");
        assert_eq!(reply.status, 200);
    }
    target.take(250).await;
    daemon.metric_grows("everhook_spans_total{outcome=\"dropped\"}").await;
    let asked = Instant::now();
    daemon.terminate();
    assert!(daemon.ended().await.success());
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn spans_that_a_collector_refuses_are_counted_and_told_once() {
    let refuses = |_, _: &_| Act::Answer("400 No", "");
    let (mut target, collector) = (Receiver::good().await, Receiver::scripted(refuses).await);
    let daemon = home(&target, &collector, "").start().await;
    for batch in 1..=2 {
        post(&daemon, &[]).await;
        target.next().await;
        let series = "everhook_spans_total{outcome=\"failed\"}";
        daemon.metric_becomes(series, f64::from(3 * batch)).await;
    }
    let told = daemon.log().iter().filter(|line| line.contains("spans cannot be exported")).count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_a_mistake_of_the_configuration() {
    let (target, collector) = (Receiver::good().await, Receiver::good().await);
    let home = home(&target, &collector, "");
    let text = std::fs::read_to_string(home.config()).expect("readable");
    std::fs::write(home.config(), text.replace("endpoint = \"http://", "endpoint = \""))
        .expect("writable");
    let said = home.command(&["config", "check"]).output().await.expect("the binary runs");
    assert_eq!(said.status.code(), Some(78));
    let complaints = String::from_utf8_lossy(&said.stderr);
    let expected = "otel.endpoint: the URL does not start with http:// or https://";
    assert!(complaints.contains(expected), "{complaints}");
}
