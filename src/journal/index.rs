//! What is pending, in memory: a pure state machine that every engine shares.
//!
//! It holds what the next decision needs and nothing more: no body, no header, nothing of an event whose
//! deliveries have all reached their target. It is rebuilt from the engine's records at open. A pending delivery
//! takes about 100 bytes.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::slot::Slots;
pub(super) use super::slot::{Number, Slot, State};
use super::table::{Sequences, Table};
use super::{Claimed, DeliveryState, Demand, Depth, Lease, Stage};
use crate::model::{EventId, Name, Settlement};
use crate::time::Timestamp;

/// One event with deliveries that are pending or dead. `P` says where the engine keeps its content.
#[derive(Clone, Debug)]
pub(super) struct Entry<P> {
    pub(super) id: EventId,
    pub(super) received_at: Timestamp,
    /// Groups events that belong together; 0 for none.
    pub(super) order: u64,
    pub(super) place: P,
    pub(super) deliveries: Slots,
}

impl<P> Entry<P> {
    /// Whether every target has it.
    pub(super) fn is_delivered(&self) -> bool {
        self.deliveries.iter().all(|slot| slot.state == State::Delivered)
    }

    /// Whether nothing more happens by itself.
    pub(super) fn is_settled(&self) -> bool {
        self.deliveries.iter().all(|slot| slot.state.is_final())
    }
}

/// What a settlement made of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled<P> {
    /// Attempts counted so far.
    pub(super) attempts: u32,
    /// As it stands now.
    pub(super) state: State,
    /// Where the event is.
    pub(super) place: P,
    /// It was the last delivery that was pending or dead: the event is no longer known here.
    pub(super) forgotten: bool,
}

/// Every pending and every dead delivery.
#[derive(Debug)]
pub(super) struct Index<P> {
    events: Table<Entry<P>>,
    numbers: HashMap<Name, Number>,
    queues: Vec<Queue>,
    turn: u32,
}

/// One target's deliveries by sequence.
#[derive(Debug)]
struct Queue {
    name: Name,
    ready: VecDeque<u64>,
    waiting: BTreeSet<(Timestamp, u64)>,
    in_flight: u64,
    dead: u64,
    /// Everything pending.
    pending: Sequences,
}

impl<P: Clone> Index<P> {
    pub(super) fn new() -> Self {
        Self { events: Table::new(), numbers: HashMap::new(), queues: Vec::new(), turn: 0 }
    }

