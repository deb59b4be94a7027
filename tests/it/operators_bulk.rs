//! What an operator does to many events at once, and that it survives what happens meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::api::{Api, each, nothing};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::{Act, OK, Receiver};
use crate::harness::within;

const SOURCE: &str = "[source.any]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n";

/// A target that refuses for good until it is mended.
async fn broken() -> (Home, Daemon, Receiver, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&mended);
    let script = move |_: usize, _: &_| {
        if switch.load(Ordering::SeqCst) { OK } else { Act::Answer("422 No", "") }
    };
    let receiver = Receiver::scripted(script).await;
    let home = Home::new(&format!(
        "{SOURCE}[target.t]\nurl = {:?}\nretry = {{ give_up = [422] }}\nbreaker = \"none\"\n",
        receiver.url()
    ));
    let daemon = home.start().await;
    (home, daemon, receiver, mended)
}

async fn dead(daemon: &Daemon, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut connection = daemon.connect().await;
    for number in 0..count {
        let posted = connection.post("/in/any", &[], format!("{number}")).await;
        ids.insert(posted.expect("an answer").ack().0);
    }
    let all = f64::from(u32::try_from(count).expect("few"));
    daemon.metric_becomes("everhook_dead_letters{target=\"t\"}", all).await;
    ids
}

