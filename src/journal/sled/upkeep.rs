//! What the writer does once a second beside its commits, and more seldom while there are none.

use std::time::Duration;

use super::committer::{Committer, Failure};
use super::drain::Drain;
use super::store::StoreError;
use crate::time::Timestamp;

/// For so long after the last commit the store still changes its files by itself.
const SETTLES_AFTER: Duration = Duration::from_secs(10);
/// Also files that nobody should change are looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often the disk is looked at and old generations are looked for.
pub(super) const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The same when nothing has changed for a while and there is room: a processor that sleeps is woken for this.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// Pending and dead events that one upkeep looks at for dead letters whose retention is over.
const EXPIRE_STEP: usize = 20_000;

/// How much is on the disk, looked at only while it may change: a look at each file costs more than all else that is
/// done in an idle second.
#[derive(Debug, Default)]
pub(super) struct Size {
    bytes: u64,
    looked_at: Option<Timestamp>,
    /// The newest commit, and what the housekeeper has done; and since when they are the newest.
    after: (u64, usize),
    since: Timestamp,
}

impl Size {
    /// The size, looked at with `look` if it may have changed since.
    fn now<E>(
        &mut self,
        after: (u64, usize),
        now: Timestamp,
        look: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        if after != self.after {
            (self.after, self.since) = (after, now);
        }
        let is_known = |at| self.has_settled(at) && now < at.plus(LOOK_AGAIN);
        if !self.looked_at.is_some_and(is_known) {
            self.bytes = look()?;
            self.looked_at = Some(now);
        }
        Ok(self.bytes)
    }

    /// How long nobody looks again; `full`: nothing new is accepted before there is room.
    fn interval(&self, now: Timestamp, full: bool) -> Duration {
        if self.has_settled(now) && !full { IDLE_INTERVAL } else { UPKEEP_INTERVAL }
    }

    /// Whether nothing changes any more.
    fn has_settled(&self, at: Timestamp) -> bool {
        at >= self.since.plus(SETTLES_AFTER)
    }
}

impl Committer {
    /// What is done once a second.
    pub(super) fn upkeep(&mut self, now: Timestamp) -> Result<(), Failure> {
        if let Some(detail) = self.generations.failure() {
            return Err(Failure::Generation(detail));
        }
        let after = (self.next_commit, self.generations.jobs_done());
        let look = || self.generations.occupied().map_err(StoreError::from);
        let size = self.size.now(after, now, look)?;
        match self.ballast.take(self.shared.limits().min_free) {
            Ok(there) => self.starved &= !there,
            Err(error) => tracing::debug!(%error, "the ballast could not be taken"),
        }
        self.shared.look_at_disk(size, self.starved);
        self.upkeep_at = now.plus(self.size.interval(now, self.shared.is_full()));
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
        let sealed = self.generations.sealed();
        let can_be = |number| sealed.contains(&number);
        let chosen = self.shared.memory().usage.to_drain(now, limits.retention, pressed, can_be);
        let Some(share) = chosen else {
            self.generations.forget_walk();
            return Ok(());
        };
        // A walk reads all of its file: the housekeeper makes it, so that no commit waits.
        if let Some(found) = self.generations.walked(share.number) {
            self.drain = Some(Drain::begin(share, found?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_looked_at_until_nothing_has_changed_for_a_while_and_then_rarely() {
        let second = |second| Timestamp::EPOCH.plus(Duration::from_secs(second));
        let mut size = Size::default();
        // It is as large as the second in which it is looked at.
        let mut looks = |after, seconds: std::ops::Range<u64>| {
            let known = |at| size.now(after, second(at), || Ok::<_, StoreError>(at)).unwrap();
            let mut found: Vec<u64> = seconds.clone().map(known).collect();
            found.dedup();
            found.retain(|at| seconds.contains(at));
            found
        };
        assert_eq!(looks((1, 0), 0..70), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(looks((1, 0), 70..140), [70, 130], "what nobody should change may change");
        assert_eq!(looks((2, 0), 140..160), (140..=150).collect::<Vec<_>>(), "a commit");
        assert_eq!(looks((2, 1), 160..180), (160..=170).collect::<Vec<_>>(), "a job that is done");
        let intervals = [(169, false), (170, false), (170, true)];
        let intervals = intervals.map(|(at, full)| size.interval(second(at), full));
        assert_eq!(intervals, [UPKEEP_INTERVAL, IDLE_INTERVAL, UPKEEP_INTERVAL]);
    }
}
