//! Damage inside the store, put there past every check of ours.

use bytes::Bytes;

use super::*;
use crate::model::{Headers, Name};
use crate::time::Timestamp;

fn try_open(path: &Path) -> Result<(SledJournal, Opened), OpenError> {
    let options = Options {
        path: path.to_owned(),
        retention: Duration::from_secs(3_600),
        max_bytes: u64::MAX,
        min_free: 0,
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
    journal.claim(Demand(vec![(Name::parse("a").unwrap(), 10)])).await
}

#[tokio::test]
async fn a_body_that_is_damaged_while_it_is_open_is_found_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    append(&journal, 1).await;
    append(&journal, 2).await;
    journal.shared.memory().recent = shared::Recent::default();
    damage(&journal, b'c', 0, 60);
    let claimed = claim(&journal).await;
    let first = journal.load(claimed[0].lease).await;
    assert!(matches!(first, Err(LoadError::Damaged { .. })), "{first:?}");
    assert!(journal.load(claimed[1].lease).await.is_ok());
    assert_eq!(journal.shared.metrics.damaged_records.get(), 1);
}

#[tokio::test]
async fn a_flipped_bit_is_found_at_the_open_which_says_what_is_lost_and_changes_nothing() {
    for family in [b'c', b'i'] {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        for number in 1..=3 {
            append(&journal, number).await;
        }
        damage(&journal, family, 1, 40);
        journal.close().await;
        let db = dir::generation(dir.path(), 1).join("db");
        let before = std::fs::read(&db).unwrap();
        for _ in 0..2 {
            let refused = try_open(dir.path()).map(|(_, opened)| opened);
            // sled still has the value as it was before: what is lost is counted on the raw bytes.
            assert!(
                matches!(refused, Err(OpenError::Damaged { lost: Some(0), .. })),
                "{refused:?}"
            );
            assert_eq!(std::fs::read(&db).unwrap(), before);
        }
    }
}
