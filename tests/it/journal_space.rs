//! The journal gives space back: it stays flat under churn, also when some deliveries stay, and shrinks after a backlog.
//!
//! `EVERHOOK_SPACE_EVENTS` sets the number of events (20,000 unless told otherwise; the long form is 5,000,000).

use std::path::Path;
use std::time::Duration;

use everhook::journal::sled::{Options, SledJournal};
use everhook::journal::{Claimed, Journal, Note};
use everhook::metrics::JournalMetrics;
use everhook::model::{DedupKey, Settlement};
use everhook::time::Clock;

use crate::journal_contract::{append, demand, event, options};

const MIB: u64 = 1024 * 1024;
/// How long a dedup key is kept, which takes room as well.
const WINDOW: Duration = Duration::from_secs(60);
/// Appends that wait at once.
const AT_ONCE: u64 = 200;

fn events() -> u64 {
    let set = std::env::var("EVERHOOK_SPACE_EVENTS").ok().and_then(|n| n.parse().ok());
    set.unwrap_or(20_000)
}

fn open(path: &Path, clock: &Clock, max_bytes: u64) -> SledJournal {
    let options = Options { retention: Duration::ZERO, max_bytes, ..options(path) };
    SledJournal::open(&options, clock, JournalMetrics::detached().expect("metrics"))
        .expect("opens")
        .0
}

pub fn on_disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(it) if it.is_dir() => on_disk(&entry.path()),
        Ok(it) if entry.file_name() != "ballast" => it.blocks() * 512,
        Ok(_) | Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

async fn fill(
    journal: &SledJournal,
    clock: &Clock,
    numbers: std::ops::Range<u64>,
    targets: &[&str],
) {
    let body = [7; 1024];
    let appends = numbers.map(|n| {
        let key = DedupKey::Exact { key: n.into(), window: WINDOW };
        let keys: &[_] = if n % 10 == 0 { &[key] } else { &[] };
        journal.append(append(event(n, &body, clock), targets, keys))
    });
    for appended in futures(appends).await {
        appended.expect("appended");
    }
}

/// Runs all of them at once; appends are taken when they are made.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let all: Vec<_> = all.map(Box::pin).collect();
    let mut outputs = Vec::with_capacity(all.len());
    for one in all {
        outputs.push(one.await);
    }
    outputs
}

async fn deliver(journal: &SledJournal, target: &str, most: usize) -> usize {
    journal.demand(demand(target, most));
    let claimed: Vec<Claimed> = journal.claim().await;
    for one in &claimed {
        journal.settle(one.lease, Settlement::Delivered, None).await.expect("taken");
    }
    claimed.len()
}

/// Waits until the journal occupies at most so much; upkeep is done with the commits that this makes.
async fn shrinks_to(journal: &SledJournal, clock: &Clock, path: &Path, most: u64) -> u64 {
    let mut number = 1 << 40;
    let shrunk = async {
        loop {
            let size = on_disk(path);
            if size <= most {
                return size;
            }
            clock.advance(Duration::from_millis(200));
            fill(journal, clock, number..number + 1, &[]).await;
            number += 1;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), shrunk).await;
    waited.unwrap_or_else(|_| panic!("{} bytes are left, {most} were to be", on_disk(path)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_backlog_gives_its_space_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = crate::journal_contract::start();
    let journal = open(dir.path(), &clock, 1 << 30);
    let backlog = events().min(300_000);
    let mut number = 0;
    while number < backlog {
        fill(&journal, &clock, number..number + AT_ONCE, &["a"]).await;
        number += AT_ONCE;
        clock.advance(Duration::from_millis(10));
    }
    let full = on_disk(dir.path());
    let mut left = backlog;
    while left > 0 {
        left -= deliver(&journal, "a", 1_000).await as u64;
        clock.advance(Duration::from_millis(50));
    }
    // What is still needed: a dedup key of each tenth event.
    let needed = backlog / 10 * 64;
    let size = shrinks_to(&journal, &clock, dir.path(), 2 * needed + 12 * MIB).await;
    println!("{backlog} events: {full} bytes with the backlog, {size} after it was drained");
    journal.close().await;
    let journal = open(dir.path(), &clock, 1 << 30);
    assert!(journal.depth().iter().all(|depth| depth.ready + depth.waiting == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_stays_flat_also_when_some_deliveries_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = crate::journal_contract::start();
    // Generations of 4 MiB.
    let mut journal = open(dir.path(), &clock, 64 * MIB);
    let note = Note { topic: "paused".into(), name: "dead".into(), value: vec![7] };
    journal.note(note).await.expect("taken");
    let (mut number, mut peak, mut stay) = (0, 0, 0u64);
    while number < events() {
        fill(&journal, &clock, number..number + AT_ONCE, &["a"]).await;
        number += AT_ONCE;
        // Two per cent stay for ever, up to 2,000.
        if stay < 2_000 {
            fill(&journal, &clock, (1 << 50) + number..(1 << 50) + number + 4, &["dead"]).await;
            stay += 4;
        }
        while journal.depth().iter().any(|depth| depth.target.as_str() == "a" && depth.ready > 0) {
            deliver(&journal, "a", 1_000).await;
        }
        clock.advance(Duration::from_millis(100));
        if number % 1_000 == 0 {
            peak = peak.max(on_disk(dir.path()));
        }
        if number == events() / 2 {
            journal.abandon();
            journal = open(dir.path(), &clock, 64 * MIB);
        }
    }
    println!("{number} events of 1 KiB and {stay} that stay: at most {} KiB on disk", peak / 1024);
    // Twice what stays, the generation that is written and the one that is drained, each written twice by sled.
    assert!(peak < 2 * stay * 1_200 + 40 * MIB, "{peak} bytes");
    let dead = journal.depth().into_iter().find(|depth| depth.target.as_str() == "dead");
    assert_eq!(dead.map(|depth| depth.ready), Some(stay), "nothing that stays is lost");
    // It is looked through behind the writer's back, so it may still be there.
    let first = dir.path().join("generations/00000001");
    shrinks_to(&journal, &clock, &first, 0).await;
    assert_eq!(journal.notes("paused"), [("dead".to_owned(), vec![7])]);
    journal.demand(demand("dead", 10_000));
    let claimed = journal.claim().await;
    assert_eq!(claimed.len() as u64, stay);
    for one in claimed {
        assert_eq!(journal.load(one.lease).await.expect("readable").body.len(), 1024);
    }
}
