//! One suite that every engine passes: what `Journal` promises, story by story.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use everhook::journal::memory::MemoryJournal;
use everhook::journal::sled::{OpenError, Opened, Options, SledJournal};
use everhook::journal::{
    Append, AppendError, Appended, Claimed, Health, Journal, OperateError, Scope, Stage,
};
use everhook::metrics::JournalMetrics;
use everhook::model::{
    Answer, Attempt, DeadReason, DedupKey, Event, EventId, Headers, Name, Order, Settlement, Wanted,
};
use everhook::time::{Clock, Timestamp};
use tempfile::TempDir;

pub const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

pub fn start() -> Clock {
    Clock::manual(Timestamp::from_secs(1_700_000_000))
}

pub fn event(number: u64, body: &[u8], clock: &Clock) -> Event {
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

pub fn append(event: Event, targets: &[&str], dedup: &[DedupKey]) -> Append {
    Append { event, targets: targets.iter().map(|t| name(t)).collect(), dedup: dedup.to_vec() }
}

pub fn demand(target: &str, most: usize) -> Vec<Wanted> {
    vec![Wanted { target: name(target), most, order: Order::None }]
}

pub fn exact(key: u128) -> DedupKey {
    DedupKey::Exact { key, window: HOUR }
}

pub fn attempt(claimed: &Claimed, clock: &Clock) -> Attempt {
    let answer = Answer::Status { status: 500, retry_after: None };
    let number = claimed.attempts + 1;
    Attempt { number, started_at: clock.now(), duration: HOUR, answer, seen: Box::default() }
}

/// Three deliveries that are due end in the three ways: delivered, due in an hour, dead.
pub async fn settle_in_each_way(journal: &dyn Journal, target: &str, clock: &Clock) {
    let settlements = [
        Settlement::Delivered,
        Settlement::RetryAt(clock.now().plus(HOUR)),
        Settlement::Dead(DeadReason::Gone),
    ];
    for (claimed, settlement) in due(journal, target, 3).iter().zip(settlements) {
        let made = attempt(claimed, clock);
        journal.settle(claimed.lease, settlement, Some(made)).await.expect("taken");
    }
}

/// What is there to claim at this moment.
pub fn due(journal: &dyn Journal, target: &str, most: usize) -> Vec<Claimed> {
    journal.demand(demand(target, most));
    let claimed = now(journal);
    // What was not there now is not asked for later.
    journal.demand(demand(target, 0));
    claimed
}

/// What a claim gets at once.
pub fn now(journal: &dyn Journal) -> Vec<Claimed> {
    let claim = pin!(journal.claim());
    match claim.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(claimed) => claimed,
        Poll::Pending => Vec::new(),
    }
}

/// A journal with room for everything and a retention of an hour.
pub fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        retention: HOUR,
        max_bytes: 1 << 40,
        min_free: 0,
        quarantine_max_bytes: 64 << 20,
    }
}

pub fn open_at(path: &Path, clock: &Clock) -> Result<(SledJournal, Opened), OpenError> {
    let metrics = JournalMetrics::detached().expect("metrics");
    SledJournal::open(&options(path), clock, metrics)
}

pub fn reopen(path: &Path, clock: &Clock) -> SledJournal {
    open_at(path, clock).expect("opens").0
}

/// Runs a story on every engine.
pub async fn on_each<F, Story>(story: Story)
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

