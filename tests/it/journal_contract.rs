//! One suite that every engine passes: what `Journal` promises, story by story, and against a small model under
//! random operations with reopening.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use everhook::journal::memory::MemoryJournal;
use everhook::journal::sled::{OpenError, Opened, Options, SledJournal};
use everhook::journal::{Append, AppendError, Appended, Claimed, Demand, Health, Journal, Stage};
use everhook::metrics::JournalMetrics;
use everhook::model::{
    Answer, Attempt, DeadReason, DedupKey, Event, EventId, Headers, Name, Settlement,
};
use everhook::time::{Clock, Timestamp};
use proptest::prelude::*;
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3_600);

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn start() -> Clock {
    Clock::manual(Timestamp::from_secs(1_700_000_000))
}

fn event(number: u64, body: &[u8], clock: &Clock) -> Event {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    let pairs: [(&str, &[u8]); 2] = [("content-type", b"application/json"), ("x-odd", b"\xff\x80")];
    Event {
        id: EventId::new(clock.now(), random),
        source: name("source"),
        name: "build.approved".into(),
        order_key: Some("key".into()),
        received_at: clock.now(),
        headers: Headers::from_pairs(pairs),
        body: Bytes::copy_from_slice(body),
    }
}

fn append(event: Event, targets: &[&str], dedup: &[DedupKey]) -> Append {
    Append { event, targets: targets.iter().map(|t| name(t)).collect(), dedup: dedup.to_vec() }
}

fn demand(target: &str, most: usize) -> Demand {
    Demand(vec![(name(target), most)])
}

fn exact(key: u128) -> DedupKey {
    DedupKey::Exact { key, window: HOUR }
}

fn attempt(claimed: &Claimed, clock: &Clock) -> Attempt {
    let answer = Answer::Status { status: 500, retry_after: None };
    let number = claimed.attempts + 1;
    Attempt { number, started_at: clock.now(), duration: HOUR, answer }
}

/// What is there to claim at this moment.
fn due(journal: &dyn Journal, target: &str, most: usize) -> Vec<Claimed> {
    let claim = pin!(journal.claim(demand(target, most)));
    match claim.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(claimed) => claimed,
        Poll::Pending => Vec::new(),
    }
}

fn open_at(path: &Path, clock: &Clock) -> Result<(SledJournal, Opened), OpenError> {
    let options =
        Options { path: path.to_owned(), retention: HOUR, max_bytes: 1 << 40, min_free: 0 };
    SledJournal::open(&options, clock, JournalMetrics::detached().expect("metrics"))
}

fn reopen(path: &Path, clock: &Clock) -> SledJournal {
    open_at(path, clock).expect("opens").0
}

/// Runs a story on every engine.
async fn on_each<F, Story>(story: Story)
where
    F: Future<Output = ()>,
    Story: Fn(Arc<dyn Journal>, Clock) -> F,
{
    let clock = start();
    story(Arc::new(MemoryJournal::new(clock.clone())), clock).await;
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let sled: Arc<dyn Journal> = Arc::new(reopen(dir.path(), &clock));
    story(Arc::clone(&sled), clock).await;
    sled.close().await;
    assert_no_blobs(&dir);
}

fn assert_no_blobs(dir: &TempDir) {
    let blobs = dir.path().join("generations/00000001/blobs");
    let count = std::fs::read_dir(blobs).map_or(0, Iterator::count);
    assert_eq!(count, 0, "sled never syncs what it puts into blobs/");
}

