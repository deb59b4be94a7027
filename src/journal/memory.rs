//! The reference engine: the contract in its simplest form, kept in memory and gone with the process.
//!
//! The simulation and the contract suite run on it; nothing it promises is durable, and nothing is ever forgotten.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast};

use super::dedup::DedupIndex;
use super::index::{Entry, Index, Slot, State, order_of};
use super::notes::Notes;
use super::quarantine::{Kept as Quarantined, Quarantine};
use super::repeats::{Repeat, Repeated};
use super::slot::Slots;
use super::{
    Append, AppendError, Appended, Ask, BoxFuture, Changed, Claimed, Depth, Found, Group,
    Happening, Health, Journal, Latest, Lease, Listed, LoadError, MAX_PAGE, Note, NoteError,
    OperateError, Page, RejectionAsk, Scope, SettleError, Tally, What,
};
use crate::model::{
    Attempt, Event, EventId, Name, Rejection, RejectionId, RejectionOutline, Settlement, Wanted,
};
use crate::time::{Clock, Timestamp};

/// What happened and was not yet read by a watcher.
const MAX_HAPPENINGS: usize = 1024;

/// A journal in memory.
#[derive(Debug)]
pub struct MemoryJournal {
    clock: Clock,
    state: Mutex<Inner>,
    changed: Notify,
    watchers: broadcast::Sender<Happening>,
}

#[derive(Debug)]
struct Inner {
    index: Index<Event>,
    dedup: DedupIndex,
    notes: Notes,
    quarantine: Quarantine<Rejection>,
    repeated: Repeated,
    latest: BTreeMap<Name, Latest>,
    /// Every event that was ever appended.
    events: BTreeMap<u64, Kept>,
    closed: bool,
}

/// An event with its deliveries as they stand, but for those that the index knows better.
#[derive(Debug)]
struct Kept {
    event: Event,
    deliveries: Vec<Slot>,
    attempts: Vec<(Name, Attempt, Option<Timestamp>)>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new(clock: Clock) -> Self {
        let inner = Inner {
            index: Index::new(),
            dedup: DedupIndex::default(),
            notes: Notes::default(),
            quarantine: Quarantine::new(u64::MAX),
            repeated: Repeated::default(),
            latest: BTreeMap::new(),
            events: BTreeMap::new(),
            closed: false,
        };
        let watchers = broadcast::channel(MAX_HAPPENINGS).0;
        Self { clock, state: Mutex::new(inner), changed: Notify::new(), watchers }
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
        let sequence = inner.next();
        let id = event.id;
        inner.dedup.remember(&dedup, id, now);
        let (source, name) = (event.source.clone(), event.name.clone());
        let received_at = event.received_at;
        inner.latest.insert(source.clone(), Latest { id, name: name.clone(), received_at });
        let happening = What::Accepted { source, name, received_at };
        inner.take_up(sequence, Kept { event, deliveries, attempts: Vec::new() });
        drop(inner);
        self.changed.notify_waiters();
        self.happened(id, happening);
        Ok(Appended::New(id))
    }

    fn happened(&self, id: EventId, what: What) {
        // Nobody may be watching.
        drop(self.watchers.send(Happening { id, what }));
    }

    fn settle_now(&self, lease: Lease, settlement: Settlement, attempt: Option<Attempt>) {
        let mut inner = self.lock();
        let settled = inner.index.settle(lease, settlement, attempt.is_some());
        let Some(settled) = settled else { return };
        let due = settled.state.due();
        let name = inner.index.name(lease.target).cloned();
        let (target, attempts, state) = (lease.target, settled.attempts, settled.state);
        if let Some(kept) = inner.events.get_mut(&lease.sequence) {
            kept.put(Slot { target, attempts, state });
            kept.attempts.extend(name.zip(attempt).map(|(name, attempt)| (name, attempt, due)));
        }
        let states = inner.index.states(&Slots::new(&[Slot { target, attempts, state }]));
        drop(inner);
        for state in states {
            self.happened(settled.event, What::Delivery(state));
        }
    }

