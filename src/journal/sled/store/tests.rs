//! What stands where while a commit is written.

use super::*;
use crate::model::{EventId, Headers};

/// What a test stores.
pub(in crate::journal::sled) fn content() -> Content {
    Content {
        id: EventId::new(Timestamp::from_secs(1), [1; 10]),
        received_at: Timestamp::from_secs(1),
        source: "source".into(),
        name: "n".into(),
        order_key: None,
        headers: Headers::default(),
        body: Bytes::from_static(b"a body"),
    }
}

#[test]
fn a_commit_is_durable_before_the_engine_has_it_and_whoever_looks_for_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut commit = Commit::new(1, 0, Timestamp::from_secs(1));
    let place = commit.put_content(&content());
    commit.put(&Record::Name { number: 0, name: "a".into() });
    commit.finish();
    std::thread::scope(|scope| {
        let mut looking = None;
        let synced = std::cell::Cell::new(false);
        let timed = |sync: &mut dyn FnMut() -> std::io::Result<()>| {
            synced.set(true);
            sync()
        };
        let durable = || {
            assert!(synced.get());
            assert_eq!(intake::read(folder.path()).unwrap().entries.len(), 1);
            assert!(!store.has(1).unwrap(), "it was made to wait for the engine");
            let look = [
                scope.spawn(|| assert_eq!(store.content(place).unwrap(), content())),
                scope.spawn(|| assert_eq!(store.blocks().len(), 1)),
            ];
            assert_waits(&look);
            looking = Some(look);
        };
        store.write(&commit, timed, durable).unwrap();
        assert!(store.has(1).unwrap());
        for look in looking.unwrap() {
            look.join().unwrap();
        }
    });
}

#[test]
fn whoever_looks_for_a_part_that_the_engine_has_not_taken_up_yet_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut commit = Commit::new(1, 0, Timestamp::from_secs(1));
    let large = Content { body: Bytes::from(vec![7; 5_000]), ..content() };
    let places: Vec<_> = (0..3).map(|_| commit.put_content(&large)).collect();
    commit.put(&Record::Name { number: 0, name: "a".into() });
    commit.finish();
    let mut values = commit.values();
    let mut take_up = |(family, number, bytes)| {
        store.shelves.add(key(family, 1, number), bytes).unwrap();
    };
    std::thread::scope(|scope| {
        let taking_up = store.known();
        values.by_ref().take(1).for_each(&mut take_up);
        assert_eq!(store.content(places[0]).unwrap(), large, "it is there");
        let look = [scope.spawn(|| assert_eq!(store.content(places[2]).unwrap(), large))];
        assert_waits(&look);
        values.for_each(&mut take_up);
        drop(taking_up);
        for look in look {
            look.join().unwrap();
        }
    });
}

#[test]
fn small_records_share_a_value_and_a_long_one_has_its_own() {
    let mut commit = Commit::new(1, 0, Timestamp::from_secs(1));
    let note = |size| Record::Note { topic: "t".into(), name: "n".into(), value: vec![7; size] };
    for size in [100, 4_000, 20_000, 100, 100, 60_000, 13_000, 5_000] {
        commit.put(&note(size));
    }
    let (mut counts, mut ordinals) = (Vec::new(), Vec::new());
    for pack in &commit.packs {
        let mut rest = &pack[..];
        let before = ordinals.len();
        while !rest.is_empty() {
            ordinals.push(frame::take(&mut rest).unwrap().mark.ordinal);
        }
        counts.push(ordinals.len() - before);
    }
    assert_eq!(ordinals, (0..8).collect::<Vec<_>>());
    assert_eq!(counts, [2, 1, 2, 1, 1, 1]);
    assert!(commit.about.iter().map(Vec::len).eq(counts));
}

fn assert_waits(threads: &[std::thread::ScopedJoinHandle<'_, ()>]) {
    for _ in 0..10_000 {
        assert!(threads.iter().all(|it| !it.is_finished()), "nobody waited");
        std::thread::yield_now();
    }
}
