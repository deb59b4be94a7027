//! The embedded engine: a sled store behind one writer.
//!
//! An append waits in a bounded room until the writer has put it, with everything else that waits, into one entry
//! of an intake log and has synced that. Only then is it answered and only then can it be delivered; sled takes it
//! up right after, and keeps it a little later. Settlements ride along. What is pending lives in memory and is
//! rebuilt at open from small records.
//!
//! Space and damage are bounded by generations: sled directories that are written one after the other and removed
//! whole. A ledger beside them says what must be in each, so that a store that lost something is never believed.

mod archive;
mod absorber;
mod aside;
mod chain;
mod committer;
mod contract;
mod diagnosis;
mod dir;
mod disk;
mod drain;
mod files;
mod generation;
mod generations;
mod history;
mod intake;
mod keep;
mod library;
mod operate;
mod ledger;
mod open;
mod recent;
mod recover;
mod refusal;
mod repair;
mod restore;
mod room;
mod salvage;
mod scan;
mod sealed;
mod stats;
mod shared;
mod shelves;
mod sightings;
mod store;
mod unfinished;
mod unhurried;
mod upkeep;
mod usage;
mod write;
mod yielding;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

pub use self::archive::{Archive, Archived};
use self::committer::Committer;
pub use self::diagnosis::Diagnosis;
use self::dir::Lock;
use self::disk::{Ballast, Limits};
use self::generations::Generations;
use self::keep::Keeping;
use self::library::{Library, Recorded};
use self::open::Ready;
use self::operate::{Operation, Wish};
use self::recent::Recent;
pub use self::refusal::OpenError;
pub use self::repair::{Engine, Repair, RepairError, Repaired, State as RepairState};
pub use self::restore::{MAX_RESTORED, Repeats, Restored};
use self::room::{Ending, Waiting, Work};
pub use self::salvage::Assessment;
use self::shared::{Memory, Shared};
pub use self::stats::{GenerationStats, Stats};
use self::store::StoreError;
use self::upkeep::Size;
use super::record::Record;
use super::record::content::{Content, Place, read_at};
use super::repeats::Repeated;
use super::{
    Append, AppendError, Appended, BoxFuture, Changed, Depth, Health, Journal, Lease, LoadError,
    Note, NoteError, OperateError, Scope,
};
use crate::metrics::JournalMetrics;
use crate::model::{Event, EventId, RejectionId};
use crate::time::{Clock, Timestamp};

/// A generation takes at most this much before the next one takes over: 64 MiB, and at most a sixteenth of what the
/// journal may use.
const GENERATION_BYTES: u64 = 64 * 1024 * 1024;

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; created if it is not there.
    pub path: PathBuf,
    /// How long settled events are kept.
    pub retention: Duration,
    /// Appends are refused while the store is larger.
    pub max_bytes: u64,
    /// Appends are refused while less is free on its file system.
    pub min_free: u64,
    /// Most bytes of refused requests that are kept.
    pub quarantine_max_bytes: u64,
}

/// What an open found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Deliveries still to be made.
    pub pending: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// How long it took.
    pub took: Duration,
}

/// A durable journal on this machine's disk.
pub struct SledJournal {
    shared: Arc<Shared>,
    generations: Arc<Generations>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// Held until every file is closed.
    lock: Mutex<Option<Lock>>,
}

impl SledJournal {
    /// Opens or creates a journal and rebuilds its memory. Blocks: for a thread that may.
    pub fn open(
        options: &Options,
        clock: &Clock,
        metrics: JournalMetrics,
    ) -> Result<(Self, Opened), OpenError> {
        let begun = clock.now();
        let Options { path: root, retention, max_bytes, min_free, quarantine_max_bytes } = options;
        dir::create_root(root)?;
        let lock = Lock::take(root)?;
        if dir::repairing(root).exists() {
            return Err(OpenError::Repairing { path: root.clone() });
        }
        let ballast = Ballast::new(root, *max_bytes);
        let Ready { generations, recovered, holds } =
            open::open(root, &ballast, *retention, clock.now())?;
        let limits = Limits {
            path: root.clone(),
            max_bytes: *max_bytes,
            min_free: *min_free,
            retention: *retention,
        };
        let mut memory = Memory {
            index: recovered.index,
            usage: recovered.usage,
            notes: recovered.notes,
            quarantine: recovered.quarantine,
            repeated: Repeated::default(),
            recent: Recent::default(),
            latest: BTreeMap::new(),
            durable: recovered.last_commit,
        };
        memory.quarantine.limit_to(*quarantine_max_bytes);
        let shared = Arc::new(Shared::new(clock.clone(), metrics, memory, limits));
        if let Ok(size) = generations.occupied() {
            shared.look_at_disk(size, false);
        }
        let committer = Committer {
            shared: Arc::clone(&shared),
            generations: Arc::clone(&generations),
            dedup: recovered.dedup,
            next_commit: recovered.next_commit,
            last_commit: recovered.last_commit,
            next_sequence: recovered.next_sequence,
            upkeep_at: clock.now(),
            size: Size::default(),
            ballast,
            starved: false,
            holds,
            // Names and notes are said once more with the first commit: it is not worth knowing which are there.
            names_written: 0,
            notes_written: false,
            ledger_lags: None,
            drain: None,
            expire_from: 0,
        };
        let thread = std::thread::Builder::new().name("journal-committer".into());
        let committer = thread
            .spawn(|| committer.run())
            .map_err(|source| OpenError::io("starting the writer of", root, source))?;
        let committer = Mutex::new(Some(committer));
        let lock = Mutex::new(Some(lock));
        let journal = Self { shared, generations, committer, lock };
        let opened = journal.opened(clock.now().since(begun));
        Ok((journal, opened))
    }