async fn ended(api: &Api, job: &Value) -> Value {
    let path = format!("jobs/{}", job["id"].as_str().expect("an id"));
    within("the job ends", async {
        loop {
            let job = api.get(&path).await;
            if job["state"] != "running" {
                return job;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn dead_letters_are_counted_retried_once_and_discarded() {
    let (_home, daemon, mut receiver, mended) = broken().await;
    let api = Api::of(daemon.admin).await;
    let ids = dead(&daemon, 30).await;
    receiver.take(30).await;
    let everything = json!({ "filter": {} });
    let (status, count) =
        api.post("dead-letters/retry", json!({ "filter": {}, "dry_run": true })).await;
    assert_eq!((status, &count["events"], &count["complete"]), (200, &json!(30), &json!(true)));
    mended.store(true, Ordering::SeqCst);
    let some: Vec<_> = ids.iter().take(10).cloned().collect();
    let (status, job) = api.post("dead-letters/discard", json!({ "ids": some })).await;
    let job = if job["state"] == "running" { ended(&api, &job).await } else { job };
    assert_eq!((status, &job["deliveries"], &job["ids"]), (202, &json!(10), &json!(10)));
    let (_, job) = api.post("dead-letters/retry", everything.clone()).await;
    let job = ended(&api, &job).await;
    assert_eq!(
        (&job["events"], &job["deliveries"], &job["expected"]),
        (&json!(20), &json!(20), &json!(20))
    );
    let again: BTreeSet<_> = receiver.take(20).await.iter().map(|it| it.id().to_owned()).collect();
    assert_eq!(again, ids.iter().skip(10).cloned().collect());
    let (_, job) = api.post("dead-letters/retry", everything).await;
    assert_eq!(ended(&api, &job).await["deliveries"], 0, "repeating it does nothing more");
    assert_eq!(api.all("deliveries?state=discarded", 50).await.len(), 10);
    // What was discarded can still be replayed.
    let (_, job) = api.post("replay", json!({ "filter": { "state": ["discarded"] } })).await;
    assert_eq!(ended(&api, &job).await["deliveries"], 10);
    receiver.take(10).await;
    assert_eq!(api.get("jobs").await["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_job_keeps_its_rate_and_can_be_cancelled() {
    let (_home, daemon, _receiver, mended) = broken().await;
    let api = Api::of(daemon.admin).await;
    let ids = dead(&daemon, 30).await;
    mended.store(true, Ordering::SeqCst);
    let slow = json!({ "filter": {}, "rate": 1 });
    let (_, job) = api.post("dead-letters/retry", slow).await;
    assert_eq!(job["state"], "running");
    let path = format!("jobs/{}", job["id"].as_str().unwrap());
    let (_, job) = api.ask("DELETE", &path, None).await;
    assert_eq!(job["state"], "cancelled");
    let done = job["events"].as_u64().unwrap();
    assert!((1..30).contains(&done), "{done} events at one a second");
    assert_eq!(api.ask("DELETE", &path, None).await.1["state"], "cancelled");
    // Each goes through its ids at one a second, whatever becomes of them.
    let order = json!({ "ids": ids, "rate": 1 });
    let begun = (0..17).map(|_| api.post("dead-letters/retry", order.clone()));
    let begun = futures_util::future::join_all(begun).await;
    let refused: Vec<_> = begun.iter().filter(|(status, _)| *status == 429).collect();
    assert_eq!((refused.len(), &refused[0].1["cause"]), (1, &json!("too-many")));
    let listed = api.get("jobs").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 17);
}

#[tokio::test]
async fn a_job_goes_on_after_a_kill() {
    let (home, daemon, mut receiver, mended) = broken().await;
    let ids = dead(&daemon, 60).await;
    receiver.take(60).await;
    mended.store(true, Ordering::SeqCst);
    let api = Api::of(daemon.admin).await;
    let all: Vec<_> = ids.iter().collect();
    // The filter first: it is done as soon as nothing is dead any more, the list only at the end of its ids.
    let (_, by_filter) = api.post("dead-letters/retry", json!({ "filter": {}, "rate": 20 })).await;
    let (_, by_ids) = api.post("dead-letters/retry", json!({ "ids": all, "rate": 20 })).await;
    assert_eq!((&by_ids["state"], &by_filter["state"]), (&json!("running"), &json!("running")));
    receiver.take(4).await;
    daemon.kill().await;
    let daemon = home.start().await;
    let api = Api::of(daemon.admin).await;
    for job in [by_ids, by_filter] {
        let job = ended(&api, &job).await;
        assert_eq!((&job["state"], &job["failed"]), (&json!("done"), &json!(0)), "{job}");
    }
    daemon.metric_becomes("everhook_dead_letters{target=\"t\"}", 0.0).await;
    let mut delivered = BTreeSet::new();
    while delivered.len() < 56 {
        delivered.insert(receiver.next().await.id().to_owned());
    }
}

#[tokio::test]
async fn an_order_that_says_nothing_or_too_much_is_refused() {
    let (_home, daemon, _receiver, _mended) = broken().await;
    let api = Api::of(daemon.admin).await;
    for body in [
        nothing(),
        json!({ "ids": [], "filter": {} }),
        json!({ "ids": ["evt_1"] }),
        json!({ "filter": { "sorce": ["a"] } }),
        json!({ "filter": { "status": ["x"] } }),
        json!({ "filter": {}, "rate": 0 }),
        json!({ "filter": {}, "rate": 20000 }),
        json!({ "filter": {}, "targets": ["none"] }),
        json!({ "filter": { "source": vec!["a".repeat(60); 60] } }),
        json!({ "filter": { "since": "soon" } }),
        json!([]),
    ] {
        let (status, problem) = api.post("replay", body.clone()).await;
        assert_eq!(status, 400, "{body} {problem}");
    }
    let strange = json!({ "filter": {}, "targets": ["none"] });
    for path in ["dead-letters/retry", "dead-letters/discard"] {
        assert_eq!(api.post(path, strange.clone()).await.0, 400, "{path}");
    }
    let aged = json!({ "filter": { "since": "2h", "until": "1s" }, "dry_run": true });
    for path in ["replay", "rejections/release"] {
        assert_eq!(api.post(path, aged.clone()).await.0, 200, "{path}");
    }
    assert_eq!(api.get("jobs").await["items"], json!([]));
}

#[tokio::test]
async fn refused_requests_are_listed_shown_released_and_given_up() {
    let mut receiver = Receiver::good().await;
    let source = |secret: &str| {
        format!(
            "[source.s]\nprovider = \"custom\"\nsecret = \"plain:{secret}\"\n\
             verify = {{ kind = \"hmac\", header = \"x-signature\" }}\n[target.t]\nurl = {:?}\n",
            receiver.url()
        )
    };
    let (wrong, right) = (source("wrong"), source("right"));
    let home = Home::new(&wrong);
    let daemon = home.start().await;
    let sign = |body: &[u8]| hex::encode(crate::harness::sign::hmac_sha256(b"right", body));
    for number in 0..5u8 {
        let body = [number];
        let signature = if number == 4 { "00".to_owned() } else { sign(&body) };
        let reply = daemon.post("/in/s", &[("x-signature", &signature)], &body).await;
        assert_eq!(reply.status, 401);
    }
    daemon.metric_becomes("everhook_quarantine_rejections{source=\"s\"}", 5.0).await;
    let api = Api::of(daemon.admin).await;
    let kept = api.all("rejections?cause=unverified", 2).await;
    assert_eq!(kept.len(), 5);
    let ids = each(&kept, "id");
    let one = api.get(&format!("rejections/{}", ids[0])).await;
    assert_eq!((&one["client"], &one["held"]), (&json!("127.0.0.1"), &json!(false)));
    assert!(one["headers"].as_array().unwrap().contains(&json!(["x-signature", "***", "masked"])));
    let (_, none) = api.post("rejections/release", json!({ "filter": {} })).await;
    assert_eq!((&none["refused"], &none["accepted"]), (&json!(5), &json!(0)));
    daemon.terminate();
    daemon.ended().await;
    home.configure(&right);
    let daemon = home.start().await;
    let api = Api::of(daemon.admin).await;
    let (_, dry) = api.post("rejections/release", json!({ "filter": {}, "dry_run": true })).await;
    assert_eq!((&dry["matched"], &dry["items"]), (&json!(5), &json!([])));
    assert_eq!((&dry["dry_run"], &dry["accepted"]), (&json!(true), &json!(0)));
    let (_, released) = api.post("rejections/release", json!({ "filter": {} })).await;
    assert_eq!((&released["accepted"], &released["refused"]), (&json!(4), &json!(1)));
    let got: BTreeSet<_> = receiver.take(4).await.iter().map(|it| it.body[0]).collect();
    assert_eq!(got, BTreeSet::from([0, 1, 2, 3]));
    let named = |dry_run| json!({ "ids": [ids[0], ids[1]], "dry_run": dry_run });
    let (_, dry) = api.post("rejections/discard", named(true)).await;
    // The other one was released.
    assert_eq!(dry, json!({ "dry_run": true, "matched": 1, "dropped": 0 }));
    let (_, forged) = api.post("rejections/discard", named(false)).await;
    assert_eq!((&forged["dry_run"], &forged["dropped"]), (&json!(false), &json!(1)));
    assert_eq!(api.get("rejections").await["items"], json!([]));
}

#[tokio::test]
async fn a_dead_letter_older_than_expire_has_all_its_attempts_again_over_a_crash_too() {
    let script = |number: usize, _: &_| {
        if number < 2 { Act::Answer("500 No", "") } else { OK }
    };
    let mut receiver = Receiver::scripted(script).await;
    // The first wait would be longer than an event may live.
    let home = Home::new(&format!(
        "{SOURCE}[target.t]\nurl = {:?}\nexpire = \"1s\"\n\
         retry = {{ schedule = [\"1500ms\"], jitter = 0.0 }}\n",
        receiver.url()
    ));
    let daemon = home.start().await;
    let ids = dead(&daemon, 1).await;
    let expired = "everhook_dead_letters_total{reason=\"expired\",target=\"t\"}";
    daemon.metric_becomes(expired, 1.0).await;
    let api = Api::of(daemon.admin).await;
    let (status, _) = api.post("dead-letters/retry", json!({ "ids": ids })).await;
    assert_eq!(status, 202);
    receiver.take(2).await;
    let id = ids.first().expect("one");
    // What is recorded is on the disk.
    let recorded = |event: &Value| event["attempts"].as_array().is_some_and(|all| all.len() == 2);
    event_that(&api, id, recorded).await;
    daemon.kill().await;
    let daemon = home.start().await;
    assert_eq!(receiver.next().await.id(), id);
    let api = Api::of(daemon.admin).await;
    let delivered = |event: &Value| {
        let delivery = &event["deliveries"][0];
        delivery["state"] == "delivered" && delivery["attempts"] == 2
    };
    event_that(&api, id, delivered).await;
}

/// Waits until the event is so.
async fn event_that(api: &Api, id: &str, is: impl Fn(&Value) -> bool) {
    within("the event is so", async {
        loop {
            if is(&api.get(&format!("events/{id}")).await) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}