    /// Gives the deliveries of an event another state, as `becomes` says.
    fn decide(
        &self,
        id: EventId,
        scope: &Scope,
        becomes: impl Fn(State) -> Option<State>,
    ) -> Result<Changed, OperateError> {
        let mut inner = self.lock();
        let found = inner.events.iter().find(|(_, kept)| kept.event.id == id);
        let sequence = found.map(|(sequence, _)| *sequence).ok_or(OperateError::Unknown)?;
        let mut slots = inner.slots(sequence);
        let mut changed = Changed::default();
        for slot in &mut slots {
            let is_dead = matches!(slot.state, State::Dead(_));
            let name = inner.index.name(slot.target);
            if !name.is_some_and(|name| scope.includes(name, is_dead)) {
                continue;
            }
            if let Some(state) = becomes(slot.state) {
                changed.deliveries = changed.deliveries.saturating_add(1);
                let is_due = state == State::Ready;
                *slot = if is_due { Slot::revived(slot.target) } else { Slot { state, ..*slot } };
                inner.index.decide(sequence, slot.target, state);
            }
        }
        let mut new = Vec::new();
        if becomes(State::Delivered) == Some(State::Ready) {
            for name in scope.new_targets() {
                let target = inner.index.number(name).ok_or(OperateError::Unknown)?;
                if !slots.iter().any(|slot| slot.target == target) {
                    new.push(Slot::revived(target));
                }
            }
        }
        changed.deliveries = changed.deliveries.saturating_add(new.len());
        let Some(mut kept) = inner.events.remove(&sequence) else { return Ok(changed) };
        slots.extend(new.iter().copied());
        kept.deliveries = slots;
        match inner.index.get(sequence) {
            Some(_) => {
                inner.index.grow(sequence, kept.event.clone(), &new);
                inner.events.insert(sequence, kept);
            }
            None => inner.take_up(sequence, kept),
        }
        drop(inner);
        self.changed.notify_waiters();
        Ok(changed)
    }
}

impl Inner {
    fn next(&self) -> u64 {
        self.events.last_key_value().map_or(0, |(last, _)| last.saturating_add(1))
    }

    fn take_up(&mut self, sequence: u64, kept: Kept) {
        let Event { id, received_at, .. } = kept.event;
        let order = kept.event.order_key.as_deref().map_or(0, order_of);
        let (place, deliveries) = (kept.event.clone(), Slots::new(&kept.deliveries));
        let entry = Entry { id, received_at, order, label: 0, place, deliveries };
        self.index.insert(sequence, entry);
        self.events.insert(sequence, kept);
    }

    /// The deliveries of an event as they stand.
    fn slots(&self, sequence: u64) -> Vec<Slot> {
        let kept = || self.events.get(&sequence).map(|kept| kept.deliveries.clone());
        let known = self.index.get(sequence).map(|entry| entry.deliveries.iter().collect());
        known.or_else(kept).unwrap_or_default()
    }

    fn found(&self, sequence: u64, kept: &Kept) -> Found {
        Found {
            sequence,
            event: kept.event.clone(),
            deliveries: self.index.states(&Slots::new(&self.slots(sequence))),
            attempts: kept.attempts.clone(),
            repeats: self.repeated.of(kept.event.id),
        }
    }

    fn list(&self, ask: &Ask) -> Page {
        let mut page = Page::default();
        let before = self.events.range(..ask.before.unwrap_or(u64::MAX)).rev();
        for (sequence, kept) in before {
            let Found { sequence, event, deliveries, attempts, .. } = self.found(*sequence, kept);
            let latest = |target: &Name| {
                let of_target = attempts.iter().rev().find(|(name, ..)| name == target);
                of_target.map(|(_, attempt, _)| attempt)
            };
            let of_attempt = deliveries.iter().any(|it| {
                ask.query.fits_delivery(it.outline()) && ask.query.fits_attempt(latest(&it.target))
            });
            let fits_attempt = !ask.query.needs_attempts() || of_attempt;
            let listed = Listed {
                sequence,
                id: event.id,
                source: event.source.to_string(),
                name: event.name.clone(),
                received_at: event.received_at,
                bytes: u64::try_from(event.body.len()).unwrap_or(u64::MAX),
                deliveries,
            };
            if listed.fits(&ask.query) && fits_attempt && ask.query.fits_content(&event) {
                page.items.push(listed);
                if page.items.len() >= ask.limit.clamp(1, MAX_PAGE) {
                    page.next = Some(sequence);
                    break;
                }
            }
        }
        page
    }
}

impl Inner {
    fn tally(&self, ask: &Ask) -> Tally {
        let page = self.list(&Ask { limit: MAX_PAGE, ..ask.clone() });
        let mut tally = Tally { next: page.next, ..Tally::default() };
        for item in &page.items {
            let attempts = self.events.get(&item.sequence).map(|kept| &kept.attempts);
            for state in &item.deliveries {
                let of_target = attempts
                    .and_then(|all| all.iter().rev().find(|(name, ..)| *name == state.target));
                let outline = state.outline();
                let fits = ask.query.fits_delivery(outline)
                    && ask.query.fits_attempt(of_target.map(|(_, attempt, _)| attempt));
                if let Some(reason) = outline.reason.filter(|_| fits) {
                    let one = Group::of_one(item.received_at);
                    tally.add(state.target.clone(), reason, one);
                }
            }
        }
        tally
    }
}

