//! Sealed generations that are walked through at once are folded in their order.

use std::fmt::Write as _;

use bytes::Bytes;

use super::super::{Options, SledJournal};
use super::*;
use crate::journal::{Append, Journal as _};
use crate::metrics::JournalMetrics;
use crate::model::{DedupKey, Event, EventId, Headers, Name, Order, Settlement, Wanted};
use crate::time::Clock;

const EVENTS: u8 = 24;
const MIB: usize = 1024 * 1024;
const HOUR: Duration = Duration::from_secs(3_600);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A journal of several generations; each settlement stands in a later one than its event.
async fn fill(root: &Path, clock: &Clock) {
    let options = Options {
        path: root.to_owned(),
        retention: HOUR,
        max_bytes: 96 << 20,
        min_free: 0,
        quarantine_max_bytes: 1 << 20,
    };
    let metrics = JournalMetrics::detached().unwrap();
    let (journal, _) = SledJournal::open(&options, clock, metrics).unwrap();
    let mut leases = Vec::new();
    for number in 0..EVENTS {
        let now = clock.now();
        let event = Event {
            id: EventId::new(now, [number; 10]),
            source: name("source"),
            name: "n".into(),
            order_key: None,
            received_at: now,
            headers: Headers::default(),
            body: Bytes::from(vec![number; MIB]),
        };
        let key = DedupKey::Exact { key: number.into(), window: HOUR };
        // Each brings a target of its own.
        let targets = vec![name("a"), name(&format!("of-{number}"))];
        journal.append(Append { event, targets, dedup: vec![key] }).await.unwrap();
        journal.demand(vec![Wanted { target: name("a"), most: 1, order: Order::None }]);
        leases.extend(journal.claim().await.into_iter().map(|claimed| claimed.lease));
        if leases.len() > 8 {
            journal.settle(leases.remove(0), Settlement::Delivered, None).await.unwrap();
        }
    }
    journal.close().await;
}

/// Everything that a fold makes of the sealed generations, walked through so many at once.
fn folded(root: &Path, at_once: usize, now: Timestamp) -> String {
    let read = ledger::read(&dir::ledger(root)).unwrap();
    let known = |number| read.known.get(&number).copied().unwrap_or_default();
    let listed = dir::manifest(root).unwrap().unwrap();
    let mut fold = Fold::new(now, HOUR);
    std::thread::scope(|scope| {
        let mut walks = Walks::begin(scope, root, &listed, known, at_once);
        for number in listed.iter().copied().filter(|number| known(*number).seal.is_some()) {
            let found = walks.next(&dir::generation(root, number)).unwrap();
            let survey = fold.sealed(number, &found, known(number)).unwrap();
            assert!(survey.is_whole(), "{at_once} at once, {number}: {survey:?}");
        }
    });
    let recovered = fold.finish(1_000);
    let mut all = format!("{:?}\n", recovered.index.names().collect::<Vec<_>>());
    for (sequence, entry) in recovered.index.iter_from(0) {
        writeln!(all, "{sequence} {entry:?}").unwrap();
    }
    write!(all, "{:?} {}", recovered.usage, recovered.last_commit).unwrap();
    all
}

#[tokio::test]
async fn generations_that_are_walked_through_at_once_give_what_one_after_the_other_gives() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_secs(1_000));
    fill(dir.path(), &clock).await;
    let sealed = ledger::read(&dir::ledger(dir.path())).unwrap().known;
    assert!(sealed.values().filter(|known| known.seal.is_some()).count() >= 3, "{sealed:?}");
    let one_by_one = folded(dir.path(), 1, clock.now());
    assert!(one_by_one.contains("Delivered"), "{one_by_one}");
    for at_once in 2..=MOST_WALKS {
        assert_eq!(folded(dir.path(), at_once, clock.now()), one_by_one, "{at_once} at once");
    }
}
