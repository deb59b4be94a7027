//! The integrity ledger: what must be in the generations, kept outside of them.
//!
//! A store that lost its end, or all of it, can open as if nothing had ever been in it. So after a commit is
//! durable, and never before, an entry says how much its generation holds then. It is written within some milliseconds,
//! one entry for all commits of that time, without a sync of its own, which a killed process survives; a sync follows
//! within a second. So after a kill or a power loss the ledger lags behind the store, and is never ahead of it.
//!
//! The file is a row of 44-byte entries: `crc32c u32 | kind u8 | zero u8 x3 | generation u32 | a u64 | b u64 | c u64 |
//! d u32 | zero u32`, integers big-endian, the checksum over the 40 bytes after it. Of a kind, the latest entry of a
//! generation counts. An entry that fails its check is left out: it costs knowledge, not data.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, BytesMut};

use super::dir;

const ENTRY: usize = 44;
/// Written anew, with the latest entries only, when it has grown to this size: 4 MiB.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

const KIND_HOLDS: u8 = 1;
const KIND_SEALED: u8 = 2;
const KIND_REMOVED: u8 = 3;
const KIND_GIVEN: u8 = 4;

/// What a generation holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// The newest commit.
    pub(super) commit: u64,
    /// Small records in all its commits.
    pub(super) records: u64,
    /// Content frames in all its commits.
    pub(super) contents: u64,
}

/// The file of a generation that is no longer written, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) length: u64,
    pub(super) checksum: u32,
}

/// What the ledger knows of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// `None` when nothing was ever committed to it.
    pub(super) holds: Option<Holds>,
    pub(super) seal: Option<Seal>,
}

impl Known {
    /// The newest commit of a generation that is not written any more: whatever has a higher number was never finished.
    pub(super) fn last_if_sealed(self) -> Option<u64> {
        self.seal.and(self.holds).map(|holds| holds.commit)
    }
}

/// The open ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
    known: BTreeMap<u32, Known>,
    given: u64,
    /// The generation whose last commits are not written down yet.
    unwritten: Option<u32>,
    dirty: bool,
    /// A sync of the file failed: it is written anew, because a second one would lie.
    lost: bool,
}

/// What a ledger file says.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) known: BTreeMap<u32, Known>,
    /// Commits up to this number may have been begun, if not finished; `None` before the first.
    pub(super) given: Option<u64>,
    /// Entries that failed their check; the torn end of a file is not counted.
    pub(super) damaged: u64,
    /// False when there is no file.
    pub(super) found: bool,
}

/// Reads a ledger without opening it for writing.
pub(super) fn read(path: &Path) -> io::Result<Read> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::default()),
        Err(error) => return Err(error),
    };
    let mut read = Read { found: true, ..Read::default() };
    for entry in bytes.chunks_exact(ENTRY) {
        if !apply(&mut read.known, &mut read.given, entry) {
            read.damaged = read.damaged.saturating_add(1);
        }
    }
    Ok(read)
}

fn apply(known: &mut BTreeMap<u32, Known>, given: &mut Option<u64>, mut entry: &[u8]) -> bool {
    let checksum = entry.get_u32();
    if crc32c::crc32c(entry) != checksum {
        return false;
    }
    let kind = entry.get_u8();
    entry.advance(3);
    let generation = entry.get_u32();
    let (a, b, c, d) = (entry.get_u64(), entry.get_u64(), entry.get_u64(), entry.get_u32());
    match kind {
        KIND_HOLDS => {
            let holds = Holds { commit: a, records: b, contents: c };
            known.entry(generation).or_default().holds = Some(holds);
        }
        KIND_SEALED => {
            let seal = Seal { length: a, checksum: d };
            known.entry(generation).or_default().seal = Some(seal);
        }
        KIND_REMOVED => {
            known.remove(&generation);
        }
        KIND_GIVEN => *given = (*given).max(Some(a)),
        _ => return false,
    }
    true
}

