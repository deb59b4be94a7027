//! What cannot be synced behind the writer's back stays in the log.

use super::super::intake;
use super::*;

const VALUE: Value<'static> = (b'c', 0, b"a value");

fn write(absorber: &Absorber) -> Result<(), WriteError> {
    absorber.write((1, [VALUE].into_iter()), |sync| sync(), || Ok(()))
}

fn start(dir: &Path, synced: &Path) -> Absorber {
    let db = sled::Config::new().path(dir).open().unwrap();
    Absorber::start(dir, db, File::open(synced).unwrap()).unwrap()
}

#[test]
fn the_log_is_empty_when_the_store_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut absorber = start(dir.path(), &dir.path().join("db"));
    write(&absorber).unwrap();
    absorber.end().unwrap();
    assert!(intake::read(dir.path()).unwrap().entries.is_empty());
}

#[test]
fn a_sync_of_the_store_that_fails_is_told_and_the_log_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    // A file that the system refuses to sync.
    let mut absorber = start(dir.path(), Path::new("/dev/null"));
    write(&absorber).unwrap();
    let told = absorber.end();
    assert!(matches!(told, Err(WriteError::Sync(_))), "{told:?}");
    assert!(matches!(absorber.end(), Err(WriteError::Write(_))), "as often as it is asked");
    assert_eq!(intake::read(dir.path()).unwrap().entries.len(), 1);
}

#[test]
fn what_the_store_did_not_take_up_whole_stays_in_the_log() {
    let errs = || Err(StoreError::Missing);
    let panics = || panic!("the engine panics");
    let take_ups: [&dyn Fn() -> Result<(), StoreError>; 2] = [&errs, &panics];
    for take_up in take_ups {
        let dir = tempfile::tempdir().unwrap();
        let mut absorber = start(dir.path(), &dir.path().join("db"));
        write(&absorber).unwrap();
        let write = || absorber.write((2, [VALUE].into_iter()), |sync| sync(), take_up);
        let written = catch_unwind(AssertUnwindSafe(write));
        assert!(!matches!(written, Ok(Ok(()))));
        assert!(matches!(absorber.end(), Err(WriteError::Write(_))), "it says so");
        let commits = intake::read(dir.path()).unwrap().entries;
        assert_eq!(commits.iter().map(|entry| entry.commit).collect::<Vec<_>>(), [1, 2]);
    }
}
