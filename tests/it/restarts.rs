//! Restarts on a socket that outlives the daemon, as systemd or any other supervisor hands it over: no connection is
//! refused, no request fails, nothing is lost.
//!
//! The load comes at its own pace, whether it is answered or not; every other request comes on a new connection.
//!
//! 5 restarts and 3 kills at 100 requests a second in the short form; the long one has 100 and 20 at 500
//! (`EVERHOOK_RESTARTS=n`, `EVERHOOK_STRIKES=n`, `EVERHOOK_RATE=n`, or `EVERHOOK_LONG=1` for all of it).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};

use crate::faults::extent;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Connection;
use crate::harness::receiver::Receiver;
use crate::harness::within;

/// Connections that the sender keeps open. A request that comes on one just when the daemon closes it, idle for a second
/// while it stops, has no answer: HTTP leaves that to senders, and one that keeps more than it uses sees it.
const POOL: usize = 16;
/// Connections that wait in the kernel; what the socket unit asks for.
const BACKLOG: u32 = 4096;
/// Load between one restart and the next.
const BETWEEN: Duration = Duration::from_millis(300);

/// What came of the load.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: BTreeSet<String>,
    /// Connections that could not be opened.
    refused: usize,
    /// Requests that ended without an answer.
    cut_off: usize,
    /// Answers that were no acknowledgement.
    unwanted: Vec<u16>,
    slowest: Duration,
}

type Shared = Arc<Mutex<Tally>>;
/// Connections that are open and idle.
type Idle = Arc<Mutex<Vec<Connection>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_refuse_no_connection_and_fail_no_request() {
    let restarts = extent("EVERHOOK_RESTARTS", 5, 100);
    let tally = run(restarts, Daemon::terminate).await;
    assert_eq!((tally.refused, tally.cut_off), (0, 0), "{restarts} restarts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_refuse_no_connection_and_lose_nothing() {
    let strikes = extent("EVERHOOK_STRIKES", 3, 20);
    let tally = run(strikes, Daemon::strike).await;
    // What was being served at the kill has no answer, and is sent again: nothing was promised.
    assert_eq!(tally.refused, 0, "{strikes} kills");
}

/// Ends the daemon so many times under load, and checks that everything that was acknowledged arrives.
async fn run(ends: u64, end: fn(&Daemon)) -> Tally {
    let rate = extent("EVERHOOK_RATE", 100, 500);
    let receiver = Receiver::good().await;
    let home = Home::new(&format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n[target.t]\nurl = {:?}\n",
        receiver.url()
    ));
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let socket = socket.listen(BACKLOG).expect("it listens").into_std().expect("a socket");
    let address = socket.local_addr().expect("an address");
    let mut daemon = home.start_on(&socket).await;
    let begun = Instant::now();
    let (tally, enough) = (Shared::default(), Arc::new(AtomicBool::new(false)));
    let load = load(address, rate, &tally, &enough);
    for _ in 0..ends {
        // The load goes on meanwhile: that is what this waits for.
        drop(tokio::time::timeout(BETWEEN, std::future::pending::<()>()).await);
        end(&daemon);
        let ended = daemon.finished().await;
        assert!(!ended.panicked(), "{ended:?}");
        daemon = home.start_on(&socket).await;
    }
    drop(tokio::time::timeout(BETWEEN, std::future::pending::<()>()).await);
    enough.store(true, Ordering::SeqCst);
    let sent = within("every request ends", load).await.expect("no panic");
    let took = begun.elapsed();
    for state in ["ready", "waiting", "in_flight"] {
        let series = format!("everhook_deliveries{{state=\"{state}\",target=\"t\"}}");
        daemon.metric_becomes(&series, 0.0).await;
    }
    daemon.terminate();
    assert!(daemon.ended().await.success());
    let tally = std::mem::take(&mut *tally.lock().expect("no panic"));
    let delivered: BTreeSet<_> = receiver.seen().iter().map(|r| r.id().to_owned()).collect();
    let lost: Vec<_> = tally.acknowledged.difference(&delivered).collect();
    println!(
        "{ends} ends in {took:?} under {rate}/s: {sent} requests, {} acknowledged, {} refused, {} cut off and sent again, \
         {} lost, the slowest answer after {:?}",
        tally.acknowledged.len(),
        tally.refused,
        tally.cut_off,
        lost.len(),
        tally.slowest,
    );
    assert!(lost.is_empty() && tally.unwanted.is_empty(), "{lost:?} {:?}", tally.unwanted);
    assert!(tally.acknowledged.len() > 10, "there was no load");
    tally
}

/// Sends at a steady pace until it is enough; gives how many requests there were.
fn load(
    address: SocketAddr,
    rate: u64,
    tally: &Shared,
    enough: &Arc<AtomicBool>,
) -> JoinHandle<u64> {
    let (tally, enough, idle) = (Arc::clone(tally), Arc::clone(enough), Idle::default());
    tokio::task::spawn(async move {
        let mut ticks =
            tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).expect("small"));
        let (mut requests, mut sent) = (JoinSet::new(), 0);
        while !enough.load(Ordering::SeqCst) {
            ticks.tick().await;
            let (tally, idle) = (Arc::clone(&tally), Arc::clone(&idle));
            requests.spawn(async move { send(address, sent, &tally, &idle).await });
            sent += 1;
            while let Some(ended) = requests.try_join_next() {
                ended.expect("no panic");
            }
        }
        while let Some(ended) = requests.join_next().await {
            ended.expect("no panic");
        }
        sent
    })
}

/// Sends one request until it is acknowledged, as a sender that tries again does.
async fn send(address: SocketAddr, number: u64, tally: &Shared, idle: &Idle) {
    let (begun, is_new) = (Instant::now(), number.is_multiple_of(2));
    loop {
        let open = if is_new { None } else { idle.lock().expect("no panic").pop() };
        let mut connection = match open {
            Some(connection) => connection,
            None => match Connection::open(address).await {
                Ok(connection) => connection,
                Err(_refused) => {
                    tally.lock().expect("no panic").refused += 1;
                    continue;
                }
            },
        };
        let reply = match connection.post("/in/any", &[], format!("{number}")).await {
            Ok(reply) => reply,
            // The connection had been closed before anything was sent on it.
            Err(error) if error.is_canceled() || error.is_closed() => continue,
            Err(_cut_off) => {
                tally.lock().expect("no panic").cut_off += 1;
                continue;
            }
        };
        let mut tally = tally.lock().expect("no panic");
        if reply.status == 200 {
            tally.acknowledged.insert(reply.ack().0);
        } else {
            tally.unwanted.push(reply.status);
        }
        tally.slowest = tally.slowest.max(begun.elapsed());
        let mut idle = idle.lock().expect("no panic");
        if !is_new && !reply.headers.contains_key("connection") && idle.len() < POOL {
            idle.push(connection);
        }
        return;
    }
}
