//! Draining a generation: what is still needed of it is written again at the end, so that it can be removed whole.
//!
//! Needed are a delivery that is pending, a dead letter inside its retention, a dedup key inside its window, and the
//! settlement of an event that stands in an older generation. A crash in the middle leaves both copies, and the later
//! one counts.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::recover::note_keys;
use super::shared::Shared;
use super::store::{Commit, Store, StoreError};
use super::usage::{Share, Written};
use crate::journal::dedup;
use crate::journal::index::{Entry, Slot};
use crate::journal::record::content::Place;
use crate::journal::record::{self, Record};
use crate::model::{DedupKey, EventId};
use crate::time::Timestamp;

/// Most commits that one step looks at, so that it does not delay what waits.
const MAX_COMMITS: usize = 512;
/// Most bytes that one step writes again.
const MAX_BYTES: usize = 512 * 1024;
/// Dedup keys in one record.
const KEYS_IN_RECORD: usize = 64;

/// A generation that is being drained.
pub(super) struct Drain {
    pub(super) share: Share,
    store: Arc<Store>,
    /// The commit that was looked at last.
    after: Option<u64>,
    /// Events that stand in this generation: their settlements go with them.
    own: HashSet<u64>,
}

/// An event whose content has a new place.
pub(super) type Move = (u64, Place);

/// What one step wrote.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) moves: Vec<Move>,
    /// Nothing of the generation is left to look at: once the commit is durable it can go.
    pub(super) last: bool,
}

impl Drain {
    pub(super) fn new(share: Share, store: Arc<Store>) -> Self {
        Self { share, store, after: None, own: HashSet::new() }
    }

    /// Adds to `commit` what must survive of the next commits.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        commit: &mut Commit,
        written: &mut Written,
        now: Timestamp,
    ) -> Result<Step, StoreError> {
        let mut step = Step::default();
        let mut keys = Vec::new();
        let begin = commit.len();
        for _ in 0..MAX_COMMITS {
            if commit.len().saturating_sub(begin) >= MAX_BYTES {
                break;
            }
            let Some((number, packs)) = self.store.commit_after(self.after)? else {
                step.last = true;
                break;
            };
            for record in records(&packs)? {
                self.keep(shared, record, commit, written, &mut step, &mut keys, now)?;
            }
            self.after = Some(number);
        }
        for entries in keys.chunks(KEYS_IN_RECORD) {
            for (_, at, key) in entries {
                note_keys(written, *at, &[*key]);
            }
            commit.put(&Record::Dedup { entries: entries.to_vec() });
        }
        Ok(step)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one record of the loop above, which owns all of it"
    )]
    fn keep(
        &mut self,
        shared: &Shared,
        record: Record,
        commit: &mut Commit,
        written: &mut Written,
        step: &mut Step,
        keys: &mut Vec<(EventId, Timestamp, DedupKey)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let inside = |at: Timestamp, key: &DedupKey| at.plus(dedup::window(key)) > now;
        match record {
            Record::Event { sequence, id, received_at, dedup, place, .. } => {
                self.own.insert(sequence);
                let dedup: Vec<_> =
                    dedup.into_iter().filter(|key| inside(received_at, key)).collect();
                match known(shared, sequence) {
                    // The copy that counts.
                    Some(entry) if entry.place == place => {
                        let place = commit.put_content(&self.store.content(place)?);
                        note_keys(written, received_at, &dedup);
                        commit.put(&again(sequence, &entry, place, dedup));
                        step.moves.push((sequence, place));
                    }
                    // A newer copy stands elsewhere, with its keys.
                    Some(_) => {}
                    None => keys.extend(dedup.into_iter().map(|key| (id, received_at, key))),
                }
            }
            Record::Settled { sequence, target, attempts, state, at, .. } => {
                if self.own.contains(&sequence) {
                    return Ok(());
                }
                let settled = match known(shared, sequence) {
                    Some(entry) if entry.place.commit < self.share.first => {
                        entry.deliveries.get(target)
                    }
                    Some(_) => None,
                    None if state.is_final() => Some(Slot { target, attempts, state }),
                    None => None,
                };
                let older = shared.memory().usage.oldest();
                let has_older = older.is_some_and(|first| first < self.share.first);
                if let Some(Slot { target, attempts, state }) = settled.filter(|_| has_older) {
                    written.foreign = written.foreign.saturating_add(64);
                    let attempt = None;
                    commit.put(&Record::Settled { sequence, target, attempts, state, at, attempt });
                }
            }
            Record::Dedup { entries } => {
                keys.extend(entries.into_iter().filter(|(_, at, key)| inside(*at, key)));
            }
            Record::Name { .. } | Record::Commit { .. } => {}
        }
        Ok(())
    }
}

/// The event as it stands, if anything of it is pending or dead.
fn known(shared: &Shared, sequence: u64) -> Option<Entry<Place>> {
    shared.memory().index.get(sequence).cloned()
}

/// An event's record as it stands now.
fn again(sequence: u64, entry: &Entry<Place>, place: Place, dedup: Vec<DedupKey>) -> Record {
    Record::Event {
        sequence,
        id: entry.id,
        received_at: entry.received_at,
        order: entry.order,
        place,
        dedup,
        deliveries: entry.deliveries.iter().collect(),
    }
}

fn records(packs: &[Bytes]) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    for pack in packs {
        let mut rest: &[u8] = pack;
        while !rest.is_empty() {
            records.push(record::take_record(&mut rest)?.1);
        }
    }
    Ok(records)
}
