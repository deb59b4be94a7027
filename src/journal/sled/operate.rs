//! What an operator decided about deliveries: due again, or given up. Committed by the one writer like everything else.

use std::collections::HashSet;

use tokio::sync::oneshot;

use super::committer::{Committer, Fresh, Outcome};
use super::store::Commit;
use crate::journal::index::{Entry, Number, Slot, State};
use crate::journal::record::Record;
use crate::journal::record::content::Place;
use crate::journal::slot::REVIVED;
use crate::journal::{AppendError, Changed, OperateError, Scope};
use crate::model::{DedupKey, Event, EventId, Name};
use crate::time::Timestamp;

/// Someone who waits for a decision to be durable.
pub(super) type Verdict = oneshot::Sender<Result<Changed, OperateError>>;

/// A decision about the deliveries of one event.
pub(super) struct Wish {
    pub(super) sequence: u64,
    pub(super) scope: Scope,
    pub(super) what: Operation,
    pub(super) answer: Verdict,
}

/// What is to become of them.
pub(super) enum Operation {
    /// Due again. With the event, if memory does not know it or a target is new to it.
    Replay(Option<Box<Settled>>),
    /// Given up.
    Discard,
}

/// An event with what its newest record says.
pub(super) struct Settled {
    pub(super) event: Event,
    pub(super) dedup: Vec<DedupKey>,
    pub(super) deliveries: Vec<Slot>,
}

/// What the decisions of one commit change once it is durable.
#[derive(Default)]
pub(super) struct Decisions {
    pub(super) answers: Vec<(Verdict, Result<Changed, OperateError>)>,
    pub(super) decided: Vec<(u64, Number, State)>,
    pub(super) grown: Vec<(u64, Place, Vec<Slot>)>,
    /// Events that this commit writes again: a second wish for one of them changes nothing more.
    rewritten: HashSet<u64>,
}

impl Committer {
    /// Adds to the commit what a wish changes.
    pub(super) fn decide(
        &mut self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        wish: Wish,
        now: Timestamp,
    ) {
        let Wish { sequence, scope, what, answer } = wish;
        let known = self.shared.memory().index.get(sequence).cloned();
        let result = match (known, what) {
            _ if outcome.decisions.rewritten.contains(&sequence) => Ok(Changed::default()),
            (None, Operation::Discard | Operation::Replay(None)) => Err(OperateError::Unknown),
            (None, Operation::Replay(Some(settled))) => {
                self.bring_back(commit, outcome, (sequence, &scope), *settled, now)
            }
            (Some(entry), Operation::Replay(Some(settled))) if self.grows(&entry, &scope) => {
                self.grow(commit, outcome, (sequence, &scope), (&entry, *settled), now)
            }
            (Some(entry), Operation::Replay(_)) => {
                let becomes = State::replayed;
                Ok(self.change(commit, outcome, (sequence, &scope), (&entry, becomes, now)))
            }
            (Some(entry), Operation::Discard) => {
                let becomes = State::given_up;
                Ok(self.change(commit, outcome, (sequence, &scope), (&entry, becomes, now)))
            }
        };
        outcome.decisions.answers.push((answer, result));
    }

    /// Changes deliveries of an event that memory knows.
    fn change(
        &self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        (sequence, scope): (u64, &Scope),
        (entry, becomes, now): (&Entry<Place>, impl Fn(State) -> Option<State>, Timestamp),
    ) -> Changed {
        let mut changed = Changed::default();
        for slot in entry.deliveries.iter().filter(|slot| self.is_meant(scope, *slot)) {
            let decided = &mut outcome.decisions.decided;
            let again =
                decided.iter().any(|(it, target, _)| (*it, *target) == (sequence, slot.target));
            let Some(state) = becomes(slot.state).filter(|_| !again) else { continue };
            changed.deliveries = changed.deliveries.saturating_add(1);
            let attempts = if state == State::Ready { REVIVED } else { slot.attempts };
            let target = slot.target;
            let attempt = None;
            commit.put(&Record::Settled { sequence, target, attempts, state, at: now, attempt });
            decided.push((sequence, target, state));
        }
        changed
    }

