//! What is read of the log is what was written to it, and nothing else.

use super::*;

const A: &[u8] = b"a value";
const B: &[u8] = b"another value, which is longer";

fn write(log: &mut Intake, commit: u64, bytes: &[u8]) {
    log.write(commit, [(b'c', 0, bytes), (b'i', 7, A)].into_iter()).unwrap();
}

fn commits(dir: &Path) -> Vec<u64> {
    read(dir).unwrap().entries.iter().map(|entry| entry.commit).collect()
}

/// Commits 1 and 2 in one file, 3 and 4 in the other.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path()));
    dir
}

fn fill(dir: &Path) -> Intake {
    let mut log = Intake::open(dir).unwrap();
    write(&mut log, 1, A);
    write(&mut log, 2, B);
    assert!(log.take_over().unwrap());
    write(&mut log, 3, A);
    write(&mut log, 4, B);
    log
}

/// Changes the first file, as far as it was written.
fn change(dir: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let [first, _] = files(dir);
    let mut bytes = std::fs::read(&first).unwrap();
    let end = spans(&bytes).last().unwrap().range.end;
    bytes.truncate(end);
    how(&mut bytes);
    std::fs::write(first, bytes).unwrap();
}

#[test]
fn what_was_written_is_read_in_order_value_by_value() {
    let dir = filled();
    assert_eq!(commits(dir.path()), [1, 2, 3, 4]);
    let values = vec![(b'c', 0, B.to_vec()), (b'i', 7, A.to_vec())];
    assert_eq!(read(dir.path()).unwrap().entries[1], Entry { commit: 2, values });
}

#[test]
fn the_other_file_takes_over_only_when_it_is_relieved() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Intake::open(dir.path()).unwrap();
    assert!(!log.take_over().unwrap(), "there is nothing in it");
    write(&mut log, 1, A);
    assert!(log.take_over().unwrap());
    write(&mut log, 2, A);
    assert!(!log.take_over().unwrap(), "1 is needed still");
    log.relieved(0);
    assert!(log.take_over().unwrap());
    write(&mut log, 3, A);
    assert_eq!(commits(dir.path()), [2, 3], "3 stands where 1 stood");
}

#[test]
fn what_is_left_of_an_earlier_pass_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = fill(dir.path());
    log.relieved(0);
    assert!(log.take_over().unwrap());
    // 2 stands behind it, and its beginning is where 5 ends.
    write(&mut log, 5, A);
    assert_eq!(commits(dir.path()), [3, 4, 5]);
    change(dir.path(), |bytes| bytes.truncate(FILE_HEAD + HEAD));
    assert_eq!(commits(dir.path()), [3, 4]);
}

#[test]
fn an_entry_that_was_torn_is_the_end_and_one_that_is_damaged_is_not() {
    for at in [0, 5, 10, 20, 26, HEAD + 3] {
        let dir = filled();
        change(dir.path(), |bytes| bytes[FILE_HEAD + at] ^= 0x40);
        assert_eq!(commits(dir.path()), [2, 3, 4], "byte {at} of the first entry");
    }
    let dir = filled();
    change(dir.path(), |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(commits(dir.path()), [1, 3, 4]);
}

#[test]
fn what_is_left_of_a_damaged_entry_is_looked_at() {
    let dir = filled();
    change(dir.path(), |bytes| *bytes.last_mut().unwrap() ^= 1);
    let bytes = std::fs::read(&files(dir.path())[0]).unwrap();
    let found = spans(&bytes);
    assert_eq!(found.len(), 2);
    assert_eq!((found[1].whole, found[1].range.end), (false, bytes.len()));
}

#[test]
fn one_damaged_copy_of_the_pass_does_no_harm() {
    for at in [8, 16, 24] {
        let dir = filled();
        change(dir.path(), |bytes| bytes[at] ^= 1);
        assert_eq!(commits(dir.path()), [1, 2, 3, 4]);
    }
}

#[test]
fn a_sender_cannot_write_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Intake::open(dir.path()).unwrap();
    let mut forged = Vec::new();
    put_entry(&mut forged, 0, 99, [(b'i', 0, A)].into_iter());
    write(&mut log, 1, &forged);
    write(&mut log, 2, A);
    drop(log);
    // The entry around it is damaged, so it is searched for the next one.
    change(dir.path(), |bytes| bytes[FILE_HEAD + 9] ^= 1);
    assert_eq!(commits(dir.path()), [2]);
}

#[test]
fn a_later_release_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Intake::open(dir.path()).unwrap();
    write(&mut log, 1, A);
    drop(log);
    change(dir.path(), |bytes| {
        bytes[FILE_HEAD + HEAD - 1] = 2;
        let sum = crc32c::crc32c(&bytes[FILE_HEAD + CHECKED_FROM..]);
        bytes[FILE_HEAD + 4..FILE_HEAD + 8].copy_from_slice(&sum.to_be_bytes());
    });
    assert!(read(dir.path()).unwrap().newer);
}

#[test]
fn room_is_given_back_when_nothing_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Intake::open(dir.path()).unwrap();
    write(&mut log, 1, A);
    log.cut().unwrap();
    assert_eq!(commits(dir.path()), [1], "it is needed");
    log.take_over().unwrap();
    log.cut().unwrap();
    assert_eq!(commits(dir.path()), [1], "it is needed still");
    log.relieved(0);
    log.cut().unwrap();
    assert!(commits(dir.path()).is_empty());
    assert!(!log.has_length());
}

#[test]
fn a_file_grows_in_few_steps_and_not_when_it_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Intake::open(dir.path()).unwrap();
    let length = |file: usize| std::fs::metadata(&files(dir.path())[file]).unwrap().len();
    let mut lengths = std::collections::BTreeSet::new();
    for commit in 0..2_000 {
        write(&mut log, commit, B);
        lengths.insert(length(0));
    }
    assert!(log.end > 1 << 17, "{}", log.end);
    assert_eq!(
        lengths.into_iter().collect::<Vec<_>>(),
        [12, 13, 14, 15, 16, 17, 18].map(|it| 1 << it)
    );
    assert_eq!(commits(dir.path()), (0..2_000).collect::<Vec<_>>());
    log.take_over().unwrap();
    write(&mut log, 2_000, B);
    log.relieved(0);
    log.take_over().unwrap();
    write(&mut log, 2_001, B);
    assert_eq!((length(0), length(1)), (1 << 18, 1 << 12));
    assert_eq!(commits(dir.path()), [2_000, 2_001]);
}

#[test]
fn what_is_not_needed_any_more_is_gone_when_the_log_is_opened() {
    let dir = filled();
    let log = Intake::open(dir.path()).unwrap();
    assert!(commits(dir.path()).is_empty());
    assert!(!log.has_length());
}

#[test]
fn zeros_are_written_where_they_are_meant_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for (from, to) in [(0, 4096), (1, 2), (100, 12_345), (4095, 4097), (8192, 8192)] {
        std::fs::write(&path, vec![7; 16_384]).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        write_zeros(&file, from, to).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let zeros = (0..16_384).map(|at| u8::from(!(from..to).contains(&at)) * 7);
        assert!(bytes.iter().copied().eq(zeros), "{from}..{to}");
    }
}
