//! The disk under the journal: how full it is, and bytes held back for when it is full all the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::dir;

/// The ballast is at most 64 MiB, and at most an eighth of what may be used.
const MAX_BALLAST: u64 = 64 * 1024 * 1024;

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
        Self { path: root.join("ballast"), bytes: MAX_BALLAST.min(max_bytes / 8) }
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

#[cfg(test)]
mod tests {
    use super::*;

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
