//! What an operator sees of events and deliveries through the API of the real binary.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::api::{Api, each, nothing};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::{Act, OK, Receiver};
use crate::harness::within;

const SOURCES: &str = "[source.any]\nprovider = \"custom\"\nevent = \"/event\"\nverify = { kind = \"none\" }\n\
                       [source.quiet]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n";

/// A daemon with a target that takes everything and one that refuses everything for good.
async fn daemon() -> (Home, Daemon, Receiver, Receiver) {
    let good = Receiver::good().await;
    let bad = Receiver::scripted(|_, _| Act::Answer("422 No", "x-why: because\r\n")).await;
    let home = Home::new(&format!(
        "{SOURCES}[target.good]\nurl = {:?}\n[target.bad]\nurl = {:?}\n\
         retry = {{ give_up = [422] }}\n",
        good.url(),
        bad.url()
    ));
    let daemon = home.start().await;
    (home, daemon, good, bad)
}

async fn post(daemon: &Daemon, event: &str, number: usize) -> String {
    let body = json!({ "event": event, "n": number }).to_string();
    let headers = [("content-type", "application/json"), ("x-api-token", "canary")];
    daemon.post("/in/any", &headers, body.as_bytes()).await.ack().0
}

/// Waits until so many events are delivered to the one target and dead at the other, and their attempts are recorded.
async fn settled(api: &Api, count: usize) {
    within("everything is settled", async {
        for list in ["deliveries?status=422", "deliveries?status=200"] {
            while api.all(list, 200).await.len() < count {
                tokio::task::yield_now().await;
            }
        }
        while !api.all("deliveries?state=pending", 200).await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn events_are_listed_filtered_and_shown_whole() {
    let (_home, daemon, _good, _bad) = daemon().await;
    let api = Api::of(daemon.admin).await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let event = if number % 2 == 0 { "build.passed" } else { "build.failed" };
        ids.push(post(&daemon, event, number).await);
    }
    settled(&api, 6).await;
    ids.reverse();
    assert_eq!(each(&api.all("events", 4).await, "id"), ids);
    let found = async |query: &str| {
        let ids_found = each(&api.all(&format!("events?{query}"), 50).await, "id");
        let place = |id: &String| 5 - ids.iter().position(|it| it == id).expect("one of ours");
        ids_found.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(found("event=*.failed").await, [5, 3, 1]);
    assert_eq!(found("source=quiet").await, [0; 0]);
    assert_eq!(found("pointer=/n=4").await, [4]);
    assert_eq!(found("q=%22N%22:2").await, [2]);
    assert_eq!(found("header=x-api-token:%20CANA&event=build.passed").await, [4, 2, 0]);
    assert_eq!(found("state=dead&target=good").await, [0; 0]);
    assert_eq!(found("status=4xx&reason=refused&attempts=1").await.len(), 6);
    assert_eq!(found("since=1h&until=0s").await.len(), 6);
    assert_eq!(found("until=1h").await, [0; 0]);
    assert_eq!(found(&format!("id={}&id={}", ids[5], ids[2])).await, [3, 0]);
    assert_eq!(found(&format!("id={}&event=build.failed", ids[5])).await, [0; 0]);

    let event = api.get(&format!("events/{}", ids[0])).await;
    assert_eq!(event["body"]["data"], json!({"event": "build.failed", "n": 5}).to_string());
    assert!(!event.to_string().contains("canary"), "{event}");
    assert!(event["headers"].as_array().unwrap().contains(&json!([
        "x-api-token",
        "***",
        "masked"
    ])));
    let attempts = event["attempts"].as_array().unwrap();
    let bad = attempts.iter().find(|it| it["target"] == "bad").expect("an attempt");
    assert_eq!((&bad["status"], &bad["outcome"]), (&json!(422), &json!("failed")));
    assert_eq!(bad["body"]["data"], "ok");
    assert!(bad["headers"].as_array().unwrap().contains(&json!(["x-why", "because"])));
    let body = api.raw("GET", &format!("/api/v1/events/{}/body", ids[0]), &[], "").await;
    assert_eq!(body.headers["content-disposition"], "attachment");
    assert_eq!(body.body, json!({"event": "build.failed", "n": 5}).to_string());
}

#[tokio::test]
async fn pages_stay_where_they_are_while_events_arrive() {
    let (_home, daemon, _good, _bad) = daemon().await;
    let api = Api::of(daemon.admin).await;
    let mut ids = BTreeSet::new();
    for number in 0..20 {
        ids.insert(post(&daemon, "e", number).await);
    }
    settled(&api, 20).await;
    for list in ["events", "deliveries"] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = api.get(&format!("{list}?limit=3{cursor}")).await;
            seen.extend(each(page["items"].as_array().unwrap(), "id"));
            post(&daemon, "later", 0).await;
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        // Those that arrived during the first walk are older than the second.
        seen.retain(|id| ids.contains(id));
        let each_once: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(each_once, ids, "{list}");
        assert_eq!(seen.len(), if list == "events" { 20 } else { 40 }, "{list}");
    }
}

#[tokio::test]
async fn dead_letters_are_listed_with_their_latest_attempt_and_grouped_by_reason() {
    let (_home, daemon, _good, _bad) = daemon().await;
    let api = Api::of(daemon.admin).await;
    for number in 0..5 {
        post(&daemon, "e", number).await;
    }
    settled(&api, 5).await;
    let dead = api.all("dead-letters?latest=true", 2).await;
    assert_eq!(dead.len(), 5);
    for letter in &dead {
        assert_eq!((&letter["target"], &letter["reason"]), (&json!("bad"), &json!("refused")));
        assert_eq!(letter["latest"]["status"], 422);
    }
    assert_eq!(api.all("deliveries?state=delivered", 3).await.len(), 5);
    assert_eq!(api.all("deliveries?status=422", 3).await.len(), 5);
    assert_eq!(api.all("deliveries?status=200", 3).await.len(), 5);
    let groups = api.get("dead-letters/groups").await;
    assert_eq!(
        (groups["items"].as_array().unwrap().len(), &groups["items"][0]["count"]),
        (1, &json!(5))
    );
    assert_eq!(api.get("dead-letters/groups?target=good").await["items"], json!([]));
}

#[tokio::test]
async fn figures_sources_and_targets_say_how_everything_goes() {
    let (_home, daemon, _good, _bad) = daemon().await;
    let api = Api::of(daemon.admin).await;
    let id = post(&daemon, "e", 0).await;
    settled(&api, 1).await;
    let stats = api.get("stats").await;
    assert_eq!((&stats["totals"]["accepted"], &stats["queue"]["dead"]), (&json!(1), &json!(1)));
    let of_minutes = |of: &serde_json::Value| {
        of.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(of_minutes(&stats["per_minute"]["delivered"]), 1);
    assert_eq!(of_minutes(&stats["per_minute"]["failed"]), 1);
    assert!(stats["ack_seconds"]["p99"].as_f64().unwrap() > 0.0);
    let sources = api.get("sources").await;
    let any = &sources["items"][0];
    assert_eq!((&any["source"], &any["last_event"]["id"]), (&json!("any"), &json!(id)));
    assert_eq!(sources["items"][1]["last_event"], json!(null));
    let own = json!(["event name", "/event"]);
    assert!(any["setup"].as_array().unwrap().contains(&own), "its own settings: {any}");
    let targets = api.get("targets?rates=true").await;
    let bad = &targets["items"][0];
    assert_eq!((&bad["target"], &bad["last_failure"]["status"]), (&json!("bad"), &json!(422)));
    assert_eq!(of_minutes(&bad["per_minute"]["failed"]), 1);
    assert!(
        bad["url"].as_str().unwrap().ends_with(|c: char| c.is_ascii_digit()),
        "the origin only"
    );
    assert_eq!(api.get("rejections").await["items"], json!([]));
}

#[tokio::test]
async fn one_event_is_replayed_resent_and_a_target_is_tried() {
    let (_home, daemon, mut good, mut bad) = daemon().await;
    let api = Api::of(daemon.admin).await;
    let id = post(&daemon, "e", 0).await;
    settled(&api, 1).await;
    assert_eq!((good.next().await.id(), bad.next().await.id()), (&*id, &*id));
    let replay = format!("events/{id}/replay");
    let (_, changed) = api.post(&replay, json!({ "targets": ["good"] })).await;
    assert_eq!(changed["deliveries"], 1);
    assert_eq!(good.next().await.id(), id);
    assert_eq!(api.post(&replay, json!({ "targets": ["none"] })).await.0, 400);
    settled(&api, 1).await;
    assert_eq!(api.ask("POST", &replay, None).await.1["deliveries"], 2);
    assert_eq!((good.next().await.id(), bad.next().await.id()), (&*id, &*id));

    let changed = json!({
        "event": "edited", "targets": ["good"], "body": { "encoding": "utf-8", "data": "new" },
    });
    let (status, made) = api.post(&format!("events/{id}/resend"), changed).await;
    assert_eq!(status, 201);
    let got = good.next().await;
    assert_eq!((got.id(), &got.body[..]), (made["id"].as_str().unwrap(), &b"new"[..]));
    assert_eq!((got.header("everhook-event"), got.header("everhook-source")), ("edited", "any"));

    let (status, made) = api.post("targets/good/test", nothing()).await;
    assert_eq!(status, 202);
    let got = good.next().await;
    assert_eq!(got.id(), made["id"].as_str().unwrap());
    assert_eq!(got.header("everhook-event"), "everhook.test");
    let log = daemon.log().join("\n");
    assert!(log.contains("an operator replayed an event") && log.contains("tries the target"));
}

#[tokio::test]
async fn what_waits_is_attempted_at_once_when_an_operator_asks_and_only_then() {
    let mut down =
        Receiver::scripted(|n, _| if n < 2 { Act::Answer("500 No", "") } else { OK }).await;
    let policies =
        "retry = { schedule = [\"1h\", \"1h\"] }\nbreaker = { failures = 2, probe_every = \"1h\" }";
    let home = Home::new(&format!("{SOURCES}[target.down]\nurl = {:?}\n{policies}\n", down.url()));
    let daemon = home.start().await;
    let api = Api::of(daemon.admin).await;
    let id = post(&daemon, "e", 0).await;
    down.next().await;
    let stands = async |wanted: &str, attempts: usize| {
        within("the delivery stands so", async {
            loop {
                let delivery = api.get(&format!("events/{id}")).await["deliveries"][0].clone();
                if delivery["state"] == wanted && delivery["attempts"] == attempts {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    stands("waiting", 1).await;
    let retry = format!("events/{id}/retry");
    // The second failure opens the breaker, and the third attempt is its probe.
    for attempt in [2, 3] {
        let (status, said) = api.post(&retry, nothing()).await;
        assert_eq!((status, &said["deliveries"], &said["held"]), (200, &json!(1), &json!([])));
        assert_eq!(down.next().await.header("everhook-attempt"), attempt.to_string());
        stands(if attempt == 2 { "waiting" } else { "delivered" }, attempt).await;
    }
    let (status, problem) = api.post(&retry, nothing()).await;
    assert_eq!((status, &problem["cause"]), (409, &json!("not-pending")));
    assert!(problem["detail"].as_str().unwrap().contains("down: delivered"), "{problem}");

    api.post("targets/down/pause", nothing()).await;
    let later = post(&daemon, "e", 1).await;
    let (_, said) =
        api.post(&format!("events/{later}/retry"), json!({ "targets": ["down"] })).await;
    assert_eq!(said["held"], json!([{ "target": "down", "reason": "paused" }]));
    assert_eq!(api.post(&retry, json!({ "targets": ["none"] })).await.0, 400);
    assert!(daemon.log().join("\n").contains("an operator had deliveries attempted at once"));
}

#[tokio::test]
async fn what_a_sender_made_up_is_shown_as_the_text_it_is() {
    let hostile = "<script>alert(1)</script>\u{202e}\u{1b}[31m\"\n\u{0}";
    let good = Receiver::scripted(|_, _| OK).await;
    let home = Home::new(&format!("{SOURCES}[target.good]\nurl = {:?}\n", good.url()));
    let daemon = home.start().await;
    let api = Api::of(daemon.admin).await;
    let name = "<script>alert(1)</script>\u{202e}'\"&";
    let body = json!({ "event": name, "n": hostile }).to_string();
    let id = daemon.post("/in/any", &[], body.as_bytes()).await.ack().0;
    let bytes = daemon.post("/in/quiet", &[("x-odd", "a\u{e9}b")], b"\xff\x00\x1b").await.ack().0;
    let event = api.get(&format!("events/{id}")).await;
    assert_eq!(event["body"]["data"], body);
    let list = api.raw("GET", "/api/v1/events", &[], "").await;
    assert!(list.body.iter().all(|byte| *byte == b'\n' || *byte >= b' '), "escaped");
    assert_eq!(list.headers["content-type"], "application/json");
    let odd = api.get(&format!("events/{bytes}")).await;
    assert_eq!(odd["body"]["encoding"], "base64");
}

#[tokio::test]
async fn a_proof_is_masked_whatever_its_field_is_called() {
    let mut good = Receiver::good().await;
    let url = good.url();
    let source = |kind: &str, field: &str| {
        format!(
            "[source.s]\nprovider = \"custom\"\nsecret = \"plain:canary-of-ours\"\n\
             verify = {{ kind = {kind:?}, header = {field:?} }}\n\
             [target.good]\nurl = {url:?}\nforward_tokens = false\n"
        )
    };
    let home = Home::new(&source("token", "X-Seal"));
    let daemon = home.start().await;
    let api = Api::of(daemon.admin).await;
    let fields = [("x-seal", "canary-of-ours"), ("x-part", "1")];
    let id = daemon.post("/in/s", &fields, b"1").await.ack().0;
    assert_eq!(daemon.post("/in/s", &[("x-seal", "canary-of-others")], b"2").await.status, 401);
    let got = good.next().await;
    assert_eq!((got.find("x-part"), got.find("x-seal")), (Some("1"), None));
    // It is kept after it was answered.
    daemon.metric_becomes("everhook_quarantine_rejections{source=\"s\"}", 1.0).await;
    let refused = api.all("rejections", 1).await;
    let refused = format!("rejections/{}", refused[0]["id"].as_str().expect("an id"));
    for reloaded in [false, true] {
        for path in [&format!("events/{id}"), &refused] {
            let shown = api.get(path).await;
            let masked = json!(["x-seal", "***", "masked"]);
            assert!(shown["headers"].as_array().expect("a list").contains(&masked), "{shown}");
            assert!(!shown.to_string().contains("canary"), "{reloaded}: {shown}");
        }
        // What came before is masked although the source looks at another field now.
        home.configure(&source("hmac", "x-other"));
        let answer = daemon.admin_post("/api/v1/reload").await;
        assert_eq!(answer.status, 200);
    }
    assert!(!daemon.log().iter().any(|line| line.contains("canary")));
}
