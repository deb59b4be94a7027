//! The whole path of a webhook through real sockets and the real binary: provider to journal to target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;

use crate::harness::daemon::Home;
use crate::harness::receiver::{Act, OK, Receiver};
use crate::harness::{sign, within};

const JSON: (&str, &str) = ("content-type", "application/json");
const SECRET: &str = "the buildpixel secret";
const BUILDKITE: &str = "29b1ff5779c76bd48ba6705eb99ff970";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const SOURCES: &str = r#"
[source.streampixel]
provider = "streampixel"
where = { "/projectId" = ["664f1a2b3c4d5e6f7a8b9c0d"] }

[source.guarded]
provider = "streampixel"
path_token = "plain:a-long-enough-path-token"

[source.buildpixel]
provider = "buildpixel"
secret = "plain:the buildpixel secret"

[source.buildkite]
provider = "buildkite"
secret = "plain:29b1ff5779c76bd48ba6705eb99ff970"

[source.any]
provider = "custom"
verify = { kind = "none" }
"#;

fn target(name: &str, url: &str, more: &str) -> String {
    format!("[target.{name}]\nurl = {url:?}\n{more}\n")
}

fn streampixel(event: &str, upload: &str) -> Vec<u8> {
    format!(
        r#"{{"event":"{event}","projectId":"664f1a2b3c4d5e6f7a8b9c0d","uploadId":"{upload}","fileUrl":null,"status":"Approved","objection":null,"timestamp":"2026-03-29T13:08:00.000Z"}}"#
    )
    .into_bytes()
}

fn now_seconds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the test plays a provider with its own clock")]
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[tokio::test]
async fn accepts_and_delivers_byte_exactly_with_the_headers_of_the_contract() {
    let mut receiver = Receiver::good().await;
    let signing =
        format!("sign = {{ style = \"standard-webhooks\", secret = \"plain:{SIGNING}\" }}");
    let home = Home::new(&format!("{SOURCES}{}", target("deploy", &receiver.url(), &signing)));
    let daemon = home.start().await;
    let bodies: [Vec<u8>; 6] = [
        br#"{"n":1.417566161e+09,"z":1,"a":-0.0,"big":123456789012345678901234567890}"#.to_vec(),
        "{\"text\":\"\u{1f600} \\ud83d\\ude00 \u{202e}\"}".as_bytes().to_vec(),
        b"line one\r\nline two\r\n\r\n".to_vec(),
        vec![0, 255, 128, 10, 13, 0],
        (0..1_048_576u32).map(|i| u8::try_from(i % 251).expect("small")).collect(),
        Vec::new(),
    ];
    for body in &bodies {
        let headers =
            [("content-type", "text/x-odd"), ("x-provider", "as it came"), ("cookie", "c=1")];
        let (id, status) = daemon.post("/in/any", &headers, body).await.ack();
        assert_eq!(status, "accepted");
        let got = receiver.next().await;
        assert_eq!(got.body, body.as_slice());
        assert_eq!(got.id(), id);
        assert_eq!(got.header("content-type"), "text/x-odd");
        assert_eq!(got.header("x-provider"), "as it came");
        assert_eq!(got.find("cookie"), None);
        assert_eq!(got.header("everhook-source"), "any");
        assert_eq!(got.header("everhook-attempt"), "1");
        assert!(got.header("user-agent").starts_with("everhook/"));
        let timestamp = got.header("webhook-timestamp");
        assert!(now_seconds().abs_diff(timestamp.parse().expect("seconds")) < 60);
        let mut message = format!("{id}.{timestamp}.").into_bytes();
        message.extend_from_slice(body);
        let base64 = base64::engine::general_purpose::STANDARD;
        let key = base64.decode(SIGNING.trim_start_matches("whsec_")).expect("base64");
        let expected = format!("v1,{}", base64.encode(sign::hmac_sha256(&key, &message)));
        assert_eq!(got.header("webhook-signature"), expected);
    }
}

