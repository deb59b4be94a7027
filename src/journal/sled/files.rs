//! The files of a generation that hold records, as one row of bytes: sled's own, and the intake log's.
//!
//! A place in the row is an address that stays what it is while files grow.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::intake;

/// Where the files of the intake log begin in the row; sled's begins at 0. No file is as large as the room it has: a
/// generation takes some 64 MiB.
const INTAKE_AT: [u64; 2] = [0xe000_0000, 0xf000_0000];

/// The files, open for reading.
#[derive(Debug)]
pub(super) struct Files {
    /// sled's; `None` when it is not there.
    store: Option<File>,
    /// Each with its place in the row.
    intake: Vec<(u64, File)>,
}

impl Files {
    /// sled's file alone.
    pub(super) fn store(generation: &Path) -> io::Result<Self> {
        let store = Some(File::open(generation.join("db"))?);
        Ok(Self { store, intake: Vec::new() })
    }

    /// Whatever is there; an error when nothing is.
    pub(super) fn all(generation: &Path) -> io::Result<Self> {
        let store = if_there(&generation.join("db"))?;
        let mut log = Vec::new();
        for (at, path) in INTAKE_AT.into_iter().zip(intake::files(generation)) {
            log.extend(if_there(&path)?.map(|file| (at, file)));
        }
        if store.is_none() && log.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { store, intake: log })
    }

    /// sled's file, if it is there.
    pub(super) fn of_store(&self) -> Option<&File> {
        self.store.as_ref()
    }

    /// The files of the log, each with its place.
    pub(super) fn of_intake(&self) -> &[(u64, File)] {
        &self.intake
    }

    /// So many bytes from a place on, or fewer at the end of a file.
    pub(super) fn read_at(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let log = self.intake.iter().rev().find(|(begin, _)| *begin <= at);
        let log = log.map(|(begin, file)| (*begin, file));
        let Some((begin, file)) = log.or_else(|| self.store.as_ref().map(|file| (0, file))) else {
            return Ok(Vec::new());
        };
        read_at(file, at.saturating_sub(begin), most)
    }
}

fn if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// So many bytes of a file, or fewer at its end.
fn read_at(file: &File, at: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let from = at.saturating_add(u64::try_from(filled).unwrap_or(0));
        match file.read_at(rest, from)? {
            0 => break,
            count => filled = filled.saturating_add(count),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