impl Kept {
    fn put(&mut self, slot: Slot) {
        if let Some(old) = self.deliveries.iter_mut().find(|it| it.target == slot.target) {
            *old = slot;
        }
    }
}

impl Journal for MemoryJournal {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let appended = self.append_now(append);
        Box::pin(async move { appended })
    }

    fn repeated(&self, event: EventId, repeat: Repeat) {
        self.lock().repeated.note(event, repeat);
    }

    fn demand(&self, wanted: Vec<Wanted>) {
        let mut inner = self.lock();
        for wanted in wanted {
            inner.index.demand(wanted);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    fn claim(&self) -> BoxFuture<'_, Vec<Claimed>> {
        Box::pin(super::wait_for_due(&self.clock, &self.changed, move |now| {
            let mut inner = self.lock();
            let claimed = inner.index.take(now);
            (claimed, inner.index.next_due())
        }))
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
        self.settle_now(lease, settlement, attempt);
        self.changed.notify_waiters();
        Box::pin(async { Ok(()) })
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Found>, LoadError>> {
        let inner = self.lock();
        let kept = inner.events.iter().find(|(_, kept)| kept.event.id == id);
        let found = kept.map(|(sequence, kept)| inner.found(*sequence, kept));
        Box::pin(async move { Ok(found) })
    }

    fn list(&self, ask: Ask) -> BoxFuture<'_, Result<Page, LoadError>> {
        let page = self.lock().list(&ask);
        Box::pin(async move { Ok(page) })
    }

    fn tally(&self, ask: Ask) -> BoxFuture<'_, Result<Tally, LoadError>> {
        let tally = self.lock().tally(&ask);
        Box::pin(async move { Ok(tally) })
    }

    fn replay(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        let changed = self.decide(id, &scope, State::replayed);
        Box::pin(async move { changed })
    }

    fn hasten(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        let mut inner = self.lock();
        let mut found = inner.events.iter().filter(|(_, kept)| kept.event.id == id);
        let sequence = found.next().map(|(sequence, _)| *sequence).ok_or(OperateError::Unknown);
        let changed = sequence.map(|sequence| {
            let changed = inner.index.hasten_all(sequence, &scope);
            Changed { deliveries: changed.len() }
        });
        drop(inner);
        self.changed.notify_waiters();
        Box::pin(async move { changed })
    }

    fn discard(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        let changed = self.decide(id, &scope, State::given_up);
        Box::pin(async move { changed })
    }

    fn watch(&self) -> broadcast::Receiver<Happening> {
        self.watchers.subscribe()
    }

    fn latest(&self) -> BTreeMap<Name, Latest> {
        self.lock().latest.clone()
    }

    fn reject(&self, rejection: Rejection) -> BoxFuture<'_, Result<(), AppendError>> {
        let now = self.clock.now();
        let mut inner = self.lock();
        let kept = Quarantined::of(&rejection, rejection.clone());
        let admitted =
            inner.quarantine.admit((&kept.source, kept.cause), kept.held, kept.bytes, now);
        let result = admitted.map(|_given_up| drop(inner.quarantine.put(rejection.id, kept)));
        drop(inner);
        Box::pin(async move { result.map_err(|_not_kept| AppendError::Full) })
    }

    fn rejections(&self, ask: &RejectionAsk) -> Vec<RejectionOutline> {
        let limit = ask.limit.clamp(1, MAX_PAGE);
        self.lock().quarantine.list(ask.before, |outline| ask.fits(outline), limit)
    }

    fn rejection(&self, id: RejectionId) -> BoxFuture<'_, Result<Option<Rejection>, LoadError>> {
        let found = self.lock().quarantine.get(id).map(|kept| kept.place.clone());
        Box::pin(async move { Ok(found) })
    }

    fn release(
        &self,
        id: RejectionId,
        append: Append,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let is_kept = self.lock().quarantine.get(id).is_some();
        let appended = if is_kept { self.append_now(append) } else { Err(AppendError::NotKept) };
        if appended.is_ok() {
            self.lock().quarantine.remove(id);
        }
        Box::pin(async move { appended })
    }

    fn drop_rejections(&self, ids: Vec<RejectionId>) -> BoxFuture<'_, Result<usize, AppendError>> {
        let mut inner = self.lock();
        let gone = ids.into_iter().filter_map(|id| inner.quarantine.remove(id)).count();
        drop(inner);
        Box::pin(async move { Ok(gone) })
    }

    fn quarantined(&self) -> BTreeMap<Name, u64> {
        self.lock().quarantine.counts()
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

    fn failed(&self) -> BoxFuture<'_, String> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.lock().closed = true;
        Box::pin(async {})
    }
}
