//! Who waits for whom in the waiting room.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::*;
use crate::journal::Append;
use crate::model::{Event, Headers};

const HOUR: Duration = Duration::from_secs(3_600);

fn shared() -> Shared {
    let memory = Memory {
        index: Index::new(),
        usage: Usage::default(),
        notes: Notes::default(),
        quarantine: Quarantine::new(0),
        repeated: Repeated::default(),
        recent: Recent::default(),
        durable: 0,
    };
    let limits = Limits { path: ".".into(), max_bytes: u64::MAX, min_free: 0, retention: HOUR };
    let clock = Clock::manual(Timestamp::EPOCH);
    Shared::new(clock, JournalMetrics::detached().unwrap(), memory, limits)
}

fn append() -> Waiting {
    let event = Event {
        id: EventId::new(Timestamp::EPOCH, [0; 10]),
        source: Name::parse("a").unwrap(),
        name: "n".into(),
        order_key: None,
        received_at: Timestamp::EPOCH,
        headers: Headers::default(),
        body: Bytes::new(),
    };
    let work = Work::Append(Append { event, targets: Vec::new(), dedup: Vec::new() });
    Waiting { work, answer: oneshot::channel().0, releases: None }
}

#[test]
fn whoever_comes_wakes_a_writer_that_waits_and_one_at_work_finds_him() {
    let shared = shared();
    for _ in 0..100 {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| shared.take(HOUR).appends.len());
            while !shared.room().awaited {
                std::thread::yield_now();
            }
            shared.wait_for_commit(append()).unwrap();
            assert_eq!(writer.join().unwrap(), 1);
        });
        assert!(!shared.room().awaited, "it is at work");
        shared.wait_for_commit(append()).unwrap();
        shared.wait_for_commit(append()).unwrap();
        assert_eq!(shared.take(HOUR).appends.len(), 2);
    }
}
