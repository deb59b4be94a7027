//! Requests from addresses that a source does not allow: refused, kept within bounds, and released once they may come.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::api::Api;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::Receiver;
use crate::harness::{sign, within};

const KEPT: &str = "everhook_quarantine_rejections{source=\"a\"}";
const PROXY: &str = "trusted_proxies = \"127.0.0.1\"\n";
const SIGNATURE: &str = "x-buildpixel-signature";

fn source(networks: &str, receiver: &Receiver) -> String {
    format!(
        "[source.a]\nprovider = \"buildpixel\"\nsecret = \"plain:right\"\nallow_ips = {networks:?}\n\
         [source.locked]\nprovider = \"streampixel\"\npath_token = \"plain:a-token-of-sixteen\"\n\
         allow_ips = {networks:?}\n[source.graph]\nprovider = \"microsoft-graph\"\nallow_ips = {networks:?}\n\
         [target.t]\nurl = {:?}\n",
        receiver.url()
    )
}

fn body(build: &str) -> String {
    format!(r#"{{"type":"build.complete","data":{{"build":{{"id":{build:?}}}}}}}"#)
}

/// Posts a build as its provider signs it, from an address.
async fn post(daemon: &Daemon, build: &str, from: &str) -> u16 {
    let body = body(build);
    let signature = sign::buildpixel("right", body.as_bytes());
    let fields = [(SIGNATURE, &*signature), ("x-forwarded-for", from)];
    daemon.post("/in/a", &fields, body.as_bytes()).await.status
}

async fn reloaded(daemon: &Daemon) {
    daemon.hang_up();
    daemon.logs("the configuration was reloaded").await;
}

async fn release(api: &Api) -> [Option<u64>; 3] {
    let (_, released) = api.post("rejections/release", json!({ "filter": {} })).await;
    ["accepted", "duplicate", "refused"].map(|word| released[word].as_u64())
}

#[tokio::test]
async fn what_came_from_another_address_is_an_event_once_the_address_is_allowed() {
    let mut receiver = Receiver::good().await;
    let home = Home::with_ingress(PROXY, &source("203.0.113.0/24", &receiver));
    let daemon = home.start().await;
    assert_eq!(post(&daemon, "new-address", "198.51.100.7").await, 403);
    assert_eq!(post(&daemon, "old-address", "203.0.113.7").await, 200);
    assert_eq!(receiver.next().await.body, body("old-address"));
    let from = [("x-forwarded-for", "198.51.100.7")];
    let forged = [(SIGNATURE, "sha256=00"), from[0]];
    assert_eq!(daemon.post("/in/a", &forged, b"forged").await.status, 403);
    daemon.metric_becomes(KEPT, 2.0).await;
    // Nothing of a guessed token, of what is too large, and of what can only be a handshake.
    let event = br#"{"event":"build.uploaded","projectId":"p","uploadId":"u"}"#;
    assert_eq!(daemon.post("/in/locked/another-token", &from, event).await.status, 403);
    assert_eq!(daemon.post("/in/locked/a-token-of-sixteen", &from, event).await.status, 403);
    assert_eq!(daemon.post("/in/graph?validationToken=x", &from, b"").await.status, 403);
    assert_eq!(daemon.post("/in/a", &from, &vec![b' '; 1_100_000]).await.status, 403);

    let api = Api::of(daemon.admin).await;
    let kept = api.get("rejections").await;
    let of = |item: &Value| {
        ["source", "cause", "client"].map(|key| item[key].as_str().map(str::to_owned))
    };
    let kinds: BTreeSet<_> = kept["items"].as_array().expect("a list").iter().map(of).collect();
    let kind = |source: &str| [source, "not-allowed", "198.51.100.7"].map(|it| Some(it.to_owned()));
    assert_eq!(kinds, [kind("a"), kind("locked")].into());
    let count = kept["items"].as_array().map(Vec::len);
    assert_eq!(count, Some(3), "{kept}");

    assert_eq!(release(&api).await, [Some(0), Some(0), Some(3)], "it is not allowed today either");
    let before = kept["items"][2]["received_at"].clone();
    home.configure_ingress(PROXY, &source("198.51.100.0/24", &receiver));
    reloaded(&daemon).await;
    assert_eq!(release(&api).await, [Some(2), Some(0), Some(1)], "the forged one proves nothing");
    let bodies = [receiver.next().await.body, receiver.next().await.body];
    assert!(bodies.iter().any(|it| *it == body("new-address")), "{bodies:?}");
    let events = api.get("events?source=a").await;
    let at = events["items"].as_array().expect("a list").iter().map(|event| &event["received_at"]);
    assert!(at.into_iter().any(|at| *at == before), "its own time: {events}");
}

#[tokio::test]
async fn behind_a_proxy_that_was_not_trusted_the_clients_are_told_apart_afterwards() {
    let mut receiver = Receiver::good().await;
    let home = Home::new(&source("203.0.113.0/24", &receiver));
    let daemon = home.start().await;
    assert_eq!(post(&daemon, "theirs", "203.0.113.7").await, 403);
    assert_eq!(post(&daemon, "strange", "198.51.100.7").await, 403);
    daemon.metric_becomes(KEPT, 2.0).await;
    home.configure_ingress(PROXY, &source("203.0.113.0/24", &receiver));
    reloaded(&daemon).await;
    let api = Api::of(daemon.admin).await;
    assert_eq!(release(&api).await, [Some(1), Some(0), Some(1)]);
    assert_eq!(receiver.next().await.body, body("theirs"));
}

#[tokio::test]
async fn slow_strangers_take_no_room_from_those_who_may_come() {
    let receiver = Receiver::good().await;
    let patient = "trusted_proxies = \"127.0.0.1\"\nbody_timeout = \"60s\"\n";
    let home = Home::with_ingress(patient, &source("203.0.113.0/24", &receiver));
    let daemon = home.start().await;
    let head = "POST /in/a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\nContent-Length: 1000000\r\n\r\n";
    let unfinished = [head.as_bytes(), &vec![b'x'; 999_999]].concat();
    let mut slow = Vec::new();
    // More bodies than there is room for in all. Most are answered before they are sent.
    for _ in 0..72 {
        let mut socket = TcpStream::connect(daemon.ingress).await.expect("it listens");
        drop(within("sent", socket.write_all(&unfinished)).await);
        slow.push(socket);
    }
    assert_eq!(post(&daemon, "ours", "203.0.113.7").await, 200);
    assert!(daemon.metric(KEPT).await.abs() < 0.1, "none of them is whole");
    drop(slow);
    let room = async {
        while daemon.metric(KEPT).await < 0.9 {
            assert_eq!(post(&daemon, "strange", "198.51.100.7").await, 403);
        }
    };
    within("their room is free again", room).await;
}
