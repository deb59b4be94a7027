//! Keys, streams and commits: the engine's view of one sled store, which is one generation.
//!
//! A commit is made durable as one entry of the intake log, and then put on the store's shelves value by value. Its
//! events' contents stand in parts of at most 13 KiB; its small records are packed into values of up to [`PACK`] bytes, so
//! that recovery reads few values and no body. Nothing is ever changed or removed in place: a generation is dropped whole.
//!
//! Nine of either stay below a quarter of a segment, above which sled would write them to a file of its own and never
//! sync it; the shelves see to that, for longer records too.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sled::Db;

use super::absorber::Absorber;
use super::dir;
use super::history::{About, At, Block, Blocks};
use super::intake::{self, Value};
use super::shelves::{Key, Shelves};
use super::unhurried::Unhurried;
use crate::journal::record::content::{self, Content, Parts, Place, View};
use crate::journal::record::frame::{self, Damage, Mark};
use crate::journal::record::{self, Record};
use crate::time::Timestamp;

/// Bytes of packed small records from which on a value takes no more of them; a record that is longer stands alone.
const PACK: usize = 12 * 1024;
/// Records that a pack of events has about.
const ABOUT: usize = 96;
/// sled writes a segment with one call, during which the kernel runs nothing else on that processor. With 2 MiB the 99th
/// percentile of acknowledgements at half the rate was 5 to 12 ms, with 512 KiB 3 to 4 ms.
const SEGMENT: usize = 512 * 1024;
/// What sled takes for the size of a segment; it panics at others.
const SEGMENTS: [usize; 3] = [SEGMENT, 1024 * 1024, 2 * 1024 * 1024];
/// sled's page cache. It does not cap the memory sled uses, but an explicit small value keeps it modest.
const CACHE: u64 = 8 * 1024 * 1024;
/// sled looks at what its cache holds only after every 64th access to one of 256 shares of it, and forgets only then, so a
/// page that is filled with nine values and never read again stays for long. So many reads of what was just written
/// bring each page to its 64 accesses by the time it is full: 124 MiB at most instead of 138 with 60,000 events of 1 KiB, when
/// values had at most 8 KiB.
const AGING_READS: usize = 6;
/// How often sled's own thread looks for space to reuse, of which there is little: shelves are never written again.
const SLED_HOUSEKEEPING_MS: u64 = 5_000;

/// How long an open waits for an earlier one of this process to let go of the files: 5 s at most.
const RELEASE_WAIT: Duration = Duration::from_millis(10);
const RELEASE_TRIES: u32 = 500;

const CONTENT: u8 = b'c';
const INDEX: u8 = b'i';

/// One open generation.
pub(super) struct Store {
    /// Stops before sled is closed.
    absorber: Absorber,
    shelves: Shelves,
    /// What its packs are about.
    blocks: Mutex<Blocks>,
    /// The engine is taking a commit up, or has failed to: then it must be opened once more.
    torn: AtomicBool,
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
    #[error("the store is closed")]
    Closed,
}

/// Why a commit was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Before the sync: the store must be opened again before anything else is written to it.
    Write(StoreError),
    /// In the sync.
    Sync(std::io::Error),
}

impl StoreError {
    /// What to tell the operator when it is the file system that refuses to take more; `None` for anything else.
    pub(super) fn no_room(&self) -> Option<String> {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let (Self::Sled(sled::Error::Io(error)) | Self::Sync(error)) = self else { return None };
        let full = matches!(error.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull);
        full.then(|| format!("the journal's disk takes nothing more: {error}"))
    }
}

/// The contents and records of one commit, being gathered.
#[derive(Debug)]
pub(super) struct Commit {
    number: u64,
    /// The one before it.
    after: u64,
    at: Timestamp,
    contents: Parts,
    packs: Vec<BytesMut>,
    /// Whom the records of each pack are about.
    about: Vec<Vec<About>>,
    records: u32,
}

