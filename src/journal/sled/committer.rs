//! The one writer: gathers what waits, commits it, and answers.
//!
//! It alone writes, so dedup needs no lock and is atomic with the event: a copy is compared with what is durable
//! and with what stands before it in the same commit, and is answered after that commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::disk::Ballast;
use super::drain::{Drain, Move};
use super::generations::Generations;
use super::keep;
use super::ledger::Holds;
use super::operate::Decisions;
use super::recover::note_keys;
use super::room::{Answer, Ending, Taken, Work};
use super::shared::{Memory, Shared};
use super::store::{Commit, StoreError};
use super::upkeep::{Size, UPKEEP_INTERVAL};
use super::usage::Written;
use crate::journal::dedup::DedupIndex;
use crate::journal::index::{Entry, Number, Slot, State, order_of};
use crate::journal::record::Record;
use crate::journal::record::content::Place;
use crate::journal::slot::Slots;
use crate::journal::{Append, AppendError, Appended, Latest, Note};
use crate::model::{DedupKey, Event, Name, RejectionId};
use crate::time::{Stopwatch, Timestamp};

/// Names are written anew with every so manyth commit: whoever salvages a damaged generation needs one copy of each.
const NAMES_EVERY: u64 = 64;
/// Pause between two steps of draining a generation.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);
/// How long the ledger may not know of a commit.
const LEDGER_DELAY: Duration = Duration::from_millis(10);

/// The writer's own state.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) generations: Arc<Generations>,
    pub(super) dedup: DedupIndex,
    pub(super) next_commit: u64,
    /// The newest one that is durable.
    pub(super) last_commit: u64,
    pub(super) next_sequence: u64,
    pub(super) upkeep_at: Timestamp,
    pub(super) size: Size,
    pub(super) ballast: Ballast,
    /// The ballast was given up: nothing new is accepted until it could be taken again.
    pub(super) starved: bool,
    /// What the generation that is written holds.
    pub(super) holds: Holds,
    /// For how long the ledger has not written it down.
    pub(super) ledger_lags: Option<Stopwatch>,
    /// Names that it knows.
    pub(super) names_written: usize,
    /// The notes stand in it.
    pub(super) notes_written: bool,
    pub(super) drain: Option<Drain>,
    /// Where the search for expired dead letters goes on.
    pub(super) expire_from: u64,
}

/// An event on its way into the index.
pub(super) struct Fresh {
    pub(super) sequence: u64,
    pub(super) entry: Entry<Place>,
    pub(super) source: Name,
    pub(super) name: String,
}

/// What one commit will answer once it is durable.
#[derive(Default)]
pub(super) struct Outcome {
    /// Nothing new is accepted for want of room.
    pub(super) is_full: bool,
    pub(super) answers: Vec<(Answer, Result<Appended, AppendError>)>,
    pub(super) fresh: Vec<Fresh>,
    pub(super) decisions: Decisions,
    pub(super) kept: Vec<(keep::Verdict, Result<usize, AppendError>)>,
    /// Contents of rejections that are new.
    pub(super) needed: Vec<Place>,
    rejections: Vec<(RejectionId, Place)>,
    moves: Vec<Move>,
    pub(super) written: Written,
    /// The generation that was drained to its end.
    drained: Option<u32>,
}

/// Why the writer ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An fsync that failed says nothing about the data, and a second one would lie.
    #[error("syncing the journal: {0}")]
    Sync(std::io::Error),
    #[error("{0}")]
    Generation(String),
    /// The journal was told to end while it could not write.
    #[error("the journal was stopped while it could not write")]
    Stopped,
}

impl Fresh {
    /// What is left to be known of an event that was added to a commit.
    pub(super) fn of(sequence: u64, entry: Entry<Place>, event: Event) -> Self {
        let Event { source, name, .. } = event;
        Self { sequence, entry, source, name }
    }
}

impl Outcome {
    fn of(appends: usize, is_full: bool) -> Self {
        let (answers, fresh) = (Vec::with_capacity(appends), Vec::with_capacity(appends));
        Self { is_full, answers, fresh, ..Self::default() }
    }

    /// Rejections are gone that may stand in an older generation.
    pub(super) fn note_dropped(&mut self, count: usize) {
        let bytes = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(16);
        self.written.foreign = self.written.foreign.saturating_add(bytes);
    }
}