impl Ledger {
    /// Opens the ledger for writing, holding exactly `known` from here on. Commits up to the number `given` may have
    /// been begun.
    pub(super) fn create(path: &Path, known: BTreeMap<u32, Known>, given: u64) -> io::Result<Self> {
        let mut bytes = BytesMut::new();
        put_given(&mut bytes, given);
        for (generation, known) in &known {
            if let Some(holds) = known.holds {
                put_holds(&mut bytes, *generation, holds);
            }
            if let Some(seal) = known.seal {
                put_seal(&mut bytes, *generation, seal);
            }
        }
        dir::replace(path, &bytes)?;
        let file = Arc::new(OpenOptions::new().write(true).open(path)?);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            known,
            given,
            unwritten: None,
            dirty: false,
            lost: false,
        })
    }

    /// What is known of a generation.
    pub(super) fn known(&self, generation: u32) -> Known {
        self.known.get(&generation).copied().unwrap_or_default()
    }

    /// A commit is durable; [`Ledger::write_down`] writes it, or whatever is written next.
    pub(super) fn holds(&mut self, generation: u32, holds: Holds) -> io::Result<()> {
        let written = match self.unwritten {
            Some(other) if other != generation => self.write_down(),
            _ => Ok(()),
        };
        self.known.entry(generation).or_default().holds = Some(holds);
        self.unwritten = Some(generation);
        written
    }

    /// Writes what is known of the newest commits.
    pub(super) fn write_down(&mut self) -> io::Result<()> {
        let Some(generation) = self.unwritten.take() else { return Ok(()) };
        let Some(holds) = self.known(generation).holds else { return Ok(()) };
        let mut entry = BytesMut::with_capacity(ENTRY);
        put_holds(&mut entry, generation, holds);
        self.append(&entry)
    }

    /// A generation will not be written any more.
    pub(super) fn sealed(&mut self, generation: u32, seal: Seal) -> io::Result<()> {
        self.write_down()?;
        self.known.entry(generation).or_default().seal = Some(seal);
        let mut entry = BytesMut::with_capacity(ENTRY);
        put_seal(&mut entry, generation, seal);
        self.append(&entry)
    }

    /// A generation is gone.
    pub(super) fn removed(&mut self, generation: u32) -> io::Result<()> {
        self.write_down()?;
        let gone = self.known.remove(&generation);
        let mut entry = BytesMut::with_capacity(ENTRY.saturating_mul(2));
        // No number is given twice, also when nothing is left that bears a higher one.
        let newest = gone.and_then(|gone| gone.holds).map_or(0, |holds| holds.commit);
        self.given = self.given.max(newest.saturating_add(1));
        put_given(&mut entry, self.given);
        put(&mut entry, KIND_REMOVED, generation, [0; 3], 0);
        self.append(&entry)
    }

    /// Whether everything that it was told is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.unwritten.is_none() && !self.dirty && !self.lost
    }

    /// The file, if anything was added to it since it was last taken: whoever takes it syncs it, and needs no lock for
    /// that.
    pub(super) fn take_unsynced(&mut self) -> io::Result<Option<Arc<File>>> {
        self.write_down()?;
        if self.lost || (self.dirty && self.length > MAX_BYTES) {
            *self = Self::create(&self.path, self.known.clone(), self.given)?;
        }
        Ok(std::mem::take(&mut self.dirty).then(|| Arc::clone(&self.file)))
    }

    /// The sync of what was taken failed.
    pub(super) fn not_synced(&mut self) {
        self.lost = true;
    }

    /// Makes durable what was added since the last sync.
    #[cfg(test)]
    fn sync(&mut self) -> io::Result<()> {
        self.take_unsynced()?.map_or(Ok(()), |file| file.sync_data())
    }

    fn append(&mut self, entry: &[u8]) -> io::Result<()> {
        self.dirty = true;
        // At its place, not at the end: after a write that stopped half-way the next one covers what it left.
        self.file.write_all_at(entry, self.length)?;
        self.length = self.length.saturating_add(u64::try_from(entry.len()).unwrap_or(0));
        Ok(())
    }
}

fn put_holds(out: &mut BytesMut, generation: u32, holds: Holds) {
    put(out, KIND_HOLDS, generation, [holds.commit, holds.records, holds.contents], 0);
}

fn put_given(out: &mut BytesMut, given: u64) {
    put(out, KIND_GIVEN, 0, [given, 0, 0], 0);
}

fn put_seal(out: &mut BytesMut, generation: u32, seal: Seal) {
    put(out, KIND_SEALED, generation, [seal.length, 0, 0], seal.checksum);
}

