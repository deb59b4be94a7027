//! The intake log: what makes a commit durable with one write and one wait for the disk.
//!
//! sled alone makes the caller wait three times: it writes its buffers in two pieces, waits for each, and does not sync.
//! So a commit goes here first, with one write and one fdatasync, and is acknowledged; sled takes it up at once and writes
//! it when it likes. The log has two files. When one is full, or a second old, the other takes over, and a thread of its
//! own has sled write what it has and syncs sled's file; from then on the full one may be written over. So everything
//! that was acknowledged stands, at any moment, in what sled has synced or in one of these files, and an open gives sled
//! again what it does not have.
//!
//! ```text
//! generations/00000003/intake.0, intake.1
//! a file:   magic u64 | pass u64 | pass u64 | pass u64 | entries
//! an entry: magic u32 | crc32c u32 | pass u64 | commit u64 | length u32 | version u32 | values
//! a value:  family u8 | zero u8 x3 | number u32 | length u32 | bytes
//! ```
//!
//! Integers are big-endian; the checksum is over everything of the entry after it. Each time a file is begun it gets
//! another `pass`, which nobody can guess, so what stands behind its entries from an earlier pass is not taken for one of
//! them, even if a sender made his webhook look like an entry. An entry that fails its check was being written when
//! the power went, or it is damaged; then the chain of commits, or the ledger, says that one is missing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, BufMut as _};
use rand::TryRng as _;
use rand::rngs::SysRng;

use super::dir;

/// A file that has grown to this size is full; less while the store is small, so that the log takes little beside it.
const FULL: u64 = 1024 * 1024;
const FULL_AT_LEAST: u64 = 128 * 1024;
const PART_OF_STORE: u64 = 16;
/// A file that must grow is made twice as long at once, but not by more than this: a sync of a file that has grown waits for
/// the file system's own journal, one of bytes written in place does not.
const MOST_AHEAD: u64 = 1024 * 1024;
const LEAST_LENGTH: u64 = 4096;
/// A page. What is written in larger pieces the kernel keeps in larger ones, and an entry in one of them has it count,
/// and look through, the whole of it.
const PIECE: usize = 4096;
/// One that cannot be relieved in time grows up to this size; then commits wait.
const MOST: u64 = 32 * 1024 * 1024;
const NAMES: [&str; 2] = ["intake.0", "intake.1"];
const FILE_MAGIC: u64 = 0x6576_6572_686f_6f6b;
const MAGIC: u32 = 0xe7e4_109e;
const VERSION: u32 = 1;
/// What a file begins with, and what an entry does.
const FILE_HEAD: usize = 32;
const HEAD: usize = 32;
/// Magic and checksum.
const CHECKED_FROM: usize = 8;
const VALUE_HEAD: usize = 12;

/// Where the files of a generation's log are.
pub(super) fn files(generation: &Path) -> [PathBuf; 2] {
    NAMES.map(|name| generation.join(name))
}

/// One value of a commit: its family, its number and its bytes.
pub(super) type Value<'a> = (u8, u32, &'a [u8]);

/// A commit as it stands in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) commit: u64,
    pub(super) values: Vec<(u8, u32, Vec<u8>)>,
}

/// What was found in the log.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By commit.
    pub(super) entries: Vec<Entry>,
    /// Some of it was written by a later release.
    pub(super) newer: bool,
}

/// Reads every whole entry of the log.
pub(super) fn read(generation: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for path in files(generation) {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for span in spans(&bytes) {
            let Some(entry) = entry_at(&bytes, span.range.start).filter(|_| span.whole) else {
                continue;
            };
            if entry.version > VERSION {
                found.newer = true;
                continue;
            }
            let values = take_values(bytes.get(entry.values).unwrap_or_default());
            found.entries.extend(values.map(|values| Entry { commit: entry.commit, values }));
        }
    }
    found.entries.sort_by_key(|entry| entry.commit);
    Ok(found)
}

