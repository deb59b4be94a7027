//! Rebuilding what lives in memory from the small records, oldest first. No body is read.

use std::collections::BTreeMap;

use super::store::{Store, StoreError};
use crate::journal::dedup::DedupIndex;
use crate::journal::index::{Entry, Index, Slot, State};
use crate::journal::record::{self, Place, Record};
use crate::model::Name;
use crate::time::Timestamp;

/// The memory of a journal that was just opened.
pub(super) struct Recovered {
    pub(super) index: Index<Place>,
    pub(super) dedup: DedupIndex,
    pub(super) next_commit: u64,
    pub(super) next_sequence: u64,
    /// Records that failed their check and were left out.
    pub(super) damaged: u64,
}

/// Folds every record of the store.
pub(super) fn recover(store: &Store, now: Timestamp) -> Result<Recovered, StoreError> {
    let mut index = Index::new();
    for (_, text) in store.names()? {
        // Names were checked before they were stored; one that no longer fits still keeps its number.
        if let Some(name) = Name::parse(&text) {
            index.number(&name);
        }
    }
    let mut fold =
        Fold { entries: BTreeMap::new(), dedup: DedupIndex::default(), next_sequence: 0, now };
    let (mut next_commit, mut damaged) = (0, 0u64);
    for pack in store.packs() {
        let (commit, bytes) = pack?;
        next_commit = commit.saturating_add(1);
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            match record::take_record(&mut rest) {
                Ok(record) => fold.apply(record),
                Err(damage) => {
                    damaged = damaged.saturating_add(1);
                    tracing::error!(commit, %damage, "a stored record is damaged and was left out");
                }
            }
        }
    }
    for (sequence, entry) in fold.entries {
        index.insert(sequence, entry);
    }
    let (dedup, next_sequence) = (fold.dedup, fold.next_sequence);
    Ok(Recovered { index, dedup, next_commit, next_sequence, damaged })
}

struct Fold {
    entries: BTreeMap<u64, Entry<Place>>,
    dedup: DedupIndex,
    next_sequence: u64,
    now: Timestamp,
}

impl Fold {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Event { sequence, id, received_at, place, dedup, deliveries } => {
                self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
                self.dedup.remember(&dedup, id, received_at);
                self.dedup.prune(self.now, dedup.len().saturating_add(1));
                let deliveries = deliveries.into_boxed_slice();
                if !done(&deliveries) {
                    let entry = Entry { id, received_at, place, deliveries };
                    self.entries.insert(sequence, entry);
                }
            }
            Record::Settled { sequence, target, attempts, state, at, attempt: _ } => {
                self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
                let state = self.no_later(state, at);
                let Some(entry) = self.entries.get_mut(&sequence) else { return };
                let found = entry.deliveries.iter_mut().find(|slot| slot.target == target);
                if let Some(slot) = found {
                    *slot = Slot { target, attempts, state };
                }
                if done(&entry.deliveries) {
                    self.entries.remove(&sequence);
                }
            }
            Record::Dedup { id, at, keys } => self.dedup.remember(&keys, id, at),
            Record::Commit { .. } => {}
        }
    }

    /// A clock that went back between two runs must not make a delivery wait longer than was decided.
    fn no_later(&self, state: State, decided_at: Timestamp) -> State {
        match state {
            State::Waiting(due) => State::Waiting(due.min(self.now.plus(due.since(decided_at)))),
            State::Ready | State::InFlight(_) | State::Delivered | State::Dead(_) => state,
        }
    }
}

fn done(deliveries: &[Slot]) -> bool {
    deliveries.iter().all(|slot| slot.state == State::Delivered)
}