    /// Counts what of a journal can be read, without opening it: against what its ledger and its commits say it must
    /// hold. Changes nothing, and can be done while the journal is in use.
    pub fn diagnose(path: &Path) -> Result<Diagnosis, OpenError> {
        diagnosis::diagnose(path)
    }

    /// Reads everything of a journal that can be read, without opening it. Changes nothing; nobody can open the journal
    /// until the archive is dropped.
    pub fn archive(path: &Path) -> Result<Archive, OpenError> {
        let lock = Lock::share(path)?;
        Ok(Archive::read(path)?.holding(lock))
    }

    /// The id of every event and of every rejection of a journal, none where there is no journal.
    pub fn ids(path: &Path) -> Result<(HashSet<EventId>, HashSet<RejectionId>), OpenError> {
        if !path.join("generations").exists() {
            return Ok((HashSet::new(), HashSet::new()));
        }
        let archive = Self::archive(path)?;
        Ok((archive.ids().collect(), archive.rejection_ids().collect()))
    }

    /// Sums up what a journal holds, without opening it. Changes nothing.
    pub fn stats(options: &Options, now: Timestamp) -> Result<Stats, OpenError> {
        let _lock = Lock::share(&options.path)?;
        Stats::of(options, now)
    }

    /// The process that has the journal at a path open, if one has.
    pub fn owner(path: &Path) -> Option<u32> {
        dir::owner(path)
    }

    /// Ends at once, as a crash would: what waits is not committed and settlements not yet written are lost.
    /// Blocks until the writer has ended and the directory is free.
    pub fn abandon(&self) {
        self.end(Ending::Abandon);
    }

    /// Keeps to the bounds of these options from now on. Where the journal is, and the reserve it holds on the disk, stay
    /// as they were when it was opened.
    pub fn adjust(&self, options: &Options) {
        let Options { retention, max_bytes, min_free, quarantine_max_bytes, path: _ } = *options;
        let path = self.shared.limits().path.clone();
        self.shared.limit(Limits { path, max_bytes, min_free, retention });
        self.shared.memory().quarantine.limit_to(quarantine_max_bytes);
    }

    /// Takes a note up at once.
    pub fn take_note(&self, note: Note) -> Result<(), NoteError> {
        let Note { topic, name, value } = note.clone();
        // Under one lock, so that memory and disk agree on which of two values is the later one.
        let mut memory = self.shared.memory();
        memory.notes.put(note).and_then(|()| {
            let rides = self.shared.ride_along(Record::Note { topic, name, value }, None);
            rides.then_some(()).ok_or(NoteError::Closed)
        })
    }

    /// What [`Journal::close`] does, for a thread that may block.
    pub fn end_well(&self) {
        self.end(Ending::Close);
    }

    fn opened(&self, took: Duration) -> Opened {
        let depth = self.depth();
        let pending = |d: &Depth| d.ready.saturating_add(d.waiting).saturating_add(d.in_flight);
        let dead = depth.iter().map(|d| d.dead).sum();
        Opened { pending: depth.iter().map(pending).sum(), dead, took }
    }

