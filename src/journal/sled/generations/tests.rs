//! A generation whose store was lost, or could not be closed well.

use super::super::intake::{self, Intake};
use super::super::ledger::Holds;
use super::super::store::Commit;
use super::super::store::tests::content;
use super::super::yielding::Yielding;
use super::*;
use crate::journal::record::Record;
use crate::journal::record::content::Parts;
use crate::time::Timestamp;

/// Writes the content into the intake log of a generation.
fn log(generation: &Path) -> (Intake, Place) {
    let mut parts = Parts::new(1);
    let place = parts.put(&content());
    parts.finish();
    let mut log = Intake::open(generation).unwrap();
    log.write(1, parts.iter().map(|(first, part)| (b'c', first, &part[..]))).unwrap();
    (log, place)
}

#[test]
fn a_content_that_is_written_over_in_the_log_is_read_once_more_from_the_store() {
    let root = tempfile::tempdir().unwrap();
    let path = dir::make_generation(root.path(), 1, |path| {
        std::fs::create_dir_all(root.path().join("generations"))?;
        Store::create(path)
    });
    let path = path.unwrap();
    let (_, place) = log(&path);
    // As long as the store cannot be opened, the log's files are read without it.
    let files = Files::all(&path).unwrap();
    let generation = Generation::sealed(1, Sealed::open(files, None).unwrap().sealed);
    assert_eq!(generation.content(place).unwrap(), content());
    let store = Arc::new(Store::open(&path).unwrap());
    assert!(generation.content(place).is_err(), "the log is in use again");
    let opened_again = || *generation.body() = Body::Written(store);
    assert_eq!(generation.content_or_again(place, opened_again).unwrap(), content());
}

#[test]
fn a_generation_whose_last_sync_failed_is_not_sealed_and_keeps_its_log() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("generations")).unwrap();
    let path = dir::make_generation(root.path(), 1, Store::create).unwrap();
    let store = Store::open_unsyncable(&path);
    let mut commit = Commit::new(1, 0, Timestamp::from_secs(1));
    let place = commit.put_content(&content());
    commit.put(&Record::Name { number: 0, name: "a".into() });
    commit.finish();
    store.write(&commit, |sync| sync(), || ()).unwrap();
    let (records, contents) = commit.counts();
    let mut ledger = Ledger::create(&dir::ledger(root.path()), BTreeMap::new(), 0).unwrap();
    let holds = Holds { commit: 1, records: records.into(), contents: contents.into() };
    ledger.holds(1, holds).unwrap();
    let generation = Generation::written(1, store);
    let members = BTreeMap::from([(1, Arc::clone(&generation))]);
    let generations = Generations::start(root.path(), members, None, Vec::new(), ledger).unwrap();
    assert!(generations.seal(&generation, Duration::ZERO).is_err());
    assert!(generations.failure().is_some(), "what is in memory is not believed");
    assert_eq!(generations.ledger().known(1).seal, None);
    assert_eq!(intake::read(&path).unwrap().entries.len(), 1);
    assert_eq!(generation.content(place).unwrap(), content(), "it can be read");
    generations.close();
}

#[test]
fn a_spare_that_is_made_once_more_is_listed_at_no_moment_without_being_there() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("generations")).unwrap();
    let path = dir::make_generation(root.path(), 1, Store::create).unwrap();
    let first = Generation::written(1, Store::open(&path).unwrap());
    let ledger = Ledger::create(&dir::ledger(root.path()), BTreeMap::new(), 0).unwrap();
    let members = BTreeMap::from([(1, Arc::clone(&first))]);
    let spare = Some(Arc::clone(&first));
    let generations = Generations::start(root.path(), members, spare, Vec::new(), ledger).unwrap();
    // An earlier try has listed it and failed then. Nothing can be put where it is made now.
    dir::write_manifest(root.path(), &[1, 2]).unwrap();
    std::fs::create_dir(dir::generation(root.path(), 2)).unwrap();
    std::fs::write(dir::generation(root.path(), 2).with_extension("new"), "in the way").unwrap();
    drop(lock(&generations.spare).take());
    assert!(generations.make_spare(2).is_err());
    assert_eq!(dir::manifest(root.path()).unwrap(), Some(vec![1]));
    generations.close();
}

