//! The file system proves itself: what it keeps, what it forgets, what it fails.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use fuser::Errno;

use super::{FaultFs, Op, Side, Survival, Times};

/// The image of a cut in a plain directory.
fn plain(disk: &FaultFs, survival: Survival, seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    disk.image(survival, seed).write_to(folder.path());
    folder
}

fn sync_dir(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// A file of three pages, durable with its name.
fn three_pages(disk: &FaultFs) -> File {
    let file = File::create_new(disk.join("file")).unwrap();
    file.write_all_at(&[b'a'; 3 * 4096], 0).unwrap();
    file.sync_data().unwrap();
    sync_dir(disk.path());
    file
}

#[test]
fn what_was_written_is_read_back_and_what_was_not_synced_is_forgotten() {
    let disk = FaultFs::empty();
    let file = three_pages(&disk);
    file.write_all_at(b"bb", 4095).unwrap();
    file.write_all_at(b"c", 5 * 4096).unwrap();
    let seen = fs::read(disk.join("file")).unwrap();
    assert_eq!(seen.len(), 5 * 4096 + 1);
    assert_eq!(seen[4094..4098], *b"abba");
    assert_eq!(seen[4 * 4096], 0);
    let left = plain(&disk, Survival::Synced, 0);
    assert_eq!(fs::read(left.path().join("file")).unwrap(), [b'a'; 3 * 4096]);
    file.sync_all().unwrap();
    let left = plain(&disk, Survival::Synced, 0);
    assert_eq!(fs::read(left.path().join("file")).unwrap(), seen);
}

#[test]
fn sync_file_range_makes_nothing_durable() {
    let disk = FaultFs::empty();
    let path = disk.join("db");
    // The store's flush is a write and sync_file_range, so a store that is only flushed must be forgotten.
    let config = ::sled::Config::new().path(&path).flush_every_ms(None);
    let store = config.open().unwrap();
    for folder in [path.as_path(), disk.path()] {
        sync_dir(folder);
    }
    let before = disk.count(Op::Sync);
    store.insert(b"key", b"a value that is easy to find").unwrap();
    store.flush().unwrap();
    assert_eq!(disk.count(Op::Sync), before, "a flush does not sync");
    let holds = |folder: &Path| {
        let bytes = fs::read(folder.join("db/db")).unwrap();
        bytes.windows(28).any(|window| window == b"a value that is easy to find")
    };
    assert!(!holds(plain(&disk, Survival::Synced, 0).path()));
    File::open(path.join("db")).unwrap().sync_data().unwrap();
    assert!(holds(plain(&disk, Survival::Synced, 0).path()));
}

#[test]
fn a_name_is_durable_after_the_sync_of_its_directory() {
    let disk = FaultFs::empty();
    let mut file = File::create(disk.join("new")).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all().unwrap();
    assert!(!plain(&disk, Survival::Synced, 0).path().join("new").exists());
    sync_dir(disk.path());
    assert!(plain(&disk, Survival::Synced, 0).path().join("new").exists());
    fs::remove_file(disk.join("new")).unwrap();
    assert!(!disk.join("new").exists());
    assert_eq!(fs::read(plain(&disk, Survival::Synced, 0).path().join("new")).unwrap(), b"x");
}

#[test]
fn an_unsynced_rename_happens_whole_or_not_at_all() {
    let disk = FaultFs::empty();
    for (name, text) in [("old", "old"), ("new", "new")] {
        fs::write(disk.join(name), text).unwrap();
        File::open(disk.join(name)).unwrap().sync_all().unwrap();
    }
    sync_dir(disk.path());
    fs::rename(disk.join("new"), disk.join("old")).unwrap();
    assert_eq!(fs::read(disk.join("old")).unwrap(), b"new");
    let mut outcomes = [0, 0];
    for seed in 0..50 {
        let left = plain(&disk, Survival::Pages, seed);
        let happened = fs::read(left.path().join("old")).unwrap() == b"new";
        assert_eq!(left.path().join("new").exists(), !happened, "both names change or none");
        outcomes[usize::from(happened)] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 5), "{outcomes:?}");
}

#[test]
fn pages_survive_at_random_and_torn_ones_end_at_a_sector() {
    let disk = FaultFs::empty();
    let file = three_pages(&disk);
    file.write_all_at(&[b'b'; 2 * 4096], 4096).unwrap();
    let (mut whole, mut torn) = (0, 0);
    for seed in 0..50 {
        for survival in [Survival::Pages, Survival::Torn] {
            let left = plain(&disk, survival, seed);
            let bytes = fs::read(left.path().join("file")).unwrap();
            assert_eq!(bytes[..4096], [b'a'; 4096], "what is durable stays");
            for page in bytes[4096..].chunks(4096) {
                let new = page.iter().take_while(|byte| **byte == b'b').count();
                assert!(page[new..].iter().all(|byte| *byte == b'a'), "a prefix is new");
                assert_eq!(new % 512, 0);
                whole += usize::from(new == 4096);
                torn += usize::from(new > 0 && new < 4096);
                assert!(survival == Survival::Torn || new == 0 || new == 4096);
            }
        }
    }
    assert!(whole > 20 && torn > 20, "{whole} whole, {torn} torn");
}

