//! The one writer: gathers what waits, commits it, and answers.
//!
//! It alone writes, so dedup needs no lock and is atomic with the event: a copy is compared with what is durable
//! and with what stands before it in the same commit, and is answered after that commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::prune::{Move, Pruner};
use super::shared::{Ending, Shared, Taken};
use super::store::{Commit, Store, StoreError};
use crate::journal::dedup::DedupIndex;
use crate::journal::index::{Entry, Slot, State};
use crate::journal::record::{Content, Place, Record};
use crate::journal::{Append, AppendError, Appended};
use crate::model::Event;
use crate::time::Timestamp;

/// How often the disk is looked at and old commits are pruned.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Someone who waits for an append.
pub(super) type Answer = oneshot::Sender<Result<Appended, AppendError>>;

/// An append in the waiting room.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) append: Append,
    pub(super) answer: Answer,
}

/// The writer's own state.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<Store>,
    pub(super) dedup: DedupIndex,
    pub(super) next_commit: u64,
    pub(super) next_sequence: u64,
    pub(super) pruner: Pruner,
    pub(super) upkeep_at: Timestamp,
}

/// An event on its way into the index.
struct Fresh {
    sequence: u64,
    entry: Entry<Place>,
    event: Event,
}

/// What one commit will answer once it is durable.
#[derive(Default)]
struct Outcome {
    answers: Vec<(Answer, Result<Appended, AppendError>)>,
    fresh: Vec<Fresh>,
    moves: Vec<Move>,
}

impl Committer {
    /// Commits until the journal is closed, abandoned or fails.
    pub(super) fn run(mut self) {
        loop {
            let now = self.shared.clock.now();
            let patience = self.upkeep_at.since(now);
            let taken = self.shared.take(patience);
            let ending = taken.ending;
            if ending == Some(Ending::Abandon) {
                return;
            }
            // A panic inside the engine is a failed commit, not the end of the process.
            let committed = catch_unwind(AssertUnwindSafe(|| self.commit(taken)));
            let failure = match committed {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_panic) => Some("the storage engine panicked".to_owned()),
            };
            if let Some(detail) = failure {
                self.shared.metrics.errors.with_label_values(&["commit"]).inc();
                self.shared.fail(detail);
                return;
            }
            if ending == Some(Ending::Close) && self.shared.is_empty() {
                return;
            }
        }
    }

    fn commit(&mut self, taken: Taken) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        let mut commit = Commit::new(self.next_commit, now);
        let mut outcome = Outcome::default();
        self.dedup.prune(now, taken.appends.len().saturating_mul(4).saturating_add(16));
        for waiting in taken.appends {
            let result = self.admit(&mut commit, &mut outcome, waiting.append, now);
            outcome.answers.push((waiting.answer, result));
        }
        for record in &taken.settlements {
            commit.put(record);
        }
        if now >= self.upkeep_at {
            self.upkeep_at = now.plus(UPKEEP_INTERVAL);
            self.shared.look_at_disk(self.store.size()?);
            outcome.moves = self.pruner.prune(&self.store, &self.shared, &mut commit, now)?;
        }
        if !commit.is_empty() {
            self.write(&commit, &outcome, now)?;
            self.next_commit = self.next_commit.saturating_add(1);
        }
        self.publish(outcome);
        Ok(())
    }

    /// Decides one append and, if it is new, adds it to the commit.
    fn admit(
        &mut self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        append: Append,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        if let Some(first) = self.dedup.repeats(&append.dedup, now) {
            return Ok(Appended::Duplicate(first));
        }
        let Append { event, targets, dedup } = append;
        let deliveries = self.deliveries(commit, &targets)?;
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(1);
        let place = commit.put_content(&stored(&event));
        self.dedup.remember(&dedup, event.id, event.received_at);
        let (id, received_at) = (event.id, event.received_at);
        commit.put(&Record::Event {
            sequence,
            id,
            received_at,
            place,
            dedup,
            deliveries: deliveries.clone(),
        });
        let entry = Entry { id, received_at, place, deliveries: deliveries.into_boxed_slice() };
        outcome.fresh.push(Fresh { sequence, entry, event });
        Ok(Appended::New(id))
    }

    /// One ready delivery for each target, new names stored with the commit that uses them first.
    fn deliveries(
        &self,
        commit: &mut Commit,
        targets: &[crate::model::Name],
    ) -> Result<Vec<Slot>, AppendError> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = Vec::with_capacity(targets.len());
        for target in targets {
            let known = state.index.names().count();
            let number = state.index.number(target).ok_or(AppendError::Full)?;
            if usize::from(number) >= known {
                commit.put_name(number, target.to_string());
            }
            slots.push(Slot { target: number, attempts: 0, state: State::Ready });
        }
        Ok(slots)
    }

    fn write(
        &self,
        commit: &Commit,
        outcome: &Outcome,
        begun: Timestamp,
    ) -> Result<(), StoreError> {
        let (clock, metrics) = (&self.shared.clock, &self.shared.metrics);
        self.store.write(commit, |sync| {
            let before = clock.now();
            let synced = sync();
            metrics.fsync_duration.observe(clock.now().since(before).as_secs_f64());
            synced
        })?;
        metrics.commit_duration.observe(clock.now().since(begun).as_secs_f64());
        let events = u32::try_from(outcome.fresh.len()).unwrap_or(u32::MAX);
        metrics.batch_events.observe(f64::from(events));
        Ok(())
    }

    /// The commit is durable: its events may be delivered, and everyone who waited is answered.
    fn publish(&self, outcome: Outcome) {
        if !outcome.fresh.is_empty() || !outcome.moves.is_empty() {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            for Fresh { sequence, entry, event } in outcome.fresh {
                if !entry.deliveries.is_empty() {
                    state.recent.put(sequence, event);
                    state.index.insert(sequence, entry);
                }
            }
            for (sequence, place) in outcome.moves {
                state.index.set_place(sequence, place);
            }
            drop(state);
            self.shared.changed.notify_waiters();
        }
        for (answer, result) in outcome.answers {
            if answer.send(result).is_err() {
                // Whoever asked gave up waiting; what was committed is delivered all the same.
                tracing::debug!("an append was answered after its caller had left");
            }
        }
    }
}

fn stored(event: &Event) -> Content {
    Content {
        id: event.id,
        received_at: event.received_at,
        source: event.source.to_string(),
        name: event.name.clone(),
        order_key: event.order_key.clone(),
        headers: event.headers.clone(),
        body: event.body.clone(),
    }
}
