//! A generation that is no longer written: one file that nobody changes any more.
//!
//! It is read without sled. sled would write to its file whenever it opens it, and would take some 8 MiB of memory for
//! each generation; here a content costs four bytes and one `pread`. That every record can be read this way is found
//! out when the generation is sealed; if it could not, sled would go on reading it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::chain::Chain;
use super::files::Files;
use super::history::{About, At, Block, Blocks};
use super::scan::{self, Whole};
use super::sightings::{Sighting, Sightings};
use super::store::StoreError;
use super::yielding::Yielding;
use crate::journal::record::content::{self, Content, FRAME, Place};
use crate::journal::record::frame::{self, Frame, KIND_CHUNK, KIND_CONTENT, Mark};
use crate::journal::record::{self, Record};

/// A sealed generation, open for reading.
#[derive(Debug)]
pub(super) struct Sealed {
    files: Files,
    /// Each commit with contents, and where its frames begin in `offsets`; ascending.
    commits: Vec<(u64, usize)>,
    /// Where each content frame begins, by commit and ordinal.
    offsets: Vec<u32>,
    /// What its small records are about.
    blocks: Blocks,
}

/// What a walk through the file found.
pub(super) struct Found {
    pub(super) sealed: Sealed,
    /// Where every small record is, by mark.
    pub(super) records: Vec<(Mark, u32)>,
    /// Content frames.
    pub(super) contents: u64,
    /// Two different records go by one name: one of them was never committed, and which cannot be told from here.
    pub(super) ambiguous: bool,
    pub(super) whole: Whole,
}

impl Sealed {
    /// Walks through these files and finds every record in them, save those of commits that were never finished.
    /// `newest`: the generation's newest commit, if that is known for certain.
    pub(super) fn open(files: Files, newest: Option<u64>) -> io::Result<Found> {
        Self::walk(files, newest, &Yielding::start())
    }

    /// The same at some pace.
    pub(super) fn walk(files: Files, newest: Option<u64>, turn: &Yielding) -> io::Result<Found> {
        let (mut records, mut contents) = (Sightings::default(), Sightings::default());
        let mut chain = Chain::default();
        let whole = scan::frames(&files, turn, |at, frame| {
            chain.see(&frame);
            // A generation is far smaller than 4 GiB; a frame beyond would count as missing.
            let Ok(at) = u32::try_from(at) else { return };
            let (mark, checksum) = (frame.mark, frame.checksum);
            match frame.kind {
                KIND_CONTENT | KIND_CHUNK => {
                    contents.push(Sighting { mark, at, checksum, rest: () });
                }
                _ => {
                    let length = frame::HEAD.saturating_add(frame.payload.len());
                    let rest = (u32::try_from(length).unwrap_or(u32::MAX), About::of_frame(&frame));
                    records.push(Sighting { mark, at, checksum, rest });
                }
            }
        })?;
        let mut last = None;
        let mut finished = |mark: Mark| match last {
            Some((commit, is)) if commit == mark.commit => is,
            _ => {
                let is = !chain.is_unfinished(mark.commit, newest);
                last = Some((mark.commit, is));
                is
            }
        };
        let (mut places, mut blocks) = (Vec::with_capacity(records.len()), Stretches::default());
        let mut records = records.first_of_each();
        while let Some(record) = records.next(&mut finished) {
            turn.step();
            places.push((record.mark, record.at));
            blocks.add(&record);
        }
        let (mut commits, mut offsets) = (Vec::new(), Vec::with_capacity(contents.len()));
        let mut contents = contents.first_of_each();
        while let Some(Sighting { mark, at, .. }) = contents.next(&mut finished) {
            turn.step();
            if commits.last().is_none_or(|(commit, _)| *commit != mark.commit) {
                commits.push((mark.commit, offsets.len()));
            }
            offsets.push(at);
        }
        // Copies are not kept.
        offsets.shrink_to_fit();
        let ambiguous = records.is_ambiguous() || contents.is_ambiguous();
        let contents = u64::try_from(offsets.len()).unwrap_or(u64::MAX);
        let sealed = Self { files, commits, offsets, blocks: blocks.end() };
        Ok(Found { sealed, records: places, contents, ambiguous, whole })
    }