#[tokio::test]
async fn the_three_providers_are_verified_named_and_routed() {
    let mut all = Receiver::good().await;
    let mut some = Receiver::good().await;
    let filter =
        "from = [\"buildkite\", \"streampixel\"]\nevents = [\"build.*\", \"!build.scheduled\"]";
    let home = Home::new(&format!(
        "{SOURCES}{}{}",
        target("all", &all.url(), ""),
        target("some", &some.url(), filter)
    ));
    let daemon = home.start().await;

    daemon.post("/in/streampixel", &[JSON], &streampixel("build.approved", "u1")).await.ack();
    assert_eq!(all.next().await.header("everhook-event"), "build.approved");
    assert_eq!(some.next().await.header("everhook-event"), "build.approved");

    let body = br#"{"type":"build.failed","data":{"build":{"id":"b1"}}}"#;
    let signature = sign::buildpixel(SECRET, body);
    let headers = [JSON, ("x-buildpixel-signature", signature.as_str())];
    daemon.post("/in/buildpixel", &headers, body).await.ack();
    let got = all.next().await;
    assert_eq!(got.header("everhook-event"), "build.failed");
    assert_eq!(got.header("x-buildpixel-signature"), signature);

    let body = br#"{"event":"build.finished","build":{"id":"k1","state":"passed"}}"#;
    let signature = sign::buildkite(BUILDKITE, now_seconds(), body);
    let event = ("x-buildkite-event", "build.finished");
    daemon
        .post("/in/buildkite", &[JSON, event, ("x-buildkite-signature", &signature)], body)
        .await
        .ack();
    assert_eq!(all.next().await.header("everhook-event"), "build.finished");
    assert_eq!(some.next().await.header("everhook-event"), "build.finished");

    let body = br#"{"event":"build.scheduled","build":{"id":"k1"}}"#;
    let event = ("x-buildkite-event", "build.scheduled");
    daemon
        .post("/in/buildkite", &[JSON, event, ("x-buildkite-token", BUILDKITE)], body)
        .await
        .ack();
    assert_eq!(all.next().await.header("everhook-event"), "build.scheduled");
    daemon.metric_becomes("everhook_deliveries{state=\"ready\",target=\"all\"}", 0.0).await;
    assert_eq!(some.seen().len(), 2, "what is not wanted is not sent");
}

