//! A disk that fails a write or a sync costs no acknowledged webhook.
//!
//! The nth operation of a kind fails, for n = 1 and on until a run meets no failure: once or from then on, with EIO
//! or ENOSPC, while the daemon starts on an existing journal and while it runs under load. Afterwards the power is cut and
//! a daemon starts on what is durable. As on Linux, a sync that failed leaves its pages clean but not written: one
//! that is merely repeated succeeds and loses them, which the cut brings to light; but first a daemon starts again on the
//! same machine, which may still see them, and takes in more.
//!
//! The short form takes n from the Fibonacci numbers, but each of the first syncs of a start, and gives each kind of repetition one of the two errors;
//! `EVERHOOK_LONG=1` tries all four with every n up to 100 and then every tenth (the store begins a segment with
//! some hundred equal writes). `EVERHOOK_SEED` repeats a run.

use std::sync::Arc;
use std::time::Instant;

use fuser::Errno;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::ledger::{Ledger, SOURCE};
use super::{is_long, seed};
use crate::faultfs::{FaultFs, Image, Op, Survival, Times};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Connection;
use crate::harness::receiver::Receiver;
use crate::harness::within;

/// Connections and webhooks of each in one run: enough for a good number of commits.
const CLIENTS: u64 = 4;
const EACH: u64 = 12;
/// Syncs with which a start makes durable what it found.
const FIRST_SYNCS: u64 = 21;
/// No run has more operations of one kind than this.
const MOST: u64 = 10_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Fails(Op, Errno, Times),
    ShortWrite,
}

/// When the counting begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Starting,
    Running,
}

/// A journal to start on, and what was acknowledged into it.
struct Stage {
    receiver: Receiver,
    image: Image,
    ledger: Arc<Ledger>,
}

impl Stage {
    async fn set() -> Self {
        let receiver = Receiver::good().await;
        let ledger = Arc::new(Ledger::default());
        let disk = FaultFs::empty();
        let daemon = home(&receiver, &disk).start().await;
        let clients = ledger.load(&daemon, CLIENTS, EACH).await;
        within("every client ends", clients.join_all()).await;
        // Killed, so that the next start has a log to read; the machine goes on, so nothing is forgotten.
        daemon.killed().await;
        Self { receiver, image: disk.image_without_cut(), ledger }
    }

    /// One run; whether the fault struck at all.
    async fn run(&self, fault: Fault, nth: u64, begin: Begin, rng: &mut StdRng) -> bool {
        let what = format!("{fault:?} number {nth}, {begin:?}");
        let disk = FaultFs::mount(self.image.clone());
        let ledger = self.ledger.fork();
        if begin == Begin::Starting {
            arm(&disk, fault, nth);
        }
        match home(&self.receiver, &disk).try_start().await {
            Ok(daemon) => {
                if begin == Begin::Running {
                    arm(&disk, fault, nth);
                }
                let clients = ledger.load(&daemon, CLIENTS, EACH).await;
                within("every client ends", clients.join_all()).await;
                judge(daemon, &disk, fault, &ledger, &what).await;
            }
            Err(ended) => {
                assert!(disk.struck() > 0, "{what}: did not start: {ended:?}");
                assert!(ended.left_with_an_error(), "{what}: {ended:?}");
            }
        }
        let struck = disk.struck() > 0;
        if matches!(fault, Fault::Fails(Op::Sync, ..)) {
            self.start_again(&disk, &ledger, &what).await;
        }
        disk.cut();
        let survival = Survival::ALL[rng.random_range(0..Survival::ALL.len())];
        let disk = FaultFs::mount(disk.image(survival, rng.random()));
        let daemon = home(&self.receiver, &disk).try_start().await;
        let daemon = daemon.unwrap_or_else(|ended| panic!("{what}, {survival:?}: {ended:?}"));
        let lost = ledger.lost(&daemon, 0).await;
        assert!(lost.is_empty(), "{what}, {survival:?}: {} lost: {lost:#?}", lost.len());
        daemon.killed().await;
        struck
    }

    /// A daemon starts again while the machine goes on: it reads what a failed sync has left in memory only, as if it
    /// were on the disk, and what it acknowledges comes to stand behind that.
    async fn start_again(&self, disk: &FaultFs, ledger: &Arc<Ledger>, what: &str) {
        disk.heal();
        let daemon = home(&self.receiver, disk).try_start().await;
        let daemon = daemon.unwrap_or_else(|ended| panic!("{what}, again: {ended:?}"));
        let clients = ledger.load(&daemon, CLIENTS, EACH).await;
        within("every client ends", clients.join_all()).await;
        daemon.killed().await;
    }
}

fn home(receiver: &Receiver, disk: &FaultFs) -> Home {
    let retry = "retry = { initial = \"20ms\", factor = 1.0, max = \"20ms\", attempts = 1000 }";
    let body = format!("{SOURCE}[target.good]\nurl = {:?}\n{retry}\n", receiver.url());
    Home::with_journal(&disk.join("journal"), &body)
}

