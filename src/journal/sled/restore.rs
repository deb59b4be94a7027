//! Taking up what another journal held: events with their deliveries as they stand, and dedup keys with their time.
//!
//! It goes the way of an append, through the one writer and its commits, so a journal that was filled like this is like
//! any other one.

use tokio::sync::oneshot;

use super::SledJournal;
use super::committer::{Committer, Outcome};
use super::recover::note_keys;
use super::room::{Waiting, Work};
use super::store::Commit;
use crate::journal::index::{Slot, State};
use crate::journal::record::Record;
use crate::journal::{AppendError, Appended, DeliveryState, PastAttempt, Stage};
use crate::model::{DedupKey, Event, EventId, Headers, Rejection};
use crate::time::Timestamp;

/// Dedup keys in one record.
const KEYS_IN_RECORD: usize = 64;
/// Most that [`SledJournal::restore`] takes at once.
pub const MAX_RESTORED: usize = 1024;

/// Something that another journal held.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub enum Restored {
    /// An event.
    Event {
        /// As it was received.
        event: Event,
        /// Each as it stands; what was in flight is ready.
        deliveries: Vec<DeliveryState>,
        /// The keys that it brought.
        dedup: Vec<DedupKey>,
        /// Its recorded attempts, oldest first.
        attempts: Vec<PastAttempt>,
        /// What to do when one of the keys is known.
        repeats: Repeats,
    },
    /// Keys of events that are not kept any more, each with the event's id and receive time. At most
    /// [`MAX_RESTORED`].
    Keys(Vec<(EventId, Timestamp, DedupKey)>),
    /// A request that was refused and kept.
    Rejection(Box<Rejection>),
}

/// What becomes of an event one of whose keys is known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// It was accepted once and is kept.
    Keep,
    /// It is a duplicate of what is there.
    Skip,
}

impl Restored {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let of = |body: &[u8], headers: &Headers| body.len().saturating_add(headers.packed().len());
        match self {
            Self::Event { event, attempts, .. } => {
                let made = |(_, made, _): &PastAttempt| of(&made.seen.body, &made.seen.headers);
                let attempts = attempts.iter().map(|it| made(it).saturating_add(128));
                attempts.fold(of(&event.body, &event.headers), usize::saturating_add)
            }
            Self::Keys(keys) => keys.len().saturating_mul(64),
            Self::Rejection(rejection) => of(&rejection.body, &rejection.headers),
        }
    }
}

impl SledJournal {
    /// Takes up what another journal held, in this order; the ids must be new. Blocks until all of it is durable, and
    /// answers one by one.
    pub fn restore(&self, all: Vec<Restored>) -> Result<Vec<Appended>, AppendError> {
        let mut waiting = Vec::with_capacity(all.len());
        for restored in all {
            let (answer, answered) = oneshot::channel();
            let work = Work::Restore(Box::new(restored));
            self.shared.wait_for_commit(Waiting { work, answer, releases: None })?;
            waiting.push(answered);
        }
        let answered = |answer: oneshot::Receiver<_>| {
            answer.blocking_recv().unwrap_or(Err(AppendError::Failed))
        };
        waiting.into_iter().map(answered).collect()
    }
}

impl Committer {
    /// Decides about something that another journal held.
    pub(super) fn readmit(
        &mut self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        restored: Restored,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let (event, deliveries, dedup, attempts, repeats) = match restored {
            Restored::Event { event, deliveries, dedup, attempts, repeats } => {
                (event, deliveries, dedup, attempts, repeats)
            }
            Restored::Keys(keys) => return Ok(self.readmit_keys(commit, outcome, &keys, now)),
            // Rate and share were judged when it came; what is too much in all goes with the next upkeep.
            Restored::Rejection(rejection) => {
                let id = EventId::from_bytes(rejection.id.to_bytes());
                self.put_rejection(commit, outcome, &rejection);
                return Ok(Appended::New(id));
            }
        };
        if let Some(first) = self.dedup.repeats(&dedup, now)
            && repeats == Repeats::Skip
        {
            return Ok(Appended::Duplicate(first));
        }
        if outcome.is_full {
            return Err(AppendError::Full);
        }
        // What is known of a subject is not replaced by what was true before.
        let passed = |key: &DedupKey| self.dedup.knows_later(key, event.received_at);
        let dedup: Vec<_> = dedup.into_iter().filter(|key| !passed(key)).collect();
        let deliveries = self.slots(&deliveries)?;
        let (sequence, slots) = (self.next_sequence, deliveries.clone());
        let accepted = self.accept(commit, outcome, event, deliveries, dedup);
        self.put_attempts(commit, sequence, &slots, attempts);
        Ok(accepted)
    }

    /// Records each attempt as its settlement did, and at the end how the delivery stands, unless the last one says so.
    fn put_attempts(
        &self,
        commit: &mut Commit,
        sequence: u64,
        slots: &[Slot],
        attempts: Vec<PastAttempt>,
    ) {
        let mut said: Vec<Option<State>> = vec![None; slots.len()];
        for (target, attempt, due) in attempts {
            let number = self.shared.memory().index.number(&target);
            let slot = slots.iter().zip(&mut said).find(|(slot, _)| Some(slot.target) == number);
            let Some((Slot { target, attempts, state }, said)) = slot else { continue };
            let (target, attempts) = (*target, *attempts);
            let state = due.map_or(*state, State::Waiting);
            let at = attempt.started_at.plus(attempt.duration);
            let attempt = Some(attempt);
            commit.put(&Record::Settled { sequence, target, attempts, state, at, attempt });
            *said = Some(state);
        }
        for (Slot { target, attempts, state }, said) in slots.iter().zip(said) {
            if said.is_some_and(|said| said != *state) {
                let (target, attempts, state, at) = (*target, *attempts, *state, commit.at());
                let attempt = None;
                commit.put(&Record::Settled { sequence, target, attempts, state, at, attempt });
            }
        }
    }

    fn readmit_keys(
        &mut self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        keys: &[(EventId, Timestamp, DedupKey)],
        now: Timestamp,
    ) -> Appended {
        let news: Vec<_> = keys
            .iter()
            .filter(|(_, at, key)| {
                self.dedup.repeats(&[*key], now).is_none() && !self.dedup.knows_later(key, *at)
            })
            .copied()
            .collect();
        for (id, at, key) in &news {
            self.dedup.remember(&[*key], *id, *at);
            note_keys(&mut outcome.written, *at, &[*key]);
        }
        for entries in news.chunks(KEYS_IN_RECORD) {
            commit.put(&Record::Dedup { entries: entries.to_vec() });
        }
        let first = keys.first().map_or_else(|| EventId::from_bytes([0; 16]), |(id, _, _)| *id);
        if news.is_empty() { Appended::Duplicate(first) } else { Appended::New(first) }
    }

    /// Each delivery as it stands.
    fn slots(&self, deliveries: &[DeliveryState]) -> Result<Vec<Slot>, AppendError> {
        let mut memory = self.shared.memory();
        let mut slots = Vec::with_capacity(deliveries.len());
        for DeliveryState { target, stage, attempts } in deliveries {
            let target = memory.index.number(target).ok_or(AppendError::Full)?;
            let state = match stage {
                Stage::Ready | Stage::InFlight => State::Ready,
                Stage::Waiting(due) => State::Waiting(*due),
                Stage::Delivered => State::Delivered,
                Stage::Dead(reason) => State::Dead(*reason),
                Stage::Discarded => State::Discarded,
            };
            slots.push(Slot { target, attempts: *attempts, state });
        }
        Ok(slots)
    }
}
