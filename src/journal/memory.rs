//! The reference engine: the contract in its simplest form, kept in memory and gone with the process.
//!
//! The simulation and the contract suite run on it; nothing it promises is durable.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::dedup::DedupIndex;
use super::index::{Entry, Index, Slot, State};
use super::notes::Notes;
use super::slot::Slots;
use super::{
    Append, AppendError, Appended, BoxFuture, Claimed, Demand, Depth, Found, Health, Journal,
    Lease, LoadError, Note, NoteError, SettleError,
};
use crate::model::{Attempt, Event, EventId, Settlement};
use crate::time::Clock;

/// A journal in memory.
#[derive(Debug)]
pub struct MemoryJournal {
    clock: Clock,
    state: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    index: Index<Event>,
    dedup: DedupIndex,
    notes: Notes,
    next: u64,
    closed: bool,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new(clock: Clock) -> Self {
        let inner = Inner {
            index: Index::new(),
            dedup: DedupIndex::default(),
            notes: Notes::default(),
            next: 0,
            closed: false,
        };
        Self { clock, state: Mutex::new(inner), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_now(&self, append: Append) -> Result<Appended, AppendError> {
        let now = self.clock.now();
        let mut inner = self.lock();
        if inner.closed {
            return Err(AppendError::Closed);
        }
        inner.dedup.prune(now, append.dedup.len().saturating_add(1));
        if let Some(first) = inner.dedup.repeats(&append.dedup, now) {
            let unknown = inner.dedup.unknown(&append.dedup, now);
            inner.dedup.remember(&unknown, first, now);
            return Ok(Appended::Duplicate(first));
        }
        let Append { event, targets, dedup } = append;
        let slot = |target| Slot { target, attempts: 0, state: State::Ready };
        let numbers = targets.iter().map(|name| inner.index.number(name).map(slot));
        let deliveries = numbers.collect::<Option<Vec<_>>>().ok_or(AppendError::Full)?;
        let sequence = inner.next;
        inner.next = sequence.saturating_add(1);
        let (id, received_at) = (event.id, event.received_at);
        inner.dedup.remember(&dedup, id, now);
        let deliveries = Slots::new(&deliveries);
        inner.index.insert(sequence, Entry { id, received_at, order: 0, place: event, deliveries });
        drop(inner);
        self.changed.notify_waiters();
        Ok(Appended::New(id))
    }
}

impl Journal for MemoryJournal {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let appended = self.append_now(append);
        Box::pin(async move { appended })
    }

    fn claim(&self, demand: Demand) -> BoxFuture<'_, Vec<Claimed>> {
        let take = move |journal: &Self, now| {
            let mut inner = journal.lock();
            let claimed = inner.index.take(&demand, now);
            (claimed, inner.index.next_due(&demand))
        };
        Box::pin(super::wait_for_due(&self.clock, &self.changed, move |now| take(self, now)))
    }

    fn load(&self, lease: Lease) -> BoxFuture<'_, Result<Event, LoadError>> {
        let event = self.lock().index.place(lease);
        let detail = "the lease is not of this journal".to_owned();
        Box::pin(async move { event.ok_or(LoadError::Unreadable { detail }) })
    }

    fn settle(
        &self,
        lease: Lease,
        settlement: Settlement,
        attempt: Option<Attempt>,
    ) -> BoxFuture<'_, Result<(), SettleError>> {
        self.lock().index.settle(lease, settlement, attempt.is_some());
        self.changed.notify_waiters();
        Box::pin(async { Ok(()) })
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Option<Found>> {
        let inner = self.lock();
        let found = inner.index.find(id).map(|(_, entry)| Found {
            event: entry.place.clone(),
            deliveries: inner.index.states(&entry.deliveries),
        });
        Box::pin(async move { found })
    }

    fn note(&self, note: Note) -> BoxFuture<'_, Result<(), NoteError>> {
        let taken = self.lock().notes.put(note);
        Box::pin(async move { taken })
    }

    fn notes(&self, topic: &str) -> Vec<(String, Vec<u8>)> {
        self.lock().notes.of(topic)
    }

    fn depth(&self) -> Vec<Depth> {
        let now = self.clock.now();
        self.lock().index.depth(now)
    }

    fn health(&self) -> Health {
        Health::Healthy
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.lock().closed = true;
        Box::pin(async {})
    }
}
