//! Who waits for whom in the waiting room.

use std::future::Future as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::super::room::tests::append;
use super::*;
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);

fn shared() -> Shared {
    let memory = Memory {
        index: Index::new(),
        usage: Usage::default(),
        notes: Notes::default(),
        quarantine: Quarantine::new(0),
        repeated: Repeated::default(),
        recent: Recent::default(),
        latest: BTreeMap::new(),
        durable: 0,
    };
    let limits = Limits { path: ".".into(), max_bytes: u64::MAX, min_free: 0, retention: HOUR };
    let clock = Clock::manual(Timestamp::EPOCH);
    Shared::new(clock, JournalMetrics::detached().unwrap(), memory, limits)
}

#[test]
fn whoever_comes_wakes_a_writer_that_waits_and_one_at_work_finds_him() {
    let shared = shared();
    for _ in 0..100 {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| shared.take(HOUR).appends.len());
            while !shared.waiters().awaited {
                std::thread::yield_now();
            }
            shared.wait_for_commit(append("a", 0)).unwrap();
            assert_eq!(writer.join().unwrap(), 1);
        });
        assert!(!shared.waiters().awaited, "it is at work");
        shared.wait_for_commit(append("a", 0)).unwrap();
        shared.wait_for_commit(append("a", 0)).unwrap();
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
