//! A secret is rotated wrongly for an hour, under load and with a kill in between: after the fix and one release, every
//! event of that hour has reached its target, once.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::api::Api;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::Receiver;
use crate::harness::{sign, within};

/// Connections at once.
const SENDERS: usize = 6;
/// Events that each source misses.
const MISSED: usize = 240;

fn sources(secret: &str, receiver: &Receiver) -> String {
    format!(
        "[source.held]\nprovider = \"buildpixel\"\nsecret = \"plain:{secret}\"\non_unverified = \"accept-hold\"\n\
         [source.refused]\nprovider = \"buildpixel\"\nsecret = \"plain:{secret}\"\n\
         [target.t]\nurl = {:?}\n",
        receiver.url()
    )
}

fn body(source: &str, number: usize) -> String {
    format!(r#"{{"type":"build.complete","data":{{"build":{{"id":"{source}-{number}"}}}}}}"#)
}

/// Sends some events as the provider signs them, on several connections at once, and counts the answers by what they say.
async fn send(
    daemon: &Daemon,
    source: &'static str,
    numbers: std::ops::Range<usize>,
) -> BTreeMap<String, usize> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let mut connection = daemon.connect().await;
        let numbers = numbers.clone().skip(sender).step_by(SENDERS);
        senders.spawn(async move {
            let mut said = Vec::new();
            for number in numbers {
                let body = body(source, number);
                let signature = sign::buildpixel("right", body.as_bytes());
                let fields = [("x-buildpixel-signature", &*signature)];
                let reply = connection.post(&format!("/in/{source}"), &fields, body).await;
                let reply = reply.expect("an answer").json();
                let word = reply["status"].as_str().or(reply["cause"].as_str());
                said.push(word.expect("a word").to_owned());
            }
            said
        });
    }
    let all = within("everything is answered", senders.join_all()).await;
    let mut counts = BTreeMap::new();
    for word in all.concat() {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

async fn stop(daemon: Daemon) {
    daemon.terminate();
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_hour_is_lost_and_nothing_comes_twice() {
    let mut receiver = Receiver::good().await;
    let home = Home::new(&sources("wrong", &receiver));
    let daemon = home.start().await;
    let half = MISSED / 2;
    let held = send(&daemon, "held", 0..half).await;
    assert_eq!(held, [("held".to_owned(), half)].into());
    // Whoever was answered 200 was told that it is safe.
    daemon.kill().await;
    let daemon = home.start().await;
    let kept = |source: &str| format!("everhook_quarantine_rejections{{source=\"{source}\"}}");
    daemon.metric_becomes(&kept("held"), 120.0).await;
    let held = send(&daemon, "held", half..MISSED).await;
    assert_eq!(held, [("held".to_owned(), half)].into());
    let counted = daemon.metric("everhook_quarantine_held_total{source=\"held\"}").await;
    assert!((counted - 120.0).abs() < 0.1, "{counted}");
    let refused = send(&daemon, "refused", 0..MISSED).await;
    assert_eq!(refused, [("unverified".to_owned(), MISSED)].into());
    daemon.metric_becomes(&kept("refused"), 240.0).await;
    let told = daemon.log().into_iter().filter(|line| line.contains("answered 200 and held"));
    assert_eq!(told.count(), 1, "once a minute");
    stop(daemon).await;
    assert!(receiver.seen().is_empty());

    home.configure(&sources("right", &receiver));
    let daemon = home.start().await;
    // Some are sent again by hand before anybody thinks of a release.
    for source in ["held", "refused"] {
        let again = send(&daemon, source, 7..19).await;
        assert_eq!(again, [("accepted".to_owned(), 12)].into());
    }
    let api = Api::of(daemon.admin).await;
    let everything = || json!({ "filter": {} });
    let (status, released) = api.post("rejections/release", everything()).await;
    let counts = ["matched", "accepted", "duplicate"].map(|word| released[word].as_u64().unwrap());
    assert_eq!((status, counts), (200, [480, 456, 24]), "{released}");
    let (_, again) = api.post("rejections/release", everything()).await;
    assert_eq!(again["matched"], 0);

    let mut bodies: Vec<_> =
        receiver.take(2 * MISSED).await.into_iter().map(|request| request.body).collect();
    bodies.sort();
    let all = |source| (0..MISSED).map(move |number| body(source, number).into());
    let mut expected: Vec<bytes::Bytes> = all("held").chain(all("refused")).collect();
    expected.sort();
    assert_eq!(bodies, expected, "each once");
    for source in ["held", "refused"] {
        daemon.metric_becomes(&kept(source), 0.0).await;
    }
    daemon.metric_becomes("everhook_deliveries{state=\"in_flight\",target=\"t\"}", 0.0).await;
    assert_eq!(receiver.seen().len(), 2 * MISSED);
}

#[tokio::test]
async fn what_cannot_be_held_is_not_answered_200() {
    let receiver = Receiver::good().await;
    let journal = tempfile::tempdir().expect("a directory");
    let home = Home::with_journal(
        journal.path(),
        &["quarantine_max_bytes = \"1MiB\"\n", &*sources("wrong", &receiver)].concat(),
    );
    let daemon = home.start().await;
    let large = vec![b'x'; 300_000];
    let mut held = 0;
    let refusal = loop {
        let reply = daemon.post("/in/held", &[], &large).await;
        if reply.status != 200 {
            break reply;
        }
        let (id, status) = reply.ack();
        assert!(id.starts_with("rej_") && status == "held", "{id} {status}");
        held += 1;
    };
    assert_eq!((refusal.status, held), (503, 3));
    assert_eq!(refusal.json()["cause"], "journal-full");
    assert!(refusal.headers.contains_key("retry-after"));
    // What fails for another cause is refused as ever.
    assert_eq!(daemon.post("/in/held", &[("content-encoding", "br")], b"{}").await.status, 415);
    let events = sign::buildpixel("wrong", b"{}");
    let known = daemon.post("/in/held", &[("x-buildpixel-signature", &events)], b"{}").await;
    assert_eq!(known.ack().1, "accepted", "what is verified is not held up");
}