#[tokio::test]
async fn rejects_forgeries_and_says_nothing_about_why() {
    let receiver = Receiver::good().await;
    let home = Home::new(&format!("{SOURCES}{}", target("deploy", &receiver.url(), "")));
    let daemon = home.start().await;
    let body = br#"{"type":"build.failed","data":{"build":{"id":"b1"}}}"#;
    let right = sign::buildpixel(SECRET, body);
    let name = "x-buildpixel-signature";
    let wrong = sign::buildpixel("another secret", body);
    let forged: Vec<Vec<(&str, &str)>> = vec![
        vec![],
        vec![(name, &wrong)],
        vec![(name, &right[..right.len() - 1])],
        vec![(name, &right[..20])],
        vec![(name, &right[7..])],
        vec![(name, "sha256=zzzz")],
        vec![(name, "")],
        vec![(name, &right), (name, &right)],
        vec![(name, &wrong), (name, &right)],
    ];
    let mut answers = BTreeSet::new();
    for headers in &forged {
        let reply = daemon.post("/in/buildpixel", headers, body).await;
        assert_eq!(reply.status, 401, "{headers:?}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
        answers.insert(reply.body);
    }
    let stale = sign::buildkite(BUILDKITE, now_seconds() - 3_600, b"{}");
    let ahead = sign::buildkite(BUILDKITE, now_seconds() + 3_600, b"{}");
    let other = sign::buildkite(BUILDKITE, now_seconds(), b"{ }");
    for signature in [&stale, &ahead, &other] {
        let headers = [JSON, ("x-buildkite-signature", signature.as_str())];
        let reply = daemon.post("/in/buildkite", &headers, b"{}").await;
        assert_eq!(reply.status, 401, "{signature}");
        answers.insert(reply.body);
    }
    let headers = [JSON, ("x-buildkite-token", "wrong")];
    let reply = daemon.post("/in/buildkite", &headers, b"{}").await;
    assert_eq!(reply.status, 401);
    answers.insert(reply.body);
    assert_eq!(answers.len(), 1, "every refusal looks the same: {answers:?}");

    for path in ["/in/guarded", "/in/guarded/", "/in/guarded/wrong-path-token-here"] {
        let status = daemon.post(path, &[JSON], &streampixel("build.approved", "u")).await.status;
        assert!(matches!(status, 401 | 403), "{path}: {status}");
    }
    daemon
        .post("/in/guarded/a-long-enough-path-token", &[JSON], &streampixel("build.saving", "u"))
        .await
        .ack();

    let foreign = br#"{"event":"build.approved","projectId":"another","uploadId":"u9"}"#;
    assert_eq!(daemon.post("/in/streampixel", &[JSON], foreign).await.status, 403);
    assert_eq!(daemon.post("/in/streampixel", &[JSON], b"not json").await.status, 400);
    assert_eq!(daemon.post("/in/nobody", &[JSON], b"{}").await.status, 404);
    let rejected = "everhook_ingress_rejected_total{cause=\"unverified\",source=\"buildpixel\"}";
    assert!((daemon.metric(rejected).await - 9.0).abs() < 0.1);
    let stored = "everhook_events_accepted_total{source=\"buildpixel\"}";
    assert!(daemon.metric(stored).await.abs() < 0.1, "nothing forged was stored");
}

#[tokio::test]
async fn a_storm_of_copies_makes_one_event() {
    let mut receiver = Receiver::good().await;
    let home = Home::new(&format!("{SOURCES}{}", target("deploy", &receiver.url(), "")));
    let daemon = home.start().await;
    let body = streampixel("build.approved", "storm");
    let daemon = Arc::new(daemon);
    let mut copies = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (daemon, body) = (Arc::clone(&daemon), body.clone());
        copies.spawn(async move { daemon.post("/in/streampixel", &[JSON], &body).await.ack() });
    }
    let acks = within("all copies are answered", copies.join_all()).await;
    let daemon = Arc::into_inner(daemon).expect("every copy is answered");
    let ids: BTreeSet<_> = acks.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(acks.iter().filter(|(_, status)| status == "accepted").count(), 1);
    assert_eq!(Some(receiver.next().await.id()), ids.first().map(String::as_str));

    // The window outlives the process.
    daemon.kill().await;
    let daemon = home.start().await;
    let (id, status) = daemon.post("/in/streampixel", &[JSON], &body).await.ack();
    assert_eq!((Some(&id), status.as_str()), (ids.first(), "duplicate"));
    // What has no identity is never taken for a repeat.
    let test =
        br#"{"event":"webhook.test","projectId":"test_project_id","uploadId":"test_upload_id"}"#;
    let nameless =
        br#"{"event":"build.uploaded","projectId":"664f1a2b3c4d5e6f7a8b9c0d","uploadId":null}"#;
    for body in [test.as_slice(), nameless] {
        for _ in 0..2 {
            assert_eq!(daemon.post("/in/streampixel", &[JSON], body).await.ack().1, "accepted");
        }
    }
}

#[tokio::test]
async fn a_dead_target_does_not_delay_others() {
    let hanging = Receiver::scripted(|_, _| Act::Hang).await;
    let mut live = Receiver::good().await;
    let home = Home::new(&format!(
        "{SOURCES}{}{}{}",
        target("hanging", &hanging.url(), "concurrency = 2\ntimeout = \"30s\""),
        target("refusing", "http://127.0.0.1:9/hook", "connect_timeout = \"1s\""),
        target("live", &live.url(), "concurrency = 1"),
    ));
    let daemon = home.start().await;
    let mut ids = BTreeSet::new();
    for number in 0..200 {
        let body = format!("{number}");
        ids.insert(daemon.post("/in/any", &[], body.as_bytes()).await.ack().0);
    }
    let got: BTreeSet<_> = live.take(200).await.iter().map(|r| r.id().to_owned()).collect();
    assert_eq!(got, ids);
    assert!(hanging.seen().len() <= 2, "never above its concurrency");
    daemon.metric_becomes("everhook_deliveries{state=\"in_flight\",target=\"hanging\"}", 2.0).await;
}