pub fn assert_no_blobs(dir: &TempDir) {
    for generation in std::fs::read_dir(dir.path().join("generations")).expect("generations") {
        let blobs = generation.expect("readable").path().join("blobs");
        let count = std::fs::read_dir(blobs).map_or(0, Iterator::count);
        assert_eq!(count, 0, "sled never syncs what it puts into blobs/");
    }
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
        journal.demand(demand("a", 1));
        let claim = journal.claim();
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
        let found = found.expect("kept");
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
        journal.demand(demand("a", 1));
        let claim = journal.claim();
        let put = journal.append(append(event(1, b"x", &clock), &["a"], &[]));
        let (claimed, appended) = both(claim, put).await;
        assert!(appended.is_ok());
        assert_eq!(claimed.len(), 1);
        journal.settle(claimed[0].lease, Settlement::Released, None).await.unwrap();
        journal.demand(demand("a", 1));
        drop(journal.claim());
        assert_eq!(due(&*journal, "a", 1).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_demand_stands_until_it_is_met_and_each_target_has_its_own() {
    on_each(|journal, clock| async move {
        let put = async |number, targets: &[&str]| {
            journal.append(append(event(number, b"x", &clock), targets, &[])).await.unwrap();
        };
        journal.demand([demand("a", 2), demand("b", 1)].concat());
        assert_eq!(now(&*journal), []);
        put(1, &["a", "b", "c"]).await;
        let targets = |claimed: Vec<Claimed>| -> Vec<String> {
            claimed.into_iter().map(|it| it.target.to_string()).collect()
        };
        assert_eq!(targets(now(&*journal)), ["a", "b"], "and nobody asked for c");
        put(2, &["a", "b"]).await;
        put(3, &["a", "b"]).await;
        assert_eq!(targets(now(&*journal)), ["a"], "of the two that were wanted one is left");
        journal.demand([demand("b", 5), demand("c", 5), demand("a", 0)].concat());
        assert_eq!(targets(now(&*journal)), ["b", "b", "c"]);
        journal.demand(demand("b", 0));
        put(4, &["b"]).await;
        assert_eq!(now(&*journal), [], "taken back");
    })
    .await;
}

#[tokio::test]
async fn what_is_hastened_is_due_at_once_and_first_and_keeps_its_attempts() {
    on_each(|journal, clock| async move {
        let events: Vec<_> = (1..=3).map(|number| event(number, b"x", &clock)).collect();
        for event in &events {
            journal.append(append(event.clone(), &["a", "b"], &[])).await.unwrap();
        }
        let first = due(&*journal, "a", 1).remove(0);
        let later = Settlement::RetryAt(clock.now().plus(HOUR));
        journal.settle(first.lease, later, Some(attempt(&first, &clock))).await.unwrap();
        let of_a = || Scope::Targets(vec![name("a")]);
        let hasten = async |id| journal.hasten(id, of_a()).await.map(|changed| changed.deliveries);
        assert_eq!(hasten(first.event).await, Ok(1));
        let found = journal.find(first.event).await.unwrap().expect("kept");
        let stages: Vec<_> = found.deliveries.iter().map(|it| (it.stage, it.attempts)).collect();
        assert_eq!(stages, [(Stage::Ready, 1), (Stage::Ready, 0)]);
        assert_eq!(hasten(events[2].id).await, Ok(1), "it is due, and goes before the others");
        let claimed = due(&*journal, "a", 9);
        let order: Vec<_> = claimed.iter().map(|it| (it.event, it.attempts)).collect();
        assert_eq!(order, [(events[2].id, 0), (events[0].id, 1), (events[1].id, 0)]);
        assert_eq!(hasten(events[0].id).await, Ok(0), "it is in flight");
        for claimed in &claimed {
            journal.settle(claimed.lease, Settlement::Delivered, None).await.unwrap();
        }
        assert_eq!(hasten(events[0].id).await, Ok(0), "it is over");
        let unknown = event(9, b"x", &clock).id;
        assert_eq!(hasten(unknown).await, Err(OperateError::Unknown));
        assert_eq!(due(&*journal, "b", 9).len(), 3, "nothing is lost and nothing twice");
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
async fn the_latest_event_of_each_source_is_told_and_a_repeat_is_none() {
    on_each(|journal, clock| async move {
        assert!(journal.latest().is_empty());
        for (number, source) in [(1, "a"), (2, "b"), (3, "a")] {
            clock.advance(MINUTE);
            let named = Event { source: name(source), ..event(number, b"x", &clock) };
            let named = Event { name: number.to_string(), ..named };
            let key = [exact(u128::from(number))];
            journal.append(append(named, &["t"], &key)).await.expect("taken");
        }
        let told = journal.latest();
        let told = told.iter().map(|(source, it)| (source.as_str(), it.name.as_str()));
        assert_eq!(told.collect::<Vec<_>>(), [("a", "3"), ("b", "2")]);
        let repeat = Event { source: name("b"), ..event(4, b"x", &clock) };
        let repeated = journal.append(append(repeat, &["t"], &[exact(1)])).await;
        assert!(matches!(repeated, Ok(Appended::Duplicate(_))));
        let told = &journal.latest()[&name("b")];
        assert_eq!((told.name.as_str(), told.received_at), ("2", start().now().plus(2 * MINUTE)));
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
