//! Draining a generation: what is still needed of it is written again at the end, so that it can be removed whole.
//!
//! Needed are a delivery that is pending, a dead letter inside its retention, a dedup key inside its window, and the
//! settlement of an event that stands in an older generation. A crash in the middle leaves both copies, and the later
//! one counts.

use std::collections::HashSet;
use std::sync::Arc;

use super::recover::note_keys;
use super::sealed::{Found, Sealed};
use super::shared::Shared;
use super::store::{Commit, StoreError};
use super::usage::{Share, Written};
use crate::journal::dedup::DedupIndex;
use crate::journal::index::{Entry, Slot};
use crate::journal::quarantine::Kept;
use crate::journal::record::content::Place;
use crate::journal::record::frame::Mark;
use crate::journal::record::{Label, Record};
use crate::model::{DedupKey, EventId, RejectionId};
use crate::time::Timestamp;

/// Most records that one step looks at. Each commit has a step, and what comes meanwhile waits for it.
const MAX_RECORDS: usize = 512;
/// Most bytes that one step writes again.
const MAX_BYTES: usize = 128 * 1024;
/// Dedup keys in one record.
const KEYS_IN_RECORD: usize = 64;

/// A generation that is being drained.
pub(super) struct Drain {
    pub(super) share: Share,
    sealed: Arc<Sealed>,
    records: Vec<(Mark, u32)>,
    /// How many of the records were looked at.
    done: usize,
    /// Events that stand in this generation: their settlements go with them.
    own: HashSet<u64>,
}

/// An event whose content has a new place.
pub(super) type Move = (u64, Place);

/// What one step wrote.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) moves: Vec<Move>,
    /// Rejections whose content has a new place.
    pub(super) rejections: Vec<(RejectionId, Place)>,
    /// Dedup keys whose event is not needed any more.
    keys: Vec<(EventId, Timestamp, DedupKey)>,
    /// Nothing of the generation is left to look at: once the commit is durable it can go.
    pub(super) last: bool,
}

/// Where a step writes to.
struct Desk<'a> {
    shared: &'a Shared,
    dedup: &'a DedupIndex,
    commit: &'a mut Commit,
    written: &'a mut Written,
    step: Step,
    now: Timestamp,
}

impl Drain {
    /// Begins with what a walk through the generation's file found.
    pub(super) fn begin(share: Share, Found { sealed, records, .. }: Found) -> Self {
        Self { share, sealed: Arc::new(sealed), records, done: 0, own: HashSet::new() }
    }

