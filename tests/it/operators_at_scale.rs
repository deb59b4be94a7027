//! What an operator waits for on a large journal, and what that costs whoever posts webhooks meanwhile.
//!
//! `EVERHOOK_EVENTS` sets the number of events, of which every tenth is a dead letter (3,000 unless told otherwise), and
//! `EVERHOOK_ROUNDS` for how many rounds webhooks are acknowledged without and with an operator at work (1 unless told otherwise).
//! The figures of docs/operations.md: `EVERHOOK_EVENTS=1000000 EVERHOOK_ROUNDS=15 EVERHOOK_BINARY=target/release/everhook cargo test
//! --release --test it -- operators_at_scale --nocapture`.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use everhook::model::EventId;
use everhook::time::Timestamp;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::api::Api;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Connection;

const MIB: u64 = 1024 * 1024;
/// Every so many events is a dead letter.
const DEAD: u64 = 10;
/// The events came within this time before now, evenly.
const SPAN: Duration = Duration::from_secs(6 * 3_600);
/// Clients that post in a round, each one webhook after the other.
const CLIENTS: u64 = 16;
/// Memory that is aimed at.
const MOST_MEMORY: u64 = 300 * MIB;

fn number(name: &str, unless: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(unless)
}

fn moment(micros: i128) -> String {
    Timestamp::from_micros(i64::try_from(micros).expect("our time")).precise()
}

/// Lines as `journal export` writes them.
fn write_lines(path: &std::path::Path, events: u64) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let start = now.checked_sub(SPAN).expect("long after 1970");
    let start = i128::try_from(start.as_micros()).expect("our time");
    let begin = json!({ "type": "begin", "format": 1, "version": "0", "at": moment(start) });
    writeln!(file, "{begin}")?;
    for number in 0..events {
        let passed = SPAN.as_micros() * u128::from(number) / u128::from(events);
        let at = start + i128::try_from(passed).expect("short");
        let mut random = [0; 10];
        random[2..].copy_from_slice(&number.to_be_bytes());
        let micros = Timestamp::from_micros(i64::try_from(at).expect("our time"));
        let is_dead = number % DEAD == 0;
        let (target, state, status) =
            if is_dead { ("bad", "dead", 422) } else { ("good", "delivered", 200) };
        let mut delivery = json!({ "target": target, "state": state, "attempts": 1 });
        if is_dead {
            let reason = ["refused", "expired"][usize::from(number % (2 * DEAD) == 0)];
            delivery["reason"] = reason.into();
        }
        let filler = "x".repeat(960);
        let line = json!({
            "type": "event",
            "id": EventId::new(micros, random).to_string(),
            "source": "any",
            "event": if number % 7 == 0 { "build.failed" } else { "build.passed" },
            "order_key": null,
            "received_at": moment(at),
            "headers": [["content-type", "application/json"]],
            "body": json!({ "number": number, "filler": filler }).to_string(),
            "dedup": [],
            "deliveries": [delivery],
            "attempts": [{
                "target": target, "number": 1, "started_at": moment(at), "duration_us": 1500,
                "status": status, "headers": [], "body": "", "body_cut": false,
            }],
        });
        writeln!(file, "{line}")?;
    }
    let end = json!({ "type": "end", "events": events, "keys": 0, "notes": 0, "rejections": 0 });
    writeln!(file, "{end}")?;
    file.flush()
}

