//! The generations in use: which of them holds a commit, the one that is written, and a spare one that takes over
//! at once when that is full.
//!
//! A generation that is full is sealed on a thread of its own: its store is closed, every record is found again in its
//! file, and the file's checksum goes into the ledger, so that a later start can tell whether it is untouched.

mod housekeeper;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::dir;
use super::files::Files;
use super::generation::{Body, Closed, Generation};
use super::ledger::Ledger;
use super::library::Chapter;
use super::sealed::{Found, Sealed};
use super::store::{Store, StoreError};
use crate::journal::record::content::{Content, Place};
use crate::time::Stopwatch;

/// Jobs that wait for the housekeeper.
const MAX_JOBS: usize = 64;
/// What a housekeeper is told to do.
enum Job {
    /// Seal it. It took so long to be filled.
    Seal(Arc<Generation>, Duration),
    Spare(u32),
    /// Look where everything is in it.
    Walk(u32),
    Remove(Arc<Generation>),
    SyncLedger,
}

impl Job {
    /// 1 if somebody waits for it, so that the one before it makes haste.
    fn counts(&self) -> usize {
        match self {
            Self::Seal(..) | Self::Spare(_) | Self::Walk(_) | Self::Remove(_) => 1,
            Self::SyncLedger => 0,
        }
    }
}

/// Every generation of one journal.
pub(super) struct Generations {
    root: PathBuf,
    /// By their first commit.
    members: RwLock<BTreeMap<u64, Arc<Generation>>>,
    /// Since when the last of them is written.
    begun: Mutex<Stopwatch>,
    spare: Mutex<Option<Arc<Generation>>>,
    ledger: Mutex<Ledger>,
    /// Held while the ledger is synced: nobody takes what another one is syncing for synced.
    syncing: Mutex<()>,
    /// `None` once the journal is closed: the housekeeper then ends.
    jobs: Mutex<Option<SyncSender<Job>>>,
    /// How many of them wait that others wait for.
    waiting: Arc<AtomicUsize>,
    /// How many of them are done.
    done: AtomicUsize,
    housekeeper: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// The journal failed: the housekeeper does nothing more.
    forgotten: AtomicBool,
    /// Held while the manifest is written.
    manifest: Mutex<()>,
    /// The generation that is to be drained next.
    walk: Mutex<Walk>,
    /// Why a generation could not be kept, if one could not.
    failure: Mutex<Option<String>>,
}

/// `Idle -> Asked -> Done -> Idle`.
enum Walk {
    Idle,
    Asked(u32),
    Done(u32, Result<Found, StoreError>),
}

impl Generations {
    /// Takes over what an open found. The last of `members` is the one that is written.
    pub(super) fn start(
        root: &Path,
        members: BTreeMap<u64, Arc<Generation>>,
        spare: Option<Arc<Generation>>,
        unsealed: Vec<Arc<Generation>>,
        ledger: Ledger,
    ) -> std::io::Result<Arc<Self>> {
        let (sender, receiver) = sync_channel(MAX_JOBS);
        let newest = members.values().chain(&spare).map(|generation| generation.number).max();
        let needs_spare = spare.is_none();
        let generations = Arc::new(Self {
            root: root.to_owned(),
            members: RwLock::new(members),
            begun: Mutex::new(Stopwatch::start()),
            spare: Mutex::new(spare),
            ledger: Mutex::new(ledger),
            syncing: Mutex::new(()),
            jobs: Mutex::new(Some(sender)),
            waiting: Arc::default(),
            done: AtomicUsize::new(0),
            housekeeper: Mutex::new(None),
            forgotten: AtomicBool::new(false),
            manifest: Mutex::new(()),
            walk: Mutex::new(Walk::Idle),
            failure: Mutex::new(None),
        });
        let worker = Arc::clone(&generations);
        let thread = std::thread::Builder::new().name("journal-housekeeper".into());
        let handle = thread.spawn(move || worker.keep_house(&receiver))?;
        *lock(&generations.housekeeper) = Some(handle);
        for generation in unsealed {
            generations.submit(Job::Seal(generation, Duration::ZERO));
        }
        if needs_spare {
            generations.submit(Job::Spare(newest.unwrap_or(0).saturating_add(1)));
        }
        Ok(generations)
    }