impl Committer {
    /// Commits until the journal is closed, abandoned or fails.
    pub(super) fn run(mut self) {
        loop {
            let now = self.shared.clock.now();
            let patience = self.upkeep_at.since(now);
            let patience =
                if self.drain.is_some() { patience.min(DRAIN_INTERVAL) } else { patience };
            let patience = match &self.ledger_lags {
                Some(lag) => patience.min(LEDGER_DELAY.saturating_sub(lag.elapsed())),
                None => patience,
            };
            let taken = self.shared.take(patience);
            let ending = taken.ending;
            if ending == Some(Ending::Abandon) {
                return;
            }
            self.shared.commit_begins();
            // A panic inside the engine is a failed commit, not the end of the process.
            let committed = catch_unwind(AssertUnwindSafe(|| self.commit(taken)));
            self.shared.commit_ends();
            let failure = match committed {
                Ok(Ok(())) => None,
                Ok(Err(Failure::Stopped)) => return,
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

    fn commit(&mut self, taken: Taken) -> Result<(), Failure> {
        let now = self.shared.clock.now();
        let mut commit = Commit::new(self.next_commit, self.last_commit, now);
        let mut outcome = Outcome::of(taken.appends.len(), self.shared.is_full());
        self.dedup.prune(now, taken.appends.len().saturating_mul(4).saturating_add(16));
        let keys = taken.appends.iter().filter_map(|waiting| match &waiting.work {
            Work::Append(append) => Some(&append.dedup),
            Work::Restore(_) => None,
        });
        std::hint::black_box(self.dedup.fetch(keys.flatten()));
        for waiting in taken.appends {
            let result = match waiting.work {
                _ if !self.is_kept(waiting.releases) => Err(AppendError::NotKept),
                Work::Append(append) => self.admit(&mut commit, &mut outcome, append, now),
                Work::Restore(restored) => self.readmit(&mut commit, &mut outcome, *restored, now),
            };
            // What is not admitted now stays where it is.
            if let (Some(id), Ok(_)) = (waiting.releases, &result) {
                self.release(&mut commit, &mut outcome, id);
            }
            outcome.answers.push((waiting.answer, result));
        }
        self.put_settlements(&mut commit, &mut outcome, taken.settlements);
        for wish in taken.wishes {
            self.decide(&mut commit, &mut outcome, wish, now);
        }
        for keeping in taken.keeping {
            self.keep(&mut commit, &mut outcome, keeping, now);
        }
        if now >= self.upkeep_at || (self.drain.is_none() && self.generations.has_walked()) {
            self.prune_quarantine(&mut commit, &mut outcome, now);
            self.upkeep(now)?;
        }
        self.drain_step(&mut commit, &mut outcome, now)?;
        let drained = outcome.drained;
        if commit.is_empty() {
            self.publish(outcome, &commit);
        } else {
            self.put_names(&mut commit);
            commit.finish();
            self.write(&commit, &mut outcome, now)?;
        }
        if let Some(Ok(store)) = self.generations.current().map(|current| current.store()) {
            store.age(&commit);
        }
        if let Some(number) = drained {
            self.remove(number)?;
            self.upkeep_at = now;
        }
        self.rotate_if_full(now);
        self.write_ledger();
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
            let unknown = self.dedup.unknown(&append.dedup, now);
            if !unknown.is_empty() {
                self.dedup.remember(&unknown, first, now);
                note_keys(&mut outcome.written, now, &unknown);
                let entries = unknown.into_iter().map(|key| (first, now, key)).collect();
                commit.put(&Record::Dedup { entries });
            }
            return Ok(Appended::Duplicate(first));
        }
        if outcome.is_full {
            return Err(AppendError::Full);
        }
        let Append { event, targets, dedup } = append;
        let deliveries = self.deliveries(&targets)?;
        Ok(self.accept(commit, outcome, event, deliveries, dedup))
    }

    /// Adds a new event to the commit.
    pub(super) fn accept(
        &mut self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        event: Event,
        deliveries: Vec<Slot>,
        dedup: Vec<DedupKey>,
    ) -> Appended {
        let id = event.id;
        self.dedup.remember(&dedup, id, event.received_at);
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(1);
        let entry = self.inscribe(commit, outcome, (sequence, &event), deliveries, dedup);
        outcome.fresh.push(Fresh::of(sequence, entry, event));
        Appended::New(id)
    }

    /// Adds an event to the commit, its content and its record, new or again.
    pub(super) fn inscribe(
        &self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        (sequence, event): (u64, &Event),
        deliveries: Vec<Slot>,
        dedup: Vec<DedupKey>,
    ) -> Entry<Place> {
        let place = commit.put_content(event);
        note_keys(&mut outcome.written, event.received_at, &dedup);
        let (id, received_at) = (event.id, event.received_at);
        let order = event.order_key.as_deref().map_or(0, order_of);
        let (number, label) =
            self.shared.memory().index.label_of(event.source.as_str(), &event.name);
        let slots = Slots::new(&deliveries);
        let record =
            Record::Event { sequence, id, received_at, order, place, label, dedup, deliveries };
        commit.put(&record);
        Entry { id, received_at, order, label: number, place, deliveries: slots }
    }

    /// One ready delivery for each target.
    fn deliveries(&self, targets: &[Name]) -> Result<Vec<Slot>, AppendError> {
        let mut memory = self.shared.memory();
        let slot = |target| Slot { target, attempts: 0, state: State::Ready };
        let slots = targets.iter().map(|target| memory.index.number(target).map(slot));
        slots.collect::<Option<_>>().ok_or(AppendError::Full)
    }

    fn put_settlements(
        &self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        settlements: Vec<(Record, Option<Place>)>,
    ) {
        if settlements.is_empty() {
            return;
        }
        let first = self.shared.memory().usage.share(commit.number()).map(|share| share.first);
        for (record, place) in settlements {
            if place.zip(first).is_some_and(|(place, first)| place.commit < first) {
                outcome.written.foreign = outcome.written.foreign.saturating_add(64);
            }
            commit.put(&record);
        }
    }

    /// Names that the generation that is written does not know yet, and every note if it is new: older generations
    /// may go.
    fn put_names(&mut self, commit: &mut Commit) {
        let memory = self.shared.memory();
        if commit.number().is_multiple_of(NAMES_EVERY) {
            self.names_written = 0;
        }
        for (number, name) in memory.index.names().enumerate().skip(self.names_written) {
            let Ok(number) = u16::try_from(number) else { break };
            commit.put(&Record::Name { number, name: name.to_string() });
        }
        self.names_written = memory.index.names().len();
        if !self.notes_written {
            for Note { topic, name, value } in memory.notes.iter() {
                commit.put(&Record::Note { topic, name, value });
            }
            self.notes_written = true;
        }
    }

    /// Has the ledger write down what the commits of the last milliseconds added.
    fn write_ledger(&mut self) {
        if self.ledger_lags.as_ref().is_none_or(|lag| lag.elapsed() < LEDGER_DELAY) {
            return;
        }
        self.ledger_lags = None;
        let written = self.generations.ledger().write_down();
        self.ledger_failed(written);
    }

    fn ledger_failed(&self, written: std::io::Result<()>) {
        let Err(error) = written else { return };
        // The commits are durable; the ledger only knows less than there is.
        self.shared.metrics.errors.with_label_values(&["ledger"]).inc();
        tracing::debug!(%error, "the journal's ledger could not be written");
    }

    /// Tells the ledger and the usage what a durable commit added.
    pub(super) fn note(&mut self, commit: &Commit, written: &Written) {
        let (records, contents) = commit.counts();
        self.holds.commit = commit.number();
        self.holds.records = self.holds.records.saturating_add(u64::from(records));
        self.holds.contents = self.holds.contents.saturating_add(u64::from(contents));
        let current = self.generations.current().map_or(0, |generation| generation.number);
        let told = self.generations.ledger().holds(current, self.holds);
        self.ledger_failed(told);
        self.ledger_lags.get_or_insert_with(Stopwatch::start);
        self.last_commit = commit.number();
        self.next_commit = commit.number().saturating_add(1);
        let bytes = u64::try_from(commit.len()).unwrap_or(u64::MAX);
        let written = Written { bytes, ..*written };
        self.shared.memory().usage.wrote(commit.number(), commit.at(), &written);
        let soon = if self.shared.wrote(bytes) { Duration::ZERO } else { UPKEEP_INTERVAL };
        self.upkeep_at = self.upkeep_at.min(commit.at().plus(soon));
    }

    /// The commit is durable: its events may be delivered, and everyone who waited is answered.
    pub(super) fn publish(&self, outcome: Outcome, commit: &Commit) {
        let Decisions { answers: verdicts, decided, grown, .. } = outcome.decisions;
        let changes = decided.len().saturating_add(grown.len());
        let rejections = outcome.needed.len().saturating_add(outcome.rejections.len());
        if changes > 0 || rejections > 0 || !outcome.fresh.is_empty() || !outcome.moves.is_empty() {
            let mut memory = self.shared.memory();
            memory.durable = self.last_commit;
            for (sequence, target, state) in decided {
                self.decided(&mut memory, sequence, target, state);
            }
            for (sequence, place, new) in grown {
                if let Some(old) = memory.index.grow(sequence, place, &new) {
                    memory.usage.released(old);
                    memory.usage.needed(place);
                }
            }
            if !outcome.fresh.is_empty() {
                memory.recent.put(commit.number(), commit.parts());
            }
            for Fresh { sequence, entry, source, name } in outcome.fresh {
                let latest = Latest { id: entry.id, name, received_at: entry.received_at };
                self.shared.accepted(&mut memory, source, latest);
                if !entry.is_delivered() {
                    memory.usage.needed(entry.place);
                    memory.index.insert(sequence, entry);
                }
            }
            for (sequence, place) in outcome.moves {
                if let Some(old) = memory.index.set_place(sequence, place) {
                    memory.usage.released(old);
                    memory.usage.needed(place);
                }
            }
            for place in outcome.needed {
                memory.usage.needed(place);
            }
            for (id, place) in outcome.rejections {
                if let Some(kept) = memory.quarantine.get_mut(id) {
                    let old = std::mem::replace(&mut kept.place, place);
                    memory.usage.released(old);
                    memory.usage.needed(place);
                }
            }
            drop(memory);
            self.shared.changed.notify_waiters();
        }
        for (answer, result) in outcome.answers {
            answered(answer, result);
        }
        for (answer, result) in outcome.kept {
            if answer.send(result).is_err() {
                // Nobody waits for one that was only refused.
                tracing::trace!("a change of the quarantine is durable");
            }
        }
        for (answer, result) in verdicts {
            if answer.send(result).is_err() {
                tracing::debug!("an operator left before a decision was durable");
            }
        }
    }

    /// A decision is durable. What has gone into flight since it was made is left alone: its attempt settles it.
    fn decided(&self, memory: &mut Memory, sequence: u64, target: Number, state: State) {
        if memory.index.decide(sequence, target, state).is_some() {
            self.shared.changed_delivery(memory, sequence, target);
        }
    }

    fn drain_step(
        &mut self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(drain) = &mut self.drain else { return Ok(()) };
        let step = drain.step(&self.shared, &self.dedup, commit, &mut outcome.written, now)?;
        outcome.moves = step.moves;
        outcome.rejections = step.rejections;
        if step.last {
            outcome.drained = Some(drain.share.number);
            self.drain = None;
        }
        Ok(())
    }

    fn remove(&self, number: u32) -> Result<(), Failure> {
        self.generations.remove(number).map_err(StoreError::from)?;
        self.shared.memory().usage.remove(number);
        tracing::debug!(generation = number, "a generation of the journal was given back");
        Ok(())
    }

    fn rotate_if_full(&mut self, now: Timestamp) {
        let limits = self.shared.limits();
        let mut memory = self.shared.memory();
        if !memory.usage.is_full(now, limits.generation_bytes(), limits.retention) {
            return;
        }
        let Some(number) = self.generations.rotate(self.next_commit) else { return };
        memory.usage.begin(number, self.next_commit, now);
        drop(memory);
        self.holds = Holds::default();
        self.names_written = 0;
        self.notes_written = false;
    }
}

pub(super) fn answered(answer: Answer, result: Result<Appended, AppendError>) {
    if answer.send(result).is_err() {
        // Whoever asked gave up waiting; what was committed is delivered all the same.
        tracing::debug!("an append was answered after its caller had left");
    }
}
