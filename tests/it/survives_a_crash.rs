//! Nothing acknowledged is lost by kill -9, wherever it strikes.
//!
//! The retention is short, so that kills also strike while old commits are rewritten and removed.
//!
//! 100 kills in the short form, a minute or so; `EVERHOOK_KILLS=1000` is the long one, and `EVERHOOK_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

use crate::faults::{extent, seed};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Connection;
use crate::harness::receiver::{OK, Receiver};
use crate::harness::within;

/// Clients that post at once.
const CLIENTS: usize = 16;
/// Most kills of one journal: its receivers remember every request.
const CHAIN: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_delivered_over_many_kills() {
    let begun = Instant::now();
    let (kills, seed) = (extent("EVERHOOK_KILLS", 100, 1_000), seed("kills"));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut done = 0;
    while done < kills {
        let some = (kills - done).min(CHAIN);
        chain(some, &mut rng).await;
        done += some;
        println!("{done} kills, 0 lost, in {:?}", begun.elapsed());
    }
}

/// Kills the users of one journal again and again; at the end everything must be delivered.
async fn chain(kills: u64, rng: &mut StdRng) {
    let first = Receiver::good().await;
    let flaky =
        Receiver::scripted(
            |number, _| {
                if number % 3 == 0 { crate::harness::receiver::Act::Close } else { OK }
            },
        )
        .await;
    let retry = "retry = { initial = \"20ms\", factor = 1.0, max = \"20ms\", attempts = 1000 }";
    let home = Home::new(&format!(
        "retention = \"1s\"\n[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n\
         [target.first]\nurl = {:?}\n{retry}\n[target.flaky]\nurl = {:?}\n{retry}\n",
        first.url(),
        flaky.url()
    ));
    let acknowledged: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let mut next = 0;
    for _ in 0..kills {
        let daemon = home.start().await;
        let mut clients = load(&daemon, &acknowledged, &mut next).await;
        let moment = Duration::from_millis(rng.random_range(20..500));
        // The moment of the kill is the random part of this test; the load goes on while it strikes.
        drop(tokio::time::timeout(moment, std::future::pending::<()>()).await);
        daemon.kill().await;
        while within("clients end with the daemon", clients.join_next()).await.is_some() {}
    }
    let acknowledged = acknowledged.lock().expect("no panic").clone();
    assert!(!acknowledged.is_empty(), "the load never got an answer");

    let daemon = home.start().await;
    for (receiver, name) in [(&first, "first"), (&flaky, "flaky")] {
        for state in ["ready", "waiting", "in_flight"] {
            let series = format!("everhook_deliveries{{state=\"{state}\",target=\"{name}\"}}");
            daemon.metric_becomes(&series, 0.0).await;
        }
        let requests = receiver.seen();
        let ids: BTreeSet<_> = requests.iter().map(|r| r.id().to_owned()).collect();
        let lost: Vec<_> = acknowledged.keys().filter(|id| !ids.contains(*id)).collect();
        assert!(lost.is_empty(), "{name} lost {} of {}: {lost:?}", lost.len(), acknowledged.len());
        let mut bodies = BTreeMap::new();
        for request in &requests {
            let body =
                bodies.entry(request.id().to_owned()).or_insert_with(|| request.body.clone());
            assert_eq!(*body, request.body, "one id, one body");
        }
        for (id, body) in &acknowledged {
            assert_eq!(bodies[id], body.as_bytes(), "the body that was acknowledged");
        }
        println!(
            "{name}: {} acknowledged, {} requests for {} events",
            acknowledged.len(),
            requests.len(),
            ids.len()
        );
    }
    assert!(!daemon.log().iter().any(|line| line.contains("panicked")));
    daemon.terminate();
    assert!(daemon.ended().await.success());
}

/// Posts from many connections until the daemon is gone.
async fn load(
    daemon: &Daemon,
    acknowledged: &Arc<Mutex<BTreeMap<String, String>>>,
    next: &mut u64,
) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(daemon.ingress).await.expect("the ingress listens");
        let start = *next;
        *next += 1_000_000;
        let acknowledged = Arc::clone(acknowledged);
        clients.spawn(async move {
            for number in start.. {
                let body = format!("event {number}");
                let Ok(reply) = connection.post("/in/any", &[], body.clone()).await else { return };
                let (id, _) = reply.ack();
                acknowledged.lock().expect("no panic").insert(id, body);
            }
        });
    }
    clients
}