impl Commit {
    /// A commit begun at `at`, with nothing in it yet, that follows the commit `after`.
    pub(super) fn new(number: u64, after: u64, at: Timestamp) -> Self {
        Self {
            number,
            after,
            at,
            contents: Parts::new(number),
            packs: Vec::new(),
            about: Vec::new(),
            records: 0,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Small records and content frames so far.
    pub(super) fn counts(&self) -> (u32, u32) {
        (self.records, self.contents.frames())
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.packs.iter().map(BytesMut::len).fold(self.contents.len(), usize::saturating_add)
    }

    /// Every value to be stored.
    fn values(&self) -> impl Iterator<Item = Value<'_>> {
        let contents = self.contents.iter().map(|(first, part)| (CONTENT, first, &part[..]));
        contents.chain((0..).zip(&self.packs).map(|(number, pack)| (INDEX, number, &pack[..])))
    }

    /// Adds an event's content and says where it will be.
    pub(super) fn put_content<'a>(&mut self, content: impl Into<View<'a>>) -> Place {
        self.contents.put(content)
    }

    /// The parts of its contents, each with the ordinal of its first frame.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u32, &Bytes)> {
        self.contents.iter()
    }

    /// Adds a small record.
    pub(super) fn put(&mut self, record: &Record) {
        let mark = Mark { commit: self.number, ordinal: self.records };
        self.records = self.records.saturating_add(1);
        if self.packs.last().is_none_or(|pack| pack.len() >= PACK) {
            self.begin_pack(BytesMut::with_capacity(PACK.saturating_add(512)));
        }
        let Some(pack) = self.packs.last_mut() else { return };
        let begin = pack.len();
        record::put_record(pack, mark, record);
        if begin > 0 && pack.len().saturating_sub(begin) > PACK {
            let alone = pack.split_off(begin);
            self.begin_pack(alone);
        }
        if let Some(about) = self.about.last_mut() {
            about.push(About::of(record));
        }
    }

    fn begin_pack(&mut self, pack: BytesMut) {
        self.packs.push(pack);
        self.about.push(Vec::with_capacity(ABOUT));
    }

    /// Adds the record that closes a commit and says how much it holds. Nothing is added after it.
    pub(super) fn finish(&mut self) {
        let records = self.records.saturating_add(1);
        let (at, after, contents) = (self.at, self.after, self.contents.frames());
        self.put(&Record::Commit { at, after, records, contents });
        self.contents.finish();
    }
}