/// A daemon on a journal with so many events. Nobody listens at its targets; what is retried there waits.
async fn daemon(events: u64) -> (Home, Daemon) {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    let target = |name: &str| format!("[target.{name}]\nurl = \"http://{nobody}/{name}\"\n");
    let home = Home::new(&format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n{}{}events = [\"none\"]\n",
        target("good"),
        target("bad")
    ));
    let lines = home.config().with_file_name("lines.jsonl");
    write_lines(&lines, events).expect("a writable directory");
    let mut import = home.command(&["journal", "import"]);
    let done = import.arg(&lines).output().await.expect("the binary runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::remove_file(&lines).expect("it was there");
    let daemon = home.start().await;
    (home, daemon)
}

/// What is answered, and after how long.
async fn timed(api: &Api, path: &str) -> (Value, Duration) {
    let began = Instant::now();
    let answer = api.get(path).await;
    (answer, began.elapsed())
}

/// Everything of a list, how many pages that took, and the slowest of them.
async fn whole(api: &Api, path: &str) -> (usize, u32, Duration) {
    let (mut count, mut pages, mut slowest, mut cursor) = (0, 0, Duration::ZERO, String::new());
    loop {
        let (page, took) = timed(api, &format!("{path}{cursor}")).await;
        count += page["items"].as_array().expect("a list").len();
        (pages, slowest) = (pages + 1, slowest.max(took));
        let Some(next) = page["next"].as_str() else { return (count, pages, slowest) };
        cursor = format!("&cursor={next}");
    }
}

/// First pages of what an operator looks at.
const LOOKS: [&str; 10] = [
    "events",
    "events?limit=200",
    "events?event=build.failed",
    "events?target=bad&state=dead",
    "events?until=5h",
    "events?q=%22number%22%3A17",
    "deliveries?state=pending",
    "dead-letters?latest=true",
    "dead-letters/groups",
    "targets?rates=true",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_and_retries_among_many_events() {
    let events = number("EVERHOOK_EVENTS", 3_000);
    let dead = events.div_ceil(DEAD);
    let (_home, daemon) = daemon(events).await;
    let api = Api::of(daemon.admin).await;
    println!("{events} events, {dead} dead letters; RSS {} MiB", daemon.memory("VmRSS:") / MIB);
    for path in LOOKS {
        let (_, took) = timed(&api, path).await;
        println!("{path}: {took:?}");
    }
    let (groups, took) = timed(&api, "dead-letters/groups").await;
    let sum = |groups: &Value| {
        let items = groups["items"].as_array().expect("a list").clone();
        items.iter().map(|group| group["count"].as_u64().expect("a count")).sum::<u64>()
    };
    println!("groups of all: {took:?}");
    assert_eq!((sum(&groups), &groups["complete"]), (dead, &json!(true)));
    for path in ["dead-letters?latest=true", "deliveries?target=good&latest=true&until=5h"] {
        let (page, _) = timed(&api, path).await;
        for item in page["items"].as_array().expect("a list") {
            let status = if item["target"] == "bad" { 422 } else { 200 };
            assert_eq!(item["latest"]["status"], status, "its attempt is found: {item}");
            let id = item["id"].as_str().expect("an id");
            assert_eq!(api.get(&format!("events/{id}")).await["attempts"][0]["status"], status);
        }
    }
    let (found, pages, slowest) = whole(&api, "dead-letters?limit=200").await;
    println!("all dead letters: {found} on {pages} pages, the slowest {slowest:?}");
    assert_eq!(u64::try_from(found).expect("few"), dead);
    // An hour of six, and not a second more.
    let (found, pages, slowest) = whole(&api, "events?limit=200&since=2h&until=1h").await;
    println!("an hour: {found} on {pages} pages, the slowest {slowest:?}");
    let sixth = events / 6;
    assert!((sixth * 9 / 10..=sixth + 1).contains(&u64::try_from(found).expect("few")), "{found}");

    for (what, path, filter, expected) in [
        ("retry", "dead-letters/retry", json!({ "target": ["bad"] }), Some(dead)),
        ("discard", "dead-letters/discard", json!({ "reason": ["expired"] }), None),
        ("replay", "replay", json!({}), None),
    ] {
        let began = Instant::now();
        let body = json!({ "filter": filter, "dry_run": true });
        let (status, count) = api.post(path, body).await;
        assert_eq!(status, 200, "{count}");
        println!("{what}, dry run: {:?}, {count}", began.elapsed());
        if let Some(expected) = expected {
            let counted = (&count["deliveries"], &count["complete"]);
            assert_eq!(counted, (&json!(expected), &json!(true)));
        }
    }
    retried(&api, dead).await;
    let most = daemon.memory("VmHWM:");
    println!("RSS at most {} MiB", most / MIB);
    assert!(most <= MOST_MEMORY, "more than {MOST_MEMORY} bytes");
}

/// Retries every dead letter as fast as a job may.
async fn retried(api: &Api, dead: u64) {
    let began = Instant::now();
    let body = json!({ "filter": { "target": ["bad"] }, "rate": 10_000 });
    let (status, mut job) = api.post("dead-letters/retry", body).await;
    assert_eq!(status, 202, "{job}");
    let path = format!("jobs/{}", job["id"].as_str().expect("an id"));
    let mut slowest = Duration::ZERO;
    while job["state"] == "running" {
        let (_, took) = timed(api, "dead-letters?latest=true").await;
        slowest = slowest.max(took);
        job = api.get(&path).await;
    }
    println!("retry: {:?}, the slowest page meanwhile {slowest:?}, {job}", began.elapsed());
    assert_eq!((&job["state"], &job["deliveries"]), (&json!("done"), &json!(dead)));
    let (left, _) = timed(api, "dead-letters/groups").await;
    assert_eq!(left["items"], json!([]));
}

/// Looks at one page after the other until it is ended; how many there were, and the slowest.
fn operator(daemon: &Daemon, pause: Duration) -> JoinHandle<()> {
    let admin = daemon.admin;
    tokio::task::spawn(async move {
        let mut connection = Connection::open(admin).await.expect("the admin side listens");
        let mut again = tokio::time::interval(pause);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for path in LOOKS.iter().cycle() {
            again.tick().await;
            let reply = connection.get(&format!("/api/v1/{path}")).await.expect("an answer");
            assert_eq!(reply.status, 200, "{path}");
        }
    })
}

/// How long each of so many webhooks took to be acknowledged, in order.
async fn acknowledged(daemon: &Daemon, count: u64, every: Duration) -> Vec<Duration> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut connection = daemon.connect().await;
        let body = format!("{{\"client\":{client},\"filler\":\"{}\"}}", "x".repeat(1_000));
        clients.spawn(async move {
            let mut again = tokio::time::interval(every);
            let mut took = Vec::new();
            for _ in 0..count / CLIENTS {
                again.tick().await;
                let began = Instant::now();
                let reply = connection.post("/in/any", &[], body.clone()).await.expect("an answer");
                took.push(began.elapsed());
                assert_eq!(reply.status, 200);
            }
            took
        });
    }
    let mut all: Vec<_> = clients.join_all().await.concat();
    all.sort_unstable();
    all
}

