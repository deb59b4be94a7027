//! How much of each generation is still needed: decides when one is closed and which one is given back.
//!
//! Space is never reclaimed inside a generation. One that is mostly settled is drained: what is still needed of it is
//! written again at the end, then its directory is removed whole. A generation is drained only when at most half of it
//! is needed, so writing again costs at most as much as writing did.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::record::content::Place;
use crate::time::Timestamp;

/// Below this size a generation is not worth draining: 4 MiB.
const WORTH_DRAINING: u64 = 4 * 1024 * 1024;
/// A generation takes events for a while even if they settle at once.
const SHORTEST: Duration = Duration::from_secs(5);
/// With a long retention, generations are cut so that what is over can be removed in pieces of it.
const PIECES: u32 = 8;
const SHORTEST_PIECE: Duration = Duration::from_secs(3_600);

/// What is known of one generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) number: u32,
    /// The first commit that went there.
    pub(super) first: u64,
    pub(super) begun_at: Timestamp,
    /// When the newest commit in it was written.
    newest_at: Timestamp,
    /// Bytes of contents and records written to it.
    payload: u64,
    /// Bytes of contents whose event is pending or dead.
    live: u64,
    /// Bytes of dedup records, needed until the last of their windows is over.
    dedup: u64,
    dedup_until: Timestamp,
    /// Bytes of settlements of events that stand in an older generation, needed as long as one is there.
    foreign: u64,
}

/// What one commit adds to its generation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) dedup: u64,
    pub(super) dedup_until: Timestamp,
    pub(super) foreign: u64,
}

/// The generations by their first commit; the last one is written.
#[derive(Debug, Default)]
pub(super) struct Usage {
    shares: BTreeMap<u64, Share>,
}

impl Usage {
    /// A generation is written from this commit on.
    pub(super) fn begin(&mut self, number: u32, first: u64, at: Timestamp) {
        let share = Share {
            number,
            first,
            begun_at: at,
            newest_at: at,
            payload: 0,
            live: 0,
            dedup: 0,
            dedup_until: Timestamp::EPOCH,
            foreign: 0,
        };
        self.shares.insert(first, share);
    }

    /// A commit was written.
    pub(super) fn wrote(&mut self, commit: u64, at: Timestamp, written: &Written) {
        let Some(share) = self.share_mut(commit) else { return };
        share.newest_at = share.newest_at.max(at);
        share.payload = share.payload.saturating_add(written.bytes);
        share.dedup = share.dedup.saturating_add(written.dedup);
        share.dedup_until = share.dedup_until.max(written.dedup_until);
        share.foreign = share.foreign.saturating_add(written.foreign);
    }

    /// Something at this place is needed.
    pub(super) fn needed(&mut self, place: Place) {
        if let Some(share) = self.share_mut(place.commit) {
            share.live = share.live.saturating_add(u64::from(place.length));
        }
    }

    /// What is at this place is not needed any more.
    pub(super) fn released(&mut self, place: Place) {
        if let Some(share) = self.share_mut(place.commit) {
            share.live = share.live.saturating_sub(u64::from(place.length));
        }
    }

    /// A generation is gone.
    pub(super) fn remove(&mut self, number: u32) {
        self.shares.retain(|_, share| share.number != number);
        // Nothing is older than the oldest one: what it settles elsewhere is gone.
        if let Some(mut oldest) = self.shares.first_entry() {
            oldest.get_mut().foreign = 0;
        }
    }

    /// The generation that a commit belongs to.
    pub(super) fn share(&self, commit: u64) -> Option<&Share> {
        self.shares.range(..=commit).next_back().map(|(_, share)| share)
    }

    /// The oldest generation's first commit.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.shares.first_key_value().map(|(first, _)| *first)
    }

    /// Whether the generation that is written should be closed.
    pub(super) fn is_full(&self, now: Timestamp, limit: u64, retention: Duration) -> bool {
        let Some((_, share)) = self.shares.last_key_value() else { return false };
        let age = now.since(share.begun_at);
        let by_size = share.payload >= limit;
        let piece = (retention / PIECES).max(SHORTEST_PIECE);
        let by_age = share.payload >= WORTH_DRAINING.min(limit) / 4 && age >= piece;
        let mostly_settled = share.payload >= WORTH_DRAINING.min(limit)
            && age >= retention.max(SHORTEST)
            && share.is_mostly_settled(now);
        by_size || by_age || mostly_settled
    }

    /// The generation to drain, the oldest first that can be. `pressed`: the size bound is near, so history ends early.
    pub(super) fn to_drain(
        &self,
        now: Timestamp,
        retention: Duration,
        pressed: bool,
        can_be: impl Fn(u32) -> bool,
    ) -> Option<Share> {
        let written = self.shares.last_key_value().map(|(first, _)| *first)?;
        let closed = self.shares.range(..written).map(|(_, share)| share);
        let over = |share: &&Share| pressed || share.newest_at.plus(retention) <= now;
        closed
            .filter(over)
            .find(|share| share.is_mostly_settled(now) && can_be(share.number))
            .copied()
    }

    fn share_mut(&mut self, commit: u64) -> Option<&mut Share> {
        self.shares.range_mut(..=commit).next_back().map(|(_, share)| share)
    }
}

