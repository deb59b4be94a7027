//! Who waits for whom in the waiting room.

use std::future::Future as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

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

#[test]
fn whoever_asks_is_told_of_a_failure_when_it_comes_and_when_it_has() {
    let shared = shared();
    let mut asked = pin!(shared.failed());
    let woken = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    assert!(asked.as_mut().poll(&mut context).is_pending());
    assert!(!woken.0.load(Ordering::Relaxed));
    shared.fail("the disk is gone".into());
    assert!(woken.0.load(Ordering::Relaxed), "it looks again at once");
    let told = Poll::Ready("the disk is gone".to_owned());
    assert_eq!(asked.as_mut().poll(&mut context), told);
    assert_eq!(pin!(shared.failed()).poll(&mut context), told);
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
