//! What stands where while a commit is written.

use super::*;
use crate::model::{EventId, Headers};

fn content() -> Content {
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
            for _ in 0..10_000 {
                assert!(look.iter().all(|it| !it.is_finished()), "nobody waited");
                std::thread::yield_now();
            }
            looking = Some(look);
        };
        store.write(&commit, timed, durable).unwrap();
        assert!(store.has(1).unwrap());
        for look in looking.unwrap() {
            look.join().unwrap();
        }
    });
}
