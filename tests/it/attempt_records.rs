//! What the record of an attempt says: with whom it spoke, where the time went, what came back, and no secret.

use std::time::{Duration, Instant};

use bytes::Bytes;
use everhook::config::{Config, LoadOptions};
use everhook::lifecycle::Tasks;
use everhook::model::{Answer, ErrorClass, Event, EventId, Headers, MAX_SEEN_BODY, Name};
use everhook::rules::trace::Trace;
use everhook::target::{Call, Exchange, SystemTls, TargetClient};
use everhook::time::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::hostile::{Bad, Hostile};
use crate::harness::receiver::{Act, Receiver};
use crate::harness::within;

/// The client of a target that is configured like this.
pub fn client(url: &str, keys: &str) -> TargetClient {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("everhook.toml");
    let text = format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n\
         [target.t]\nurl = {url:?}\n{keys}\n"
    );
    std::fs::write(&file, text).expect("writable");
    let options = LoadOptions { file: Some(file), ..LoadOptions::default() };
    let config = Config::load(&options).expect("a configuration");
    let tls = SystemTls::default();
    TargetClient::new(&config.targets[0], &[], &tls, &Tasks::new()).expect("a client")
}

/// One attempt with this body.
pub async fn attempt(client: &TargetClient, body: Bytes) -> Exchange {
    let event = Event {
        id: EventId::new(Timestamp::from_secs(1), [3; 10]),
        source: Name::parse("any").expect("a name"),
        name: "build.approved".into(),
        order_key: None,
        received_at: Timestamp::from_secs(1),
        headers: Headers::from_pairs([]),
        body: body.clone(),
    };
    let wall = Timestamp::from_secs(1_700_000_000);
    let trace = Trace::of(event.id, &event.headers, 1.0);
    let call = Call { event: &event, body, number: 1, wall, trace, span: [7; 8] };
    within("an attempt ends", client.attempt(call)).await
}

fn class(exchange: &Exchange) -> ErrorClass {
    match exchange.answer {
        Answer::Failed(class) => class,
        Answer::Status { .. } | Answer::Interrupted => panic!("{exchange:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_recorded_with_its_remote_its_times_its_fields_and_its_body() {
    let receiver = Receiver::scripted(|_, _| Act::Answer("500 No", "x-why: later\r\n")).await;
    let client = client(&format!("http://localhost:{}/hook", receiver.address.port()), "");
    let first = attempt(&client, Bytes::from_static(b"{}")).await;
    let seen = &first.seen;
    assert_eq!(first.answer, Answer::Status { status: 500, retry_after: None });
    assert_eq!(seen.remote, Some(receiver.address));
    assert_eq!(seen.headers.get_str("x-why"), Some("later"));
    assert_eq!((&seen.body[..], seen.body_cut, &seen.detail), (&b"ok"[..], false, &None));
    let timing = seen.timing;
    assert!(timing.dns.is_some() && timing.connect.is_some() && timing.first_byte.is_some());
    assert_eq!(timing.tls, None);
    let second = attempt(&client, Bytes::from_static(b"{}")).await.seen;
    assert_eq!((second.remote, second.timing.dns), (Some(receiver.address), None));
    assert!(second.timing.connect.is_none(), "a kept connection spared it");
}

#[tokio::test]
async fn a_body_without_end_is_cut_and_turns_no_success_into_a_failure() {
    for (bad, least) in [(Bad::EndlessBody, MAX_SEEN_BODY), (Bad::DripBody, 1)] {
        let receiver = Hostile::start(bad).await;
        let client = client(&format!("http://{}/", receiver.address), "");
        let began = Instant::now();
        let exchange = attempt(&client, Bytes::from_static(b"{}")).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{bad:?} holds its place: {exchange:?}");
        assert_eq!(exchange.answer, Answer::Status { status: 200, retry_after: None });
        let seen = exchange.seen;
        assert!(seen.body_cut && (least..=MAX_SEEN_BODY).contains(&seen.body.len()), "{seen:?}");
        receiver.left().await;
    }
}

#[tokio::test]
async fn a_small_body_that_is_packed_is_recorded_as_it_came() {
    let receiver = Hostile::start(Bad::Bomb).await;
    let client = client(&format!("http://{}/", receiver.address), "");
    let seen = attempt(&client, Bytes::new()).await.seen;
    assert_eq!(seen.headers.get_str("content-encoding"), Some("gzip"));
    assert!(seen.body_cut && seen.body.iter().all(|b| *b == 0x1f));
}

#[tokio::test]
async fn failures_are_recorded_in_their_own_words_and_without_the_url() {
    let secret = "/hooks/canary-path?token=canary-query";
    let refused = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let closed = refused.local_addr().expect("an address");
    drop(refused);
    let exchange = attempt(&client(&format!("http://{closed}{secret}"), ""), Bytes::new()).await;
    assert_eq!(class(&exchange), ErrorClass::Connect);
    assert_eq!(exchange.seen.remote, Some(closed));
    let mut all = vec![exchange];
    let nameless = client(&format!("http://nothing.invalid{secret}"), "");
    all.push(attempt(&nameless, Bytes::new()).await);
    assert_eq!(class(&all[1]), ErrorClass::Dns);
    for (bad, expected) in [
        (Bad::Reset, ErrorClass::Reset),
        (Bad::HalfClose, ErrorClass::Reset),
        (Bad::Garbage, ErrorClass::Protocol),
        (Bad::EndlessHead, ErrorClass::TooLarge),
        (Bad::Hang, ErrorClass::Timeout),
    ] {
        let receiver = Hostile::start(bad).await;
        let url = format!("http://{}{secret}", receiver.address);
        let exchange = attempt(&client(&url, "timeout = \"500ms\""), Bytes::new()).await;
        assert_eq!(class(&exchange), expected, "{bad:?}");
        assert_eq!(exchange.seen.remote, Some(receiver.address));
        all.push(exchange);
    }
    for exchange in all {
        let detail = exchange.seen.detail.expect("it says why");
        assert!(!detail.is_empty() && !detail.contains("canary"), "{detail}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_taken_is_told_from_an_answer_that_does_not_come() {
    let mute = Hostile::start(Bad::Mute).await;
    let client = client(&format!("http://{}/", mute.address), "timeout = \"1s\"");
    let small = attempt(&client, Bytes::from_static(b"{}")).await;
    assert_eq!(class(&small), ErrorClass::Timeout);
    // More than what the system takes on the receiver's behalf.
    let large = attempt(&client, Bytes::from(vec![b'x'; 32 * 1024 * 1024])).await;
    assert_eq!(class(&large), ErrorClass::TimeoutBody);
}

#[tokio::test]
async fn what_a_target_repeats_of_our_secrets_is_not_recorded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    // Answers with what it was sent, as a service for trying things out does.
    let echo = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a client");
        let mut head = vec![0; 16 * 1024];
        let read = socket.read(&mut head).await.expect("a request");
        let answer = format!("HTTP/1.1 400 No\r\ncontent-length: {read}\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.expect("taken");
        socket.write_all(&head[..read]).await.expect("taken");
    });
    let keys = "headers = { Authorization = \"plain:Bearer canary-bearer\" }\n\
                sign = { style = \"token\", secret = \"plain:canary-signing\" }";
    let seen = attempt(&client(&url, keys), Bytes::new()).await.seen;
    echo.await.expect("it answered");
    let text = String::from_utf8_lossy(&seen.body).into_owned();
    assert!(text.contains("webhook-id") && text.contains("[removed]"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}