impl Store {
    /// Opens a sled directory. May panic on damaged files: the caller catches that.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let db = open_sled(path)?;
        match Self::prepare(&db, path) {
            Ok((absorber, shelves, blocks)) => Ok(Self {
                absorber,
                shelves,
                blocks: Mutex::new(blocks),
                torn: AtomicBool::new(false),
            }),
            Err(error) => {
                if let Err(unsynced) = close(db, path) {
                    tracing::debug!(%unsynced, "a store was left open");
                }
                Err(error)
            }
        }
    }

    fn prepare(db: &Db, path: &Path) -> Result<(Absorber, Shelves, Blocks), StoreError> {
        // sled's flush writes but does not sync, so its file is synced through a descriptor of our own.
        let file = File::open(path.join("db"))?;
        // Whatever an earlier process wrote and did not sync must be durable before it is believed.
        dir::sync_tree(path)?;
        let shelves = Shelves::open(db)?;
        take_up(db, &shelves, &file, intake::read(path)?)?;
        let absorber = Absorber::start(path, db.clone(), file)?;
        dir::sync_dir(path)?;
        let blocks = blocks(&shelves)?;
        Ok((absorber, shelves, blocks))
    }

    /// Makes an empty sled directory.
    pub(super) fn create(path: &Path) -> Result<(), StoreError> {
        let db = open_sled(path)?;
        let flushed = db.flush();
        close(db, path)?;
        flushed?;
        Ok(())
    }

    /// Writes a commit. `timed_sync` is given the sync to make, `durable` is called when the commit is on stable storage,
    /// and then the engine takes it up. Until that is done, whoever looks for something waits.
    pub(super) fn write(
        &self,
        commit: &Commit,
        timed_sync: impl FnOnce(&mut dyn FnMut() -> std::io::Result<()>) -> std::io::Result<()>,
        durable: impl FnOnce(),
    ) -> Result<(), WriteError> {
        self.absorber.write((commit.number, commit.values()), timed_sync, || {
            let mut blocks = self.known();
            self.torn.store(true, Ordering::SeqCst);
            durable();
            for (number, about) in (0..).zip(&commit.about) {
                let at = At::Pack { commit: commit.number, number };
                blocks.push(Arc::new(Block::new(at, commit.number, about)));
            }
            // One by one: an atomic batch would make sled write its buffer twice, and the log makes the commit whole anyway.
            for (family, number, bytes) in commit.values() {
                self.shelves.add(key(family, commit.number, number), bytes)?;
            }
            self.torn.store(false, Ordering::SeqCst);
            Ok(())
        })
    }

    /// What its packs are about. Locked while the engine takes a commit up.
    fn known(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it; whether what was written behind the caller's back is durable.
    pub(super) fn close(mut self) -> Result<(), WriteError> {
        let ended = self.absorber.end();
        // sled syncs its file when it is dropped, and panics when that fails.
        match catch_unwind(AssertUnwindSafe(|| drop(self))) {
            Err(_panic) if ended.is_ok() => {
                let what = "the storage engine panicked while it was closed";
                Err(WriteError::Sync(std::io::Error::other(what)))
            }
            Ok(()) | Err(_) => ended,
        }
    }

    /// Lets nothing more be written behind the caller's back.
    pub(super) fn abandon(&self) {
        self.absorber.abandon();
    }

    /// Lets sled's cache forget, after a commit was written; see [`AGING_READS`].
    pub(super) fn age(&self, commit: &Commit) {
        let contents = commit.contents.iter().map(|(first, _)| key(CONTENT, commit.number, first));
        let packs = (0..).zip(&commit.packs).map(|(number, _)| key(INDEX, commit.number, number));
        for key in contents.chain(packs) {
            self.shelves.read(key, AGING_READS);
        }
    }

    /// What its packs are about, as of now.
    pub(super) fn blocks(&self) -> Blocks {
        self.known().clone()
    }

    /// The records of one pack.
    pub(super) fn pack(&self, commit: u64, number: u32) -> Result<Bytes, StoreError> {
        let pack = self.shelves.get(key(INDEX, commit, number))?.ok_or(StoreError::Missing)?;
        Ok(Bytes::copy_from_slice(&pack))
    }

    /// Reads an event's content back. While the engine takes it up, some of its parts are there and others are not;
    /// [`StoreError::Closed`] when it could not, until it is opened once more.
    pub(super) fn content(&self, place: Place) -> Result<Content, StoreError> {
        self.content_now(place).or_else(|_incomplete| {
            let known = self.known();
            if self.torn.load(Ordering::SeqCst) {
                return Err(StoreError::Closed);
            }
            drop(known);
            self.content_now(place)
        })
    }

    fn content_now(&self, place: Place) -> Result<Content, StoreError> {
        let parts = place.ordinals().map(|ordinal| self.part(place.commit, ordinal));
        Ok(content::read_at(place, &parts.collect::<Result<Vec<_>, _>>()?)?)
    }

    /// The part that a content frame stands in: the last one that begins with it or before it.
    fn part(&self, commit: u64, ordinal: u32) -> Result<Bytes, StoreError> {
        let part = self.shelves.last(key(CONTENT, commit, 0), key(CONTENT, commit, ordinal))?;
        Ok(Bytes::copy_from_slice(&part.ok_or(StoreError::Missing)?))
    }

    /// Every pack of small records, oldest first.
    pub(super) fn packs(&self) -> impl Iterator<Item = Result<Bytes, StoreError>> {
        self.values(INDEX)
    }

    /// Every part of contents, oldest first.
    pub(super) fn parts(&self) -> impl Iterator<Item = Result<Bytes, StoreError>> {
        self.values(CONTENT)
    }

    /// Every value of a family, oldest first.
    fn values(&self, family: u8) -> impl Iterator<Item = Result<Bytes, StoreError>> {
        self.shelves.family(family).map(|entry| Ok(Bytes::copy_from_slice(&entry?.1)))
    }

    /// Whether a commit is there.
    pub(super) fn has(&self, commit: u64) -> Result<bool, StoreError> {
        Ok(self.shelves.contains(key(INDEX, commit, 0))?)
    }
}