    /// The number of a name, new if the name is; `None` when there are no numbers left.
    pub(super) fn number(&mut self, name: &Name) -> Option<Number> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = Number::try_from(self.queues.len()).ok()?;
        self.numbers.insert(name.clone(), number);
        self.queues.push(Queue::new(name.clone()));
        Some(number)
    }

    /// Every name by number.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.queues.iter().map(|queue| &queue.name)
    }

    /// The name behind a number.
    pub(super) fn name(&self, number: Number) -> Option<&Name> {
        self.queues.get(usize::from(number)).map(|queue| &queue.name)
    }

    /// Every event with something pending or dead from this sequence on.
    pub(super) fn iter_from(&self, sequence: u64) -> impl Iterator<Item = (u64, &Entry<P>)> {
        self.events.iter_from(sequence)
    }

    /// Takes up an event with its deliveries as they stand; one that has nothing pending or dead is not kept.
    pub(super) fn insert(&mut self, sequence: u64, entry: Entry<P>) {
        for slot in entry.deliveries.iter() {
            if let Some(queue) = self.queues.get_mut(usize::from(slot.target)) {
                queue.enter(sequence, slot.state);
            }
        }
        if !entry.is_delivered() {
            self.events.insert(sequence, entry);
        }
    }

    /// Takes up all of these at once; none of them is delivered to every target.
    pub(super) fn adopt(&mut self, events: Table<Entry<P>>) {
        for (sequence, entry) in events.iter() {
            for slot in entry.deliveries.iter() {
                if let Some(queue) = self.queues.get_mut(usize::from(slot.target)) {
                    queue.enter(sequence, slot.state);
                }
            }
        }
        self.events = events;
    }

    /// Leases what is due, at most what the demand allows, the longest due first.
    pub(super) fn take(&mut self, demand: &Demand, now: Timestamp) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        for (name, most) in &demand.0 {
            let Some(number) = self.numbers.get(name).copied() else { continue };
            let Some(queue) = self.queues.get_mut(usize::from(number)) else { continue };
            queue.promote(now, &mut self.events, number);
            for _ in 0..*most {
                let Some(sequence) = queue.ready.pop_front() else { break };
                let Some(entry) = self.events.get_mut(sequence) else { continue };
                let turn = self.turn.wrapping_add(1);
                let Some(slot) = entry.deliveries.set(number, State::InFlight(turn)) else {
                    continue;
                };
                self.turn = turn;
                queue.in_flight = queue.in_flight.saturating_add(1);
                claimed.push(Claimed {
                    lease: Lease { sequence, target: number, turn },
                    target: name.clone(),
                    event: entry.id,
                    received_at: entry.received_at,
                    attempts: slot.attempts,
                });
            }
        }
        claimed
    }

    /// When the next of the demanded deliveries becomes due; `None` when none is waiting.
    pub(super) fn next_due(&self, demand: &Demand) -> Option<Timestamp> {
        let numbers = demand.0.iter().filter_map(|(name, _)| self.numbers.get(name));
        let queues = numbers.filter_map(|number| self.queues.get(usize::from(*number)));
        queues.filter_map(|queue| queue.waiting.first().map(|(due, _)| *due)).min()
    }

    /// Where the content of a leased delivery is, and whose it is.
    pub(super) fn place(&self, lease: Lease) -> Option<P> {
        self.events.get(lease.sequence).map(|entry| entry.place.clone())
    }

    /// The content of an event has moved; answers where it was, or `None` when the event is not known here.
    pub(super) fn set_place(&mut self, sequence: u64, place: P) -> Option<P> {
        let entry = self.events.get_mut(sequence)?;
        Some(std::mem::replace(&mut entry.place, place))
    }

    /// Ends a lease; `None` when it has ended already, which changes nothing.
    pub(super) fn settle(
        &mut self,
        lease: Lease,
        settlement: Settlement,
        counted: bool,
    ) -> Option<Settled<P>> {
        let entry = self.events.get_mut(lease.sequence)?;
        let slot = entry.deliveries.get(lease.target)?;
        if slot.state != State::InFlight(lease.turn) {
            return None;
        }
        let state = match settlement {
            Settlement::Delivered => State::Delivered,
            Settlement::Dead(reason) => State::Dead(reason),
            Settlement::RetryAt(due) => State::Waiting(due),
            Settlement::Released => State::Ready,
        };
        let attempts = slot.attempts.saturating_add(u32::from(counted));
        entry.deliveries.put(Slot { target: lease.target, attempts, state });
        let (place, forgotten) = (entry.place.clone(), entry.is_delivered());
        if let Some(queue) = self.queues.get_mut(usize::from(lease.target)) {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            queue.re_enter(lease.sequence, state);
        }
        if forgotten {
            self.events.remove(lease.sequence);
        }
        Some(Settled { attempts, state, place, forgotten })
    }

    /// Forgets an event none of whose deliveries is pending, dead letters with it. Answers where it was.
    pub(super) fn forget_settled(&mut self, sequence: u64) -> Option<P> {
        if !self.events.get(sequence)?.is_settled() {
            return None;
        }
        let entry = self.events.remove(sequence)?;
        for slot in entry.deliveries.iter().filter(|slot| matches!(slot.state, State::Dead(_))) {
            if let Some(queue) = self.queues.get_mut(usize::from(slot.target)) {
                queue.dead = queue.dead.saturating_sub(1);
            }
        }
        Some(entry.place)
    }

    /// An event that has something pending or dead.
    pub(super) fn get(&self, sequence: u64) -> Option<&Entry<P>> {
        self.events.get(sequence)
    }

    /// The event of that id, if it has something pending or dead.
    pub(super) fn find(&self, id: EventId) -> Option<(u64, &Entry<P>)> {
        self.events.iter().find(|(_, entry)| entry.id == id)
    }

    /// The deliveries of an event as they stand.
    pub(super) fn states(&self, deliveries: &Slots) -> Vec<DeliveryState> {
        let state = |slot: Slot| {
            let stage = match slot.state {
                State::Ready => Stage::Ready,
                State::Waiting(due) => Stage::Waiting(due),
                State::InFlight(_) => Stage::InFlight,
                State::Delivered => Stage::Delivered,
                State::Dead(reason) => Stage::Dead(reason),
                State::Discarded => Stage::Discarded,
            };
            let target = self.name(slot.target)?.clone();
            Some(DeliveryState { target, stage, attempts: slot.attempts })
        };
        deliveries.iter().filter_map(state).collect()
    }

    /// Every target in numbers.
    pub(super) fn depth(&mut self, now: Timestamp) -> Vec<Depth> {
        let mut all = Vec::with_capacity(self.queues.len());
        for (number, queue) in self.queues.iter_mut().enumerate() {
            let Ok(number) = Number::try_from(number) else { break };
            queue.promote(now, &mut self.events, number);
            let oldest = queue.pending.first().and_then(|sequence| self.events.get(sequence));
            let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
            all.push(Depth {
                target: queue.name.clone(),
                ready: count(queue.ready.len()),
                waiting: count(queue.waiting.len()),
                in_flight: queue.in_flight,
                dead: queue.dead,
                oldest: oldest.map(|entry| entry.received_at),
            });
        }
        all
    }
}

impl Queue {
    fn new(name: Name) -> Self {
        Self {
            name,
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            in_flight: 0,
            dead: 0,
            pending: Sequences::default(),
        }
    }

    /// A delivery this queue did not know yet, in the order of their sequences.
    fn enter(&mut self, sequence: u64, state: State) {
        match state {
            State::Ready | State::InFlight(_) => self.ready.push_back(sequence),
            State::Waiting(_) | State::Delivered | State::Dead(_) | State::Discarded => {
                self.re_enter(sequence, state);
            }
        }
        if !state.is_final() {
            self.pending.insert(sequence);
        }
    }

    /// A delivery that was in flight: what is ready again goes first, for it has waited longest.
    fn re_enter(&mut self, sequence: u64, state: State) {
        match state {
            State::Ready => self.ready.push_front(sequence),
            State::Waiting(due) => {
                self.waiting.insert((due, sequence));
            }
            State::Dead(_) => {
                self.dead = self.dead.saturating_add(1);
                self.pending.remove(sequence);
            }
            State::Delivered | State::Discarded => self.pending.remove(sequence),
            State::InFlight(_) => {}
        }
    }

    /// Moves what has become due to the end of the ready queue.
    fn promote<P>(&mut self, now: Timestamp, events: &mut Table<Entry<P>>, number: Number) {
        while let Some((due, sequence)) = self.waiting.first().copied() {
            if due > now {
                break;
            }
            self.waiting.pop_first();
            let entry = events.get_mut(sequence);
            if entry.is_some_and(|entry| entry.deliveries.set(number, State::Ready).is_some()) {
                self.ready.push_back(sequence);
            }
        }
    }
}
