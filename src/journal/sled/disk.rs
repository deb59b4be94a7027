//! The disk under the journal: how full it is, and bytes held back for when it is full all the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

use super::{GENERATION_BYTES, dir};
use crate::journal::Health;

/// Bounds on the disk.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) path: PathBuf,
    pub(super) max_bytes: u64,
    pub(super) min_free: u64,
    pub(super) retention: Duration,
}

impl Limits {
    /// Bytes of payload after which a generation is full.
    pub(super) fn generation_bytes(&self) -> u64 {
        GENERATION_BYTES.min(self.max_bytes / 16)
    }
}

/// The ballast is at most 64 MiB, and at most an eighth of what may be used and of the disk.
const MAX_BALLAST: u64 = 64 * 1024 * 1024;
const PART_OF_ROOM: u64 = 8;

/// A file of bytes that nobody needs. Given up, it makes room on a full disk for settlements, and for one clean
/// reopen of a store whose last write failed.
#[derive(Clone, Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// The ballast of the journal at `root`, which may use `max_bytes`. Nothing is written yet.
    pub(super) fn new(root: &Path, max_bytes: u64) -> Self {
        let disk = dir::total_bytes(root).unwrap_or(u64::MAX);
        Self { path: root.join("ballast"), bytes: ballast_bytes(max_bytes, disk) }
    }

    /// Gives its bytes back to the file system; false when there were none.
    pub(super) fn release(&self) -> io::Result<bool> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the bytes, if that leaves `min_free` and as much again as the ballast. Whether they are there then.
    pub(super) fn take(&self, min_free: u64) -> io::Result<bool> {
        let there = std::fs::metadata(&self.path).map_or(0, |it| it.len());
        if there >= self.bytes {
            return Ok(true);
        }
        let free = dir::free_bytes(self.path.parent().unwrap_or(Path::new(".")))?;
        if free < min_free.saturating_add(self.bytes.saturating_mul(2)) {
            return Ok(false);
        }
        let file: File =
            OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => Ok(true),
            // A file system without it: the free-space mark has to do.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.release().map(|_| false)
            }
            Err(error) => {
                self.release()?;
                Err(error.into())
            }
        }
    }
}

/// How large a ballast is. Twice as much must be free before it is taken again, so on a small disk a large one would never
/// be.
fn ballast_bytes(max_bytes: u64, disk: u64) -> u64 {
    MAX_BALLAST.min(max_bytes.min(disk) / PART_OF_ROOM)
}

/// How full the disk is: as it was when it was last looked at, and what was written since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    /// Bytes that the journal took.
    pub(super) size: u64,
    /// Bytes that were free, if that could be found out.
    pub(super) free: Option<u64>,
    /// The disk has been full, and there is not room enough yet.
    pub(super) starved: bool,
    /// Bytes that were written since, as they are on the disk.
    pub(super) written: u64,
}

/// A commit's bytes on the disk, roughly: the engine writes them once as they come and once more in its pages.
const TIMES_WRITTEN: u64 = 2;
/// The disk is looked at again when this part of the room was written, but not after each few bytes: 2 MiB.
const LOOKS: u64 = 8;
const LEAST: u64 = 2 * 1024 * 1024;

impl Gauge {
    /// A commit of so many bytes was written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.written = self.written.saturating_add(bytes.saturating_mul(TIMES_WRITTEN));
    }

    /// Whether so much was written that the disk should be looked at again at once.
    pub(super) fn is_stale(&self, limits: &Limits) -> bool {
        let room = limits.max_bytes.saturating_sub(self.size);
        let free = self.free.map_or(u64::MAX, |free| free.saturating_sub(limits.min_free));
        self.written >= LEAST.max(room.min(free) / LOOKS)
    }

    /// Whether the next event can be taken.
    pub(super) fn verdict(&self, limits: &Limits) -> Health {
        let Limits { max_bytes, min_free, .. } = limits;
        let size = self.size.saturating_add(self.written);
        let free = self.free.map(|free| free.saturating_sub(self.written));
        if size >= *max_bytes {
            let detail =
                format!("the journal holds {size} bytes; journal.max_bytes is {max_bytes}");
            Health::Full { detail }
        } else if let Some(free) = free.filter(|free| free < min_free) {
            let detail =
                format!("{free} bytes are free on its disk; journal.min_free is {min_free}");
            Health::Full { detail }
        } else if self.starved {
            Health::Full { detail: "its disk has been full and has too little room yet".into() }
        } else {
            Health::Healthy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_since_the_last_look_counts_against_both_bounds() {
        let retention = Duration::ZERO;
        let limits =
            |max_bytes, min_free| Limits { path: PathBuf::new(), max_bytes, min_free, retention };
        let mut gauge = Gauge { size: 100, free: Some(1_000), ..Gauge::default() };
        assert_eq!(gauge.verdict(&limits(300, 800)), Health::Healthy);
        gauge.wrote(99);
        assert_eq!(gauge.verdict(&limits(300, 800)), Health::Healthy);
        gauge.wrote(2);
        assert!(!gauge.is_stale(&limits(300, 800)), "too little to look again");
        assert!(matches!(gauge.verdict(&limits(300, 0)), Health::Full { .. }));
        assert!(matches!(gauge.verdict(&limits(u64::MAX, 800)), Health::Full { .. }));
        gauge.wrote(LEAST);
        assert!(gauge.is_stale(&limits(LOOKS * LEAST, 0)));
        let unknown = Gauge { free: None, ..gauge };
        assert!(!unknown.is_stale(&limits(u64::MAX, 0)), "there is room enough");
    }

    #[test]
    fn a_ballast_is_small_enough_to_be_taken_again_on_a_small_disk() {
        let mib = |count: u64| count * 1024 * 1024;
        assert_eq!(ballast_bytes(mib(10_240), mib(100_000)), mib(64));
        assert_eq!(ballast_bytes(mib(80), mib(100_000)), mib(10));
        assert_eq!(ballast_bytes(mib(10_240), mib(160)), mib(20));
        let dir = tempfile::tempdir().unwrap();
        let disk = dir::total_bytes(dir.path()).unwrap();
        assert_eq!(Ballast::new(dir.path(), u64::MAX).bytes, ballast_bytes(u64::MAX, disk));
    }

    #[test]
    fn ballast_is_taken_given_back_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(dir.path(), 8 * 1024 * 1024);
        let there = || std::fs::metadata(dir.path().join("ballast")).map(|it| it.len()).ok();
        for _ in 0..2 {
            assert!(ballast.take(0).unwrap());
            assert_eq!(there(), Some(1024 * 1024));
            assert!(ballast.release().unwrap());
            assert!(!ballast.release().unwrap());
            assert_eq!(there(), None);
        }
        assert!(!ballast.take(u64::MAX).unwrap());
        assert_eq!(there(), None, "not when that would leave too little");
    }
}
