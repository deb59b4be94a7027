//! Everything of a journal that can be read: its events as they stand, without the engine and without a change.
//!
//! The small records are folded as an open folds them, but events that are settled are kept, and what is missing is
//! named instead of refused. Bodies are read one by one when they are asked for, so a journal with a million events takes
//! some hundred megabytes of memory here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::OpenError;
use super::chain::Chain;
use super::diagnosis;
use super::dir::{self, Lock};
use super::files::Files;
use super::keep;
use super::ledger;
use super::recover::placeholder;
use super::scan;
use super::sealed::{Window, frame_at};
use super::store::StoreError;
use super::yielding::Yielding;
use crate::journal::index::{Slot, State};
use crate::journal::notes::Notes;
use crate::journal::quarantine::Kept;
use crate::journal::record::content::{self, Content, FRAME, Place};
use crate::journal::record::frame::{Frame, KIND_CHUNK, KIND_COMMIT, KIND_CONTENT, Mark};
use crate::journal::record::{self, Record};
use crate::journal::slot::Slots;
use crate::journal::table::Table;
use crate::journal::{DeliveryState, Note, PastAttempt, Stage};
use crate::model::{DedupKey, Event, EventId, Name, Rejection, RejectionId};
use crate::time::Timestamp;

/// What most small records fit into; a longer one is read again.
const SMALL: usize = 2 * 1024;

/// A journal, read.
pub struct Archive {
    volumes: Vec<Volume>,
    entries: Table<Entry>,
    names: BTreeMap<u16, Name>,
    notes: Notes,
    rejections: BTreeMap<RejectionId, (usize, Kept<Place>)>,
    keys: Vec<(EventId, Timestamp, DedupKey)>,
    /// Where the record of each attempt is, by the event's sequence, oldest first.
    attempts: Vec<(u64, usize, u32)>,
    /// Contents whose event's record is gone, with the events' ids.
    orphans: Vec<(EventId, Held)>,
    /// Keeps everyone else away as long as this is read.
    _lock: Option<Lock>,
}

/// One generation's files.
struct Volume {
    files: Arc<Files>,
    contents: Vec<Seen>,
    chain: Chain,
}

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    mark: Mark,
    checksum: u32,
    at: u32,
    kind: u8,
}

/// Where a content is.
#[derive(Clone, Copy, Debug)]
struct Held {
    volume: usize,
    place: Place,
}

/// One event.
struct Entry {
    id: EventId,
    held: Held,
    /// Where its record is.
    at: u32,
    deliveries: Slots,
}

/// One event of an archive.
#[derive(Clone, Debug)]
pub enum Archived {
    /// It can be read.
    Whole {
        /// As it was received.
        event: Event,
        /// Each as it stands.
        deliveries: Vec<DeliveryState>,
        /// The keys that it brought.
        dedup: Vec<DedupKey>,
        /// Every attempt whose record can be read.
        attempts: Vec<PastAttempt>,
    },
    /// Its content can be read, its record cannot: where it was to go is not known any more.
    Astray(Event),
    /// Its record can be read, its content cannot: it cannot be delivered.
    Lost {
        /// Whose content it is.
        id: EventId,
        /// Each as it stands.
        deliveries: Vec<DeliveryState>,
    },
}

