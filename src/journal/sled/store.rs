//! Keys, streams and commits: the engine's view of one sled tree.
//!
//! A commit is one batch under one number. Its events' contents are one stream of bytes, cut into parts of
//! [`PART`] bytes; its small records are packed into values of up to [`PACK`] bytes, so that recovery reads few
//! values and no body. Nothing is ever changed in place; retention removes whole commits.
//!
//! Both sizes stay far below a quarter of a segment divided by the records of a sled leaf, above which sled
//! would write a value to a file of its own and never sync it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sled::{Batch, Db};

use super::dir::{self, Lock};
use crate::journal::record::{self, Content, Damage, Place, Record};
use crate::time::Timestamp;

/// Bytes of one part of a content stream.
pub(super) const PART: usize = 24 * 1024;
/// Most bytes of packed small records in one value, unless one record alone is larger.
const PACK: usize = 6 * 1024;
const SEGMENT: usize = 4 * 1024 * 1024;
/// sled's page cache. It does not cap the memory sled uses, but an explicit small value keeps it modest.
const CACHE: u64 = 32 * 1024 * 1024;
/// How often sled's own thread looks for space to reuse.
const SLED_HOUSEKEEPING_MS: u64 = 1_000;

/// How long an open waits for an earlier one of this process to let go of the files: 5 s at most.
const RELEASE_WAIT: Duration = Duration::from_millis(10);
const RELEASE_TRIES: u32 = 500;

const CONTENT: u8 = b'c';
const INDEX: u8 = b'i';
const NAME: u8 = b'n';

