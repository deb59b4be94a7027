//! What the writer and everyone else share: the waiting room, the index, and the journal's health.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast};

use super::dir;
use super::disk::{Gauge, Limits};
use super::keep::Keeping;
use super::operate::Wish;
use super::recent::Recent;
use super::room::{Ending, Room, Taken, Waiting};
use super::usage::Usage;
use crate::journal::index::{Index, Settled, Slot};
use crate::journal::notes::Notes;
use crate::journal::quarantine::Quarantine;
use crate::journal::record::Record;
use crate::journal::record::content::Place;
use crate::journal::repeats::Repeated;
use crate::journal::slot::{Number, Slots};
use crate::journal::{AppendError, Happening, Health, Latest, What};
use crate::metrics::{JournalMetrics, gauge_value};
use crate::model::Name;
use crate::time::{Clock, Stopwatch};

/// Settlements alone wait this long for an append whose commit they can ride on.
const LINGER: Duration = Duration::from_millis(50);
/// What happened and was not yet read by a watcher.
const MAX_HAPPENINGS: usize = 1024;
/// A commit that takes longer hangs: the process must end, and the next one looks at what is on the disk.
const HANGS_AFTER: Duration = Duration::from_secs(30);
const HANGS_LOOK: Duration = Duration::from_secs(10);

/// Shared between the writer's thread and the callers.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) metrics: JournalMetrics,
    pub(super) state: Mutex<Memory>,
    /// Something may have become due.
    pub(super) changed: Notify,
    /// Whoever watches what happens.
    watchers: broadcast::Sender<Happening>,
    waiters: Mutex<Waiters>,
    arrived: Condvar,
    health: Mutex<Health>,
    failed: Notify,
    limits: ArcSwap<Limits>,
    gauge: Mutex<Gauge>,
    /// Runs while a commit is under way.
    committing: Mutex<Option<Stopwatch>>,
}

/// What lives in memory.
pub(super) struct Memory {
    pub(super) index: Index<Place>,
    pub(super) usage: Usage,
    pub(super) notes: Notes,
    pub(super) quarantine: Quarantine<Place>,
    pub(super) repeated: Repeated,
    pub(super) recent: Recent,
    pub(super) latest: BTreeMap<Name, Latest>,
    /// The newest commit that is durable, if something of it can be read.
    pub(super) durable: u64,
}

/// Who waits for the writer, and whether it waits for them.
#[derive(Default)]
struct Waiters {
    room: Room,
    /// The writer waits for something to come.
    awaited: bool,
}

impl Shared {
    pub(super) fn new(
        clock: Clock,
        metrics: JournalMetrics,
        memory: Memory,
        limits: Limits,
    ) -> Self {
        Self {
            clock,
            metrics,
            state: Mutex::new(memory),
            changed: Notify::new(),
            watchers: broadcast::channel(MAX_HAPPENINGS).0,
            waiters: Mutex::default(),
            arrived: Condvar::new(),
            health: Mutex::new(Health::Healthy),
            failed: Notify::new(),
            limits: ArcSwap::from_pointee(limits),
            gauge: Mutex::default(),
            committing: Mutex::new(None),
        }
    }

    /// What lives in memory.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when a commit whose contents are asked for is durable.
    pub(super) async fn durable(&self, commit: u64) {
        loop {
            let mut change = std::pin::pin!(self.changed.notified());
            change.as_mut().enable();
            if self.memory().durable >= commit {
                return;
            }
            change.await;
        }
    }

    /// The bounds as they are now.
    pub(super) fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// From now on these bounds.
    pub(super) fn limit(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
        self.wrote(0);
    }

