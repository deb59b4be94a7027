//! Retention: removes the oldest commits, whole, once nothing in them is needed.
//!
//! What is still needed of an old commit (a delivery that is pending, a dead letter inside its retention, a dedup
//! key inside its window) is written again at the end first, and the commit is removed in a later round: a crash
//! between the two leaves both, and the later one counts. Going strictly from the oldest on makes the order safe: a settlement is never older than the
//! event it settles.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::shared::Shared;
use super::store::{Commit, Store, StoreError};
use crate::journal::dedup;
use crate::journal::index::Entry;
use crate::journal::record::{self, Damage, Place, Record};
use crate::model::DedupKey;
use crate::time::Timestamp;

/// Most commits that one round looks at, so that it does not delay what waits.
const MAX_COMMITS: usize = 64;
/// Most bytes of contents that one round writes again.
const MAX_MOVED: usize = 1024 * 1024;

/// Removes what is older than the retention.
#[derive(Debug)]
pub(super) struct Pruner {
    retention: Duration,
    /// Commits whose survivors were written again in the last round. They go in this one: by now nobody reads
    /// the old place any more.
    emptied: Vec<u64>,
}

/// An event whose content has a new place.
pub(super) type Move = (u64, Place);

impl Pruner {
    pub(super) fn new(retention: Duration) -> Self {
        Self { retention, emptied: Vec::new() }
    }

    /// Adds to `commit` the removal of the oldest commits, and what must survive of the next oldest.
    pub(super) fn prune(
        &mut self,
        store: &Store,
        shared: &Shared,
        commit: &mut Commit,
        now: Timestamp,
    ) -> Result<Vec<Move>, StoreError> {
        let mut after = self.emptied.last().copied();
        for number in self.emptied.drain(..) {
            commit.remove(number);
        }
        let (mut moves, mut written) = (Vec::new(), 0usize);
        while self.emptied.len() < MAX_COMMITS && written < MAX_MOVED {
            let Some((number, packs)) = store.commit_after(after)? else { break };
            // A commit with a damaged record is left alone: someone has to look at it.
            let Ok((written_at, records)) = records(&packs) else { break };
            if number >= commit.number() || written_at.plus(self.retention) > now {
                break;
            }
            for record in records {
                let survivor = Survivors { store, shared, now };
                if let Some((place, bytes)) = survivor.keep(record, commit)? {
                    moves.push(place);
                    written = written.saturating_add(bytes);
                }
            }
            self.emptied.push(number);
            after = Some(number);
        }
        Ok(moves)
    }
}

/// Decides what survives of an old commit.
struct Survivors<'a> {
    store: &'a Store,
    shared: &'a Shared,
    now: Timestamp,
}

impl Survivors<'_> {
    /// Writes again what is still needed of a record; for an event, where its content went and its size.
    fn keep(
        &self,
        record: Record,
        commit: &mut Commit,
    ) -> Result<Option<(Move, usize)>, StoreError> {
        let (id, at, keys) = match record {
            Record::Event { sequence, id, received_at, dedup, .. } => {
                // What is pending is kept whatever its age; a dead letter as long as what was delivered.
                if let Some(entry) = self.pending(sequence) {
                    let content = self.store.content(entry.place)?;
                    let place = commit.put_content(&content);
                    let deliveries = entry.deliveries.to_vec();
                    commit.put(&Record::Event {
                        sequence,
                        id,
                        received_at,
                        place,
                        dedup,
                        deliveries,
                    });
                    return Ok(Some(((sequence, place), content.body.len())));
                }
                (id, received_at, dedup)
            }
            Record::Dedup { id, at, keys } => (id, at, keys),
            // The event it settles stood before it and is decided already.
            Record::Settled { .. } | Record::Commit { .. } => return Ok(None),
        };
        let inside = |key: &DedupKey| at.plus(dedup::window(key)) > self.now;
        let keys: Vec<_> = keys.into_iter().filter(inside).collect();
        if !keys.is_empty() {
            commit.put(&Record::Dedup { id, at, keys });
        }
        Ok(None)
    }

    /// The event as it stands, if any of its deliveries is pending; dead letters alone end here.
    fn pending(&self, sequence: u64) -> Option<Entry<Place>> {
        let mut memory = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.index.drop_settled(sequence) { None } else { memory.index.get(sequence).cloned() }
    }
}

/// The records of a commit and when it was written.
fn records(packs: &[Bytes]) -> Result<(Timestamp, Vec<Record>), Damage> {
    let mut records = Vec::new();
    for pack in packs {
        let mut rest: &[u8] = pack;
        while !rest.is_empty() {
            records.push(record::take_record(&mut rest)?);
        }
    }
    match records.first() {
        Some(Record::Commit { at }) => Ok((*at, records)),
        Some(_) | None => Err(Damage::Shape),
    }
}