#[test]
fn what_the_store_seems_to_have_is_written_to_it_once_more_from_the_log() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("generations")).unwrap();
    let path = dir::make_generation(root.path(), 1, Store::create).unwrap();
    drop(log(&path));
    let [first, _] = intake::files(&path);
    let kept = std::fs::read(&first).unwrap();
    for times in 1..=2 {
        // The log is as it is after a sync of the store's file that failed.
        std::fs::write(&first, &kept).unwrap();
        Store::open(&path).unwrap().close().unwrap();
        let mut copies = 0;
        let files = Files::store(&path).unwrap();
        super::super::scan::frames(&files, &Yielding::start(), |_, frame| {
            copies += u32::from(frame.mark.commit == 1);
        })
        .unwrap();
        assert_eq!(copies, times);
    }
}

#[test]
fn a_generation_is_looked_through_behind_the_writers_back_and_only_the_one_that_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("generations")).unwrap();
    let mut ledger = Ledger::create(&dir::ledger(root.path()), BTreeMap::new(), 0).unwrap();
    let mut members = BTreeMap::new();
    for number in 1..=2 {
        let path = dir::make_generation(root.path(), number, Store::create).unwrap();
        let store = Store::open(&path).unwrap();
        let commit = u64::from(number);
        let mut written = Commit::new(commit, commit - 1, Timestamp::from_secs(1));
        written.put(&Record::Name { number: 0, name: "a".into() });
        written.finish();
        store.write(&written, |sync| sync(), || ()).unwrap();
        ledger.holds(number, Holds { commit, records: 2, contents: 0 }).unwrap();
        members.insert(commit, Generation::written(number, store));
    }
    let unsealed = members.values().map(Arc::clone).collect();
    let generations = Generations::start(root.path(), members, None, unsealed, ledger).unwrap();
    let until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            std::thread::yield_now();
        }
    };
    until(&|| [1, 2].iter().all(|it| generations.numbered(*it).unwrap().is_sealed()));
    assert!(generations.walked(1).is_none(), "nobody waits for it");
    until(&|| generations.has_walked());
    let found = generations.walked(1).unwrap().unwrap();
    assert_eq!(found.records.iter().map(|(mark, _)| mark.commit).collect::<Vec<_>>(), [1, 1]);
    assert!(!generations.has_walked());
    assert!(generations.walked(1).is_none() && generations.walked(2).is_none());
    until(&|| generations.has_walked());
    assert!(generations.walked(1).is_none(), "what is there is of another one");
    until(&|| generations.has_walked());
    let found = generations.walked(1).unwrap().unwrap();
    assert_eq!(found.records.iter().map(|(mark, _)| mark.commit).collect::<Vec<_>>(), [1, 1]);
    generations.forget_walk();
    assert!(!generations.has_walked());
    generations.close();
}

/// A journal of one generation with one commit, and a spare if there is to be one.
struct One {
    root: tempfile::TempDir,
    generations: Arc<Generations>,
    generation: Arc<Generation>,
}

impl One {
    fn start(has_spare: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("generations")).unwrap();
        let make = |number| {
            let path = dir::make_generation(root.path(), number, Store::create).unwrap();
            Generation::written(number, Store::open(&path).unwrap())
        };
        let (generation, spare) = (make(1), has_spare.then(|| make(2)));
        let commit = commit(1).0;
        generation.store().unwrap().write(&commit, |sync| sync(), || ()).unwrap();
        let (records, contents) = commit.counts();
        let holds = Holds { commit: 1, records: records.into(), contents: contents.into() };
        let mut ledger = Ledger::create(&dir::ledger(root.path()), BTreeMap::new(), 0).unwrap();
        ledger.holds(1, holds).unwrap();
        dir::write_manifest(root.path(), if has_spare { &[1, 2] } else { &[1] }).unwrap();
        let members = BTreeMap::from([(1, Arc::clone(&generation))]);
        let generations =
            Generations::start(root.path(), members, spare, Vec::new(), ledger).unwrap();
        Self { root, generations, generation }
    }

    fn logged(&self, number: u32) -> usize {
        let path = dir::generation(self.root.path(), number);
        intake::read(&path).unwrap().entries.len()
    }

    fn manifest(&self) -> Vec<u32> {
        dir::manifest(self.root.path()).unwrap().unwrap()
    }
}

fn commit(number: u64) -> (Commit, Place) {
    let mut commit = Commit::new(number, number - 1, Timestamp::from_secs(1));
    let place = commit.put_content(&content());
    commit.put(&Record::Name { number: 0, name: "a".into() });
    commit.finish();
    (commit, place)
}

