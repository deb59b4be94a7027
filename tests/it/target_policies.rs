//! What each target's policies do, through real sockets and the real binary.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::api::Api;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::{Act, OK, Receiver};
use crate::harness::within;

/// A source that takes everything.
const SOURCE: &str = "[source.any]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n";

fn target(name: &str, url: &str, more: &str) -> String {
    format!("[target.{name}]\nurl = {url:?}\n{more}\n")
}

async fn post(daemon: &Daemon, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for number in 0..count {
        ids.insert(daemon.post("/in/any", &[], format!("{number}").as_bytes()).await.ack().0);
    }
    ids
}

/// Pauses or resumes a target with the command line; answers its exit code.
async fn tell(home: &Home, daemon: &Daemon, what: &str, target: &str) -> Option<i32> {
    let admin = format!("http://{}", daemon.admin);
    let command = home.command(&["targets", what, target, "--admin", &admin]).output();
    command.await.expect("it runs").status.code()
}

/// Fails until it is mended.
async fn broken(status: &'static str) -> (Receiver, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&mended);
    let receiver = Receiver::scripted(move |_, _| {
        if switch.load(Ordering::SeqCst) { OK } else { Act::Answer(status, "") }
    });
    (receiver.await, mended)
}

#[tokio::test]
async fn conditions_choose_by_existence_and_by_any_element_of_an_array() {
    let mut tagged = Receiver::good().await;
    let mut rest = Receiver::good().await;
    let home = Home::new(&format!(
        "{SOURCE}{}{}",
        target(
            "tagged",
            &tagged.url(),
            r#"where = { "/tags" = "gpu !windows", "/tag" = { exists = true }, "/n" = 3, "header:x-team" = "a*" }"#
        ),
        target("rest", &rest.url(), r#"where = { "/tag" = { exists = false } }"#),
    ));
    let daemon = home.start().await;
    let team = [("x-team", "apollo")];
    for (body, headers, wanted) in [
        (r#"{"tags":["linux","gpu"],"tag":"v1","n":3}"#, &team[..], Some("tagged")),
        (r#"{"tags":["windows","gpu"],"tag":"v1","n":3}"#, &team[..], None),
        (r#"{"tags":["gpu"],"tag":"v1","n":3.0}"#, &team[..], None),
        (r#"{"tags":["gpu"],"tag":"v1","n":3}"#, &[][..], None),
        (r#"{"tags":["gpu"],"tag":null,"n":3}"#, &team[..], Some("rest")),
        (r#"{"tags":["gpu"],"n":3}"#, &team[..], Some("rest")),
    ] {
        let (id, _) = daemon.post("/in/any", headers, body.as_bytes()).await.ack();
        match wanted {
            Some("tagged") => assert_eq!(tagged.next().await.id(), id, "{body}"),
            Some(_) => assert_eq!(rest.next().await.id(), id, "{body}"),
            None => {}
        }
    }
    assert_eq!((tagged.seen().len(), rest.seen().len()), (1, 2));
}

#[tokio::test]
async fn a_breaker_parks_deliveries_that_lose_no_attempts_and_closes_by_itself() {
    let (mut receiver, mended) = broken("500 Down").await;
    let keys = "concurrency = 1\nretry = { schedule = [\"50ms\", \"50ms\"], jitter = 0.0 }\n\
                breaker = { failures = 2, probe_every = \"500ms\" }";
    let home = Home::new(&format!("{SOURCE}{}", target("t", &receiver.url(), keys)));
    let daemon = home.start().await;
    let ids = post(&daemon, 40).await;
    daemon.metric_becomes("everhook_breaker_open{target=\"t\"}", 1.0).await;
    let before = receiver.seen().len();
    assert!(before <= 8, "{before} attempts at a target that is down");
    mended.store(true, Ordering::SeqCst);
    let mut delivered = BTreeSet::new();
    while delivered.len() < 30 {
        let got = receiver.next().await;
        if got.header("everhook-attempt") == "1" {
            delivered.insert(got.id().to_owned());
        }
    }
    assert!(delivered.is_subset(&ids), "most never lost an attempt");
    daemon.metric_becomes("everhook_breaker_open{target=\"t\"}", 0.0).await;
    let log = daemon.log().join("\n");
    assert!(log.contains("the breaker is open") && log.contains("the breaker is closed"), "{log}");
}

#[tokio::test]
async fn a_rate_is_kept_and_its_burst_is_all_that_comes_at_once() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&times);
    let mut receiver = Receiver::scripted(move |_, _| {
        record.lock().expect("no panic").push(Instant::now());
        OK
    })
    .await;
    let keys = "rate = \"20/s\"\nburst = 2";
    let home = Home::new(&format!("{SOURCE}{}", target("t", &receiver.url(), keys)));
    let daemon = home.start().await;
    post(&daemon, 12).await;
    receiver.take(12).await;
    let times = times.lock().expect("no panic");
    // Two at once and ten more at 20 a second; the first may have been slow to arrive.
    let took = times[11] - times[0];
    assert!(took > Duration::from_millis(400), "{took:?}");
}

#[tokio::test]
async fn gone_buries_one_delivery_and_pauses_the_target_loudly() {
    let (mut receiver, mended) = broken("410 Gone").await;
    let home = Home::new(&format!("{SOURCE}{}", target("t", &receiver.url(), "concurrency = 1")));
    let daemon = home.start().await;
    assert_eq!(daemon.metric("everhook_target_paused{target=\"t\"}").await.to_bits(), 0);
    let ids = post(&daemon, 3).await;
    daemon.metric_becomes("everhook_target_paused{target=\"t\"}", 1.0).await;
    daemon.metric_becomes("everhook_dead_letters_total{reason=\"gone\",target=\"t\"}", 1.0).await;
    daemon.metric_becomes("everhook_deliveries{state=\"ready\",target=\"t\"}", 2.0).await;
    assert_eq!(receiver.seen().len(), 1, "nothing more is sent");
    let log = daemon.log().join("\n");
    assert!(log.contains("\"level\":\"ERROR\"") && log.contains("410 Gone"), "{log}");
    mended.store(true, Ordering::SeqCst);
    let dead = receiver.next().await.id().to_owned();
    // Stopped, not killed: a settlement that is not durable yet would cost a repeat.
    daemon.terminate();
    assert!(daemon.ended().await.success());
    let daemon = home.start().await;
    daemon.metric_becomes("everhook_target_paused{target=\"t\"}", 1.0).await;
    assert_eq!(receiver.seen().len(), 1, "nothing more is sent");
    assert_eq!(tell(&home, &daemon, "resume", "t").await, Some(0));
    let kept: BTreeSet<_> = receiver.take(2).await.iter().map(|r| r.id().to_owned()).collect();
    assert_eq!(kept, ids.into_iter().filter(|id| *id != dead).collect(), "the others were kept");
}

#[tokio::test]
async fn a_status_that_gives_up_buries_at_once_and_an_overload_slows_every_delivery() {
    let mut refusing = Receiver::scripted(|_, _| Act::Answer("422 No", "")).await;
    let mut busy = Receiver::scripted(|number, _| {
        if number == 0 { Act::Answer("503 Busy", "retry-after: 1.5\r\n") } else { OK }
    })
    .await;
    let home = Home::new(&format!(
        "{SOURCE}{}{}",
        target("refusing", &refusing.url(), "retry = { give_up = [422] }"),
        target(
            "busy",
            &busy.url(),
            "concurrency = 1\nretry = { schedule = [\"10ms\"], jitter = \"full\" }"
        ),
    ));
    let daemon = home.start().await;
    let began = Instant::now();
    post(&daemon, 3).await;
    refusing.take(3).await;
    let refused = "everhook_dead_letters_total{reason=\"refused\",target=\"refusing\"}";
    daemon.metric_becomes(refused, 3.0).await;
    assert_eq!(refusing.seen().len(), 3);
    busy.take(4).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_900), "1.5 is rounded up for all of them: {took:?}");
}

#[tokio::test]
async fn fifty_hanging_targets_leave_a_live_one_its_share_of_a_small_pool() {
    let hanging = Receiver::scripted(|_, _| Act::Hang).await;
    let mut live = Receiver::good().await;
    let mut text = format!("[delivery]\nconcurrency = 64\n{SOURCE}");
    for number in 0..50 {
        let keys = "concurrency = 16\ntimeout = \"10m\"";
        text.push_str(&target(&format!("hanging-{number}"), &hanging.url(), keys));
    }
    text.push_str(&target("live", &live.url(), "concurrency = 16"));
    let home = Home::new(&text);
    let daemon = home.start().await;
    // Every hanging target takes what it can get before the live one is asked for anything.
    let first = post(&daemon, 4).await;
    let ids: BTreeSet<_> = post(&daemon, 100).await.into_iter().chain(first).collect();
    let got: BTreeSet<_> = live.take(104).await.iter().map(|r| r.id().to_owned()).collect();
    assert_eq!(got, ids);
    let held = hanging.seen().len();
    assert!((50..=64).contains(&held), "{held} of 64 attempts hang");
}

#[tokio::test]
async fn an_inactive_target_takes_nothing_new_and_its_queue_is_delivered() {
    let (mut receiver, mended) = broken("500 Down").await;
    let keys = "retry = { schedule = [\"50ms\", \"50ms\", \"200ms\", \"1s\", \"1s\", \"1s\"] }\nbreaker = \"none\"";
    let text =
        |more: &str| format!("{SOURCE}{}", target("t", &receiver.url(), &format!("{keys}{more}")));
    let home = Home::new(&text(""));
    let inactive = text("\nactive = false");
    let daemon = home.start().await;
    let queued = post(&daemon, 3).await;
    receiver.next().await;
    daemon.terminate();
    daemon.ended().await;
    home.configure(&inactive);
    mended.store(true, Ordering::SeqCst);
    let daemon = home.start().await;
    post(&daemon, 2).await;
    daemon.metric_becomes("everhook_deliveries{state=\"waiting\",target=\"t\"}", 0.0).await;
    daemon.metric_becomes("everhook_deliveries{state=\"ready\",target=\"t\"}", 0.0).await;
    daemon.metric_becomes("everhook_deliveries{state=\"in_flight\",target=\"t\"}", 0.0).await;
    let seen: BTreeSet<_> = receiver.seen().iter().map(|it| it.id().to_owned()).collect();
    assert_eq!(seen, queued);
}

#[tokio::test]
async fn a_paused_target_keeps_its_deliveries_over_a_restart_until_it_is_resumed() {
    let mut receiver = Receiver::good().await;
    let home = Home::new(&format!("{SOURCE}{}", target("t", &receiver.url(), "")));
    let daemon = home.start().await;
    assert_eq!(tell(&home, &daemon, "pause", "t").await, Some(0));
    assert_eq!(tell(&home, &daemon, "pause", "nobody").await, Some(1));
    let queued = post(&daemon, 3).await;
    daemon.metric_becomes("everhook_target_paused{target=\"t\"}", 1.0).await;
    daemon.terminate();
    daemon.ended().await;
    let daemon = home.start().await;
    daemon.metric_becomes("everhook_target_paused{target=\"t\"}", 1.0).await;
    daemon.metric_becomes("everhook_deliveries{state=\"ready\",target=\"t\"}", 3.0).await;
    let list = daemon.admin_get("/api/v1/targets").await;
    let list = list.json();
    assert_eq!(list["items"][0]["paused"]["reason"], "operator");
    assert_eq!(list["items"][0]["ready"], 3);
    assert!(receiver.seen().is_empty(), "nothing was sent");
    assert_eq!(tell(&home, &daemon, "resume", "t").await, Some(0));
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        seen.insert(receiver.next().await.id().to_owned());
    }
    assert_eq!(seen, queued);
    daemon.metric_becomes("everhook_target_paused{target=\"t\"}", 0.0).await;
}

#[tokio::test]
async fn without_the_token_nobody_sees_or_pauses_a_target() {
    let receiver = Receiver::good().await;
    let body = format!("{SOURCE}{}", target("t", &receiver.url(), ""));
    let home = Home::new(&body);
    std::fs::write(home.config().with_file_name("token"), "canary-token\n").expect("writable");
    let with_token = std::fs::read_to_string(home.config()).expect("readable");
    let key = "[admin]\ntoken = \"plain:canary-token\"\n";
    std::fs::write(home.config(), with_token.replacen("[admin]\n", key, 1)).expect("writable");
    let daemon = home.start().await;
    assert_eq!(daemon.admin_get("/api/v1/targets").await.status, 401);
    let pause = async |token_file: &str| {
        let admin = format!("http://{}", daemon.admin);
        let file = home.config().with_file_name(token_file).display().to_string();
        let told = ["targets", "pause", "t", "--admin", &admin, "--token-file", &file];
        home.command(&told).output().await.expect("it runs").status.code()
    };
    std::fs::write(home.config().with_file_name("wrong"), "another").expect("writable");
    assert_eq!(pause("wrong").await, Some(1));
    assert_eq!(tell(&home, &daemon, "resume", "t").await, Some(0), "the configured one");
    assert_eq!(pause("token").await, Some(0));
    assert!(!daemon.log().join("\n").contains("canary"), "no secret in the log");
}

#[tokio::test]
async fn the_quiet_that_a_target_asked_for_goes_on_after_a_crash() {
    let mut receiver =
        Receiver::scripted(|_, _| Act::Answer("429 Slow down", "retry-after: 3600\r\n")).await;
    let home = Home::new(&format!("{SOURCE}{}", target("t", &receiver.url(), "")));
    let daemon = home.start().await;
    let id = post(&daemon, 1).await.pop_first().expect("one");
    receiver.next().await;
    let waiting = "everhook_deliveries{state=\"waiting\",target=\"t\"}";
    daemon.metric_becomes(waiting, 1.0).await;
    let api = Api::of(daemon.admin).await;
    let held = |targets: Value| targets["items"][0]["held_until"].clone();
    let before = held(api.get("targets").await);
    assert!(before.is_string(), "{before}");
    let event = within("the attempt is recorded", async {
        loop {
            let event = api.get(&format!("events/{id}")).await;
            if event["attempts"][0].is_object() {
                return event;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(event.await["attempts"][0]["retry_after"], "3600");
    daemon.kill().await;
    let daemon = home.start().await;
    let api = Api::of(daemon.admin).await;
    assert_eq!(held(api.get("targets").await), before);
}