/// An open store and the right to use it.
pub(super) struct Store {
    /// Declared first: sled must be gone before the lock is given back.
    db: Db,
    /// Our own descriptor of sled's file: sled's flush writes but does not sync.
    file: File,
    _lock: Lock,
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("syncing the journal: {0}")]
    Sync(#[from] std::io::Error),
    #[error("{0}")]
    Damaged(#[from] Damage),
    #[error("a part of it is missing")]
    Missing,
}

/// The contents and records of one commit, being gathered.
#[derive(Debug)]
pub(super) struct Commit {
    number: u64,
    at: Timestamp,
    content: BytesMut,
    records: Vec<BytesMut>,
    names: Vec<(u16, String)>,
    removed: Vec<u64>,
}

impl Commit {
    /// A commit begun at `at`, with nothing in it yet.
    pub(super) fn new(number: u64, at: Timestamp) -> Self {
        Self {
            number,
            at,
            content: BytesMut::new(),
            records: Vec::new(),
            names: Vec::new(),
            removed: Vec::new(),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.removed.is_empty()
    }

    /// Adds an event's content and says where it will be.
    pub(super) fn put_content(&mut self, content: &Content) -> Place {
        let begin = self.content.len();
        record::put_content(&mut self.content, content);
        let length = self.content.len().saturating_sub(begin);
        Place {
            commit: self.number,
            offset: u64::try_from(begin).unwrap_or(u64::MAX),
            length: u32::try_from(length).unwrap_or(u32::MAX),
        }
    }

    /// Adds a small record.
    pub(super) fn put(&mut self, record: &Record) {
        match self.records.last_mut() {
            Some(pack) if pack.len() < PACK => record::put_record(pack, record),
            Some(_) | None => {
                let mut pack = BytesMut::with_capacity(PACK.saturating_add(256));
                if self.records.is_empty() {
                    record::put_record(&mut pack, &Record::Commit { at: self.at });
                }
                record::put_record(&mut pack, record);
                self.records.push(pack);
            }
        }
    }

    /// Adds a target's name under its number.
    pub(super) fn put_name(&mut self, number: u16, name: String) {
        self.names.push((number, name));
    }

    /// Removes an older commit as part of this one.
    pub(super) fn remove(&mut self, commit: u64) {
        self.removed.push(commit);
    }
}

impl Store {
    /// Opens a sled directory. May panic on damaged files: the caller catches that.
    pub(super) fn open(path: &Path, lock: Lock) -> Result<Self, StoreError> {
        let db = open_sled(path)?;
        // Whatever an earlier process wrote and did not sync must be durable before it is believed.
        dir::sync_tree(path)?;
        let file = File::open(path.join("db"))?;
        Ok(Self { db, file, _lock: lock })
    }

    /// Makes an empty sled directory.
    pub(super) fn create(path: &Path) -> Result<(), StoreError> {
        open_sled(path)?.flush()?;
        Ok(())
    }

    /// Writes a commit; `synced` is told how the sync went. When this returns, the commit is on stable storage.
    pub(super) fn write(
        &self,
        commit: &Commit,
        timed_sync: impl FnOnce(&mut dyn FnMut() -> std::io::Result<()>) -> std::io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (part, bytes) in commit.content.chunks(PART).enumerate() {
            batch.insert(&key(CONTENT, commit.number, part), bytes);
        }
        for (part, pack) in commit.records.iter().enumerate() {
            batch.insert(&key(INDEX, commit.number, part), &pack[..]);
        }
        for (number, name) in &commit.names {
            let mut value = BytesMut::new();
            record::put_name(&mut value, name);
            batch.insert(&name_key(*number), &value[..]);
        }
        for removed in &commit.removed {
            for family in [CONTENT, INDEX] {
                for found in self.db.scan_prefix(prefix(family, *removed)).keys() {
                    batch.remove(found?);
                }
            }
        }
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        timed_sync(&mut || self.file.sync_data())?;
        Ok(())
    }

    /// Reads an event's content back.
    pub(super) fn content(&self, place: Place) -> Result<Content, StoreError> {
        let offset = usize::try_from(place.offset).unwrap_or(usize::MAX);
        let length = usize::try_from(place.length).unwrap_or(usize::MAX);
        let end = offset.saturating_add(length);
        let (first, skip) = (offset / PART, offset % PART);
        let last = end.saturating_sub(1) / PART;
        let mut bytes = BytesMut::with_capacity(length.saturating_add(skip));
        for part in first..=last {
            let value =
                self.db.get(key(CONTENT, place.commit, part))?.ok_or(StoreError::Missing)?;
            bytes.extend_from_slice(&value);
        }
        let bytes = bytes.freeze();
        let wanted = skip..skip.saturating_add(length);
        if wanted.end > bytes.len() {
            return Err(StoreError::Missing);
        }
        Ok(record::content(&bytes.slice(wanted))?)
    }

    /// Every pack of small records with its commit's number, oldest first.
    pub(super) fn packs(&self) -> impl Iterator<Item = Result<(u64, Bytes), StoreError>> {
        self.db.scan_prefix([INDEX]).map(|found| {
            let (key, value) = found?;
            Ok((commit_of(&key), Bytes::copy_from_slice(&value)))
        })
    }

    /// The packs of the oldest commit after `after`, or of the oldest of all.
    pub(super) fn commit_after(
        &self,
        after: Option<u64>,
    ) -> Result<Option<(u64, Vec<Bytes>)>, StoreError> {
        let from = prefix(INDEX, after.map_or(0, |commit| commit.saturating_add(1)));
        let to = prefix(INDEX, u64::MAX);
        let Some(first) = self.db.range(from..to).keys().next() else { return Ok(None) };
        let commit = commit_of(&first?);
        let values = self.db.scan_prefix(prefix(INDEX, commit)).values();
        let packs = values.map(|value| Ok(Bytes::copy_from_slice(&value?)));
        Ok(Some((commit, packs.collect::<Result<_, StoreError>>()?)))
    }

    /// Every target's name under its number, in order.
    pub(super) fn names(&self) -> Result<Vec<(u16, String)>, StoreError> {
        let mut names = Vec::new();
        for found in self.db.scan_prefix([NAME]) {
            let (key, value) = found?;
            let number = key.get(1..).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
            names.push((number.map_or(0, u16::from_be_bytes), record::name(&value)?));
        }
        Ok(names)
    }

    /// Bytes the store occupies.
    pub(super) fn size(&self) -> Result<u64, StoreError> {
        Ok(self.db.size_on_disk()?)
    }
}

fn open_sled(path: &Path) -> Result<Db, sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT)
        .cache_capacity(CACHE)
        .flush_every_ms(Some(SLED_HOUSEKEEPING_MS));
    let mut tries = RELEASE_TRIES;
    loop {
        match config.open() {
            // Our own lock says that no other process is here: sled's threads of an earlier open in this process
            // have not let go of the file yet.
            Err(sled::Error::Io(error)) if tries > 0 && is_held(&error) => {
                tries -= 1;
                std::thread::park_timeout(RELEASE_WAIT);
            }
            opened => return opened,
        }
    }
}

/// sled wraps the system's answer to its lock in an error of its own making.
fn is_held(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Other)
}

fn prefix(family: u8, commit: u64) -> [u8; 9] {
    let mut bytes = [family; 9];
    if let Some(number) = bytes.last_chunk_mut::<8>() {
        *number = commit.to_be_bytes();
    }
    bytes
}

fn key(family: u8, commit: u64, part: usize) -> [u8; 13] {
    let mut bytes = [0; 13];
    if let Some(start) = bytes.first_chunk_mut::<9>() {
        *start = prefix(family, commit);
    }
    if let Some(end) = bytes.last_chunk_mut::<4>() {
        *end = u32::try_from(part).unwrap_or(u32::MAX).to_be_bytes();
    }
    bytes
}

fn name_key(number: u16) -> [u8; 3] {
    let [high, low] = number.to_be_bytes();
    [NAME, high, low]
}

fn commit_of(key: &[u8]) -> u64 {
    let number = key.get(1..9).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    number.map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
impl Store {
    /// Flips one bit of a stored value: what a failing disk does, past every check of ours.
    pub(super) fn damage(&self, family: u8, commit: u64, part: usize, at: usize) {
        let key = key(family, commit, part);
        let mut value = self.db.get(key).unwrap().unwrap().to_vec();
        value[at] ^= 1;
        self.db.insert(key, value).unwrap();
    }
}