fn arm(disk: &FaultFs, fault: Fault, nth: u64) {
    match fault {
        Fault::Fails(op, errno, times) => disk.fail_nth(op, nth, errno, times),
        Fault::ShortWrite => disk.short_write_nth(nth),
    }
}

/// Waits until the daemon has left with an error, works, or says that it does not.
async fn judge(mut daemon: Daemon, disk: &FaultFs, fault: Fault, ledger: &Ledger, what: &str) {
    let lasting = matches!(fault, Fault::Fails(_, _, Times::Sticky));
    let settled = async {
        while !daemon.has_ended() {
            let Ok(mut connection) = Connection::open(daemon.ingress).await else { continue };
            match ledger.post_one(&mut connection).await {
                Some(200) => return,
                // A fault that is over must be got over; one that lasts must be shown.
                Some(503) if lasting && is_unready(&daemon).await => return,
                Some(503) | None => tokio::task::yield_now().await,
                Some(status) => panic!("{what}: answered {status}"),
            }
        }
    };
    within(&format!("{what}: it leaves, works or is unready"), settled).await;
    for (number, reply) in ledger.refused() {
        assert_eq!(reply.status, 503, "{what}: {number}");
        assert!(reply.headers.contains_key("retry-after"), "{what}: {number} {reply:?}");
    }
    // A journal that has failed, or an engine that panicked, makes the daemon leave by itself, a moment later.
    let says = |line: &String| line.contains("the journal failed") || line.contains("panicked");
    let failed = daemon.log().iter().any(says);
    let by_itself = failed || daemon.has_ended();
    let ended = if by_itself {
        within(&format!("{what}: it leaves"), daemon.finished()).await
    } else {
        daemon.killed().await
    };
    if by_itself {
        assert!(disk.struck() > 0, "{what}: left without a reason: {ended:?}");
        let gave_up = ended.aborted() && !ended.panicked();
        assert!(ended.left_with_an_error() || gave_up, "{what}: {ended:?}");
    } else {
        assert!(!ended.panicked(), "{what}: panicked and went on: {ended:?}");
    }
}

async fn is_unready(daemon: &Daemon) -> bool {
    let Ok(mut connection) = Connection::open(daemon.admin).await else { return false };
    connection.get("/readyz").await.is_ok_and(|reply| reply.status == 503)
}

/// The numbers to try. Each of the first syncs of a start makes something else durable, so none of them is passed by.
fn numbers(fault: Fault, begin: Begin) -> Box<dyn Iterator<Item = u64> + Send> {
    if is_long() {
        return Box::new((1..100).chain((100..).step_by(10)));
    }
    let mut pair = (1, 2);
    let fibonacci = std::iter::repeat_with(move || {
        let (now, next) = pair;
        pair = (next, now + next);
        now
    });
    if begin == Begin::Starting && matches!(fault, Fault::Fails(Op::Sync, _, Times::Once)) {
        return Box::new((1..FIRST_SYNCS).chain(fibonacci.skip_while(|n| *n < FIRST_SYNCS)));
    }
    Box::new(fibonacci)
}

/// The ways in which an operation fails that are to be tried: in the short form once and lasting, with the two
/// errors drawn at random.
fn ways(op: Op, rng: &mut StdRng) -> Vec<Fault> {
    let way = |errno, times| Fault::Fails(op, errno, times);
    let (one, other) = if rng.random_bool(0.5) {
        (Errno::EIO, Errno::ENOSPC)
    } else {
        (Errno::ENOSPC, Errno::EIO)
    };
    let mut all = vec![way(one, Times::Once), way(other, Times::Sticky)];
    if is_long() {
        all.extend([way(other, Times::Once), way(one, Times::Sticky)]);
    }
    all
}

async fn try_all(begin: Begin) {
    let time = Instant::now();
    let seed = seed(&format!("write errors, {begin:?}"));
    let mut rng = StdRng::seed_from_u64(seed);
    let stage = Stage::set().await;
    let mut faults = vec![Fault::ShortWrite];
    for op in Op::ALL {
        faults.extend(ways(op, &mut rng));
    }
    let (mut runs, mut struck) = (0, 0);
    for fault in faults {
        for nth in numbers(fault, begin) {
            assert!(nth < MOST, "{fault:?} never met a clean run");
            runs += 1;
            if !stage.run(fault, nth, begin, &mut rng).await {
                break;
            }
            struck += 1;
        }
    }
    println!("{begin:?}: {runs} runs, {struck} with a failure, 0 lost, in {:?}", time.elapsed());
    assert!(struck > 4, "nothing ever failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_under_load_costs_nothing_acknowledged() {
    try_all(Begin::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_while_starting_costs_nothing_acknowledged() {
    try_all(Begin::Starting).await;
}
