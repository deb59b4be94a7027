//! Reloads while webhooks come in: every request is answered, and everything that was answered arrives.
//!
//! 60 reloads in the short form; `EVERHOOK_RELOADS=1000` is the long one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::JoinSet;

use super::{SOURCE, target};
use crate::faults::extent;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Connection;
use crate::harness::receiver::{Act, OK, Receiver};
use crate::harness::within;

/// Clients that post at once.
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_no_event_is_lost_over_many_reloads() {
    let reloads = extent("EVERHOOK_RELOADS", 60, 1_000);
    let steady = Receiver::good().await;
    let other = Receiver::good().await;
    let flaky = Receiver::scripted(|n, _| if n % 3 == 0 { Act::Close } else { OK }).await;
    let retry = "retry = { initial = \"20ms\", factor = 1.0, max = \"20ms\", attempts = 1000 }\n";
    // What changes from one to the next: a target's policies, its address, a target that comes and goes, a source,
    // limits of the ingress and of the journal; and now and then a file that nobody can use.
    let configurations = [
        format!("{SOURCE}{}{}", target("steady", &steady, retry), target("flaky", &flaky, retry)),
        format!(
            "retention = \"1h\"\n{SOURCE}rate = \"1000000/s\"\n{}",
            target("steady", &steady, &format!("{retry}concurrency = 3\nbreaker = \"none\"\n"))
        ),
        "[source.any]\nprovider = \"none such\"\n".to_owned(),
        format!(
            "max_bytes = \"5GiB\"\n[delivery]\nconcurrency = 7\n{SOURCE}\
             [source.other]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n{}{}",
            target("steady", &other, &format!("{retry}rate = \"100000/s\"\n")),
            target("flaky", &flaky, &format!("{retry}order = \"key\"\n"))
        ),
    ];
    let home = Home::new(&configurations[0]);
    let daemon = home.start().await;
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let enough = Arc::new(AtomicBool::new(false));
    let mut clients = load(&daemon, &acknowledged, &enough);
    let begun = Instant::now();
    let (mut done, mut refused) = (0, 0);
    while done < reloads {
        let index = usize::try_from(done).expect("small") % configurations.len();
        home.configure(&configurations[index]);
        let answer = daemon.admin_post("/api/v1/reload").await;
        let expected = if index == 2 { 422 } else { 200 };
        assert_eq!(answer.status, expected, "{}", String::from_utf8_lossy(&answer.body));
        refused += u64::from(index == 2);
        done += 1;
    }
    let took = begun.elapsed();
    enough.store(true, Ordering::SeqCst);
    while let Some(client) = within("the clients end", clients.join_next()).await {
        client.expect("no request failed");
    }
    home.configure(&configurations[0]);
    assert_eq!(daemon.admin_post("/api/v1/reload").await.status, 200);
    for name in ["steady", "flaky"] {
        for state in ["ready", "waiting", "in_flight"] {
            let series = format!("everhook_deliveries{{state=\"{state}\",target=\"{name}\"}}");
            daemon.metric_becomes(&series, 0.0).await;
        }
    }
    let acknowledged = acknowledged.lock().expect("no panic").clone();
    let seen = [steady.seen(), other.seen()].concat();
    let arrived: BTreeSet<_> = seen.iter().map(|request| request.id().to_owned()).collect();
    let lost: Vec<_> = acknowledged.difference(&arrived).collect();
    assert!(lost.is_empty(), "{} of {} lost", lost.len(), acknowledged.len());
    let dead = daemon.metric("everhook_dead_letters{target=\"steady\"}").await;
    assert!(dead == 0.0 && !daemon.log().iter().any(|line| line.contains("panicked")));
    println!(
        "{done} reloads ({refused} of them refused) in {took:?} under {} requests, 0 failed, 0 lost, {} attempts repeated",
        acknowledged.len(),
        seen.len() - arrived.len(),
    );
    daemon.terminate();
    assert!(daemon.ended().await.success());
}

/// Posts from many connections until it is enough; every answer must be an acknowledgement.
fn load(
    daemon: &Daemon,
    acknowledged: &Arc<Mutex<BTreeSet<String>>>,
    enough: &Arc<AtomicBool>,
) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let address = daemon.ingress;
        let (acknowledged, enough) = (Arc::clone(acknowledged), Arc::clone(enough));
        clients.spawn(async move {
            let mut connection = Connection::open(address).await.expect("it listens");
            let mut number = 0u64;
            while !enough.load(Ordering::SeqCst) {
                // A new connection now and then: those must be served, too.
                if number % 50 == 49 {
                    connection = Connection::open(address).await.expect("it listens");
                }
                let body = format!("{client}/{number}");
                let reply = connection.post("/in/any", &[], body).await.expect("an answer");
                let (id, _) = reply.ack();
                acknowledged.lock().expect("no panic").insert(id);
                number += 1;
            }
        });
    }
    clients
}