#[tokio::test]
async fn what_was_appended_is_claimed_and_read_back_byte_for_byte() {
    on_each(|journal, clock| async move {
        for (number, size) in
            [0usize, 1, 6_800, 24 * 1024, 24 * 1024 + 1, 100_000, 5 << 20].into_iter().enumerate()
        {
            let body: Vec<u8> = (0..size).map(|i| u8::try_from(i % 253).unwrap()).collect();
            let event = event(number as u64, &body, &clock);
            let appended = journal.append(append(event.clone(), &["a"], &[])).await;
            assert_eq!(appended, Ok(Appended::New(event.id)));
            let claimed = due(&*journal, "a", 10);
            assert_eq!(claimed.len(), 1);
            assert_eq!((claimed[0].event, claimed[0].attempts), (event.id, 0));
            assert_eq!(journal.load(claimed[0].lease).await, Ok(event));
            journal.settle(claimed[0].lease, Settlement::Delivered, None).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn copies_at_once_make_one_event_and_all_name_it() {
    on_each(|journal, clock| async move {
        let copies: Vec<_> = (0..100)
            .map(|n| journal.append(append(event(n, b"x", &clock), &["a"], &[exact(7)])))
            .collect();
        let mut new = Vec::new();
        let mut duplicates = Vec::new();
        for copy in copies {
            match copy.await.expect("taken") {
                Appended::New(id) => new.push(id),
                Appended::Duplicate(id) => duplicates.push(id),
            }
        }
        assert_eq!((new.len(), duplicates.len()), (1, 99));
        assert!(duplicates.iter().all(|id| *id == new[0]));
        assert_eq!(due(&*journal, "a", 1000).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_repeat_is_recognised_until_its_window_is_over() {
    on_each(|journal, clock| async move {
        let put = |n: u64| journal.append(append(event(n, b"x", &clock), &["a"], &[exact(1)]));
        let Ok(Appended::New(first)) = put(1).await else { panic!("new") };
        clock.advance(Duration::from_secs(3_599));
        assert_eq!(put(2).await, Ok(Appended::Duplicate(first)));
        clock.advance(Duration::from_secs(1));
        assert!(matches!(put(3).await, Ok(Appended::New(id)) if id != first));
    })
    .await;
}

#[tokio::test]
async fn the_same_bytes_after_another_event_of_the_subject_are_a_new_event() {
    on_each(|journal, clock| async move {
        let mut outcome = Vec::new();
        for (n, digest) in [(1, 10), (2, 10), (3, 20), (4, 10)] {
            let key = DedupKey::Latest { subject: 5, digest, window: HOUR };
            let appended = journal.append(append(event(n, b"x", &clock), &["a"], &[key])).await;
            outcome.push(matches!(appended, Ok(Appended::New(_))));
        }
        assert_eq!(outcome, [true, false, true, true]);
    })
    .await;
}

#[tokio::test]
async fn a_claim_keeps_to_its_demand_and_a_lease_is_exclusive() {
    on_each(|journal, clock| async move {
        for n in 0..5 {
            journal.append(append(event(n, b"x", &clock), &["a", "b"], &[])).await.unwrap();
        }
        let first = due(&*journal, "a", 2);
        let second = due(&*journal, "a", 10);
        assert_eq!((first.len(), second.len()), (2, 3));
        assert!(due(&*journal, "a", 10).is_empty());
        assert_eq!(due(&*journal, "b", 10).len(), 5, "another target's deliveries are its own");
        let order: Vec<_> = first.iter().chain(&second).map(|c| c.event).collect();
        assert!(order.is_sorted(), "the longest due first");
    })
    .await;
}

#[tokio::test]
async fn a_retry_waits_for_its_time_and_counts_and_a_release_does_neither() {
    on_each(|journal, clock| async move {
        journal.append(append(event(1, b"x", &clock), &["a"], &[])).await.unwrap();
        let claimed = due(&*journal, "a", 1).remove(0);
        let at = clock.now().plus(Duration::from_secs(30));
        journal
            .settle(claimed.lease, Settlement::RetryAt(at), Some(attempt(&claimed, &clock)))
            .await
            .unwrap();
        assert!(due(&*journal, "a", 1).is_empty());
        assert_eq!(journal.depth()[0].waiting, 1);
        // A waiting claim wakes when the time comes.
        let claim = journal.claim(demand("a", 1));
        let wake = async { clock.advance(Duration::from_secs(30)) };
        let (claimed, ()) = both(claim, wake).await;
        assert_eq!(claimed[0].attempts, 1);
        journal.settle(claimed[0].lease, Settlement::Released, None).await.unwrap();
        assert_eq!(due(&*journal, "a", 1)[0].attempts, 1);
    })
    .await;
}

#[tokio::test]
async fn settling_twice_changes_nothing() {
    on_each(|journal, clock| async move {
        journal.append(append(event(1, b"x", &clock), &["a"], &[])).await.unwrap();
        let first = due(&*journal, "a", 1).remove(0);
        journal
            .settle(first.lease, Settlement::RetryAt(clock.now()), Some(attempt(&first, &clock)))
            .await
            .unwrap();
        let second = due(&*journal, "a", 1).remove(0);
        // The first lease has ended: what it says now is about a turn that is over.
        journal.settle(first.lease, Settlement::Delivered, None).await.unwrap();
        assert_eq!(journal.depth()[0].in_flight, 1);
        journal.settle(second.lease, Settlement::Delivered, None).await.unwrap();
        journal.settle(second.lease, Settlement::Dead(DeadReason::Gone), None).await.unwrap();
        let depth = &journal.depth()[0];
        assert_eq!((depth.ready, depth.waiting, depth.in_flight, depth.dead), (0, 0, 0, 0));
    })
    .await;
}

#[tokio::test]
async fn dead_letters_stay_and_each_target_ends_by_itself() {
    on_each(|journal, clock| async move {
        let event = event(1, b"x", &clock);
        journal.append(append(event.clone(), &["a", "b"], &[])).await.unwrap();
        let a = due(&*journal, "a", 1).remove(0);
        journal
            .settle(a.lease, Settlement::Dead(DeadReason::Attempts), Some(attempt(&a, &clock)))
            .await
            .unwrap();
        let found = journal.find(event.id).await.expect("kept");
        assert_eq!(found.event, event);
        let stages: Vec<_> =
            found.deliveries.iter().map(|d| (d.target.as_str(), d.stage)).collect();
        assert_eq!(stages, [("a", Stage::Dead(DeadReason::Attempts)), ("b", Stage::Ready)]);
        let depth = journal.depth();
        assert_eq!((depth[0].dead, depth[0].oldest), (1, None));
        assert_eq!((depth[1].ready, depth[1].oldest), (1, Some(event.received_at)));
    })
    .await;
}

#[tokio::test]
async fn a_claim_wakes_on_an_append_and_a_dropped_one_leases_nothing() {
    on_each(|journal, clock| async move {
        drop(due(&*journal, "a", 1));
        let claim = journal.claim(demand("a", 1));
        let put = journal.append(append(event(1, b"x", &clock), &["a"], &[]));
        let (claimed, appended) = both(claim, put).await;
        assert!(appended.is_ok());
        assert_eq!(claimed.len(), 1);
        journal.settle(claimed[0].lease, Settlement::Released, None).await.unwrap();
        drop(journal.claim(demand("a", 1)));
        assert_eq!(due(&*journal, "a", 1).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_event_for_nobody_is_taken_and_its_repeat_known() {
    on_each(|journal, clock| async move {
        let put = |n| journal.append(append(event(n, b"x", &clock), &[], &[exact(1)]));
        assert!(matches!(put(1).await, Ok(Appended::New(_))));
        assert!(matches!(put(2).await, Ok(Appended::Duplicate(_))));
        assert_eq!(journal.health(), Health::Healthy);
    })
    .await;
}

#[tokio::test]
async fn a_closed_journal_refuses() {
    on_each(|journal, clock| async move {
        journal.close().await;
        let refused = journal.append(append(event(1, b"x", &clock), &["a"], &[])).await;
        assert_eq!(refused, Err(AppendError::Closed));
    })
    .await;
}

#[tokio::test]
async fn everything_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = reopen(dir.path(), &clock);
    for n in 0..4 {
        journal
            .append(append(event(n, b"body", &clock), &["a"], &[exact(n.into())]))
            .await
            .unwrap();
    }
    let claimed = due(&journal, "a", 3);
    let settlements = [
        Settlement::Delivered,
        Settlement::RetryAt(clock.now().plus(HOUR)),
        Settlement::Dead(DeadReason::Gone),
    ];
    for (claimed, settlement) in claimed.iter().zip(settlements) {
        journal.settle(claimed.lease, settlement, Some(attempt(claimed, &clock))).await.unwrap();
    }
    // The fourth is in flight when the process goes.
    assert_eq!(due(&journal, "a", 1).len(), 1);
    journal.close().await;

    let (journal, opened) = open_at(dir.path(), &clock).expect("opens");
    assert_eq!((opened.pending, opened.dead, opened.damaged), (2, 1, 0));
    let depth = &journal.depth()[0];
    assert_eq!((depth.ready, depth.waiting, depth.in_flight, depth.dead), (1, 1, 0, 1));
    let again = due(&journal, "a", 9);
    assert_eq!((again.len(), again[0].attempts), (1, 0), "an interrupted attempt is not counted");
    assert_eq!(journal.load(again[0].lease).await.expect("readable").body, "body");
    for n in 0..4u64 {
        let copy =
            journal.append(append(event(100 + n, b"body", &clock), &["a"], &[exact(n.into())]));
        assert!(
            matches!(copy.await, Ok(Appended::Duplicate(_))),
            "the window outlives the process"
        );
    }
    clock.advance(HOUR);
    assert_eq!(due(&journal, "a", 9)[0].attempts, 1);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_an_abandoned_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    for round in 0..5u64 {
        let journal = reopen(dir.path(), &clock);
        for n in 0..20 {
            let event = event(round * 100 + n, b"x", &clock);
            journal.append(append(event, &["a"], &[])).await.unwrap();
        }
        journal.abandon();
    }
    let (_, opened) = open_at(dir.path(), &clock).expect("opens");
    assert_eq!(opened.pending, 100);
}

#[tokio::test]
async fn a_clock_that_went_back_does_not_make_a_delivery_wait_longer() {
    let dir = tempfile::tempdir().expect("a directory");
    let late = Clock::manual(Timestamp::from_secs(1_800_000_000));
    let journal = reopen(dir.path(), &late);
    journal.append(append(event(1, b"x", &late), &["a"], &[])).await.unwrap();
    let claimed = due(&journal, "a", 1).remove(0);
    let retry = Settlement::RetryAt(late.now().plus(Duration::from_secs(30)));
    journal.settle(claimed.lease, retry, Some(attempt(&claimed, &late))).await.unwrap();
    journal.close().await;
    let early = Clock::manual(Timestamp::from_secs(1_000));
    let journal = reopen(dir.path(), &early);
    early.advance(Duration::from_secs(30));
    assert_eq!(due(&journal, "a", 1).len(), 1);
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = reopen(dir.path(), &clock);
    match open_at(dir.path(), &clock) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("opened twice: {:?}", other.map(|(_, opened)| opened)),
    }
    journal.close().await;
    drop(reopen(dir.path(), &clock));
}

#[tokio::test]
async fn a_store_that_lost_its_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = reopen(dir.path(), &clock);
    journal.append(append(event(1, b"x", &clock), &["a"], &[])).await.unwrap();
    journal.close().await;
    let store = dir.path().join("generations/00000001");
    let db = store.join("db");
    let bytes = std::fs::read(&db).expect("readable");
    for damage in [None, Some(&[][..])] {
        std::fs::remove_file(&db).expect("there");
        if let Some(left) = damage {
            std::fs::write(&db, left).expect("writable");
        }
        let before: Vec<_> =
            std::fs::read_dir(&store).unwrap().map(|e| e.unwrap().file_name()).collect();
        let refused = open_at(dir.path(), &clock).map(|(_, opened)| opened);
        assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{refused:?}");
        let after: Vec<_> =
            std::fs::read_dir(&store).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(before, after, "nothing was made or removed");
        std::fs::write(&db, &bytes).expect("writable");
    }
    assert_eq!(open_at(dir.path(), &clock).expect("whole again").1.pending, 1);
}

#[tokio::test]
async fn a_snapshot_left_half_made_by_a_crash_does_not_stop_the_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    reopen(dir.path(), &clock).close().await;
    let half = dir.path().join("generations/00000001/snap.0000000000001000.generating");
    std::fs::write(&half, b"half").expect("writable");
    drop(reopen(dir.path(), &clock));
    assert!(!half.exists());
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    reopen(dir.path(), &clock).close().await;
    std::fs::write(dir.path().join("MANIFEST"), br#"{"format":2,"generations":[1]}"#).unwrap();
    let refused = open_at(dir.path(), &clock).map(|(_, opened)| opened);
    assert!(matches!(refused, Err(OpenError::Newer { format: 2, .. })), "{refused:?}");
}

#[tokio::test]
async fn retention_drops_what_is_settled_and_nothing_that_is_pending() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = reopen(dir.path(), &clock);
    let long = DedupKey::Exact { key: 9, window: HOUR * 48 };
    let pending = event(1, b"pending", &clock);
    journal.append(append(pending.clone(), &["late"], &[])).await.unwrap();
    journal.append(append(event(2, b"dead", &clock), &["a"], &[long])).await.unwrap();
    let dead = due(&journal, "a", 1).remove(0);
    journal.settle(dead.lease, Settlement::Dead(DeadReason::Gone), None).await.unwrap();
    // Each append makes a commit; upkeep runs with one of them once its time has come.
    for n in 10..20 {
        clock.advance(HOUR);
        journal.append(append(event(n, b"x", &clock), &[], &[])).await.unwrap();
    }
    let late = due(&journal, "late", 1).remove(0);
    assert_eq!(journal.load(late.lease).await, Ok(pending));
    assert_eq!(journal.depth().iter().map(|d| d.dead).sum::<u64>(), 0, "past its retention");
    journal.close().await;
    let (journal, opened) = open_at(dir.path(), &clock).expect("opens");
    assert_eq!((opened.pending, opened.dead), (1, 0));
    let repeat = journal.append(append(event(99, b"dead", &clock), &["a"], &[long])).await;
    assert!(matches!(repeat, Ok(Appended::Duplicate(_))), "the window outlives the retention");
}

#[tokio::test]
async fn a_journal_over_its_bound_refuses_and_still_delivers() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = reopen(dir.path(), &clock);
    journal.append(append(event(1, b"x", &clock), &["a"], &[])).await.unwrap();
    journal.close().await;
    let path = dir.path().to_owned();
    let options = Options { path, retention: HOUR, max_bytes: 1, min_free: 0 };
    let metrics = JournalMetrics::detached().expect("metrics");
    let (journal, _) = SledJournal::open(&options, &clock, metrics).expect("opens");
    assert!(matches!(journal.health(), Health::Full { .. }));
    let refused = journal.append(append(event(2, b"x", &clock), &["a"], &[])).await;
    assert_eq!(refused, Err(AppendError::Full));
    let claimed = due(&journal, "a", 1).remove(0);
    assert!(journal.load(claimed.lease).await.is_ok());
    journal.settle(claimed.lease, Settlement::Delivered, None).await.unwrap();
}

/// Drives two futures together until both are done.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut left, mut right) = (None, None);
    std::future::poll_fn(|cx| {
        if left.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            left = Some(value);
        }
        if right.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            right = Some(value);
        }
        if left.is_some() && right.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (left.expect("done"), right.expect("done"))
}

/// One step of a random run.
#[derive(Clone, Debug)]
enum Step {
    Append { key: Option<u8>, size: u16 },
    Deliver,
    Fail,
    Advance(u16),
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (proptest::option::of(0u8..4), 0u16..40_000).prop_map(|(key, size)| Step::Append { key, size }),
        2 => Just(Step::Deliver),
        2 => Just(Step::Fail),
        2 => (0u16..2_000).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_small_model_over_random_operations(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(model(steps));
    }
}

/// The model: what is pending, and when each key was first seen. A crash may bring back what was delivered (its
/// settlement is lost), but never loses anything.
async fn model(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let mut journal = reopen(dir.path(), &clock);
    let mut pending: BTreeMap<EventId, usize> = BTreeMap::new();
    let mut delivered: BTreeMap<EventId, usize> = BTreeMap::new();
    let mut seen: BTreeMap<u8, (EventId, Timestamp)> = BTreeMap::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append { key, size } => {
                let event = event(number as u64, &vec![b'x'; usize::from(size)], &clock);
                let keys: Vec<_> = key.iter().map(|k| exact(u128::from(*k))).collect();
                let fresh = |k: &u8| seen.get(k).is_none_or(|(_, at)| at.plus(HOUR) <= clock.now());
                let expected = match key.filter(|k| !fresh(k)) {
                    Some(k) => Appended::Duplicate(seen[&k].0),
                    None => Appended::New(event.id),
                };
                assert_eq!(
                    journal.append(append(event.clone(), &["a"], &keys)).await,
                    Ok(expected)
                );
                if expected == Appended::New(event.id) {
                    pending.insert(event.id, usize::from(size));
                    seen.extend(key.map(|k| (k, (event.id, clock.now()))));
                }
            }
            Step::Deliver | Step::Fail => {
                let Some(claimed) = due(&journal, "a", 1).pop() else { continue };
                let size = pending.get(&claimed.event).or_else(|| delivered.get(&claimed.event));
                let loaded = journal.load(claimed.lease).await.expect("readable");
                assert_eq!((loaded.id, Some(&loaded.body.len())), (claimed.event, size));
                let settlement = if matches!(step, Step::Deliver) {
                    delivered.extend(pending.remove(&claimed.event).map(|s| (claimed.event, s)));
                    Settlement::Delivered
                } else {
                    Settlement::RetryAt(clock.now().plus(Duration::from_secs(60)))
                };
                let attempt = attempt(&claimed, &clock);
                journal.settle(claimed.lease, settlement, Some(attempt)).await.unwrap();
            }
            Step::Advance(seconds) => clock.advance(Duration::from_secs(seconds.into())),
            Step::Reopen => {
                journal.close().await;
                journal = reopen(dir.path(), &clock);
                let depth = journal.depth();
                let there: u64 = depth.iter().map(|d| d.ready + d.waiting).sum();
                // Whatever an earlier crash brought back stays pending until it is delivered again.
                assert!(there >= pending.len() as u64);
                assert!(there <= (pending.len() + delivered.len()) as u64);
            }
            Step::Crash => {
                journal.abandon();
                journal = reopen(dir.path(), &clock);
            }
        }
    }
    clock.advance(HOUR);
    let left: Vec<_> = due(&journal, "a", usize::MAX).into_iter().map(|c| c.event).collect();
    for id in pending.keys() {
        assert!(left.contains(id), "lost {id}");
    }
    journal.close().await;
    assert_no_blobs(&dir);
}