#[tokio::test]
async fn retries_by_its_schedule_and_then_buries() {
    let mut flaky = Receiver::scripted(|number, _| match number {
        0 => Act::Answer("503 Busy", "retry-after: 0\r\n"),
        1 => Act::Close,
        2 => Act::Answer("302 Found", "location: /elsewhere\r\n"),
        _ => OK,
    })
    .await;
    let mut never = Receiver::scripted(|_, _| Act::Answer("500 No", "")).await;
    let mut gone = Receiver::scripted(|_, _| Act::Answer("410 Gone", "")).await;
    let quick = "retry = { schedule = [\"10ms\", \"10ms\", \"10ms\"], jitter = 0.0 }";
    let home = Home::new(&format!(
        "{SOURCES}{}{}{}",
        target("flaky", &flaky.url(), quick),
        target("never", &never.url(), quick),
        target("gone", &gone.url(), quick),
    ));
    let daemon = home.start().await;
    let (id, _) = daemon.post("/in/any", &[], b"once").await.ack();
    for (receiver, attempts) in [(&mut flaky, 4), (&mut never, 4), (&mut gone, 1)] {
        let got = receiver.take(attempts).await;
        let numbers: Vec<_> = got.iter().map(|r| r.header("everhook-attempt").to_owned()).collect();
        let expected: Vec<_> = (1..=attempts).map(|n| n.to_string()).collect();
        assert_eq!(numbers, expected);
        assert!(got.iter().all(|r| r.id() == id && r.body == "once"), "same id, same body");
    }
    daemon.metric_becomes("everhook_dead_letters{target=\"never\"}", 1.0).await;
    daemon.metric_becomes("everhook_dead_letters{target=\"gone\"}", 1.0).await;
    let buried = "everhook_dead_letters_total{reason=\"attempts\",target=\"never\"}";
    daemon.metric_becomes(buried, 1.0).await;
    // Dead letters are kept over a restart.
    daemon.kill().await;
    let daemon = home.start().await;
    daemon.metric_becomes("everhook_dead_letters{target=\"gone\"}", 1.0).await;
}

#[tokio::test]
async fn drains_on_sigterm_and_counts_no_interrupted_attempt() {
    let mut hanging =
        Receiver::scripted(|number, _| if number == 0 { Act::Hang } else { OK }).await;
    let home = Home::new(&format!("{SOURCES}{}", target("deploy", &hanging.url(), "")));
    let daemon = home.start().await;
    let (id, _) = daemon.post("/in/any", &[], b"x").await.ack();
    assert_eq!(hanging.next().await.header("everhook-attempt"), "1");
    daemon.terminate();
    assert!(daemon.ended().await.success());
    let daemon = home.start().await;
    let again = hanging.next().await;
    assert_eq!((again.id(), again.header("everhook-attempt")), (id.as_str(), "1"));
    daemon.metric_becomes("everhook_deliveries{state=\"in_flight\",target=\"deploy\"}", 0.0).await;
    daemon.terminate();
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn a_second_instance_leaves_with_74_and_names_the_owner() {
    let receiver = Receiver::good().await;
    let home = Home::new(&format!("{SOURCES}{}", target("deploy", &receiver.url(), "")));
    let daemon = home.start().await;
    let second = home.command(&["serve"]).output();
    let second = within("the second instance leaves", second).await.expect("ran");
    assert_eq!(second.status.code(), Some(74));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&daemon.pid().to_string()), "{said}");
    daemon.post("/in/any", &[], b"still here").await.ack();
}