    /// Adds to `commit` what must survive of the next records.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        dedup: &DedupIndex,
        commit: &mut Commit,
        written: &mut Written,
        now: Timestamp,
    ) -> Result<Step, StoreError> {
        let begin = commit.len();
        let mut desk = Desk { shared, dedup, commit, written, step: Step::default(), now };
        let records = std::mem::take(&mut self.records);
        let next = records.get(self.done..).unwrap_or_default();
        let sealed = Arc::clone(&self.sealed);
        for record in sealed.records(next).take(MAX_RECORDS) {
            self.keep(record?.1, &mut desk)?;
            self.done = self.done.saturating_add(1);
            if desk.commit.len().saturating_sub(begin) >= MAX_BYTES {
                break;
            }
        }
        let Desk { mut step, .. } = desk;
        step.last = self.done == records.len();
        self.records = records;
        for entries in step.keys.chunks(KEYS_IN_RECORD) {
            for (_, at, key) in entries {
                note_keys(written, *at, &[*key]);
            }
            commit.put(&Record::Dedup { entries: entries.to_vec() });
        }
        Ok(step)
    }

    fn keep(&mut self, record: Record, desk: &mut Desk<'_>) -> Result<(), StoreError> {
        match record {
            Record::Event { sequence, id, received_at, dedup, place, label, .. } => {
                self.own.insert(sequence);
                let dedup = dedup.into_iter().filter(|key| desk.is_known(key, id));
                match known(desk.shared, sequence) {
                    // The copy that counts.
                    Some(entry) if entry.place == place => {
                        let dedup: Vec<_> = dedup.collect();
                        let place = desk.commit.put_content(&self.sealed.content(place)?);
                        note_keys(desk.written, received_at, &dedup);
                        desk.commit.put(&again(sequence, &entry, place, label, dedup));
                        desk.step.moves.push((sequence, place));
                    }
                    // A newer copy stands elsewhere, with its keys.
                    Some(_) => {}
                    None => {
                        let keys: Vec<_> = dedup.map(|key| (id, received_at, key)).collect();
                        desk.step.keys.extend(keys);
                    }
                }
            }
            Record::Settled { sequence, target, attempts, state, at, .. } => {
                let slot = Slot { target, attempts, state };
                if let Some(slot) = self.foreign(desk.shared, sequence, slot) {
                    desk.written.foreign = desk.written.foreign.saturating_add(64);
                    let Slot { target, attempts, state } = slot;
                    let record =
                        Record::Settled { sequence, target, attempts, state, at, attempt: None };
                    desk.commit.put(&record);
                }
            }
            Record::Dedup { entries } => {
                let inside = entries.into_iter().filter(|(id, _, key)| desk.is_known(key, *id));
                let inside: Vec<_> = inside.collect();
                desk.step.keys.extend(inside);
            }
            Record::Rejected { id, kept } => {
                let memory = desk.shared.memory();
                let now = memory.quarantine.get(id).filter(|now| now.place == kept.place).cloned();
                drop(memory);
                if let Some(kept) = now {
                    let place = desk.commit.put_content(&self.sealed.content(kept.place)?);
                    let kept = Kept { place, ..kept };
                    desk.commit.put(&Record::Rejected { id, kept });
                    desk.step.rejections.push((id, place));
                }
            }
            // A rejection that stands in an older generation would be there again without this.
            Record::Dropped { ids } => {
                let oldest = desk.shared.memory().usage.oldest();
                if oldest.is_some_and(|oldest| oldest < self.share.first) {
                    desk.written.foreign = desk.written.foreign.saturating_add(64);
                    desk.commit.put(&Record::Dropped { ids });
                }
            }
            // Each generation begins with all names and notes.
            Record::Name { .. } | Record::Note { .. } | Record::Commit { .. } => {}
        }
        Ok(())
    }

    /// How a delivery stands whose event may be in an older generation, where it would be due again without this.
    fn foreign(&self, shared: &Shared, sequence: u64, slot: Slot) -> Option<Slot> {
        let first = self.share.first;
        if self.own.contains(&sequence)
            || shared.memory().usage.oldest().is_none_or(|oldest| oldest >= first)
        {
            return None;
        }
        match known(shared, sequence) {
            Some(entry) if entry.place.commit < first => entry.deliveries.get(slot.target),
            Some(_) => None,
            None => slot.state.is_final().then_some(slot),
        }
    }
}

impl Desk<'_> {
    /// Whether a key is still known by this event: a newer one may have brought it, too.
    fn is_known(&self, key: &DedupKey, event: EventId) -> bool {
        self.dedup.is_of(key, event, self.now)
    }
}

/// The event as it stands, if anything of it is pending or dead.
fn known(shared: &Shared, sequence: u64) -> Option<Entry<Place>> {
    shared.memory().index.get(sequence).cloned()
}

/// An event's record as it stands now.
fn again(
    sequence: u64,
    entry: &Entry<Place>,
    place: Place,
    label: Arc<Label>,
    dedup: Vec<DedupKey>,
) -> Record {
    Record::Event {
        sequence,
        id: entry.id,
        received_at: entry.received_at,
        order: entry.order,
        place,
        label,
        dedup,
        deliveries: entry.deliveries.iter().collect(),
    }
}
