//! Repairing a journal: everything that can be read is written into a fresh one, and the damaged files are kept.
//!
//! The fresh journal is built in `repairing/`, beside the untouched originals. When it is complete, `repairing/COMPLETE`
//! says so and names the directory that the originals move to; then each part changes places with its successor. A
//! crash before that file leaves the originals as they were, and the next repair begins again; after it, the next repair
//! goes on moving. While `repairing/` is there no open takes place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::archive::{Archive, Archived};
use super::diagnosis::{self, Diagnosis};
use super::dir::{self, Lock};
use super::restore::{MAX_RESTORED, Repeats, Restored};
use super::{OpenError, Options, SledJournal};
use crate::journal::{AppendError, DeliveryState, Stage};
use crate::metrics::JournalMetrics;
use crate::model::{EventId, Rejection, RejectionId};
use crate::time::Clock;

/// Most bytes that are restored at once.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// What a journal takes on the disk beside twice its contents: 64 MiB.
const SLACK: u64 = 64 * 1024 * 1024;
/// What each event takes beside its content.
const EVENT_BYTES: u64 = 512;
/// The parts of a journal, in the order in which they change places.
const PARTS: [&str; 3] = ["generations", "LEDGER", "MANIFEST"];

/// A journal that was looked at, held so that nobody else opens it.
pub struct Repair {
    options: Options,
    clock: Clock,
    _lock: Lock,
    state: State,
}

/// What there is to do.
pub enum State {
    /// Nothing: the journal is sound, and was opened and closed to be sure.
    Sound(Diagnosis),
    /// An earlier repair has only to be brought to its end.
    Interrupted,
    /// What can be read is to be carried over.
    Damaged(Diagnosis, Box<Archive>),
}

/// What a repair has done.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// Events that were carried over.
    pub events: u64,
    /// Deliveries of them that are still to be made.
    pub pending: u64,
    /// Dead letters among them.
    pub dead: u64,
    /// Deliveries that have ended.
    pub settled: u64,
    /// Dedup keys of events that are not kept any more.
    pub keys: u64,
    /// Refused requests that were carried over.
    pub rejections: u64,
    /// Refused requests that cannot be read.
    pub rejections_lost: Vec<RejectionId>,
    /// Events whose content cannot be read, with the number of deliveries that can never be made now.
    pub lost: Vec<(EventId, u64)>,
    /// Events whose record cannot be read: kept as history, because nobody knows where they were to go.
    pub astray: Vec<EventId>,
    /// Where the damaged files are now.
    pub originals: PathBuf,
}

/// Why a repair did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The fresh journal did not take something.
    #[error("building the repaired journal: {0}; the original files were not touched")]
    Restore(AppendError),
    /// There is not room for both.
    #[error(
        "{needed} bytes are needed beside the damaged files and {free} are free; make room and run it again, nothing was changed"
    )]
    NoRoom {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
}

impl Repair {
    /// Looks at the journal of these options and finds out what there is to do. `engine`: whether a journal that seems
    /// sound is opened to be sure, which may write to its files as a start does.
    pub fn begin(options: &Options, clock: &Clock, engine: Engine) -> Result<Self, OpenError> {
        let root = &options.path;
        if !root.is_dir() {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(OpenError::io("opening", root, missing));
        }
        let mut lock = Lock::take(root)?;
        let state = if dir::repairing(root).join("COMPLETE").exists() {
            State::Interrupted
        } else {
            if engine == Engine::Asked {
                // What an earlier repair had begun to build: the originals are untouched.
                dir::remove_all(&dir::repairing(root))
                    .map_err(|source| OpenError::io("removing", &dir::repairing(root), source))?;
            }
            let diagnosis = diagnosis::diagnose(root)?;
            let mut sound = diagnosis.is_sound();
            if sound && engine == Engine::Asked {
                drop(lock);
                sound = opens(options, clock)?;
                lock = Lock::take(root)?;
            }
            if sound {
                State::Sound(diagnosis)
            } else {
                State::Damaged(diagnosis, Box::new(Archive::read(root)?))
            }
        };
        Ok(Self { options: options.clone(), clock: clock.clone(), _lock: lock, state })
    }