#[tokio::test]
async fn health_and_metrics_answer_and_no_secret_shows_anywhere() {
    let receiver = Receiver::good().await;
    let home = Home::new(&format!("{SOURCES}{}", target("deploy", &receiver.url(), "")));
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"canary-payload").await.ack();
    let mut pages = BTreeMap::new();
    for path in ["/livez", "/readyz", "/healthz", "/readyz?verbose", "/metrics"] {
        let reply = daemon.admin_get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        pages.insert(path, String::from_utf8(reply.body.to_vec()).expect("text"));
    }
    assert_eq!(daemon.admin_get("/nothing").await.status, 404);
    assert_eq!(daemon.admin_get("/in/any").await.status, 404, "the two sides share no router");
    daemon.terminate();
    let log = daemon.log().join("\n");
    assert!(daemon.ended().await.success());
    for text in pages.values().chain([&log]) {
        for secret in [SECRET, BUILDKITE, "a-long-enough-path-token", "canary-payload"] {
            assert!(!text.contains(secret), "{secret} shows in {text}");
        }
    }
}

#[tokio::test]
async fn a_target_that_leaves_the_file_keeps_its_deliveries() {
    let mut late = Receiver::good().await;
    let other = Receiver::good().await;
    let often = "retry = { initial = \"200ms\", factor = 1.0, max = \"200ms\", attempts = 1000 }";
    let unreachable = target("late", "http://127.0.0.1:9/hook", often);
    let home = Home::new(&format!("{SOURCES}{}{unreachable}", target("other", &other.url(), "")));
    let daemon = home.start().await;
    let (id, _) = daemon.post("/in/any", &[], b"kept").await.ack();
    daemon.metric_becomes("everhook_deliveries{state=\"waiting\",target=\"late\"}", 1.0).await;
    daemon.kill().await;

    home.configure(&format!("{SOURCES}{}", target("other", &other.url(), "")));
    let daemon = home.start().await;
    daemon.metric_becomes("everhook_deliveries{state=\"orphaned\",target=\"late\"}", 1.0).await;
    daemon.kill().await;

    home.configure(&format!("{SOURCES}{}", target("late", &late.url(), "")));
    let daemon = home.start().await;
    daemon.metric_becomes("everhook_deliveries{state=\"orphaned\",target=\"late\"}", 0.0).await;
    assert_eq!(late.next().await.id(), id);
}

#[tokio::test]
async fn the_demo_shows_its_story_and_loses_nothing() {
    let home = Home::new("");
    let demo = within("the demo ends", home.command(&["demo"]).output()).await.expect("ran");
    let said = String::from_utf8_lossy(&demo.stdout).into_owned();
    assert!(demo.status.success(), "{said}\n{}", String::from_utf8_lossy(&demo.stderr));
    for expected in
        [" 503 attempt 1 ", " 200 attempt 2 ", " duplicate ", "401 refused", "Nothing was lost."]
    {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
}

#[tokio::test]
async fn send_posts_samples_that_are_accepted() {
    let mut receiver = Receiver::good().await;
    let home = Home::new(&format!("{SOURCES}{}", target("deploy", &receiver.url(), "")));
    let daemon = home.start().await;
    for (source, path, event) in [
        ("guarded", "/in/guarded/a-long-enough-path-token", "build.approved"),
        ("buildpixel", "/in/buildpixel", "build.failed"),
        ("buildkite", "/in/buildkite", "job.finished"),
    ] {
        let url = format!("http://{}{path}", daemon.ingress);
        let sent = home.command(&["send", source, "--event", event, "--url", &url]).output();
        let sent = within("send ends", sent).await.expect("ran");
        let said = String::from_utf8_lossy(&sent.stdout).into_owned();
        assert!(sent.status.success() && said.contains("accepted"), "{source}: {said}");
        assert_eq!(receiver.next().await.header("everhook-event"), event);
    }
    let refused = home.command(&["send", "buildkite", "--event", "no.such"]).output();
    let refused = within("send ends", refused).await.expect("ran");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("job.finished"),
        "it says what there is"
    );
}