/// Lets go of sled. It syncs its file when it is dropped, and panics when that fails: then it is left open, and whoever
/// writes next meets the same failure.
fn close(db: Db, path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path.join("db")).and_then(|file| file.sync_all());
    if synced.is_err() {
        std::mem::forget(db);
    }
    Ok(synced?)
}

/// Gives sled everything that the intake log has, and makes that durable: also what sled seems to have, because it may
/// stand in memory only, after a sync of its file that failed.
fn take_up(
    db: &Db,
    shelves: &Shelves,
    file: &File,
    found: intake::Found,
) -> Result<(), StoreError> {
    if found.newer {
        return Err(Damage::Version.into());
    }
    if found.entries.is_empty() {
        return Ok(());
    }
    tracing::debug!(commits = found.entries.len(), "taken up from the intake log");
    for entry in found.entries {
        for (family, number, bytes) in entry.values {
            shelves.restore(key(family, entry.commit, number), &bytes)?;
        }
    }
    db.flush()?;
    Ok(file.sync_data()?)
}

/// What every pack is about. One that is damaged is about nobody; whoever opens the journal counts it.
fn blocks(shelves: &Shelves) -> Result<Blocks, StoreError> {
    let mut blocks = Blocks::new();
    for pack in shelves.family(INDEX) {
        let (key, pack) = pack?;
        let Some((commit, number)) = commit_and_part(&key) else { continue };
        let (mut rest, mut about): (&[u8], _) = (&pack, Vec::new());
        while !rest.is_empty() {
            about.extend(frame::take(&mut rest).ok().map(|frame| About::of_frame(&frame)));
        }
        blocks.push(Arc::new(Block::new(At::Pack { commit, number }, commit, &about)));
    }
    Ok(blocks)
}

pub(super) fn open_sled(path: &Path) -> Result<Db, sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(segment_of(path).unwrap_or(SEGMENT))
        .cache_capacity(CACHE)
        .flush_every_ms(Some(SLED_HOUSEKEEPING_MS));
    let mut tries = RELEASE_TRIES;
    loop {
        let unhurried = Unhurried::begin();
        let opened = config.open();
        // A new store has something to write, and sled's threads begin with that. Whoever writes next meets an error.
        drop(opened.as_ref().map(|db| db.flush()));
        drop(unhurried);
        match opened {
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

/// The size of the segments of a store that is there already; sled opens it with no other one.
fn segment_of(path: &Path) -> Option<usize> {
    let settings = std::fs::read(path.join("conf")).ok()?;
    let settings = String::from_utf8_lossy(&settings);
    let mut values = settings.lines().filter_map(|line| line.strip_prefix("segment_size:"));
    values.next()?.trim().parse().ok().filter(|size| SEGMENTS.contains(size))
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

fn key(family: u8, commit: u64, part: u32) -> Key {
    let mut bytes = [0; 13];
    if let Some(start) = bytes.first_chunk_mut::<9>() {
        *start = prefix(family, commit);
    }
    if let Some(end) = bytes.last_chunk_mut::<4>() {
        *end = part.to_be_bytes();
    }
    bytes
}

fn commit_and_part(key: &[u8]) -> Option<(u64, u32)> {
    let (_, rest) = key.split_first()?;
    let (commit, part) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*commit), u32::from_be_bytes(*part.first_chunk::<4>()?)))
}

#[cfg(test)]
impl Store {
    /// A store whose file the system refuses to sync.
    pub(super) fn open_unsyncable(path: &Path) -> Self {
        let db = open_sled(path).unwrap();
        let file = File::open("/dev/null").unwrap();
        let shelves = Shelves::open(&db).unwrap();
        let absorber = Absorber::start(path, db, file).unwrap();
        Self { absorber, shelves, blocks: Mutex::default(), torn: AtomicBool::new(false) }
    }

    /// Flips one bit of a stored value: what a failing disk does, past every check of ours.
    pub(super) fn damage(&self, family: u8, commit: u64, part: u32, at: usize) {
        let key = key(family, commit, part);
        let mut value = self.shelves.get(key).unwrap().unwrap().to_vec();
        value[at] ^= 1;
        self.shelves.replace(key, &value);
    }
}

#[cfg(test)]
pub(super) mod tests;