impl Archive {
    /// Reads every small record of the journal at `root`.
    pub(super) fn read(root: &Path) -> Result<Self, OpenError> {
        let known = ledger::read(&dir::ledger(root))
            .map_err(|source| OpenError::io("reading", &dir::ledger(root), source))?;
        let mut archive = Self {
            volumes: Vec::new(),
            entries: Table::new(),
            names: BTreeMap::new(),
            notes: Notes::default(),
            rejections: BTreeMap::new(),
            keys: Vec::new(),
            attempts: Vec::new(),
            orphans: Vec::new(),
            _lock: None,
        };
        for number in diagnosis::counted(root, &known)? {
            let newest = known.known.get(&number).copied().unwrap_or_default().last_if_sealed();
            let path = dir::generation(root, number);
            match archive.volume(&path, newest) {
                Ok(()) => {}
                Err(VolumeError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(VolumeError::Io(source)) => {
                    return Err(OpenError::io("reading", &path, source));
                }
                Err(VolumeError::Newer) => {
                    let path = path.join("db");
                    return Err(OpenError::Newer { path, format: diagnosis::NEXT_FORMAT });
                }
            }
        }
        archive.attempts.sort_by_key(|(sequence, ..)| *sequence);
        Ok(archive)
    }

    /// The same, keeping everyone else away.
    pub(super) fn holding(self, lock: Option<Lock>) -> Self {
        Self { _lock: lock, ..self }
    }

    /// How many events it has, those included that cannot be read.
    pub fn len(&self) -> usize {
        self.entries.iter().count().saturating_add(self.orphans.len())
    }

    /// The id of every event.
    pub fn ids(&self) -> impl Iterator<Item = EventId> {
        let entries = self.entries.iter().map(|(_, kept)| kept.id);
        entries.chain(self.orphans.iter().map(|(id, _)| *id))
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every event, in the order they were accepted; those without a record at the end.
    pub fn events(&self) -> impl Iterator<Item = io::Result<Archived>> {
        let entries = self.entries.iter().map(|(sequence, kept)| self.event(sequence, kept));
        let orphans = self.orphans.iter().filter_map(|(id, held)| {
            let content = self.content(*id, *held).transpose()?;
            content.map(|content| Some(Archived::Astray(event(content)?))).transpose()
        });
        entries.chain(orphans)
    }

    /// Dedup keys of events that are not kept any more, their windows not over at `now`.
    pub fn keys(&self, now: Timestamp) -> Vec<(EventId, Timestamp, DedupKey)> {
        let window = crate::journal::dedup::window;
        self.keys.iter().filter(|(_, at, key)| at.plus(window(key)) > now).copied().collect()
    }

    /// The id of every rejection.
    pub fn rejection_ids(&self) -> impl Iterator<Item = RejectionId> {
        self.rejections.keys().copied()
    }

    /// Every rejection, or the id of one whose content cannot be read.
    pub fn rejections(&self) -> impl Iterator<Item = io::Result<Result<Rejection, RejectionId>>> {
        self.rejections.iter().map(|(id, (volume, kept))| {
            let held = Held { volume: *volume, place: kept.place };
            let content = self.content(EventId::from_bytes(id.to_bytes()), held)?;
            Ok(content.map(|content| keep::whole(*id, kept, content)).ok_or(*id))
        })
    }

    /// Every note.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.iter().collect()
    }

    /// Bytes of all contents that are referred to: what a journal of the same events needs at least.
    pub(super) fn payload(&self) -> u64 {
        let lengths = self.entries.iter().map(|(_, kept)| u64::from(kept.held.place.length));
        lengths.fold(0, u64::saturating_add)
    }

    fn volume(&mut self, generation: &Path, newest: Option<u64>) -> Result<(), VolumeError> {
        let (mut records, mut contents) = (Vec::new(), Vec::new());
        let mut chain = Chain::default();
        let files = Arc::new(Files::all(generation)?);
        let whole = scan::frames(&files, &Yielding::start(), |at, frame| {
            let Ok(at) = u32::try_from(at) else { return };
            chain.see(&frame);
            let Frame { mark, checksum, kind, .. } = frame;
            let seen = Seen { mark, checksum, at, kind };
            if is_content(kind) { contents.push(seen) } else { records.push(seen) }
        })?;
        if whole.newer > 0 {
            return Err(VolumeError::Newer);
        }
        for seen in [&mut records, &mut contents] {
            seen.retain(|seen| !chain.is_unfinished(seen.mark.commit, newest));
            seen.sort_unstable();
        }
        contents.dedup_by_key(|seen| (seen.mark, seen.checksum));
        let volume = self.volumes.len();
        self.volumes.push(Volume { files: Arc::clone(&files), contents, chain });
        let mut referred = BTreeSet::new();
        let mut block = Window::of(&files);
        for seen in one_of_each(&records) {
            // What cannot be read now is counted as missing by whoever counts.
            let Ok(frame) = block.frame(u64::from(seen.at)) else { continue };
            let Ok(record) = record::record(&frame) else { continue };
            if let Record::Event { place, .. } | Record::Rejected { kept: Kept { place, .. }, .. } =
                &record
            {
                let ordinals = place.ordinal..place.ordinal.saturating_add(place.frames());
                referred.extend(ordinals.map(|ordinal| Mark { commit: place.commit, ordinal }));
            }
            self.apply(volume, seen, record);
        }
        self.find_orphans(volume, &referred)?;
        Ok(())
    }

    fn apply(&mut self, volume: usize, seen: Seen, record: Record) {
        match record {
            Record::Event { sequence, id, place, deliveries, .. } => {
                let held = Held { volume, place };
                let kept = Entry { id, held, at: seen.at, deliveries: Slots::new(&deliveries) };
                self.put(sequence, kept);
            }
            Record::Settled { sequence, target, attempts, state, attempt, .. } => {
                if attempt.is_some() {
                    self.attempts.push((sequence, volume, seen.at));
                }
                if let Some(kept) = self.entries.get_mut(sequence) {
                    kept.deliveries.put(Slot { target, attempts, state });
                }
            }
            Record::Dedup { entries } => self.keys.extend(entries),
            Record::Name { number, name } => {
                let known = Name::parse(&name).unwrap_or_else(|| placeholder(usize::from(number)));
                self.names.insert(number, known);
            }
            Record::Note { topic, name, value } => {
                if let Err(error) = self.notes.put(Note { topic, name, value }) {
                    tracing::warn!(%error, "a note of the journal was not read");
                }
            }
            Record::Rejected { id, kept } => {
                self.rejections.insert(id, (volume, kept));
            }
            Record::Dropped { ids } => {
                for id in ids {
                    self.rejections.remove(&id);
                }
            }
            Record::Commit { .. } => {}
        }
    }

    /// Takes up an event, or its newer copy.
    fn put(&mut self, sequence: u64, new: Entry) {
        let Some(old) = self.entries.get(sequence) else {
            self.entries.insert(sequence, new);
            return;
        };
        if old.id == new.id {
            // Of two copies the later one counts, unless only the earlier one can be read.
            let (held, at) =
                if self.is_there(new.held) { (new.held, new.at) } else { (old.held, old.at) };
            self.entries.insert(sequence, Entry { held, at, ..new });
        } else if self.is_finished(new.held) || !self.is_finished(old.held) {
            // One of both stands in a commit that was never finished, and the sequence was given again.
            self.entries.insert(sequence, new);
        }
    }

    fn is_finished(&self, held: Held) -> bool {
        let volume = self.volumes.get(held.volume);
        volume.is_some_and(|volume| volume.chain.is_closed(held.place.commit))
    }

    fn is_there(&self, held: Held) -> bool {
        let Some(volume) = self.volumes.get(held.volume) else { return false };
        let Place { commit, ordinal, .. } = held.place;
        let mut ordinals = ordinal..ordinal.saturating_add(held.place.frames());
        ordinals.all(|ordinal| !volume.candidates(Mark { commit, ordinal }).is_empty())
    }

    /// Contents that no event's record refers to.
    fn find_orphans(&mut self, volume: usize, referred: &BTreeSet<Mark>) -> io::Result<()> {
        let Some(of) = self.volumes.get(volume) else { return Ok(()) };
        let mut found = Vec::new();
        let unclaimed = |seen: &&Seen| !referred.contains(&seen.mark);
        for seen in of.contents.iter().filter(unclaimed) {
            let Some(frame) = of.frame(*seen)? else { continue };
            let Some((id, frames)) = content::beginning(&frame) else { continue };
            // Longer than a frame may be means that it is a chain, which is told from its number of frames.
            let length = u32::try_from(FRAME).unwrap_or(u32::MAX);
            let length = length.saturating_mul(frames);
            let Mark { commit, ordinal } = seen.mark;
            found.push((id, Held { volume, place: Place { commit, ordinal, length } }));
        }
        if !found.is_empty() {
            let known: HashSet<_> = self.entries.iter().map(|(_, kept)| kept.id).collect();
            self.orphans.extend(found.into_iter().filter(|(id, _)| !known.contains(id)));
        }
        Ok(())
    }

    fn event(&self, sequence: u64, kept: &Entry) -> io::Result<Archived> {
        let deliveries = || kept.deliveries.iter().map(|slot| self.delivery(slot)).collect();
        let lost = || Archived::Lost { id: kept.id, deliveries: deliveries() };
        let Some(event) = self.content(kept.id, kept.held)?.and_then(event) else {
            return Ok(lost());
        };
        let (dedup, attempts) = (self.dedup(kept)?, self.attempts(sequence)?);
        Ok(Archived::Whole { event, deliveries: deliveries(), dedup, attempts })
    }

    /// The attempts of an event, read from their records.
    fn attempts(&self, sequence: u64) -> io::Result<Vec<PastAttempt>> {
        let from = self.attempts.partition_point(|(of, ..)| *of < sequence);
        let rest = self.attempts.get(from..).unwrap_or_default();
        let mut attempts = Vec::new();
        for (_, volume, at) in rest.iter().take_while(|(of, ..)| *of == sequence) {
            let Some(volume) = self.volumes.get(*volume) else { continue };
            let bytes = volume.bytes(*at, SMALL)?;
            let read = bytes.as_deref().and_then(|mut it| record::take_record(&mut it).ok());
            if let Some((_, Record::Settled { target, state, attempt: Some(made), .. })) = read {
                let due = if let State::Waiting(due) = state { Some(due) } else { None };
                attempts.push((self.target(target), made, due));
            }
        }
        Ok(attempts)
    }

    fn target(&self, number: u16) -> Name {
        let name = self.names.get(&number).cloned();
        name.unwrap_or_else(|| placeholder(usize::from(number)))
    }

    fn delivery(&self, slot: Slot) -> DeliveryState {
        let stage = match slot.state {
            State::Ready | State::InFlight(_) => Stage::Ready,
            State::Waiting(due) => Stage::Waiting(due),
            State::Delivered => Stage::Delivered,
            State::Dead(reason) => Stage::Dead(reason),
            State::Discarded => Stage::Discarded,
        };
        DeliveryState { target: self.target(slot.target), stage, attempts: slot.tries() }
    }

    /// The keys that an event brought, read from its record.
    fn dedup(&self, kept: &Entry) -> io::Result<Vec<DedupKey>> {
        let Some(volume) = self.volumes.get(kept.held.volume) else { return Ok(Vec::new()) };
        let bytes = volume.bytes(kept.at, SMALL)?;
        match bytes.as_deref().map(|mut bytes| record::take_record(&mut bytes)) {
            Some(Ok((_, Record::Event { dedup, .. }))) => Ok(dedup),
            Some(Ok(_) | Err(_)) | None => Ok(Vec::new()),
        }
    }

    /// The content of an event, if all of it can be read.
    fn content(&self, id: EventId, held: Held) -> io::Result<Option<Content>> {
        let Some(volume) = self.volumes.get(held.volume) else { return Ok(None) };
        let Place { commit, ordinal, .. } = held.place;
        let mut frames = Vec::new();
        for ordinal in ordinal..ordinal.saturating_add(held.place.frames()) {
            let mut found = None;
            for seen in volume.candidates(Mark { commit, ordinal }) {
                let Some(frame) = volume.frame(*seen)? else { continue };
                // Two records of one name belong to two events.
                found = found.or((content::owner(&frame) == Some(id)).then_some(frame));
            }
            let Some(frame) = found else { return Ok(None) };
            frames.push(frame);
        }
        Ok(content::read(&frames).ok().filter(|content| content.id == id))
    }
}

impl Volume {
    /// Every frame of this name.
    fn candidates(&self, mark: Mark) -> &[Seen] {
        let from = self.contents.partition_point(|seen| seen.mark < mark);
        let rest = self.contents.get(from..).unwrap_or_default();
        let count = rest.iter().take_while(|seen| seen.mark == mark).count();
        rest.get(..count).unwrap_or_default()
    }