    /// Writes an event again that every target has, with deliveries that are due.
    fn bring_back(
        &mut self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        (sequence, scope): (u64, &Scope),
        settled: Settled,
        now: Timestamp,
    ) -> Result<Changed, OperateError> {
        let Settled { event, dedup, mut deliveries } = settled;
        let mut changed = Changed::default();
        for slot in &mut deliveries {
            if self.is_meant(scope, *slot) {
                *slot = Slot::revived(slot.target);
                changed.deliveries = changed.deliveries.saturating_add(1);
            }
        }
        let new = self.new_slots(&deliveries, scope)?;
        changed.deliveries = changed.deliveries.saturating_add(new.len());
        deliveries.extend(new);
        if changed.deliveries == 0 {
            return Ok(changed);
        }
        let dedup = self.still_known(dedup, event.id, now);
        let entry = self.inscribe(commit, outcome, (sequence, &event), deliveries, dedup);
        outcome.decisions.rewritten.insert(sequence);
        outcome.fresh.push(Fresh::of(sequence, entry, event));
        Ok(changed)
    }

    /// Writes an event that memory knows again, with deliveries to targets it never had.
    fn grow(
        &mut self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        (sequence, scope): (u64, &Scope),
        (entry, settled): (&Entry<Place>, Settled),
        now: Timestamp,
    ) -> Result<Changed, OperateError> {
        let mut changed = Changed::default();
        let mut deliveries: Vec<_> = entry.deliveries.iter().collect();
        for slot in &mut deliveries {
            if slot.state.is_final() && self.is_meant(scope, *slot) {
                *slot = Slot::revived(slot.target);
                outcome.decisions.decided.push((sequence, slot.target, State::Ready));
                changed.deliveries = changed.deliveries.saturating_add(1);
            }
        }
        let new = self.new_slots(&deliveries, scope)?;
        changed.deliveries = changed.deliveries.saturating_add(new.len());
        deliveries.extend(new.iter().copied());
        let Settled { event, dedup, .. } = settled;
        let dedup = self.still_known(dedup, event.id, now);
        let written = self.inscribe(commit, outcome, (sequence, &event), deliveries, dedup);
        outcome.decisions.rewritten.insert(sequence);
        outcome.decisions.grown.push((sequence, written.place, new));
        Ok(changed)
    }

    /// The keys of an event that are known by it: the window of others is over, or a newer event has them.
    fn still_known(&self, dedup: Vec<DedupKey>, event: EventId, now: Timestamp) -> Vec<DedupKey> {
        dedup.into_iter().filter(|key| self.dedup.is_of(key, event, now)).collect()
    }

    /// A due delivery for each target of the scope that has none.
    fn new_slots(&self, there: &[Slot], scope: &Scope) -> Result<Vec<Slot>, OperateError> {
        let mut memory = self.shared.memory();
        let mut new: Vec<Slot> = Vec::new();
        for name in scope.new_targets() {
            let number = memory.index.number(name);
            let target = number.ok_or(OperateError::Refused(AppendError::Full))?;
            if !there.iter().chain(&new).any(|slot| slot.target == target) {
                new.push(Slot::revived(target));
            }
        }
        Ok(new)
    }

    fn grows(&self, entry: &Entry<Place>, scope: &Scope) -> bool {
        let memory = self.shared.memory();
        let has = |name: &Name| {
            entry.deliveries.iter().any(|slot| memory.index.name(slot.target) == Some(name))
        };
        scope.new_targets().iter().any(|name| !has(name))
    }

    fn is_meant(&self, scope: &Scope, slot: Slot) -> bool {
        let memory = self.shared.memory();
        let is_dead = matches!(slot.state, State::Dead(_));
        memory.index.name(slot.target).is_some_and(|name| scope.includes(name, is_dead))
    }
}