    /// The writer is at work from now on.
    pub(super) fn commit_begins(&self) {
        *self.committing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopwatch::start());
    }

    /// The writer waits for work.
    pub(super) fn commit_ends(&self) {
        *self.committing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How long the commit under way has been hanging, if it is.
    pub(super) fn hangs(&self) -> Option<Duration> {
        let committing = *self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        committing.map(|begun| begun.elapsed()).filter(|took| *took > HANGS_AFTER)
    }

    /// Waits, unless the writer is told to end: false.
    pub(super) fn pause(&self, patience: Duration) -> bool {
        let waiters = self.wait(self.waiters(), patience, |room| room.ending().is_none());
        waiters.room.ending().is_none()
    }

    /// Puts an append into the waiting room, or says why not.
    pub(super) fn wait_for_commit(&self, waiting: Waiting) -> Result<(), AppendError> {
        match self.health() {
            Health::Healthy => {}
            Health::Full { .. } => return Err(AppendError::Full),
            Health::Failed { .. } => return Err(AppendError::Failed),
        }
        let mut waiters = self.waiters();
        waiters.room.append(waiting)?;
        self.arrived(waiters);
        Ok(())
    }

    /// Lets a settlement, or a note, ride on the next commit; false when there will be none.
    pub(super) fn ride_along(&self, record: Record, place: Option<Place>) -> bool {
        let mut waiters = self.waiters();
        let is_taken = waiters.room.settle(record, place);
        if is_taken && waiters.room.has_news() {
            self.arrived(waiters);
        }
        is_taken
    }

    /// Lets an operator's decision wait for the next commit, or says why not.
    pub(super) fn wish(&self, wish: Wish) -> Result<(), AppendError> {
        if let Health::Failed { .. } = self.health() {
            return Err(AppendError::Failed);
        }
        let mut waiters = self.waiters();
        waiters.room.wish(wish)?;
        self.arrived(waiters);
        Ok(())
    }

    /// Lets a change of the quarantine wait for the next commit, or says why not.
    pub(super) fn keep(&self, keeping: Keeping) -> Result<(), AppendError> {
        let bytes = match (&keeping, self.health()) {
            (_, Health::Failed { .. }) => return Err(AppendError::Failed),
            (Keeping::Reject(..), Health::Full { .. }) => return Err(AppendError::Full),
            (Keeping::Reject(rejection, _), Health::Healthy) => {
                rejection.body.len().saturating_add(rejection.headers.packed().len())
            }
            (Keeping::Drop(ids, _), Health::Healthy | Health::Full { .. }) => {
                ids.len().saturating_mul(16)
            }
        };
        let mut waiters = self.waiters();
        waiters.room.keep(keeping, bytes)?;
        self.arrived(waiters);
        Ok(())
    }

    /// Tells whoever watches.
    pub(super) fn watch(&self) -> broadcast::Receiver<Happening> {
        self.watchers.subscribe()
    }

    /// An event is durable.
    pub(super) fn accepted(&self, memory: &mut Memory, source: Name, latest: Latest) {
        let Latest { id, received_at, .. } = latest;
        self.happened(|| {
            let (source, name) = (source.clone(), latest.name.clone());
            Some(Happening { id, what: What::Accepted { source, name, received_at } })
        });
        memory.latest.insert(source, latest);
    }

    /// A delivery is in another state.
    pub(super) fn changed_delivery(&self, memory: &Memory, sequence: u64, target: Number) {
        self.happened(|| {
            let entry = memory.index.get(sequence)?;
            let slot = entry.deliveries.get(target)?;
            let state = memory.index.states(&Slots::new(&[slot])).pop()?;
            Some(Happening { id: entry.id, what: What::Delivery(state) })
        });
    }

    /// An attempt has ended.
    pub(super) fn settled(&self, target: Number, settled: &Settled<Place>) {
        let Settled { event, attempts, state, .. } = *settled;
        self.happened(|| {
            let slot = Slot { target, attempts, state };
            let state = self.memory().index.states(&Slots::new(&[slot])).pop()?;
            Some(Happening { id: event, what: What::Delivery(state) })
        });
    }

    fn happened(&self, happening: impl FnOnce() -> Option<Happening>) {
        if self.watchers.receiver_count() > 0
            && let Some(happening) = happening()
        {
            // The last watcher may have left in between.
            drop(self.watchers.send(happening));
        }
    }

    /// Waits for something to commit, at most `patience`, and takes what one commit may hold.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let waiters = self.wait(self.waiters(), patience, Room::is_idle);
        let mut waiters = self.wait(waiters, LINGER, Room::may_linger);
        waiters.room.take()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiters().room.is_empty()
    }

    /// Tells the writer to end; what comes after this is refused.
    pub(super) fn end(&self, how: Ending) {
        let mut waiters = self.waiters();
        waiters.room.end(how);
        self.arrived(waiters);
    }

    /// A commit failed. Nothing more is acknowledged; whoever waits is told.
    pub(super) fn fail(&self, detail: String) {
        tracing::error!(detail, "the journal failed; nothing more is acknowledged");
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::Failed { detail };
        self.failed.notify_waiters();
        let waiting = self.waiters().room.give_up();
        for waiting in waiting {
            if waiting.answer.send(Err(AppendError::Failed)).is_err() {
                tracing::debug!("a failed append's caller had left");
            }
        }
    }

    /// Resolves with the reason when the journal has failed.
    pub(super) async fn failed(&self) -> String {
        loop {
            let mut told = std::pin::pin!(self.failed.notified());
            // From here on no failure is missed.
            told.as_mut().enable();
            if let Health::Failed { detail } = self.health() {
                return detail;
            }
            tokio::select! {
                () = told => {}
                () = self.clock.sleep_until(self.clock.now().plus(HANGS_LOOK)) => {}
            }
        }
    }

    pub(super) fn health(&self) -> Health {
        if let Some(took) = self.hangs() {
            let detail = format!("a commit has been hanging for {} s", took.as_secs());
            return Health::Failed { detail };
        }
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing new is accepted for want of room; what came in before that was known is not either.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.health(), Health::Full { .. })
    }

    /// Compares the disk with its bounds. `starved`: it has been full, and there is not room enough yet.
    pub(super) fn look_at_disk(&self, size: u64, starved: bool) {
        self.metrics.bytes.set(gauge_value(size));
        let free = dir::free_bytes(&self.limits().path).ok();
        if let Some(free) = free {
            self.metrics.free_bytes.set(gauge_value(free));
        }
        let gauge = Gauge { size, free, starved, written: 0 };
        *self.gauge.lock().unwrap_or_else(PoisonError::into_inner) = gauge;
        self.set_health(gauge.verdict(&self.limits()));
    }

    /// So much was written since the disk was looked at. Whether it should be looked at again.
    pub(super) fn wrote(&self, bytes: u64) -> bool {
        let mut gauge = self.gauge.lock().unwrap_or_else(PoisonError::into_inner);
        gauge.wrote(bytes);
        let limits = self.limits();
        let (verdict, stale) = (gauge.verdict(&limits), gauge.is_stale(&limits));
        drop(gauge);
        // Only the next look can say that there is room again.
        if matches!(verdict, Health::Full { .. }) {
            self.set_health(verdict);
        }
        stale
    }

    /// Says how the journal is, and the operator when that has changed. A failed journal stays failed.
    pub(super) fn set_health(&self, now: Health) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*health, &now) {
            (Health::Failed { .. }, _) => return,
            (Health::Healthy, Health::Full { detail }) => {
                tracing::error!(detail, "the journal is full; new events are refused");
            }
            (Health::Full { .. }, Health::Healthy) => {
                tracing::info!("the journal has room again; new events are accepted");
            }
            (Health::Healthy | Health::Full { .. }, _) => {}
        }
        *health = now;
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has come. Waking the writer is a call of the system, and nearly always it is at work.
    fn arrived(&self, mut waiters: MutexGuard<'_, Waiters>) {
        let awaited = std::mem::take(&mut waiters.awaited);
        drop(waiters);
        if awaited {
            self.arrived.notify_one();
        }
    }

    fn wait<'a>(
        &self,
        waiters: MutexGuard<'a, Waiters>,
        patience: Duration,
        while_true: impl Fn(&Room) -> bool,
    ) -> MutexGuard<'a, Waiters> {
        let waited = self.arrived.wait_timeout_while(waiters, patience, |waiters| {
            waiters.awaited = while_true(&waiters.room);
            waiters.awaited
        });
        let mut waiters = waited.unwrap_or_else(PoisonError::into_inner).0;
        waiters.awaited = false;
        waiters
    }
}

#[cfg(test)]
mod tests;
