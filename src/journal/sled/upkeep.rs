//! What the writer does once a second beside its commits.

use std::time::Duration;

use super::committer::{Committer, Failure};
use super::drain::Drain;
use super::store::StoreError;
use crate::time::Timestamp;

/// How often the disk is looked at and old generations are looked for.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Pending and dead events that one upkeep looks at for dead letters whose retention is over.
const EXPIRE_STEP: usize = 20_000;

impl Committer {
    /// What is done once a second.
    pub(super) fn upkeep(&mut self, now: Timestamp) -> Result<(), Failure> {
        self.upkeep_at = now.plus(UPKEEP_INTERVAL);
        if let Some(detail) = self.generations.failure() {
            return Err(Failure::Generation(detail));
        }
        let size = self.generations.occupied().map_err(StoreError::from)?;
        match self.ballast.take(self.shared.limits().min_free) {
            Ok(there) => self.starved &= !there,
            Err(error) => tracing::debug!(%error, "the ballast could not be taken"),
        }
        self.shared.look_at_disk(size, self.starved);
        let evicted = self.dedup.take_evicted();
        if evicted > 0 {
            self.shared.metrics.dedup_evicted.inc_by(evicted);
            tracing::warn!(evicted, "dedup keys were forgotten before their window was over");
        }
        self.generations.settle_ledger();
        self.generations.ensure_spare();
        self.expire_dead(now);
        self.choose_drain(now, size)
    }

    /// Forgets dead letters whose retention is over.
    fn expire_dead(&mut self, now: Timestamp) {
        let retention = self.shared.limits().retention;
        let mut memory = self.shared.memory();
        let mut looked = 0usize;
        let mut over = Vec::new();
        let mut next = None;
        for (sequence, entry) in memory.index.iter_from(self.expire_from) {
            if looked == EXPIRE_STEP || entry.received_at.plus(retention) > now {
                next = (looked == EXPIRE_STEP).then_some(sequence);
                break;
            }
            looked = looked.saturating_add(1);
            if entry.is_settled() {
                over.push(sequence);
            }
        }
        self.expire_from = next.unwrap_or(0);
        for sequence in over {
            if let Some(place) = memory.index.forget_settled(sequence) {
                memory.usage.released(place);
            }
        }
    }

    /// Begins to drain the next generation that is worth it.
    fn choose_drain(&mut self, now: Timestamp, size: u64) -> Result<(), Failure> {
        if self.drain.is_some() {
            return Ok(());
        }
        let limits = self.shared.limits();
        let pressed = size >= limits.max_bytes / 10 * 9;
        let chosen = self.shared.memory().usage.to_drain(now, limits.retention, pressed);
        let Some(share) = chosen else {
            self.generations.forget_walk();
            return Ok(());
        };
        let sealed = self.generations.numbered(share.number).is_some_and(|it| it.is_sealed());
        // A walk reads all of its file: the housekeeper makes it, so that no commit waits.
        if sealed && let Some(found) = self.generations.walked(share.number) {
            self.drain = Some(Drain::begin(share, found?));
        }
        Ok(())
    }
}
