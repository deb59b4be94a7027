//! One target's deliveries by sequence: what is ready, what waits, and who stands behind whom.

use std::collections::{BTreeSet, VecDeque};

use super::index::{Entry, Number, State};
use super::lines::{Left, Lines};
use super::table::{Sequences, Table};
use crate::model::{Name, OnDead, Order};
use crate::time::Timestamp;

/// One target's deliveries by sequence.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) ready: VecDeque<u64>,
    /// Of those, how many were taken out of their turn and are passed over.
    pub(super) ready_gone: u64,
    pub(super) waiting: BTreeSet<(Timestamp, u64)>,
    pub(super) in_flight: u64,
    pub(super) dead: u64,
    /// Everything pending.
    pub(super) pending: Sequences,
    /// How many may be leased.
    pub(super) wanted: usize,
    /// Who stands behind whom, if they keep an order.
    pub(super) lines: Option<Lines>,
}

impl Queue {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            ready: VecDeque::new(),
            ready_gone: 0,
            waiting: BTreeSet::new(),
            in_flight: 0,
            dead: 0,
            pending: Sequences::default(),
            wanted: 0,
            lines: None,
        }
    }

    /// A delivery this queue did not know yet, in the order of their sequences.
    pub(super) fn enter(&mut self, sequence: u64, state: State) {
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
    pub(super) fn re_enter(&mut self, sequence: u64, state: State) {
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

    /// Takes a delivery out in the state it has; false when it is in flight and stays.
    pub(super) fn leave(&mut self, sequence: u64, order: u64, state: State) -> bool {
        if matches!(state, State::InFlight(_)) {
            return false;
        }
        let left = self.leave_line(order, sequence);
        match state {
            // It stood in line and not among those that are ready.
            State::Ready if left == Left::Behind => {}
            // It is found there when its turn comes, and passed over.
            State::Ready => self.ready_gone = self.ready_gone.saturating_add(1),
            State::Waiting(due) => {
                self.waiting.remove(&(due, sequence));
            }
            State::Dead(_) => self.dead = self.dead.saturating_sub(1),
            State::Delivered | State::Discarded | State::InFlight(_) => {}
        }
        self.pending.remove(sequence);
        true
    }

    /// Moves what has become due to the end of the ready queue.
    pub(super) fn promote<P>(
        &mut self,
        now: Timestamp,
        events: &mut Table<Entry<P>>,
        number: Number,
    ) {
        while let Some((due, sequence)) = self.waiting.first().copied() {
            if due > now {
                break;
            }
            self.waiting.pop_first();
            let Some(entry) = events.get_mut(sequence) else { continue };
            if entry.deliveries.set(number, State::Ready).is_none() {
                continue;
            }
            let order = entry.order;
            self.is_due(order, sequence, false);
        }
    }

    /// One that waited is due: before those that are due already if it is `first`, or leads its key.
    pub(super) fn is_due(&mut self, order: u64, sequence: u64, first: bool) {
        match self.lines.as_mut().map(|lines| lines.is_due(order, sequence)) {
            // It has had its turn, and those behind it have waited long enough.
            Some(true) => self.ready.push_front(sequence),
            Some(false) => {}
            None if first => self.ready.push_front(sequence),
            None => self.ready.push_back(sequence),
        }
    }

    /// One that is due goes before the others, unless they keep an order.
    pub(super) fn go_first(&mut self, sequence: u64) {
        if self.lines.is_none() && self.ready.front() != Some(&sequence) {
            self.ready.push_front(sequence);
            // Where it stood before it is found when that turn comes, and passed over.
            self.ready_gone = self.ready_gone.saturating_add(1);
        }
    }

    /// Those that are due, in line or not.
    pub(super) fn ready(&self) -> u64 {
        let standing = self.lines.as_ref().map_or(0, Lines::standing);
        let there = u64::try_from(self.ready.len()).unwrap_or(u64::MAX);
        there.saturating_sub(self.ready_gone).saturating_add(standing)
    }

    /// Whether those behind a delivery in this state need not wait for it any longer.
    pub(super) fn lets_the_next_go(&self, state: State) -> bool {
        match state {
            State::Ready | State::Waiting(_) | State::InFlight(_) => false,
            State::Delivered | State::Discarded => true,
            State::Dead(_) => {
                self.lines.as_ref().is_some_and(|lines| lines.on_dead() == OnDead::Continue)
            }
        }
    }

    /// A delivery needs its place in line no longer: the next one of its key is ready.
    pub(super) fn leave_line(&mut self, order: u64, sequence: u64) -> Left {
        let Some(lines) = &mut self.lines else { return Left::Nothing };
        let left = lines.leave(order, sequence);
        if let Left::Head(Some(next)) = left {
            self.ready.push_front(next);
        }
        left
    }

    /// Takes up an order, or gives it up. What waits for its next attempt has had its turn and leads its key; so does
    /// a dead letter that holds the others up.
    pub(super) fn keep_order<P>(&mut self, order: Order, events: &Table<Entry<P>>, number: Number) {
        let on_dead = match order {
            Order::None => None,
            Order::Key(on_dead) => Some(on_dead),
        };
        if self.lines.as_ref().map(Lines::on_dead) == on_dead {
            return;
        }
        if let Some(lines) = self.lines.take() {
            let standing = lines.into_standing();
            self.ready.extend(standing);
        }
        // Without an order what was tried before may stand behind what is newer.
        self.ready.make_contiguous().sort_unstable();
        // One that was taken out of its turn, or went first, stands there twice.
        let (all, mut before) = (self.ready.len(), None);
        self.ready.retain(|sequence| before.replace(*sequence) != Some(*sequence));
        let twice = u64::try_from(all.saturating_sub(self.ready.len())).unwrap_or(0);
        self.ready_gone = self.ready_gone.saturating_sub(twice);
        let Some(on_dead) = on_dead else { return };
        let mut lines = Lines::new(on_dead);
        for (_, sequence) in &self.waiting {
            lines.hold(events.get(*sequence).map_or(0, |entry| entry.order), *sequence);
        }
        if on_dead == OnDead::Hold && self.dead > 0 {
            let is_dead = |entry: &Entry<P>| {
                let slot = entry.deliveries.get(number);
                slot.is_some_and(|slot| matches!(slot.state, State::Dead(_)))
            };
            for (sequence, entry) in events.iter().filter(|(_, entry)| is_dead(entry)) {
                lines.hold(entry.order, sequence);
            }
        }
        self.ready.retain(|sequence| {
            let Some(entry) = events.get(*sequence) else { return true };
            let slot = entry.deliveries.get(number);
            let is_due = slot.is_some_and(|slot| slot.state == State::Ready);
            !is_due || lines.join(entry.order, *sequence)
        });
        self.lines = Some(lines);
    }
}
