//! Damage inside the store, put there past every check of ours.

use bytes::Bytes;

use super::files::Files;
use super::sealed::Sealed;
use super::*;
use crate::journal::Claimed;
use crate::model::{Headers, Name, Order, Wanted};
use crate::time::Timestamp;

fn try_open(path: &Path) -> Result<(SledJournal, Opened), OpenError> {
    let options = Options {
        path: path.to_owned(),
        retention: Duration::from_secs(3_600),
        max_bytes: u64::MAX,
        min_free: 0,
        quarantine_max_bytes: 64 << 20,
    };
    let clock = Clock::manual(Timestamp::from_secs(1_000));
    SledJournal::open(&options, &clock, JournalMetrics::detached().unwrap())
}

fn open(path: &Path) -> SledJournal {
    try_open(path).unwrap().0
}

async fn append(journal: &SledJournal, number: u8) {
    let event = Event {
        id: EventId::new(Timestamp::from_secs(1), [number; 10]),
        source: Name::parse("source").unwrap(),
        name: "n".into(),
        order_key: None,
        received_at: Timestamp::from_secs(1_000),
        headers: Headers::default(),
        body: Bytes::from_static(b"a body that fills some bytes"),
    };
    let targets = vec![Name::parse("a").unwrap()];
    journal.append(Append { event, targets, dedup: Vec::new() }).await.unwrap();
}

fn damage(journal: &SledJournal, family: u8, commit: u64, at: usize) {
    let store = journal.generations.current().unwrap().store().unwrap();
    store.damage(family, commit, 0, at);
}

async fn claim(journal: &SledJournal) -> Vec<Claimed> {
    let target = Name::parse("a").unwrap();
    journal.demand(vec![Wanted { target, most: 10, order: Order::None }]);
    journal.claim().await
}

#[tokio::test]
async fn a_body_that_is_damaged_while_it_is_open_is_found_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    append(&journal, 1).await;
    append(&journal, 2).await;
    journal.shared.memory().recent = Recent::default();
    damage(&journal, b'c', 1, 60);
    let claimed = claim(&journal).await;
    let first = journal.load(claimed[0].lease).await;
    assert!(matches!(first, Err(LoadError::Damaged { .. })), "{first:?}");
    assert!(journal.load(claimed[1].lease).await.is_ok());
    assert_eq!(journal.shared.metrics.damaged_records.get(), 1);
}

#[tokio::test]
async fn what_the_engine_gives_back_damaged_is_read_from_the_copy_that_is_whole() {
    for family in [b'c', b'i'] {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        for number in 1..=3 {
            append(&journal, number).await;
        }
        // sled has the value as it was before in its file, too, and does not know that it is the good one.
        damage(&journal, family, 2, 40);
        journal.close().await;
        let (journal, opened) = try_open(dir.path()).unwrap();
        assert_eq!(opened.pending, 3);
        for claimed in claim(&journal).await {
            assert!(journal.load(claimed.lease).await.is_ok());
        }
        append(&journal, 9).await;
        assert_eq!(claim(&journal).await.len(), 1, "it is written on");
        journal.close().await;
        assert_eq!(try_open(dir.path()).unwrap().1.pending, 4);
    }
}

#[tokio::test]
async fn no_commit_number_is_given_twice_also_when_nothing_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let newest = |journal: &SledJournal| {
        let current = journal.generations.current().unwrap().number;
        journal.generations.ledger().known(current).holds.map(|holds| holds.commit)
    };
    let journal = open(dir.path());
    append(&journal, 1).await;
    append(&journal, 2).await;
    assert_eq!(newest(&journal), Some(2));
    journal.close().await;
    // Each of these may have torn the commit it began with.
    for _ in 0..3 {
        open(dir.path()).abandon();
    }
    let journal = open(dir.path());
    append(&journal, 3).await;
    assert_eq!(newest(&journal), Some(7), "4, 5 and 6 may stand torn in the file");
    journal.close().await;
    let (journal, opened) = try_open(dir.path()).unwrap();
    assert_eq!(opened.pending, 3, "the gap is not taken for a loss");
    let generation = journal.generations.current().unwrap().number;
    journal.close().await;
    let files = Files::all(&dir::generation(dir.path(), generation)).unwrap();
    let found = Sealed::open(files, None).unwrap();
    let known = ledger::read(&dir::ledger(dir.path())).unwrap().known[&generation];
    let mut fold = recover::Fold::new(Timestamp::from_secs(1_000), Duration::ZERO);
    assert!(fold.sealed(generation, &found, known).unwrap().is_whole());
}