    /// The small records at these places, read in blocks.
    pub(super) fn records<'a>(
        &'a self,
        places: &'a [(Mark, u32)],
    ) -> impl Iterator<Item = Result<(Mark, Record), StoreError>> + 'a {
        let mut block = Window::of(&self.files);
        places.iter().map(move |(mark, at)| {
            let frame = block.frame(u64::from(*at))?;
            Ok((*mark, record::record(&frame)?))
        })
    }

    /// What its small records are about.
    pub(super) fn blocks(&self) -> Blocks {
        self.blocks.clone()
    }

    /// The records of one stretch.
    pub(super) fn stretch(&self, start: u32, length: u32) -> Result<Bytes, StoreError> {
        let length = usize::try_from(length).unwrap_or(0);
        Ok(Bytes::from(self.files.read_at(u64::from(start), length)?))
    }

    /// Reads an event's content back.
    pub(super) fn content(&self, place: Place) -> Result<Content, StoreError> {
        let mut frames = Vec::new();
        for ordinal in place.ordinals() {
            let at = self.offset(place.commit, ordinal).ok_or(StoreError::Missing)?;
            let most = FRAME.min(usize::try_from(place.length).unwrap_or(FRAME));
            frames.push(frame_at(&self.files, at, most)?);
        }
        Ok(content::read(&frames)?)
    }

    /// Where a content frame is. Every ordinal of a commit is there, or the generation would not have been sealed.
    fn offset(&self, commit: u64, ordinal: u32) -> Option<u32> {
        let at = self.commits.binary_search_by_key(&commit, |(commit, _)| *commit).ok()?;
        let (_, begin) = self.commits.get(at)?;
        let end = self.commits.get(at.saturating_add(1)).map_or(self.offsets.len(), |(_, at)| *at);
        let index = begin.saturating_add(usize::try_from(ordinal).ok()?);
        self.offsets.get(index).copied().filter(|_| index < end)
    }
}

/// The frame at a place, of at most so many bytes.
pub(super) fn frame_at(files: &Files, at: u32, most: usize) -> Result<Bytes, StoreError> {
    let bytes = Bytes::from(files.read_at(u64::from(at), most)?);
    let mut rest: &[u8] = &bytes;
    frame::take(&mut rest)?;
    Ok(bytes.slice(..bytes.len().saturating_sub(rest.len())))
}

/// Longest stretch of small records.
const STRETCH: u32 = 16 * 1024;

/// Stretches of records that follow each other in the file as they do in time. One ends where the sequences of events
/// go back: what follows was written again, and would make it seem to hold events of all ages.
#[derive(Default)]
struct Stretches {
    blocks: Blocks,
    open: Option<Stretch>,
}

/// The last one, while something may follow.
struct Stretch {
    start: u32,
    end: u32,
    commit: u64,
    highest: Option<u64>,
    about: Vec<About>,
}

impl Stretches {
    fn add(&mut self, record: &Sighting<(u32, About)>) {
        let (length, about) = record.rest;
        let sequence = match about {
            About::Event(sequence, ..) => Some(sequence),
            About::Delivery(_) | About::Nothing => None,
        };
        let belongs = |open: &Stretch| {
            let ascends = sequence.is_none_or(|it| open.highest.is_none_or(|highest| highest < it));
            ascends && record.at == open.end && open.end.saturating_sub(open.start) < STRETCH
        };
        if !self.open.as_ref().is_some_and(belongs) {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| Stretch {
            start: record.at,
            end: record.at,
            commit: record.mark.commit,
            highest: None,
            about: Vec::new(),
        });
        open.end = open.end.saturating_add(length);
        open.highest = sequence.or(open.highest);
        open.about.push(about);
    }

    fn close(&mut self) {
        let Some(Stretch { start, end, commit, about, .. }) = self.open.take() else { return };
        let at = At::File { start, length: end.saturating_sub(start) };
        self.blocks.push(Arc::new(Block::new(at, commit, &about)));
    }

    fn end(mut self) -> Blocks {
        self.close();
        self.blocks
    }
}

/// A stretch of the files in memory.
pub(super) struct Window<'a> {
    files: &'a Files,
    bytes: Vec<u8>,
    base: u64,
}

impl<'a> Window<'a> {
    /// Nothing of these files yet.
    pub(super) fn of(files: &'a Files) -> Self {
        Self { files, bytes: Vec::new(), base: 0 }
    }

    /// The frame at a place.
    pub(super) fn frame(&mut self, at: u64) -> Result<Frame<'_>, StoreError> {
        if !self.holds(at) {
            self.base = at;
            self.bytes = self.files.read_at(at, scan::WINDOW)?;
        }
        let begin = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        Ok(frame::take(&mut self.bytes.get(begin..).unwrap_or_default())?)
    }

    /// Whether all of the frame at a place is here.
    fn holds(&self, at: u64) -> bool {
        let Some(begin) = at.checked_sub(self.base).and_then(|at| usize::try_from(at).ok()) else {
            return false;
        };
        let rest = self.bytes.get(begin..).unwrap_or_default();
        frame::length(rest).is_some_and(|length| length <= rest.len())
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, BytesMut};

    use super::*;

    #[test]
    fn copies_of_a_record_are_one_and_two_records_of_one_name_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        let mark = Mark { commit: 3, ordinal: 0 };
        let put =
            |out: &mut BytesMut, byte| frame::put(out, KIND_CONTENT, mark, |out| out.put_u8(byte));
        let mut bytes = BytesMut::new();
        put(&mut bytes, 1);
        put(&mut bytes, 1);
        std::fs::write(&db, &bytes).unwrap();
        let found = Sealed::open(Files::store(dir.path()).unwrap(), None).unwrap();
        assert_eq!((found.contents, found.ambiguous), (1, false));
        put(&mut bytes, 2);
        std::fs::write(&db, &bytes).unwrap();
        assert!(Sealed::open(Files::store(dir.path()).unwrap(), None).unwrap().ambiguous);
    }
}
