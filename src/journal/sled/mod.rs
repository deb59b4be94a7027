//! The embedded engine: a sled store behind one writer.
//!
//! An append waits in a bounded room until the writer has put it, with everything else that waits, into one
//! atomic batch and has synced the store's file itself, because sled's own flush does not. Only then is it
//! answered and only then can it be delivered. Settlements ride along. What is pending lives in memory and is
//! rebuilt at open from small records, without reading a body.

mod committer;
mod dir;
mod prune;
mod recover;
mod shared;
mod store;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use self::committer::{Committer, Waiting};
use self::dir::Lock;
use self::prune::Pruner;
use self::recover::recover;
use self::shared::{Ending, Limits, Memory, Shared};
use self::store::{Store, StoreError};
use super::record::{Content, Place, Record};
use super::{
    Append, AppendError, Appended, BoxFuture, Claimed, Demand, Depth, Found, Health, Journal,
    Lease, LoadError, SettleError, wait_for_due,
};
use crate::metrics::JournalMetrics;
use crate::model::{Attempt, Event, EventId, Name, Settlement};
use crate::time::Clock;

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
}

/// What an open found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Deliveries still to be made.
    pub pending: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// Records that failed their check and were left out.
    pub damaged: u64,
    /// How long it took.
    pub took: Duration,
}

/// Why a journal was not opened. Each leaves what is there untouched, and the process with exit code 74.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("the journal at {} is in use by {}; one journal serves one daemon: stop that one first, or give this one its own journal.path", path.display(), owner(*pid))]
    Locked {
        /// The journal.
        path: PathBuf,
        /// Who has it, if it said so.
        pid: Option<u32>,
    },
    /// It was written by a later release.
    #[error("{} says format {format}, which is newer than this release reads; run the release that wrote it", path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The format it names.
        format: u32,
    },
    /// Something that must be there is not, or cannot be read.
    #[error("the journal at {} is damaged: {what}. Nothing was changed. Copy the directory aside before anything else; then restore the missing file from a backup, or point journal.path at a new directory to go on without these events", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The file system refused.
    #[error("{doing} {}: {source}; check that the directory exists, is writable for this user and not full (journal.path)", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl OpenError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}

/// A durable journal on this machine's disk.
pub struct SledJournal {
    shared: Arc<Shared>,
    /// `None` once the journal is closed.
    store: Mutex<Option<Arc<Store>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl SledJournal {
    /// Opens or creates a journal and rebuilds its memory. Blocks: for a thread that may.
    pub fn open(
        options: &Options,
        clock: &Clock,
        metrics: JournalMetrics,
    ) -> Result<(Self, Opened), OpenError> {
        let begun = clock.now();
        let root = &options.path;
        dir::create_root(root)?;
        let lock = Lock::take(root)?;
        let path = dir::store(root, |new| guarded(root, || Store::create(new)))?;
        dir::remove_half_made_snapshots(&path)
            .map_err(|source| OpenError::io("cleaning", &path, source))?;
        let store = Arc::new(guarded(root, || Store::open(&path, lock))?);
        if dir::has_blobs(&path) {
            tracing::error!(path = %path.display(), "the store holds files that it does not sync");
        }
        let recovered = guarded(root, || recover(&store, clock.now()))?;
        metrics.damaged_records.inc_by(recovered.damaged);
        let Options { retention, path: _, max_bytes, min_free } = *options;
        let limits = Limits { path, max_bytes, min_free };
        let shared = Arc::new(Shared::new(clock.clone(), metrics, recovered.index, limits));
        if let Ok(size) = store.size() {
            shared.look_at_disk(size);
        }
        let committer = Committer {
            shared: Arc::clone(&shared),
            store: Arc::clone(&store),
            dedup: recovered.dedup,
            next_commit: recovered.next_commit,
            next_sequence: recovered.next_sequence,
            pruner: Pruner::new(retention),
            upkeep_at: clock.now(),
        };
        let thread = std::thread::Builder::new().name("journal-committer".into());
        let committer = thread
            .spawn(|| committer.run())
            .map_err(|source| OpenError::io("starting the writer of", root, source))?;
        let journal =
            Self { shared, store: Mutex::new(Some(store)), committer: Mutex::new(Some(committer)) };
        let opened = journal.opened(recovered.damaged, clock.now().since(begun));
        Ok((journal, opened))
    }

    /// Ends at once, as a crash would: what waits is not committed and settlements not yet written are lost.
    /// Blocks until the writer has ended and the directory is free.
    pub fn abandon(&self) {
        self.end(Ending::Abandon);
    }

    fn opened(&self, damaged: u64, took: Duration) -> Opened {
        let depth = self.depth();
        let pending = |d: &Depth| d.ready.saturating_add(d.waiting).saturating_add(d.in_flight);
        let dead = depth.iter().map(|d| d.dead).sum();
        Opened { pending: depth.iter().map(pending).sum(), dead, damaged, took }
    }

    fn end(&self, how: Ending) {
        self.shared.end(how);
        let writer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the journal's writer panicked");
        }
        // The last reader's reference drops sled and then the lock.
        self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a content on a thread that may block.
    async fn read(&self, place: Place) -> Result<Content, LoadError> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let closed = || LoadError::Unreadable { detail: "the journal is closed".into() };
        let store = store.ok_or_else(closed)?;
        let read = tokio::task::spawn_blocking(move || store.content(place)).await;
        let result = read.map_err(|error| LoadError::Unreadable { detail: error.to_string() })?;
        result.map_err(|error| {
            self.shared.metrics.errors.with_label_values(&["load"]).inc();
            let detail = error.to_string();
            match error {
                StoreError::Damaged(_) | StoreError::Missing => {
                    self.shared.metrics.damaged_records.inc();
                    LoadError::Damaged { detail }
                }
                StoreError::Sled(_) | StoreError::Sync(_) => LoadError::Unreadable { detail },
            }
        })
    }

