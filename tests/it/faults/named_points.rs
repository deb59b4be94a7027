//! A daemon is killed at named points of a journal's life, told by what happens on its disk; and a disk that is slow.
//!
//! The operation at the point is held, the daemon is killed, and the operation takes effect or not, as it would have for
//! a process that is gone. The next daemon starts on what is there. What was acknowledged is known to it and is
//! delivered, and nobody has to do anything by hand.

use std::sync::Arc;

use super::ledger::{Ledger, SOURCE};
use crate::faultfs::{FaultFs, Onward, Op, Point, Side};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::Receiver;
use crate::harness::within;

const CLIENTS: u64 = 4;
/// Enough for a few generations of a small journal.
const EACH: u64 = 3_000;

/// A name for each point; a generation's own file is `db`, and commits go to `intake.0` first.
const POINTS: [(&str, Op, (&str, &str), u64); 18] = [
    ("a commit is written to the intake log", Op::Write, ("/journal/generations", "/intake.0"), 9),
    ("fdatasync of a commit", Op::Sync, ("/journal/generations", "/intake.0"), 9),
    (
        "the other file of the log has taken over",
        Op::Write,
        ("/journal/generations", "/intake.1"),
        1,
    ),
    ("its first sync", Op::Sync, ("/journal/generations", "/intake.1"), 1),
    ("the store writes what the log has", Op::Write, ("/journal/generations/00000001", "/db"), 2),
    ("its fdatasync", Op::Sync, ("/journal/generations/00000001", "/db"), 2),
    ("answer: the ledger learns of the commit first", Op::Write, ("/journal/LEDGER", ""), 9),
    ("settle: a commit after deliveries", Op::Write, ("/journal/generations", "/intake.0"), 40),
    ("the sync of a commit after deliveries", Op::Sync, ("/journal/generations", "/intake.0"), 40),
    ("the ledger's own sync", Op::Sync, ("/journal/LEDGER", ""), 1),
    ("rotation: the next generation is made", Op::Create, ("/journal/generations", ".new"), 1),
    ("rotation: it gets its name", Op::Rename, ("/journal/generations", ""), 2),
    ("manifest: it is written", Op::Write, ("/journal/MANIFEST.tmp", ""), 1),
    ("manifest: it is synced", Op::Sync, ("/journal/MANIFEST.tmp", ""), 1),
    ("manifest: it takes the place of the old one", Op::Rename, ("/journal/MANIFEST", ""), 3),
    ("seal: the store's settings are synced", Op::Sync, ("/journal/generations", "/conf"), 1),
    ("drain: the generation's file is removed", Op::Remove, ("/journal/generations", "/db"), 1),
    ("drain: its directory is removed", Op::Remove, ("/journal/generations", ""), 4),
];

fn home(receiver: &Receiver, disk: &FaultFs) -> Home {
    // Generations of 1 MiB, and what is delivered is over at once.
    let body = format!(
        "max_bytes = \"16MiB\"\nretention = \"1s\"\n{SOURCE}[target.all]\nurl = {:?}\n\
         retry = {{ initial = \"20ms\", factor = 1.0, max = \"20ms\", attempts = 1000 }}\n",
        receiver.url()
    );
    Home::with_journal(&disk.join("journal"), &body)
}

/// Starts a daemon on what is left: everything acknowledged is known and delivered.
async fn holds_its_word(disk: &FaultFs, receiver: &Receiver, ledger: &Ledger, what: &str) {
    let daemon = home(receiver, disk).try_start().await;
    let daemon = daemon.unwrap_or_else(|ended| panic!("{what}: {ended:?}"));
    let lost = ledger.lost(&daemon, 0).await;
    assert!(lost.is_empty(), "{what}: {} lost: {lost:#?}", lost.len());
    nothing_is_pending(&daemon).await;
    let wrong = ledger.undelivered(&receiver.seen());
    assert!(wrong.is_empty(), "{what}: {} findings: {wrong:#?}", wrong.len());
    assert!(daemon.metric("everhook_journal_damaged_records_total").await < 1.0, "{what}");
    daemon.terminate();
    assert!(daemon.ended().await.success(), "{what}");
}

async fn nothing_is_pending(daemon: &Daemon) {
    for state in ["ready", "waiting", "in_flight"] {
        let series = format!("everhook_deliveries{{state=\"{state}\",target=\"all\"}}");
        daemon.metric_becomes(&series, 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_named_point_loses_nothing() {
    for (name, op, path, nth) in POINTS {
        for (side, onward) in [(Side::Before, Onward::Undone), (Side::After, Onward::Done)] {
            let what = format!("{side:?} {name}");
            let receiver = Receiver::good().await;
            let ledger = Arc::new(Ledger::default());
            let disk = FaultFs::empty();
            let daemon = home(&receiver, &disk).start().await;
            disk.hold_nth(Point { op, path, side }, nth);
            let begun = std::time::Instant::now();
            let mut clients = ledger.load(&daemon, CLIENTS, EACH).await;
            disk.is_held().await;
            daemon.strike();
            disk.let_go(onward);
            daemon.killed().await;
            while let Some(client) = within("clients end", clients.join_next()).await {
                client.expect("an answer is 200 or 503");
            }
            assert!(
                !ledger.acknowledged().is_empty() || nth < 9,
                "{what}: nothing was acknowledged"
            );
            let (held, acknowledged) = (begun.elapsed(), ledger.acknowledged().len());
            holds_its_word(&disk, &receiver, &ledger, &what).await;
            println!("{what}: {acknowledged} acknowledged in {held:?}, all there");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_not_durable_in_time_is_refused_and_delivered_once_all_the_same() {
    let receiver = Receiver::good().await;
    let disk = FaultFs::empty();
    let body = format!("{SOURCE}[target.all]\nurl = {:?}\n", receiver.url());
    let home = Home::with_journal(&disk.join("journal"), &body);
    home.configure_ingress("ack_timeout = \"2s\"\n", &body);
    let daemon = home.start().await;
    let first = daemon.post("/in/any", &[("number", "1")], b"first").await;
    assert_eq!(first.status, 200);
    let log = ("/journal/generations", "/intake.0");
    let sync = Point { op: Op::Sync, path: log, side: Side::Before };
    disk.hold_nth(sync, 1);
    let late = daemon.post("/in/any", &[("number", "2")], b"second").await;
    assert_eq!(late.status, 503, "{late:?}");
    assert_eq!(late.json()["cause"], "ack-timeout");
    let after = late.headers["retry-after"].to_str().expect("text").parse::<u64>();
    assert!(after.is_ok_and(|seconds| (1..=60).contains(&seconds)), "{late:?}");
    disk.is_held().await;
    disk.let_go(Onward::Done);
    // Its sender sends it once more, as it was told to.
    let known = within("the repeat is answered", async {
        loop {
            let repeat = daemon.post("/in/any", &[("number", "2")], b"second").await;
            if repeat.status == 200 {
                return repeat.ack();
            }
        }
    })
    .await;
    assert_eq!(known.1, "duplicate");
    nothing_is_pending(&daemon).await;
    let delivered: Vec<_> = receiver.seen().into_iter().map(|it| it.id().to_owned()).collect();
    assert_eq!(delivered, [first.ack().0, known.0], "each once");
    daemon.terminate();
    assert!(daemon.ended().await.success());
}