    /// What there is to do.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What [`Repair::run`] would do, without doing it.
    pub fn foresee(&self) -> Result<Repaired, OpenError> {
        let mut done = Repaired::default();
        if let State::Damaged(_, archive) = &self.state {
            for archived in archive.events() {
                let path = &self.options.path;
                done.count(&archived.map_err(|source| OpenError::io("reading", path, source))?);
            }
            done.keys = u64::try_from(archive.keys(self.clock.now()).len()).unwrap_or(u64::MAX);
            for rejection in archive.rejections() {
                let path = &self.options.path;
                done.count_rejection(
                    &rejection.map_err(|source| OpenError::io("reading", path, source))?,
                );
            }
        }
        Ok(done)
    }

    /// Bytes that the repaired journal needs beside the damaged one, and bytes that are free.
    pub fn room(&self) -> Result<(u64, u64), OpenError> {
        let root = &self.options.path;
        let free =
            dir::free_bytes(root).map_err(|source| OpenError::io("looking at", root, source))?;
        let State::Damaged(_, archive) = &self.state else { return Ok((0, free)) };
        let events = u64::try_from(archive.len()).unwrap_or(u64::MAX);
        let payload = archive.payload().saturating_add(events.saturating_mul(EVENT_BYTES));
        Ok((payload.saturating_mul(2).saturating_add(SLACK), free))
    }

    /// Carries everything over that can be read; `progress` is told how many events were so far.
    pub fn run(self, mut progress: impl FnMut(u64)) -> Result<Repaired, RepairError> {
        let root = &self.options.path;
        let fresh = dir::repairing(root);
        let mut done = Repaired::default();
        if let State::Damaged(_, archive) = &self.state {
            let (needed, free) = self.room()?;
            if free < needed {
                return Err(RepairError::NoRoom { needed, free });
            }
            let failed = |source| OpenError::io("making", &fresh, source);
            self.fill(archive, &fresh, &mut done, &mut progress)?;
            let name = aside_name(root, &self.clock);
            dir::sync_all(&fresh).map_err(failed)?;
            dir::replace(&fresh.join("COMPLETE"), name.as_bytes()).map_err(failed)?;
            dir::sync_dir(root).map_err(failed)?;
        }
        done.originals =
            change_places(root).map_err(|source| OpenError::io("moving parts of", root, source))?;
        Ok(done)
    }

    /// Builds the fresh journal.
    fn fill(
        &self,
        archive: &Archive,
        fresh: &Path,
        done: &mut Repaired,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), RepairError> {
        let options = Options {
            path: fresh.to_owned(),
            max_bytes: u64::MAX,
            min_free: 0,
            ..self.options.clone()
        };
        let journal = engine(&options, &self.clock)?;
        let mut batch = Batch { journal: &journal, waiting: Vec::new(), bytes: 0 };
        for archived in archive.events() {
            let archived =
                archived.map_err(|source| OpenError::io("reading", &self.options.path, source))?;
            done.count(&archived);
            if let Some((restored, bytes)) = restored(archived) {
                batch.put(restored, bytes)?;
                progress(done.events);
            }
        }
        let keys = archive.keys(self.clock.now());
        done.keys = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        for some in keys.chunks(MAX_RESTORED) {
            batch.put(Restored::Keys(some.to_vec()), 0)?;
        }
        for rejection in archive.rejections() {
            let rejection =
                rejection.map_err(|source| OpenError::io("reading", &self.options.path, source))?;
            done.count_rejection(&rejection);
            if let Ok(rejection) = rejection {
                let bytes = rejection.body.len();
                batch.put(Restored::Rejection(Box::new(rejection)), bytes)?;
            }
        }
        batch.write()?;
        for note in archive.notes() {
            let name = format!("{}/{}", note.topic, note.name);
            if let Err(error) = journal.take_note(note) {
                tracing::warn!(name, %error, "a note was not carried over");
            }
        }
        journal.end_well();
        Ok(())
    }
}

/// Whether the storage engine has a say in whether a journal is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// It has.
    Asked,
    /// It has not, so that nothing is changed.
    NotAsked,
}

/// What is restored at once.
struct Batch<'a> {
    journal: &'a SledJournal,
    waiting: Vec<Restored>,
    bytes: usize,
}

impl Batch<'_> {
    fn put(&mut self, restored: Restored, bytes: usize) -> Result<(), RepairError> {
        self.waiting.push(restored);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waiting.len() >= MAX_RESTORED || self.bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), RepairError> {
        self.bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        self.journal.restore(waiting).map(drop).map_err(RepairError::Restore)
    }
}

