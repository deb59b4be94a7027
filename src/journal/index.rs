//! What is pending, in memory: a pure state machine that every engine shares.
//!
//! It holds what the next decision needs and nothing more: no body, no header, nothing of an event whose
//! deliveries have all reached their target. It is rebuilt from the engine's records at open. A pending delivery
//! takes about 100 bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::agenda::Agenda;
use super::labels::{LabelNumber, Labels};
use super::queue::Queue;
use super::record::Label;
use super::slot::Slots;
pub(super) use super::slot::{Number, Slot, State};
use super::table::Table;
use super::{Claimed, DeliveryState, Depth, Lease, Scope, Stage};
use crate::model::{EventId, Name, Settlement, Wanted};
use crate::time::Timestamp;

/// One event with deliveries that are pending or dead. `P` says where the engine keeps its content.
#[derive(Clone, Debug)]
pub(super) struct Entry<P> {
    pub(super) id: EventId,
    pub(super) received_at: Timestamp,
    /// Groups events that belong together; 0 for none.
    pub(super) order: u64,
    /// What lists show of it.
    pub(super) label: LabelNumber,
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

/// Groups events by order key in little memory: the first 64 bits of its SHA-256, and never 0, which is no key.
pub(super) fn order_of(key: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    digest.as_ref().first_chunk().map_or(1, |first| u64::from_be_bytes(*first)).max(1)
}

/// What a settlement made of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled<P> {
    /// The event.
    pub(super) event: EventId,
    /// Attempts counted so far.
    pub(super) attempts: u32,
    /// As it stands now.
    pub(super) state: State,
    /// Where the event is.
    pub(super) place: P,
    /// It was the last delivery that was pending or dead: the event is no longer known here.
    pub(super) forgotten: bool,
}

/// Deliveries that one claim looks at for a target, so that a backlog of one key does not hold everybody up. The next
/// claim goes on at once where this one left off.
const LOOKS: usize = 8 * 1024;

/// Every pending and every dead delivery.
#[derive(Debug)]
pub(super) struct Index<P> {
    events: Table<Entry<P>>,
    numbers: HashMap<Name, Number>,
    queues: Vec<Queue>,
    agenda: Agenda,
    /// What is wanted of targets that have had no delivery yet.
    wanted: HashMap<Name, Wanted>,
    labels: Labels,
    turn: u32,
    /// Queues that claims have looked at so far.
    #[cfg(test)]
    looked: usize,
}

impl<P: Clone> Index<P> {
    pub(super) fn new() -> Self {
        Self {
            events: Table::new(),
            numbers: HashMap::new(),
            queues: Vec::new(),
            agenda: Agenda::default(),
            wanted: HashMap::new(),
            labels: Labels::default(),
            turn: 0,
            #[cfg(test)]
            looked: 0,
        }
    }

    /// The number of a name, new if the name is; `None` when there are no numbers left.
    pub(super) fn number(&mut self, name: &Name) -> Option<Number> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = Number::try_from(self.queues.len()).ok()?;
        self.numbers.insert(name.clone(), number);
        let mut queue = Queue::new(name.clone());
        if let Some(Wanted { most, order, .. }) = self.wanted.remove(name) {
            queue.wanted = most;
            queue.keep_order(order, &self.events, number);
        }
        self.queues.push(queue);
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

    /// What lists show of an event, and its number.
    pub(super) fn label_of(&mut self, source: &str, name: &str) -> (LabelNumber, Arc<Label>) {
        self.labels.of(source, name)
    }

    /// What lists show of an event; `None` when it has no number.
    pub(super) fn label(&self, number: LabelNumber) -> Option<&Label> {
        self.labels.get(number).map(Arc::as_ref)
    }