fn put(out: &mut BytesMut, kind: u8, generation: u32, numbers: [u64; 3], last: u32) {
    let mut entry = BytesMut::with_capacity(ENTRY);
    entry.put_u8(kind);
    entry.put_bytes(0, 3);
    entry.put_u32(generation);
    for number in numbers {
        entry.put_u64(number);
    }
    entry.put_u32(last);
    entry.put_u32(0);
    out.put_u32(crc32c::crc32c(&entry));
    out.put_slice(&entry);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const HOLDS: Holds = Holds { commit: 7, records: 8, contents: 9 };
    const SEAL: Seal = Seal { length: 10, checksum: 11 };

    #[test]
    fn the_latest_entries_are_read_back_and_a_torn_end_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LEDGER");
        let mut ledger = Ledger::create(&path, BTreeMap::new(), 5).unwrap();
        ledger.holds(1, Holds::default()).unwrap();
        ledger.holds(1, HOLDS).unwrap();
        ledger.sealed(1, SEAL).unwrap();
        ledger.holds(2, HOLDS).unwrap();
        ledger.removed(2).unwrap();
        ledger.sync().unwrap();
        let whole = read(&path).unwrap();
        assert_eq!(whole.known.len(), 1);
        assert_eq!(whole.known[&1], Known { holds: Some(HOLDS), seal: Some(SEAL) });
        assert_eq!(whole.given, Some(8), "one more than the removed generation's newest commit");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let torn = read(&path).unwrap();
        assert_eq!((torn.damaged, torn.known.len()), (0, 2), "the removal was torn off");
    }

    #[test]
    fn a_damaged_entry_is_counted_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LEDGER");
        let mut ledger = Ledger::create(&path, BTreeMap::new(), 5).unwrap();
        ledger.holds(1, HOLDS).unwrap();
        ledger.holds(2, HOLDS).unwrap();
        ledger.write_down().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in ENTRY..2 * ENTRY {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let read = read(&path).unwrap();
            assert_eq!((read.damaged, read.known.len()), (1, 1), "byte {at}");
        }
    }

    #[test]
    fn commits_that_follow_one_another_are_one_entry_and_each_generation_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LEDGER");
        let mut ledger = Ledger::create(&path, BTreeMap::new(), 5).unwrap();
        let entries = || std::fs::read(&path).unwrap().len() / ENTRY;
        let before = entries();
        for commit in 1..=100 {
            ledger.holds(1, Holds { commit, ..HOLDS }).unwrap();
        }
        assert_eq!(ledger.known(1).holds.unwrap().commit, 100, "known at once");
        assert_eq!(entries(), before, "and written later");
        ledger.holds(2, HOLDS).unwrap();
        assert_eq!(entries(), before + 1, "the one before it first");
        ledger.write_down().unwrap();
        ledger.write_down().unwrap();
        assert_eq!(entries(), before + 2);
        let known = read(&path).unwrap().known;
        assert_eq!(known[&1].holds.unwrap().commit, 100);
        assert_eq!(known[&2].holds, Some(HOLDS));
    }

    #[test]
    fn no_ledger_is_told_from_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!read(&dir.path().join("LEDGER")).unwrap().found);
    }

    #[test]
    fn a_ledger_whose_sync_failed_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LEDGER");
        let mut ledger = Ledger::create(&path, BTreeMap::new(), 0).unwrap();
        let holds = Holds { commit: 1, records: 2, contents: 3 };
        ledger.holds(7, holds).unwrap();
        assert!(!ledger.is_settled());
        let file = ledger.take_unsynced().unwrap().unwrap();
        assert!(ledger.is_settled(), "whoever has the file syncs it");
        ledger.not_synced();
        assert!(!ledger.is_settled());
        let there = std::mem::replace(&mut ledger.path, dir.path().join("gone").join("LEDGER"));
        assert!(ledger.take_unsynced().is_err());
        assert!(
            ledger.known(7).holds == Some(holds) && !ledger.is_settled(),
            "nothing is forgotten"
        );
        ledger.path = there;
        assert!(ledger.take_unsynced().unwrap().is_none(), "it was made durable at once");
        assert!(ledger.is_settled());
        assert_ne!(file.metadata().unwrap().ino(), path.metadata().unwrap().ino());
        assert_eq!(read(&path).unwrap().known[&7].holds, Some(holds));
    }
}