#[test]
fn exactly_the_nth_operation_fails_once_or_from_then_on() {
    let disk = FaultFs::empty();
    let file = three_pages(&disk);
    let write = || file.write_at(b"x", 0).map_err(|error| error.raw_os_error());
    disk.fail_nth(Op::Write, 3, Errno::ENOSPC, Times::Once);
    let full = Err(Some(rustix::io::Errno::NOSPC.raw_os_error()));
    assert_eq!([write(), write(), write(), write()], [Ok(1), Ok(1), full, Ok(1)]);
    disk.fail_nth(Op::Write, 2, Errno::EIO, Times::Sticky);
    let broken = Err(Some(rustix::io::Errno::IO.raw_os_error()));
    assert_eq!([write(), write(), write()], [Ok(1), broken, broken]);
    assert_eq!(disk.struck(), 3);
    disk.heal();
    assert_eq!(write(), Ok(1));
}

#[test]
fn a_sync_that_failed_once_loses_its_pages_though_the_next_one_succeeds() {
    let disk = FaultFs::empty();
    let file = three_pages(&disk);
    file.write_all_at(b"b", 0).unwrap();
    disk.fail_nth(Op::Sync, 1, Errno::EIO, Times::Once);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(fs::read(disk.join("file")).unwrap()[0], b'b');
    let left = plain(&disk, Survival::Synced, 0);
    assert_eq!(fs::read(left.path().join("file")).unwrap()[0], b'a');
}

#[test]
fn a_short_write_is_half_and_says_so() {
    let disk = FaultFs::empty();
    let file = three_pages(&disk);
    disk.short_write_nth(2);
    let sizes = [0; 3].map(|_| file.write_at(&[b'z'; 100], 0).unwrap());
    assert_eq!(sizes, [100, 50, 100]);
}

#[test]
fn after_the_cut_nothing_changes_and_nothing_succeeds() {
    let disk = FaultFs::empty();
    let file = three_pages(&disk);
    disk.cut_nth(Op::Sync, 2, Side::Before);
    file.write_all_at(b"b", 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"c", 0).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.write_at(b"d", 0).is_err());
    assert!(File::create(disk.join("late")).is_err());
    assert!(fs::rename(disk.join("file"), disk.join("late")).is_err());
    let left = plain(&disk, Survival::Synced, 0);
    assert_eq!(fs::read(left.path().join("file")).unwrap()[0], b'b');
    assert_eq!(fs::read_dir(left.path()).unwrap().count(), 1);
}

#[test]
fn a_cut_after_a_sync_keeps_what_it_synced_and_tells_nobody() {
    let disk = FaultFs::empty();
    let file = three_pages(&disk);
    disk.cut_nth(Op::Sync, 1, Side::After);
    file.write_all_at(b"b", 0).unwrap();
    assert!(file.sync_data().is_err());
    let left = plain(&disk, Survival::Synced, 0);
    assert_eq!(fs::read(left.path().join("file")).unwrap()[0], b'b');
}

#[test]
fn space_ends_and_comes_back_and_a_reservation_takes_some() {
    let disk = FaultFs::empty();
    let mut file = File::create(disk.join("file")).unwrap();
    disk.set_free_bytes(4 * 4096);
    let free = || rustix::fs::statvfs(disk.path()).unwrap().f_bavail;
    assert_eq!(free(), 4);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 2 * 4096).unwrap();
    assert_eq!((free(), fs::metadata(disk.join("file")).unwrap().len()), (2, 8192));
    file.write_all_at(b"inside what is reserved", 0).unwrap();
    assert_eq!(free(), 2);
    let error = file.write_all_at(&[1; 3 * 4096], 2 * 4096).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    file.set_len(0).unwrap();
    file.write_all(&[1; 4 * 4096]).unwrap();
    drop(file);
    fs::remove_file(disk.join("file")).unwrap();
    assert_eq!(free(), 4);
}

#[test]
fn a_read_only_disk_is_read_and_not_written() {
    let disk = FaultFs::empty();
    three_pages(&disk);
    disk.make_read_only();
    let file = OpenOptions::new().read(true).write(true).open(disk.join("file")).unwrap();
    assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    let error = fs::create_dir(disk.join("folder")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read(disk.join("file")).unwrap().len(), 3 * 4096);
}

#[test]
fn an_image_can_be_mounted_again_and_goes_on_from_there() {
    let disk = FaultFs::empty();
    fs::create_dir_all(disk.join("a/b")).unwrap();
    fs::write(disk.join("a/b/file"), "kept").unwrap();
    File::open(disk.join("a/b/file")).unwrap().sync_all().unwrap();
    for folder in ["a/b", "a", ""] {
        sync_dir(&disk.join(folder));
    }
    fs::write(disk.join("a/b/file"), "not synced").unwrap();
    let again = FaultFs::mount(disk.image(Survival::Synced, 0));
    assert_eq!(fs::read_to_string(again.join("a/b/file")).unwrap(), "kept");
    fs::rename(again.join("a/b"), again.join("c")).unwrap();
    fs::remove_dir(again.join("a")).unwrap();
    let names = fs::read_dir(again.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["c"]);
}