    async fn load_event(&self, lease: Lease) -> Result<Event, LoadError> {
        let gone = || LoadError::Unreadable { detail: "the lease is not of this journal".into() };
        let mut place = {
            let memory = self.memory();
            if let Some(event) = memory.recent.get(lease.sequence) {
                return Ok(event);
            }
            memory.index.place(lease).ok_or_else(gone)?
        };
        loop {
            let read = self.read(place).await;
            let now = self.memory().index.place(lease).ok_or_else(gone)?;
            // Retention may have moved the content while it was being read.
            if read.is_err() && now != place {
                place = now;
                continue;
            }
            return event(read?);
        }
    }

    async fn find_event(&self, id: EventId) -> Option<Found> {
        let (place, deliveries) = {
            let memory = self.memory();
            let (_, entry) = memory.index.find(id)?;
            (entry.place, memory.index.states(&entry.deliveries))
        };
        let event = event(self.read(place).await.ok()?).ok()?;
        Some(Found { event, deliveries })
    }
}

/// Runs what may meet damaged files: sled reports some damage by panicking.
fn guarded<T>(root: &Path, what: impl FnOnce() -> Result<T, StoreError>) -> Result<T, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: root.to_owned(), what };
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(StoreError::Sync(source) | StoreError::Sled(sled::Error::Io(source)))) => {
            Err(OpenError::io("opening", root, source))
        }
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_panic) => Err(damaged("the storage engine cannot read its files".into())),
    }
}

fn event(content: Content) -> Result<Event, LoadError> {
    let Content { id, received_at, source, name, order_key, headers, body } = content;
    let detail = "its source's name is not one".to_owned();
    let source = Name::parse(&source).ok_or(LoadError::Damaged { detail })?;
    Ok(Event { id, source, name, order_key, received_at, headers, body })
}

impl Journal for SledJournal {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let (answer, answered) = oneshot::channel();
        let entered = self.shared.wait_for_commit(Waiting { append, answer });
        Box::pin(async move {
            entered?;
            // The writer drops an answer only when it ends without committing.
            answered.await.unwrap_or(Err(AppendError::Failed))
        })
    }

    fn claim(&self, demand: Demand) -> BoxFuture<'_, Vec<Claimed>> {
        Box::pin(wait_for_due(&self.shared.clock, &self.shared.changed, move |now| {
            let mut memory = self.memory();
            let claimed = memory.index.take(&demand, now);
            (claimed, memory.index.next_due(&demand))
        }))
    }

    fn load(&self, lease: Lease) -> BoxFuture<'_, Result<Event, LoadError>> {
        Box::pin(self.load_event(lease))
    }

    fn settle(
        &self,
        lease: Lease,
        settlement: Settlement,
        attempt: Option<Attempt>,
    ) -> BoxFuture<'_, Result<(), SettleError>> {
        let settled = self.memory().index.settle(lease, settlement, attempt.is_some());
        let taken = settled.is_none_or(|settled| {
            self.shared.changed.notify_waiters();
            self.shared.ride_along(Record::Settled {
                sequence: lease.sequence,
                target: lease.target,
                attempts: settled.attempts,
                state: settled.state,
                at: self.shared.clock.now(),
                attempt,
            })
        });
        Box::pin(async move { if taken { Ok(()) } else { Err(SettleError::Closed) } })
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Option<Found>> {
        Box::pin(self.find_event(id))
    }

    fn depth(&self) -> Vec<Depth> {
        let now = self.shared.clock.now();
        self.memory().index.depth(now)
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        // Joining the writer blocks for one commit; this runs once, when everything else has ended.
        Box::pin(async move { self.end(Ending::Close) })
    }
}

impl Drop for SledJournal {
    fn drop(&mut self) {
        self.end(Ending::Close);
    }
}

#[cfg(test)]
mod tests;
