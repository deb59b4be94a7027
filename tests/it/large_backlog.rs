//! A large backlog: what it takes of memory, that taking in stays fast, how soon a restart is ready, and how long an operator
//! waits for a page of it.
//!
//! `EVERHOOK_BACKLOG` sets the number of webhooks of 1 KiB that wait (3,000 unless told otherwise). The figures of
//! docs/durability.md: `EVERHOOK_BACKLOG=1000000 EVERHOOK_BINARY=target/release/everhook cargo test --release --test it --
//! large_backlog --nocapture`.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Connection;
use crate::harness::within;

const MIB: u64 = 1024 * 1024;
/// Clients that post at once.
const CLIENTS: u32 = 64;
/// The rate is told for each of so many parts of the backlog.
const PARTS: u32 = 10;
/// What is aimed at: memory, and the time until a restart is ready.
const MOST_MEMORY: u64 = 300 * MIB;
const READY: [(u32, Duration); 2] =
    [(100_000, Duration::from_secs(2)), (1_000_000, Duration::from_secs(10))];

fn backlog() -> u32 {
    let set = std::env::var("EVERHOOK_BACKLOG").ok().and_then(|n| n.parse().ok());
    set.unwrap_or(3_000)
}

/// A body of 1 KiB that no other number has.
fn body(number: u32) -> String {
    format!("{{\"number\":{number:>10},\"filler\":\"{}\"}}", "x".repeat(1024 - 34))
}

/// Posts these numbers from many connections; events per second.
async fn post(daemon: &Daemon, numbers: std::ops::Range<u32>) -> f64 {
    let (count, began) = (numbers.end - numbers.start, Instant::now());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS.min(count) {
        let mut connection = daemon.connect().await;
        let mine = numbers.clone().skip(client as usize).step_by(CLIENTS as usize);
        clients.spawn(async move {
            for number in mine {
                let reply = connection.post("/in/any", &[], body(number)).await;
                let reply = reply.map_err(|error| format!("{number}: {error:?}"))?;
                assert_eq!(reply.ack().1, "accepted");
            }
            Ok::<_, String>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        let ended = ended.expect("a client ends well");
        assert_eq!(ended, Ok(()), "{:#?}", daemon.log().iter().rev().take(20).collect::<Vec<_>>());
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}

/// Tries until somebody listens.
async fn connect(address: SocketAddr) -> Connection {
    within("the port is open", async {
        loop {
            match Connection::open(address).await {
                Ok(connection) => return connection,
                Err(_refused) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_backlog_stays_small_in_memory_and_soon_ready() {
    let backlog = backlog();
    // Nobody listens at the target; every webhook stays pending.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    let home = Home::new(&format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n\
         [target.down]\nurl = \"http://{nobody}/hook\"\n"
    ));
    let daemon = home.start().await;
    let idle = daemon.memory("VmRSS:");
    let mut rates = Vec::new();
    for part in 0..PARTS {
        let numbers = part * backlog / PARTS..(part + 1) * backlog / PARTS;
        rates.push(post(&daemon, numbers).await);
        println!(
            "tenth {part}: {:?} events per second, RSS {} KiB",
            rates.last(),
            daemon.memory("VmRSS:") / 1024
        );
    }
    let (after, most) = (daemon.memory("VmRSS:"), daemon.memory("VmHWM:"));
    let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
    println!("{backlog} pending; events per second for each tenth: {}", rates.join(" "));
    println!(
        "RSS: idle {} KiB, after {} KiB, at most {} KiB",
        idle / 1024,
        after / 1024,
        most / 1024
    );
    daemon.kill().await;

    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    let mut serve = home.command(&["serve"]);
    serve.env("EVERHOOK_INGRESS__LISTEN", format!("[\"{free}\"]"));
    let began = Instant::now();
    let start = tokio::task::spawn(async move { Home::started(serve).await });
    let mut connection = connect(free).await;
    let open = began.elapsed();
    let reply = within("an answer", connection.post("/in/any", &[], body(backlog))).await;
    let ready = began.elapsed();
    assert_eq!(reply.expect("an answer").ack().1, "accepted");
    let daemon = start.await.expect("it starts");
    let reopened = daemon.memory("VmRSS:");
    println!(
        "after kill -9: port open in {open:?}, first webhook acknowledged in {ready:?}, RSS {} KiB",
        reopened / 1024
    );

    for path in [
        "/api/v1/events",
        "/api/v1/events?event=nothing",
        "/api/v1/deliveries?target=down",
        "/api/v1/dead-letters",
        "/api/v1/events?q=not+there",
        "/api/v1/stats",
    ] {
        let began = Instant::now();
        let reply = daemon.admin_get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        println!("{path}: {:?}, {} bytes", began.elapsed(), reply.body.len());
    }
    let series = |state: &str| format!("everhook_deliveries{{state=\"{state}\",target=\"down\"}}");
    let mut pending = 0.0;
    for state in ["ready", "waiting", "in_flight"] {
        pending += daemon.metric(&series(state)).await;
    }
    assert!((pending - f64::from(backlog + 1)).abs() < 0.5, "pending again: {pending}");
    assert!(after.max(reopened) <= MOST_MEMORY, "more than {MOST_MEMORY} bytes");
    if let Some((_, bound)) = READY.iter().find(|(count, _)| backlog <= *count) {
        assert!(ready <= *bound, "not ready within {bound:?}");
    }
}