/// Webhooks come at 500 a second; in every second round an operator looks at a page five times a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_does_not_slow_the_acknowledgements_down() {
    let events = number("EVERHOOK_EVENTS", 3_000);
    let rounds = number("EVERHOOK_ROUNDS", 1);
    let (count, every, pause) = if rounds > 1 {
        (2_000, Duration::from_millis(32), Duration::from_millis(200))
    } else {
        (160, Duration::from_millis(1), Duration::from_millis(5))
    };
    let (_home, daemon) = daemon(events).await;
    // Beside an operator to alone, and alone once more to alone: what differs by itself.
    let (mut ratios, mut noise) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for round in 0..rounds {
        let alone = acknowledged(&daemon, count, every).await;
        let looking = operator(&daemon, pause);
        let beside = acknowledged(&daemon, count, every).await;
        assert!(!looking.is_finished(), "the operator looks until the end");
        looking.abort();
        let again = acknowledged(&daemon, count, every).await;
        let at = |all: &[Duration], part: usize| all[all.len() * part / 1_000].as_secs_f64() * 1e3;
        for (index, part) in [500, 900, 990].into_iter().enumerate() {
            let (before, during, after) = (at(&alone, part), at(&beside, part), at(&again, part));
            let p = part / 10;
            println!(
                "round {round}: p{p} {before:.2} alone, {during:.2} beside, {after:.2} ms alone"
            );
            ratios[index].push(2.0 * during / (before + after));
            noise[index].push(after / before);
        }
    }
    for (index, part) in ["p50", "p90", "p99"].into_iter().enumerate() {
        let median = |all: &mut Vec<f64>| {
            all.sort_unstable_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let (ratio, noise) = (median(&mut ratios[index]), median(&mut noise[index]));
        println!(
            "{part} beside to alone: {ratio:.3}, alone to alone: {noise:.3}; medians of {rounds}"
        );
    }
}