    /// The generation that is written.
    pub(super) fn current(&self) -> Option<Arc<Generation>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.last_key_value().map(|(_, generation)| Arc::clone(generation))
    }

    /// The generation whose number it is.
    pub(super) fn numbered(&self, number: u32) -> Option<Arc<Generation>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.values().find(|generation| generation.number == number).cloned()
    }

    /// Those that are not written any more and can be drained.
    pub(super) fn sealed(&self) -> BTreeSet<u32> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = members.values().filter(|generation| generation.is_sealed());
        sealed.map(|generation| generation.number).collect()
    }

    /// Reads an event's content back from wherever it is.
    pub(super) fn content(&self, place: Place) -> Result<Content, StoreError> {
        let holder = {
            let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
            members.range(..=place.commit).next_back().map(|(_, g)| Arc::clone(g))
        };
        holder.ok_or(StoreError::Closed)?.content(place)
    }

    /// Every generation as it is now, the oldest first.
    pub(super) fn chapters(&self) -> Vec<Chapter> {
        let members: Vec<_> = {
            let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
            members.values().map(Arc::clone).collect()
        };
        members.iter().filter_map(|generation| generation.chapter()).collect()
    }

    /// Lets the spare take over with this commit, if there is one. The old one is sealed in the background.
    pub(super) fn rotate(&self, first: u64) -> Option<u32> {
        let old = self.current();
        let number = {
            // At no moment is it neither a spare nor a member: it would be made once more, from nothing.
            let mut there = lock(&self.spare);
            let spare = there.take()?;
            let number = spare.number;
            let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
            members.insert(first, spare);
            number
        };
        let took = std::mem::replace(&mut *lock(&self.begun), Stopwatch::start()).elapsed();
        // The next spare first: sealing takes longer than a generation may take to be filled.
        self.submit(Job::Spare(number.saturating_add(1)));
        if let Some(old) = old {
            self.submit(Job::Seal(old, took));
        }
        Some(number)
    }

    /// Where everything is in a sealed generation. The first call has the housekeeper look, and a later one gets it.
    pub(super) fn walked(&self, number: u32) -> Option<Result<Found, StoreError>> {
        let mut walk = lock(&self.walk);
        match std::mem::replace(&mut *walk, Walk::Asked(number)) {
            Walk::Done(done, found) if done == number => {
                *walk = Walk::Idle;
                return Some(found);
            }
            // The job for another one comes to nothing.
            Walk::Asked(asked) if asked == number => {}
            Walk::Idle | Walk::Asked(_) | Walk::Done(..) => {
                if !self.submit(Job::Walk(number)) {
                    *walk = Walk::Idle;
                }
            }
        }
        None
    }

    /// Whether what was asked for is there.
    pub(super) fn has_walked(&self) -> bool {
        matches!(&*lock(&self.walk), Walk::Done(..))
    }

    /// What was asked for is not wanted any more.
    pub(super) fn forget_walk(&self) {
        *lock(&self.walk) = Walk::Idle;
    }

    /// Everything that is needed of a generation is durable elsewhere: removes it.
    pub(super) fn remove(&self, number: u32) -> std::io::Result<()> {
        let removed = {
            let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
            let found = members.iter().find(|(_, generation)| generation.number == number);
            let first = found.map(|(first, _)| *first);
            first.and_then(|first| members.remove(&first))
        };
        let Some(removed) = removed else { return Ok(()) };
        // In this order a crash in between leaves a generation of which less is known, never one that is missed.
        let mut ledger = lock(&self.ledger);
        ledger.removed(number)?;
        drop(ledger);
        self.sync_ledger()?;
        self.write_manifest(None)?;
        self.submit(Job::Remove(removed));
        Ok(())
    }

    /// Bytes on disk.
    pub(super) fn occupied(&self) -> std::io::Result<u64> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let numbers: Vec<_> = members.values().map(|generation| generation.number).collect();
        drop(members);
        let spare = lock(&self.spare).as_ref().map(|generation| generation.number);
        let sizes = numbers.into_iter().chain(spare);
        sizes.map(|number| dir::occupied(&dir::generation(&self.root, number))).sum()
    }

    /// Why a generation could not be kept, if one could not.
    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Drops the store of the generation that is written and opens it again, after a write to it failed. As long as
    /// it cannot be opened, what is in it is read without the engine, so that deliveries go on.
    pub(super) fn reopen(&self) -> Result<Arc<Store>, StoreError> {
        let current = self.current().ok_or(StoreError::Closed)?;
        let path = dir::generation(&self.root, current.number);
        let read = || -> Result<_, StoreError> {
            Ok(Body::Sealed(Arc::new(Sealed::open(Files::all(&path)?, None)?.sealed)))
        };
        // Until it has a body again that has everything, what cannot be read of it may be read later.
        current.changes(true);
        if !current.is_sealed() {
            let (mut body, closed) = current.close();
            tracing::debug!(?closed, "the store takes up anew what it may not have written");
            if let Body::Written(store) = &*body {
                // Somebody still reads it. What the log has is left to the one that is opened now.
                store.abandon();
            }
            *body = read()?;
        }
        dir::remove_snapshots(&path)?;
        dir::read_anew(&path)?;
        let opened = catch_unwind(AssertUnwindSafe(|| Store::open(&path)));
        let opened = opened.unwrap_or(Err(StoreError::Missing)).map(Arc::new);
        match &opened {
            Ok(store) => {
                *current.body() = Body::Written(Arc::clone(store));
                current.changes(false);
            }
            // The log may have been cut, and the store's file changed, before something failed.
            Err(_) => *current.body() = read()?,
        }
        opened
    }

    /// Lets go of every file of a journal that failed, without a last write to any of them.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::SeqCst);
        drop(lock(&self.jobs).take());
        // They stay members: a manifest that is being written has to list them.
        let members: Vec<_> = {
            let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
            members.values().map(Arc::clone).collect()
        };
        let spare = lock(&self.spare).clone();
        for generation in members.into_iter().chain(spare) {
            Generation::forget(&mut generation.body());
        }
    }

    /// Ends the housekeeper and closes every generation.
    pub(super) fn close(&self) {
        drop(lock(&self.jobs).take());
        let queues: Vec<_> = {
            let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
            members.values().map(|generation| Arc::clone(generation.queue())).collect()
        };
        let _in_haste: Vec<_> = queues.iter().map(|queue| queue.join()).collect();
        let housekeeper = lock(&self.housekeeper).take();
        if housekeeper.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's housekeeper panicked");
        }
        let members =
            std::mem::take(&mut *self.members.write().unwrap_or_else(PoisonError::into_inner));
        for generation in members.into_values().chain(lock(&self.spare).take()) {
            match generation.close().1 {
                Ok(Closed::Relieved) => {}
                Ok(left) => tracing::info!(?left, "the next start has the journal's intake log"),
                Err(error) => {
                    tracing::error!(%error, "the journal's store could not be synced; the next start has its log");
                }
            }
        }
        if let Err(error) = self.sync_ledger() {
            tracing::warn!(%error, "the journal's ledger could not be synced");
        }
    }

    /// Whether the housekeeper will do it.
    fn submit(&self, job: Job) -> bool {
        let jobs = lock(&self.jobs);
        let counts = job.counts();
        self.waiting.fetch_add(counts, Ordering::Relaxed);
        let sent = jobs.as_ref().map(|sender| sender.try_send(job));
        if matches!(sent, Some(Ok(()))) {
            return true;
        }
        self.waiting.fetch_sub(counts, Ordering::Relaxed);
        if matches!(sent, Some(Err(TrySendError::Full(_)))) {
            // What is not sealed is looked through at the next open, and everything else is asked for again.
            tracing::warn!("the journal's housekeeper is behind");
        }
        false
    }

    /// Asks for a spare if there is none: one could not be made, or is being made.
    pub(super) fn ensure_spare(&self) {
        if lock(&self.spare).is_none() {
            let newest = self.current().map_or(0, |generation| generation.number);
            self.submit(Job::Spare(newest.saturating_add(1)));
        }
    }

    /// How much the housekeeper has done.
    pub(super) fn jobs_done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Has the ledger made durable, behind the writer's back.
    pub(super) fn settle_ledger(&self) {
        if !self.ledger().is_settled() {
            self.submit(Job::SyncLedger);
        }
    }

    fn sync_ledger(&self) -> std::io::Result<()> {
        let _alone = lock(&self.syncing);
        let Some(file) = self.ledger().take_unsynced()? else { return Ok(()) };
        file.sync_data().inspect_err(|_| self.ledger().not_synced())
    }

    /// The ledger.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Lists every generation, and `new` among them, which is the spare from then on.
    fn write_manifest(&self, new: Option<Arc<Generation>>) -> std::io::Result<()> {
        // Whoever lists next waits until the new one is the spare, and lists it, too.
        let _alone = lock(&self.manifest);
        // The spare first: it may become a member meanwhile, but never the other way round.
        let spare = lock(&self.spare).as_ref().map(|generation| generation.number);
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let mut numbers: Vec<_> = members.values().map(|generation| generation.number).collect();
        drop(members);
        numbers.extend(spare);
        numbers.extend(new.as_ref().map(|generation| generation.number));
        numbers.sort_unstable();
        numbers.dedup();
        dir::write_manifest(&self.root, &numbers)?;
        if new.is_some() {
            *lock(&self.spare) = new;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
