//! What only a journal on disk promises: what is there after a reopen, a crash, damage, and the passing of time; and
//! a small model under random operations with reopening.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use everhook::journal::sled::{OpenError, Options, SledJournal};
use everhook::journal::{AppendError, Appended, Health, Journal, Scope};
use everhook::metrics::JournalMetrics;
use everhook::model::{DeadReason, DedupKey, EventId, Settlement};
use everhook::time::{Clock, Timestamp};
use proptest::prelude::*;

use crate::journal_contract::{
    HOUR, append, assert_no_blobs, attempt, due, event, exact, open_at, options, reopen, start,
};

#[tokio::test]
async fn a_new_journal_is_readable_for_its_owner_only_and_a_folder_that_is_there_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let (new, prepared) = (dir.path().join("new"), dir.path().join("prepared"));
    std::fs::create_dir(&prepared).expect("writable");
    std::fs::set_permissions(&prepared, Permissions::from_mode(0o750)).expect("ours");
    for (path, expected) in [(new, 0o700), (prepared, 0o750)] {
        reopen(&path, &start()).close().await;
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
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
    assert_eq!((opened.pending, opened.dead), (2, 1));
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
async fn what_was_hastened_or_handed_back_is_due_after_a_reopen_with_its_attempts() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = reopen(dir.path(), &clock);
    for number in 0..3 {
        journal.append(append(event(number, b"x", &clock), &["a"], &[])).await.unwrap();
    }
    let claimed = due(&journal, "a", 2);
    let later = Settlement::RetryAt(clock.now().plus(HOUR));
    for claimed in &claimed {
        journal.settle(claimed.lease, later, Some(attempt(claimed, &clock))).await.unwrap();
    }
    journal.hasten(claimed[0].event, Scope::All).await.unwrap();
    let again = due(&journal, "a", 2);
    assert_eq!(again.iter().map(|it| it.attempts).collect::<Vec<_>>(), [1, 0]);
    journal.settle(again[0].lease, Settlement::Released, None).await.unwrap();
    journal.close().await;

    let journal = reopen(dir.path(), &clock);
    let depth = &journal.depth()[0];
    assert_eq!((depth.ready, depth.waiting), (2, 1));
    let mut attempts: Vec<_> = due(&journal, "a", 9).iter().map(|it| it.attempts).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_is_answered_after_the_sync_that_covers_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let options = options(dir.path());
    let metrics = JournalMetrics::detached().expect("metrics");
    let (journal, _) = SledJournal::open(&options, &clock, metrics.clone()).expect("opens");
    for n in 0..200 {
        let before = metrics.fsync_duration.get_sample_count();
        journal.append(append(event(n, b"x", &clock), &["a"], &[])).await.unwrap();
        assert!(metrics.fsync_duration.get_sample_count() > before, "answered before its sync");
    }
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
    let options = Options { max_bytes: 1, ..options(dir.path()) };
    let metrics = JournalMetrics::detached().expect("metrics");
    let (journal, _) = SledJournal::open(&options, &clock, metrics).expect("opens");
    assert!(matches!(journal.health(), Health::Full { .. }));
    let refused = journal.append(append(event(2, b"x", &clock), &["a"], &[])).await;
    assert_eq!(refused, Err(AppendError::Full));
    let claimed = due(&journal, "a", 1).remove(0);
    assert!(journal.load(claimed.lease).await.is_ok());
    journal.settle(claimed.lease, Settlement::Delivered, None).await.unwrap();
}

#[tokio::test]
async fn a_burst_does_not_pass_the_bound_before_the_disk_is_looked_at_again() {
    const MIB: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let options = Options { max_bytes: 32 * MIB, ..options(dir.path()) };
    let metrics = JournalMetrics::detached().expect("metrics");
    let (journal, _) = SledJournal::open(&options, &clock, metrics).expect("opens");
    // The clock stands still: nobody looks at the disk meanwhile.
    let mut taken = 0u64;
    while let Ok(appended) =
        journal.append(append(event(taken, &vec![1; 65_536], &clock), &["a"], &[])).await
    {
        assert!(matches!(appended, Appended::New(_)));
        taken += 1;
        assert!(taken < 512, "{taken} events of 64 KiB went into 32 MiB");
    }
    println!("{taken} events of 64 KiB, {} bytes", crate::journal_space::on_disk(dir.path()));
    assert!(taken > 100, "only {taken}");
    assert!(matches!(journal.health(), Health::Full { .. }));
    let size = crate::journal_space::on_disk(dir.path());
    assert!(size < 38 * MIB, "{size} bytes");
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