    /// A content frame, if it can still be read.
    fn frame(&self, seen: Seen) -> io::Result<Option<Bytes>> {
        self.bytes(seen.at, FRAME)
    }

    /// The frame at a place, read with at least so many bytes.
    fn bytes(&self, at: u32, most: usize) -> io::Result<Option<Bytes>> {
        for most in [most, scan::WINDOW] {
            match frame_at(&self.files, at, most) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(StoreError::Sync(error)) => return Err(error),
                Err(
                    StoreError::Sled(_)
                    | StoreError::Damaged(_)
                    | StoreError::Missing
                    | StoreError::Closed,
                ) => {}
            }
        }
        Ok(None)
    }
}

/// Why a generation could not be read.
enum VolumeError {
    Io(io::Error),
    Newer,
}

impl From<io::Error> for VolumeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn is_content(kind: u8) -> bool {
    kind == KIND_CONTENT || kind == KIND_CHUNK
}

fn event(content: Content) -> Option<Event> {
    let Content { id, received_at, source, name, order_key, headers, body } = content;
    let source = Name::parse(&source)?;
    Some(Event { id, source, name, order_key, received_at, headers, body })
}

/// One record of each name, in order. Of two that differ, one belongs to a commit that was torn: the other one was written
/// together with its commit's closing record, and stands near it.
fn one_of_each(records: &[Seen]) -> impl Iterator<Item = Seen> {
    records.chunk_by(|a, b| a.mark == b.mark).filter_map(|same| {
        let first = *same.first()?;
        if same.iter().all(|seen| seen.checksum == first.checksum) {
            return Some(first);
        }
        let commit = first.mark.commit;
        let from = records.partition_point(|seen| seen.mark.commit < commit);
        let of_commit = records.get(from..)?.iter().take_while(|seen| seen.mark.commit == commit);
        let closings: Vec<_> =
            of_commit.filter(|seen| seen.kind == KIND_COMMIT).map(|seen| seen.at).collect();
        let distance = |seen: &&Seen| closings.iter().map(|at| at.abs_diff(seen.at)).min();
        same.iter().min_by_key(distance).copied()
    })
}