impl Share {
    /// Bytes of it that would have to be written again.
    pub(super) fn needed(&self, now: Timestamp) -> u64 {
        let dedup = if self.dedup_until > now { self.dedup } else { 0 };
        self.live.saturating_add(dedup).saturating_add(self.foreign)
    }

    fn is_mostly_settled(&self, now: Timestamp) -> bool {
        self.needed(now) <= self.payload / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn place(commit: u64, length: u32) -> Place {
        Place { commit, ordinal: 0, length }
    }

    /// Two closed generations and one that is written; each holds 8 MiB.
    fn three() -> Usage {
        let mut usage = Usage::default();
        for (number, first) in [(1, 0), (2, 10), (3, 20)] {
            usage.begin(number, first, at(0));
            usage.wrote(first + 1, at(10), &Written { bytes: 8 * MIB, ..Written::default() });
        }
        usage
    }

    fn drained(usage: &Usage, seconds: i64) -> Option<u32> {
        usage.to_drain(at(seconds), HOUR, false, |_| true).map(|share| share.number)
    }

    #[test]
    fn the_oldest_settled_generation_is_drained_when_its_retention_is_over() {
        let usage = three();
        assert_eq!(drained(&usage, 3_609), None);
        assert_eq!(drained(&usage, 3_610), Some(1));
        let other = usage.to_drain(at(3_610), HOUR, false, |number| number != 1);
        assert_eq!(other.map(|share| share.number), Some(2), "one that cannot be is passed by");
        let pressed = usage.to_drain(at(11), HOUR, true, |_| true).map(|share| share.number);
        assert_eq!(pressed, Some(1), "near the size bound history ends early");
    }

    #[test]
    fn a_generation_that_is_needed_is_left_and_the_next_one_is_drained() {
        let mut usage = three();
        let half = place(5, u32::try_from(4 * MIB + 1).unwrap());
        usage.needed(half);
        assert_eq!(drained(&usage, 4_000), Some(2), "a dead target's backlog blocks nothing");
        usage.released(half);
        assert_eq!(drained(&usage, 4_000), Some(1));
    }

    #[test]
    fn dedup_counts_until_its_last_window_is_over_and_settlements_while_an_older_one_is_there() {
        let mut usage = three();
        let written = Written { bytes: 0, dedup: 5 * MIB, dedup_until: at(9_000), foreign: 0 };
        usage.wrote(1, at(10), &written);
        let written = Written { foreign: 5 * MIB, ..Written::default() };
        usage.wrote(11, at(10), &written);
        assert_eq!(drained(&usage, 8_999), None);
        assert_eq!(drained(&usage, 9_000), Some(1));
        usage.remove(1);
        assert_eq!(drained(&usage, 9_000), Some(2));
    }

    #[test]
    fn the_written_generation_is_closed_by_size_age_and_share() {
        let mut usage = Usage::default();
        usage.begin(1, 0, at(0));
        let full =
            |usage: &Usage, seconds, retention| usage.is_full(at(seconds), 64 * MIB, retention);
        assert!(!full(&usage, 1_000_000, Duration::ZERO), "an empty one stays");
        let mut wrote = |bytes| {
            usage.wrote(0, at(0), &Written { bytes, ..Written::default() });
            usage.shares[&0]
        };
        wrote(4 * MIB);
        let needed = place(0, u32::try_from(3 * MIB).unwrap());
        usage.needed(needed);
        assert!(!full(&usage, 5, Duration::ZERO), "mostly needed");
        usage.released(needed);
        assert!(!full(&usage, 4, Duration::ZERO));
        assert!(full(&usage, 5, Duration::ZERO), "mostly settled");
        assert!(!full(&usage, 3_599, HOUR));
        assert!(full(&usage, 3_600, HOUR), "old");
        usage.wrote(0, at(0), &Written { bytes: 60 * MIB, ..Written::default() });
        assert!(full(&usage, 0, HOUR), "big");
    }
}