impl Repaired {
    fn count_rejection(&mut self, rejection: &Result<Rejection, RejectionId>) {
        match rejection {
            Ok(_) => self.rejections = self.rejections.saturating_add(1),
            Err(id) => self.rejections_lost.push(*id),
        }
    }

    fn count(&mut self, archived: &Archived) {
        let pending =
            |stage: Stage| matches!(stage, Stage::Ready | Stage::Waiting(_) | Stage::InFlight);
        match archived {
            Archived::Whole { deliveries, .. } => {
                self.events = self.events.saturating_add(1);
                for DeliveryState { stage, .. } in deliveries {
                    let count = match stage {
                        stage if pending(*stage) => &mut self.pending,
                        Stage::Dead(_) => &mut self.dead,
                        Stage::Ready
                        | Stage::Waiting(_)
                        | Stage::InFlight
                        | Stage::Delivered
                        | Stage::Discarded => &mut self.settled,
                    };
                    *count = count.saturating_add(1);
                }
            }
            Archived::Astray(event) => {
                self.events = self.events.saturating_add(1);
                self.astray.push(event.id);
            }
            Archived::Lost { id, deliveries } => {
                let open = deliveries.iter().filter(|delivery| pending(delivery.stage)).count();
                self.lost.push((*id, u64::try_from(open).unwrap_or(u64::MAX)));
            }
        }
    }
}

/// What is carried over of an event, and about how many bytes that is. The keys of one that cannot be delivered are not,
/// so that its sender can send it again.
fn restored(archived: Archived) -> Option<(Restored, usize)> {
    let repeats = Repeats::Keep;
    let restored = match archived {
        Archived::Whole { event, deliveries, dedup, attempts } => {
            Restored::Event { event, deliveries, dedup, attempts, repeats }
        }
        Archived::Astray(event) => Restored::Event {
            event,
            deliveries: Vec::new(),
            dedup: Vec::new(),
            attempts: Vec::new(),
            repeats,
        },
        Archived::Lost { .. } => return None,
    };
    let bytes = restored.weight();
    Some((restored, bytes))
}

/// Whether the engine opens a journal that seems sound.
fn opens(options: &Options, clock: &Clock) -> Result<bool, OpenError> {
    match engine(options, clock) {
        Ok(journal) => {
            journal.end_well();
            Ok(true)
        }
        Err(OpenError::Damaged { .. }) => Ok(false),
        Err(
            error @ (OpenError::Locked { .. }
            | OpenError::Newer { .. }
            | OpenError::Repairing { .. }
            | OpenError::Io { .. }),
        ) => Err(error),
    }
}

fn engine(options: &Options, clock: &Clock) -> Result<SledJournal, OpenError> {
    let metrics = JournalMetrics::detached().map_err(|error| {
        OpenError::io("counting for", &options.path, io::Error::other(error.to_string()))
    })?;
    Ok(SledJournal::open(options, clock, metrics)?.0)
}

/// The name of the directory that the damaged files are kept in: `damaged-20260329T130000Z`.
fn aside_name(root: &Path, clock: &Clock) -> String {
    let now = clock.wall().to_string();
    let compact: String = now.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let seconds = compact.split('.').next().unwrap_or_default();
    let mut name = format!("damaged-{seconds}Z");
    while root.join(&name).exists() {
        name.push('x');
    }
    name
}

/// Lets each part of the fresh journal take the place of the old one. Can be broken off and done again at any moment.
fn change_places(root: &Path) -> io::Result<PathBuf> {
    let fresh = dir::repairing(root);
    let name = fs::read_to_string(fresh.join("COMPLETE"))?;
    let originals = root.join(name.trim());
    fs::create_dir_all(&originals)?;
    dir::sync_dir(root)?;
    let aside = root.join("aside");
    if aside.exists() {
        fs::rename(&aside, originals.join("aside"))?;
    }
    for part in PARTS {
        let (new, old) = (fresh.join(part), root.join(part));
        if !new.exists() {
            continue;
        }
        if old.exists() {
            fs::rename(&old, originals.join(part))?;
            // Before the new one comes: else a power loss could leave the new one in its place twice.
            dir::sync_dir(&originals)?;
            dir::sync_dir(root)?;
        }
        fs::rename(&new, &old)?;
        dir::sync_dir(root)?;
        dir::sync_dir(&fresh)?;
    }
    fs::remove_dir_all(&fresh)?;
    dir::sync_dir(root)?;
    Ok(originals)
}