/// Removes the log of a generation whose store has everything.
pub(super) fn remove(generation: &Path) -> io::Result<()> {
    let mut removed = false;
    for path in files(generation) {
        match std::fs::remove_file(path) {
            Ok(()) => removed = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if removed { dir::sync_dir(generation) } else { Ok(()) }
}

/// Puts what the log has at the end of the store's file, which its engine does not read any more, and removes the log.
pub(super) fn append_to_store(generation: &Path) -> io::Result<()> {
    let mut store = OpenOptions::new().append(true).open(generation.join("db"))?;
    for path in files(generation) {
        match std::fs::read(path) {
            Ok(bytes) => {
                for span in spans(&bytes) {
                    store.write_all(bytes.get(span.range).unwrap_or_default())?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    store.sync_all()?;
    remove(generation)
}

/// A stretch of a file that belongs to its last pass: an entry, or what is left of a damaged one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) range: Range<usize>,
    pub(super) whole: bool,
}

/// Everything of the last pass that stands in a file of the log, in order.
pub(super) fn spans(bytes: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    let Some(pass) = pass_of(bytes) else { return spans };
    let mut at = FILE_HEAD;
    loop {
        if let Some(entry) = entry_at(bytes, at).filter(|entry| entry.pass == pass) {
            spans.push(Span { range: at..entry.values.end, whole: true });
            at = entry.values.end;
            continue;
        }
        let next = later(bytes, at, pass);
        let Some(end) = next.or_else(|| torn(bytes, at, pass)) else { return spans };
        spans.push(Span { range: at..end, whole: false });
        if next.is_none() {
            return spans;
        }
        at = end;
    }
}

/// The pass of a file; one of its copies may be damaged.
fn pass_of(bytes: &[u8]) -> Option<u64> {
    let mut head = bytes.get(..FILE_HEAD)?;
    head.advance(8);
    let copies = [head.get_u64(), head.get_u64(), head.get_u64()];
    copies.into_iter().find(|one| copies.iter().filter(|other| *other == one).count() > 1)
}

/// Where the next whole entry of a pass begins.
fn later(bytes: &[u8], at: usize, pass: u64) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let magic = MAGIC.to_be_bytes();
    let places = memchr::memmem::find_iter(rest, &magic);
    let mut places = places.map(|place| at.saturating_add(place));
    places.find(|place| entry_at(bytes, *place).is_some_and(|entry| entry.pass == pass))
}

/// The end of an entry that fails its check, if there is anything of one.
fn torn(bytes: &[u8], at: usize, pass: u64) -> Option<usize> {
    let mut head = bytes.get(at..at.saturating_add(HEAD))?;
    let magic = head.get_u32();
    head.advance(4);
    let (of, _commit, length) = (head.get_u64(), head.get_u64(), head.get_u32());
    let end = at.saturating_add(HEAD).saturating_add(usize::try_from(length).ok()?);
    let belongs = of == pass || (magic == MAGIC && entry_at(bytes, at).is_none());
    belongs.then_some(end.min(bytes.len()))
}

/// An entry whose bytes are as they were written.
struct Checked {
    pass: u64,
    commit: u64,
    version: u32,
    values: Range<usize>,
}

fn entry_at(bytes: &[u8], at: usize) -> Option<Checked> {
    let begin = at.checked_add(HEAD)?;
    let mut head = bytes.get(at..begin)?;
    let (magic, checksum) = (head.get_u32(), head.get_u32());
    let checked = head;
    let (pass, commit) = (head.get_u64(), head.get_u64());
    let (length, version) = (head.get_u32(), head.get_u32());
    let values = begin..begin.checked_add(usize::try_from(length).ok()?)?;
    let sum = crc32c::crc32c_append(crc32c::crc32c(checked), bytes.get(values.clone())?);
    (magic == MAGIC && checksum == sum).then_some(Checked { pass, commit, version, values })
}

fn take_values(mut rest: &[u8]) -> Option<Vec<(u8, u32, Vec<u8>)>> {
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (mut head, after) = rest.split_at_checked(VALUE_HEAD)?;
        let family = head.get_u8();
        head.advance(3);
        let (number, length) = (head.get_u32(), head.get_u32());
        let (bytes, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        values.push((family, number, bytes.to_vec()));
        rest = after;
    }
    Some(values)
}

/// Adds an entry to a buffer.
fn put_entry<'a>(
    buffer: &mut Vec<u8>,
    pass: u64,
    commit: u64,
    values: impl Iterator<Item = Value<'a>>,
) {
    let begin = buffer.len();
    buffer.put_u32(MAGIC);
    buffer.put_u32(0);
    buffer.put_u64(pass);
    buffer.put_u64(commit);
    buffer.put_u64(0);
    for (family, number, bytes) in values {
        buffer.put_u8(family);
        buffer.put_bytes(0, 3);
        buffer.put_u32(number);
        buffer.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        buffer.put_slice(bytes);
    }
    let Some(entry) = buffer.get_mut(begin..) else { return };
    let length = u32::try_from(entry.len().saturating_sub(HEAD)).unwrap_or(u32::MAX);
    if let Some(mut place) = entry.get_mut(24..HEAD) {
        place.put_u32(length);
        place.put_u32(VERSION);
    }
    let sum = crc32c::crc32c(entry.get(CHECKED_FROM..).unwrap_or_default());
    if let Some(mut place) = entry.get_mut(4..CHECKED_FROM) {
        place.put_u32(sum);
    }
}

/// What a file of this pass begins with.
fn put_head(buffer: &mut Vec<u8>, pass: u64) {
    buffer.put_u64(FILE_MAGIC);
    for _ in 0..3 {
        buffer.put_u64(pass);
    }
}

/// The log, open for writing.
#[derive(Debug)]
pub(super) struct Intake {
    files: [File; 2],
    /// The file that is written: 0 or 1.
    active: usize,
    pass: u64,
    /// Where the next entry begins.
    end: u64,
    /// How long the files are at least.
    lengths: [u64; 2],
    /// The other file may be written over.
    free: bool,
    /// Where the file that is written is full.
    full: u64,
    buffer: Vec<u8>,
}

impl Intake {
    /// Opens the files, whose entries are not needed any more: none of them is found again, however soon the next start
    /// comes.
    pub(super) fn open(generation: &Path) -> io::Result<Self> {
        let open = |path: &PathBuf| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
        };
        let [first, second] = files(generation);
        let files = [open(&first)?, open(&second)?];
        let lengths = [files[0].metadata()?.len(), files[1].metadata()?.len()];
        let buffer = Vec::new();
        let (pass, full) = (pass()?, FULL_AT_LEAST);
        let mut log = Self { files, active: 0, pass, end: 0, lengths, free: true, full, buffer };
        log.cut()?;
        Ok(log)
    }

    /// Writes a commit; it is not durable before [`Intake::file`] is synced.
    pub(super) fn write<'a>(
        &mut self,
        commit: u64,
        values: impl Iterator<Item = Value<'a>>,
    ) -> io::Result<()> {
        self.buffer.clear();
        if self.is_empty() {
            put_head(&mut self.buffer, self.pass);
        }
        put_entry(&mut self.buffer, self.pass, commit, values);
        self.file().write_all_at(&self.buffer, self.end)?;
        self.end = self.end.saturating_add(u64::try_from(self.buffer.len()).unwrap_or(0));
        self.grow_ahead();
        // One large commit must not leave a large buffer behind.
        self.buffer.shrink_to(256 * 1024);
        Ok(())
    }

    /// Makes the file longer than it must be, if it was too short.
    fn grow_ahead(&mut self) {
        let end = self.end;
        let length = self.lengths.get(self.active).copied().unwrap_or(u64::MAX);
        if end <= length {
            return;
        }
        let wished = end.next_power_of_two().clamp(LEAST_LENGTH, end.saturating_add(MOST_AHEAD));
        // Where there is no room for more, the entry itself is there.
        let grown = write_zeros(self.file(), end, wished);
        if let Some(length) = self.lengths.get_mut(self.active) {
            *length = if grown.is_ok() { wished } else { end };
        }
    }

    /// The file that is written.
    pub(super) fn file(&self) -> &File {
        let [first, second] = &self.files;
        if self.active == 0 { first } else { second }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.end >= self.full
    }

    /// Nothing more may be written before the other file has been relieved.
    pub(super) fn overflows(&self) -> bool {
        self.end >= MOST && !self.free
    }

    /// Lets the other file take over, if it is free; what stands in this one must then be made durable elsewhere.
    pub(super) fn take_over(&mut self) -> io::Result<bool> {
        if !self.free || self.is_empty() {
            return Ok(false);
        }
        self.pass = pass()?;
        self.active = 1usize.saturating_sub(self.active);
        self.end = 0;
        self.free = false;
        Ok(true)
    }

    /// What stood in the file that was written before is durable in the store, whose file has this length.
    pub(super) fn relieved(&mut self, store: u64) {
        self.free = true;
        // In few steps, because each makes the files longer.
        self.full = (store / PART_OF_STORE).next_power_of_two().clamp(FULL_AT_LEAST, FULL);
    }

    /// Gives the room on the disk back when nothing in the files is needed.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        if self.free && self.is_empty() {
            for (file, length) in self.files.iter().zip(&mut self.lengths) {
                if *length > 0 {
                    file.set_len(0)?;
                    *length = 0;
                }
            }
        }
        Ok(())
    }

    /// Whether a cut would give anything back.
    pub(super) fn has_length(&self) -> bool {
        self.lengths.iter().any(|length| *length > 0)
    }
}

/// Zeros from one place in a file to another.
fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let page = u64::try_from(PIECE).unwrap_or(u64::MAX);
    let mut at = from;
    while at < to {
        let next = at.saturating_add(1).next_multiple_of(page).min(to);
        let piece = usize::try_from(next.saturating_sub(at)).unwrap_or(PIECE);
        file.write_all_at([0; PIECE].get(..piece).unwrap_or_default(), at)?;
        at = next;
    }
    Ok(())
}

/// A number that nobody can guess.
fn pass() -> io::Result<u64> {
    SysRng.try_next_u64().map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