    /// Every event known here before this sequence, the latest first.
    pub(super) fn iter_back(&self, before: u64) -> impl Iterator<Item = (u64, &Entry<P>)> {
        self.events.iter_back(before)
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
            self.arrange(slot.target);
        }
        if !entry.is_delivered() {
            self.events.insert(sequence, entry);
        }
    }

    /// Takes up all of these at once; none of them is delivered to every target.
    pub(super) fn adopt(&mut self, events: Table<Entry<P>>, labels: Labels) {
        self.labels = labels;
        for (sequence, entry) in events.iter() {
            for slot in entry.deliveries.iter() {
                if let Some(queue) = self.queues.get_mut(usize::from(slot.target)) {
                    queue.enter(sequence, slot.state);
                }
            }
        }
        self.events = events;
        (0..=Number::MAX).take(self.queues.len()).for_each(|number| self.arrange(number));
    }

    /// From now on at most so many of a target may be leased, in this order.
    pub(super) fn demand(&mut self, wanted: Wanted) {
        let Some(number) = self.numbers.get(&wanted.target).copied() else {
            if wanted.most > 0 {
                self.wanted.insert(wanted.target.clone(), wanted);
            } else {
                self.wanted.remove(&wanted.target);
            }
            return;
        };
        if let Some(queue) = self.queues.get_mut(usize::from(number)) {
            queue.wanted = wanted.most;
            queue.keep_order(wanted.order, &self.events, number);
        }
        self.arrange(number);
    }

    /// Leases what is due, at most what is wanted, the longest due first. What is leased is wanted no longer.
    pub(super) fn take(&mut self, now: Timestamp) -> Vec<Claimed> {
        while let Some((_due, number)) = self.agenda.first_due().filter(|(due, _)| *due <= now) {
            if let Some(queue) = self.queues.get_mut(usize::from(number)) {
                queue.promote(now, &mut self.events, number);
            }
            self.arrange(number);
        }
        let mut claimed = Vec::new();
        let mut next = self.agenda.ready_from(0);
        while let Some(number) = next {
            self.lease(number, &mut claimed);
            self.arrange(number);
            next = number.checked_add(1).and_then(|from| self.agenda.ready_from(from));
        }
        claimed
    }

    /// Leases what one queue has ready.
    fn lease(&mut self, number: Number, claimed: &mut Vec<Claimed>) {
        #[cfg(test)]
        (self.looked = self.looked.saturating_add(1));
        let Some(queue) = self.queues.get_mut(usize::from(number)) else { return };
        for _look in 0..LOOKS {
            if queue.wanted == 0 {
                return;
            }
            let Some(sequence) = queue.ready.pop_front() else { return };
            let turn = self.turn.wrapping_add(1);
            let entry = self.events.get_mut(sequence);
            let is_ready = |slot: Option<Slot>| slot.is_some_and(|slot| slot.state == State::Ready);
            let entry = entry.filter(|entry| is_ready(entry.deliveries.get(number)));
            if let (Some(lines), Some(entry)) = (&mut queue.lines, &entry)
                && !lines.may_go(entry.order, sequence)
            {
                continue;
            }
            let leased = entry.and_then(|entry| {
                let slot = entry.deliveries.set(number, State::InFlight(turn))?;
                Some((entry, slot))
            });
            let Some((entry, slot)) = leased else {
                queue.ready_gone = queue.ready_gone.saturating_sub(1);
                continue;
            };
            self.turn = turn;
            queue.wanted = queue.wanted.saturating_sub(1);
            queue.in_flight = queue.in_flight.saturating_add(1);
            claimed.push(Claimed {
                lease: Lease { sequence, target: number, turn },
                target: queue.name.clone(),
                event: entry.id,
                received_at: entry.received_at,
                attempts: slot.tries(),
                revived: slot.is_revived(),
            });
        }
    }

    /// When the next of what is wanted becomes due; `None` when none is waiting.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.agenda.next()
    }

    /// A queue has changed.
    fn arrange(&mut self, number: Number) {
        let Some(queue) = self.queues.get(usize::from(number)) else { return };
        let is_wanted = queue.wanted > 0;
        let due = queue.waiting.first().map(|(due, _)| *due).filter(|_due| is_wanted);
        self.agenda.arrange(number, is_wanted && !queue.ready.is_empty(), due);
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
        let (event, place, forgotten) = (entry.id, entry.place.clone(), entry.is_delivered());
        let order = entry.order;
        if let Some(queue) = self.queues.get_mut(usize::from(lease.target)) {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            queue.re_enter(lease.sequence, state);
            if queue.lets_the_next_go(state) {
                queue.leave_line(order, lease.sequence);
            }
        }
        self.arrange(lease.target);
        if forgotten {
            self.events.remove(lease.sequence);
        }
        Some(Settled { event, attempts, state, place, forgotten })
    }

    /// Gives a delivery that is not in flight another state, with no attempts counted if it is due again. Answers
    /// how it stands then; `None` when there is none or it is in flight.
    pub(super) fn decide(&mut self, sequence: u64, target: Number, state: State) -> Option<Slot> {
        let entry = self.events.get_mut(sequence)?;
        let old = entry.deliveries.get(target)?;
        let queue = self.queues.get_mut(usize::from(target))?;
        // What is due again keeps the place in line that it has.
        let order = if state == State::Ready { 0 } else { entry.order };
        if !queue.leave(sequence, order, old.state) {
            return None;
        }
        let is_due = state == State::Ready;
        let slot = if is_due { Slot::revived(target) } else { Slot { state, ..old } };
        entry.deliveries.put(slot);
        queue.enter(sequence, state);
        self.arrange(target);
        Some(slot)
    }

    /// Hastens those of an event that are meant, and says which of them are due by that.
    pub(super) fn hasten_all(&mut self, sequence: u64, scope: &Scope) -> Vec<Slot> {
        let slots: Vec<_> =
            self.get(sequence).into_iter().flat_map(|entry| entry.deliveries.iter()).collect();
        let is_meant = |index: &Self, slot: &Slot| {
            let is_dead = matches!(slot.state, State::Dead(_));
            index.name(slot.target).is_some_and(|name| scope.includes(name, is_dead))
        };
        let meant: Vec<_> = slots.into_iter().filter(|slot| is_meant(self, slot)).collect();
        meant.into_iter().filter_map(|slot| self.hasten(sequence, slot.target)).collect()
    }

    /// Makes a pending delivery due at once, with the attempts that it has had, before all others that are due: but
    /// where an order is kept it stays in its place. `None` when it is not pending or in flight.
    fn hasten(&mut self, sequence: u64, target: Number) -> Option<Slot> {
        let entry = self.events.get_mut(sequence)?;
        let slot = entry.deliveries.get(target)?;
        let queue = self.queues.get_mut(usize::from(target))?;
        match slot.state {
            State::Waiting(due) => {
                queue.waiting.remove(&(due, sequence));
                entry.deliveries.set(target, State::Ready)?;
                queue.is_due(entry.order, sequence, true);
            }
            State::Ready => queue.go_first(sequence),
            State::InFlight(_) | State::Delivered | State::Dead(_) | State::Discarded => {
                return None;
            }
        }
        self.arrange(target);
        Some(Slot { state: State::Ready, ..slot })
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
                queue.leave_line(entry.order, sequence);
            }
            self.arrange(slot.target);
        }
        Some(entry.place)
    }

    /// An event that has something pending or dead.
    pub(super) fn get(&self, sequence: u64) -> Option<&Entry<P>> {
        self.events.get(sequence)
    }

    /// An event has new deliveries, and its content a new place. Answers the old one.
    pub(super) fn grow(&mut self, sequence: u64, place: P, new: &[Slot]) -> Option<P> {
        let entry = self.events.get_mut(sequence)?;
        let slots: Vec<_> = entry.deliveries.iter().chain(new.iter().copied()).collect();
        entry.deliveries = Slots::new(&slots);
        for slot in new {
            if let Some(queue) = self.queues.get_mut(usize::from(slot.target)) {
                queue.enter(sequence, slot.state);
            }
        }
        let old = std::mem::replace(&mut entry.place, place);
        for slot in new {
            self.arrange(slot.target);
        }
        Some(old)
    }

    /// The deliveries of an event as they stand.
    pub(super) fn states(&self, deliveries: &Slots) -> Vec<DeliveryState> {
        let state = |slot: Slot| {
            let stage = Stage::from(slot.state);
            let target = self.name(slot.target)?.clone();
            Some(DeliveryState { target, stage, attempts: slot.tries() })
        };
        deliveries.iter().filter_map(state).collect()
    }

    /// Every target in numbers.
    pub(super) fn depth(&mut self, now: Timestamp) -> Vec<Depth> {
        let mut all = Vec::with_capacity(self.queues.len());
        for number in (0..=Number::MAX).take(self.queues.len()) {
            let Some(queue) = self.queues.get_mut(usize::from(number)) else { break };
            queue.promote(now, &mut self.events, number);
            let oldest = queue.pending.first().and_then(|sequence| self.events.get(sequence));
            let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
            all.push(Depth {
                target: queue.name.clone(),
                ready: queue.ready(),
                waiting: count(queue.waiting.len()),
                in_flight: queue.in_flight,
                dead: queue.dead,
                oldest: oldest.map(|entry| entry.received_at),
            });
            self.arrange(number);
        }
        all
    }
}

#[cfg(test)]
mod tests;
