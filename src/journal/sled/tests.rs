//! Damage inside the store, put there past every check of ours.

use bytes::Bytes;

use super::*;
use crate::model::{Headers, Name};
use crate::time::Timestamp;

fn open(path: &Path) -> (SledJournal, Opened) {
    let options = Options {
        path: path.to_owned(),
        retention: Duration::from_secs(3_600),
        max_bytes: u64::MAX,
        min_free: 0,
    };
    let clock = Clock::manual(Timestamp::from_secs(1_000));
    SledJournal::open(&options, &clock, JournalMetrics::detached().unwrap()).unwrap()
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

fn store(journal: &SledJournal) -> Arc<Store> {
    journal.store.lock().unwrap().clone().unwrap()
}

async fn claim(journal: &SledJournal) -> Vec<Claimed> {
    journal.claim(Demand(vec![(Name::parse("a").unwrap(), 10)])).await
}

#[tokio::test]
async fn a_flipped_bit_in_a_body_is_found_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    append(&journal, 1).await;
    append(&journal, 2).await;
    store(&journal).damage(b'c', 0, 0, 40);
    journal.close().await;
    let (journal, opened) = open(dir.path());
    assert_eq!((opened.pending, opened.damaged), (2, 0), "no body is read at open");
    let claimed = claim(&journal).await;
    let first = journal.load(claimed[0].lease).await;
    assert!(matches!(first, Err(LoadError::Damaged { .. })), "{first:?}");
    assert!(journal.load(claimed[1].lease).await.is_ok());
    assert_eq!(journal.shared.metrics.damaged_records.get(), 1);
}

#[tokio::test]
async fn a_flipped_bit_in_a_small_record_is_counted_and_the_others_are_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for number in 1..=3 {
        append(&journal, number).await;
    }
    store(&journal).damage(b'i', 1, 0, 50);
    journal.close().await;
    let (journal, opened) = open(dir.path());
    assert_eq!((opened.pending, opened.damaged), (2, 1));
    assert_eq!(journal.shared.metrics.damaged_records.get(), 1);
}