/// Writes a commit to a store whose engine breaks while it is given it.
fn write_half(store: &Store, commit: &Commit) {
    let write = || store.write(commit, |sync| sync(), || panic!("the engine breaks"));
    assert!(catch_unwind(AssertUnwindSafe(write)).is_err());
}

#[test]
fn a_store_that_could_not_be_closed_well_is_not_sealed_and_keeps_its_log() {
    let one = One::start(true);
    // All that the ledger knows is in the store, as far as can be read.
    write_half(&one.generation.store().unwrap(), &commit(2).0);
    one.generations.seal(&one.generation, Duration::ZERO).unwrap();
    assert!(one.generation.is_sealed(), "it is read without its engine");
    assert_eq!(one.generations.ledger().known(1).seal, None);
    assert_eq!(one.logged(1), 2);
    one.generations.close();
}

#[test]
fn what_the_engine_did_not_take_up_can_be_read_later_and_is_not_damaged() {
    let one = One::start(true);
    let (second, place) = commit(2);
    let store = one.generation.store().unwrap();
    write_half(&store, &second);
    drop(store);
    let read = one.generations.content(place);
    assert!(matches!(read, Err(StoreError::Closed)), "{read:?}");
    // It cannot be opened yet.
    let settings = dir::generation(one.root.path(), 1).join("conf");
    let kept = std::fs::read(&settings).unwrap();
    std::fs::remove_file(&settings).unwrap();
    std::fs::create_dir(&settings).unwrap();
    assert!(one.generations.reopen().is_err());
    assert_eq!(one.generations.content(place).unwrap(), content(), "the log has it");
    let nowhere = commit(3).1;
    assert!(matches!(one.generations.content(nowhere), Err(StoreError::Closed)));
    std::fs::remove_dir(&settings).unwrap();
    std::fs::write(&settings, kept).unwrap();
    one.generations.reopen().unwrap();
    assert_eq!(one.generations.content(place).unwrap(), content());
    assert!(matches!(one.generations.content(nowhere), Err(StoreError::Missing)));
    one.generations.close();
}

#[test]
fn nothing_is_damaged_while_a_store_is_opened_once_more() {
    let one = One::start(true);
    let nowhere = commit(2).1;
    let read = |between: &dyn Fn()| one.generation.content_or_again(nowhere, between);
    assert!(matches!(read(&|| ()), Err(StoreError::Missing)));
    let begins = read(&|| one.generation.changes(true));
    let under_way = read(&|| ());
    let ends = read(&|| one.generation.changes(false));
    assert!(
        [begins, under_way, ends].iter().all(|it| matches!(it, Err(StoreError::Closed))),
        "there may be another body"
    );
    assert!(matches!(read(&|| ()), Err(StoreError::Missing)));
    one.generations.close();
}

#[test]
fn a_journal_that_failed_lists_what_it_has_and_makes_nothing_more() {
    for has_spare in [true, false] {
        let one = One::start(has_spare);
        one.generations.forget();
        let housekeeper = lock(&one.generations.housekeeper).take().unwrap();
        housekeeper.join().unwrap();
        one.generations.make_spare(1).unwrap();
        one.generations.seal(&one.generation, Duration::ZERO).unwrap();
        assert!(one.manifest().contains(&1), "{:?}", one.manifest());
        assert_eq!(one.logged(1), 1);
    }
}

#[test]
fn a_spare_that_takes_over_is_not_made_once_more() {
    let one = One::start(true);
    std::thread::scope(|scope| {
        let held = lock(&one.generations.begun);
        let rotates = scope.spawn(|| one.generations.rotate(2));
        while lock(&one.generations.spare).is_some() {
            std::thread::yield_now();
        }
        one.generations.make_spare(2).unwrap();
        drop(held);
        assert_eq!(rotates.join().unwrap(), Some(2));
    });
    let store = one.generations.current().unwrap().store().unwrap();
    store.write(&commit(2).0, |sync| sync(), || ()).unwrap();
    drop(store);
    assert_eq!(one.logged(2), 1, "its files are those on the disk");
    one.generations.close();
}

#[test]
fn a_directory_with_commits_is_never_made_room_for() {
    let one = One::start(true);
    one.generations.members.write().unwrap().clear();
    drop(lock(&one.generations.spare).take());
    assert!(one.generations.make_spare(1).is_err());
    assert_eq!(one.logged(1), 1);
    assert!(one.generations.failure().is_some());
}