    fn end(&self, how: Ending) {
        self.shared.end(how);
        if let Some(took) = self.shared.hangs() {
            // Waiting for a writer that hangs would hang, too. The process ends, and its lock with it.
            tracing::error!(?took, "the journal's writer hangs and was not waited for");
            return;
        }
        let writer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the journal's writer panicked");
        }
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (lock, self.shared.health()) {
            (None, _) => {}
            (Some(lock), Health::Failed { .. }) => {
                self.generations.forget();
                // Its files are still open: the lock is given back by the end of the process.
                std::mem::forget(lock);
            }
            (Some(_lock), Health::Healthy | Health::Full { .. }) => self.generations.close(),
        }
    }

    /// Reads a content on a thread that may block.
    async fn read(&self, place: Place) -> Result<Content, LoadError> {
        let generations = Arc::clone(&self.generations);
        let read = tokio::task::spawn_blocking(move || generations.content(place)).await;
        let result = read.map_err(|error| LoadError::Unreadable { detail: error.to_string() })?;
        result.map_err(|error| {
            self.shared.metrics.errors.with_label_values(&["load"]).inc();
            error.into()
        })
    }

    async fn load_event(&self, lease: Lease) -> Result<Event, LoadError> {
        let gone = || LoadError::Unreadable { detail: "the lease is not of this journal".into() };
        let (mut place, recent) = {
            let memory = self.shared.memory();
            let place = memory.index.place(lease).ok_or_else(gone)?;
            (place, memory.recent.parts_of(place))
        };
        if let Some(parts) = recent {
            return library::event(read_at(place, &parts).map_err(StoreError::from)?);
        }
        loop {
            let read = self.read(place).await;
            let now = self.shared.memory().index.place(lease).ok_or_else(gone)?;
            // It may have been moved to another generation while it was being read.
            if read.is_err() && now != place {
                place = now;
                continue;
            }
            if matches!(read, Err(LoadError::Damaged { .. })) {
                self.shared.metrics.damaged_records.inc();
            }
            return library::event(read?);
        }
    }

    /// Puts an append into the waiting room at once, and waits for its commit when polled.
    fn enter(
        &self,
        append: Append,
        releases: Option<RejectionId>,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let (answer, answered) = oneshot::channel();
        let entered =
            self.shared.wait_for_commit(Waiting { work: Work::Append(append), answer, releases });
        Box::pin(async move {
            entered?;
            // The writer drops an answer only when it ends without committing.
            answered.await.unwrap_or(Err(AppendError::Failed))
        })
    }

    /// Puts a change of the quarantine into the waiting room at once, and waits for its commit when polled.
    fn keep(
        &self,
        keeping: impl FnOnce(keep::Verdict) -> Keeping,
    ) -> BoxFuture<'_, Result<usize, AppendError>> {
        let (answer, answered) = oneshot::channel();
        let entered = self.shared.keep(keeping(answer));
        Box::pin(async move {
            entered?;
            answered.await.unwrap_or(Err(AppendError::Failed))
        })
    }

    /// Looks something up on a thread that may block.
    async fn look_up<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Library<'_>) -> T + Send + 'static,
    ) -> Result<T, LoadError> {
        let (shared, generations) = (Arc::clone(&self.shared), Arc::clone(&self.generations));
        let retention = self.shared.limits().retention;
        let looked = tokio::task::spawn_blocking(move || {
            let chapters = generations.chapters();
            let (shared, generations) = (&*shared, &*generations);
            let turn = yielding::Yielding::start();
            look(&Library { shared, generations, chapters, retention, turn })
        });
        looked.await.map_err(|error| LoadError::Unreadable { detail: error.to_string() })
    }

    /// Has the writer decide about the deliveries of an event.
    /// Where the newest record of an event is.
    async fn newest(&self, id: EventId) -> Result<Recorded, OperateError> {
        let found = self.look_up(move |library| library.newest(id)).await;
        let found = found.and_then(|found| found.map_err(LoadError::from));
        found.map_err(OperateError::Unreadable)?.ok_or(OperateError::Unknown)
    }

    async fn wish(
        &self,
        id: EventId,
        scope: Scope,
        is_replay: bool,
    ) -> Result<Changed, OperateError> {
        let recorded = self.newest(id).await?;
        let sequence = recorded.sequence;
        let is_known = self.shared.memory().index.get(sequence).is_some();
        let what = match is_replay {
            false => Operation::Discard,
            true if is_known && scope.new_targets().is_empty() => Operation::Replay(None),
            true => {
                let settled = self.look_up(move |library| library.settled(&recorded)).await;
                let settled = settled.and_then(|it| it).map_err(OperateError::Unreadable)?;
                Operation::Replay(Some(Box::new(settled.ok_or(OperateError::Unknown)?)))
            }
        };
        let (answer, answered) = oneshot::channel();
        let wish = Wish { sequence, scope, what, answer };
        self.shared.wish(wish).map_err(OperateError::Refused)?;
        answered.await.unwrap_or(Err(OperateError::Refused(AppendError::Failed)))
    }
}

impl Drop for SledJournal {
    fn drop(&mut self) {
        self.end(Ending::Close);
    }
}

#[cfg(test)]
mod tests;
