//! Which webhooks have been seen: the memory behind "a repeat yields no second event".
//!
//! Entries leave when their window is over, in the order in which they end, so memory is bounded by what the
//! windows hold. An entry is two words of key, an id and an expiry: below 100 bytes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::model::{DedupKey, EventId};
use crate::time::Timestamp;

/// What is remembered of one key or subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    event: EventId,
    /// The latest digest of a subject; for an exact key, the key itself.
    digest: u128,
    expires: Timestamp,
}

/// Every key inside its window.
#[derive(Debug, Default)]
pub(super) struct DedupIndex {
    seen: HashMap<u128, Seen>,
    /// When each entry may end; an entry that was renewed since has a later date in `seen`.
    ends: BinaryHeap<Reverse<(Timestamp, u128)>>,
}

impl DedupIndex {
    /// The first event that any of these keys repeats, at `now`.
    pub(super) fn repeats(&self, keys: &[DedupKey], now: Timestamp) -> Option<EventId> {
        keys.iter().find_map(|key| {
            let (place, digest) = parts(key);
            let seen = self.seen.get(&place)?;
            (seen.digest == digest && seen.expires > now).then_some(seen.event)
        })
    }

    /// Remembers the keys of an event received at `at`.
    pub(super) fn remember(&mut self, keys: &[DedupKey], event: EventId, at: Timestamp) {
        for key in keys {
            let (place, digest) = parts(key);
            let expires = at.plus(window(key));
            // Retention writes old records again behind newer ones: an older copy never replaces a newer.
            if self.seen.get(&place).is_some_and(|seen| seen.expires > expires) {
                continue;
            }
            self.seen.insert(place, Seen { event, digest, expires });
            self.ends.push(Reverse((expires, place)));
        }
    }

    /// Forgets at most `most` entries whose window is over.
    pub(super) fn prune(&mut self, now: Timestamp, most: usize) {
        for _ in 0..most {
            match self.ends.peek() {
                Some(Reverse((expires, _))) if *expires <= now => {}
                Some(_) | None => return,
            }
            let Some(Reverse((_, place))) = self.ends.pop() else { return };
            if self.seen.get(&place).is_some_and(|seen| seen.expires <= now) {
                self.seen.remove(&place);
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.seen.len()
    }
}

/// How long a key is remembered.
pub(super) fn window(key: &DedupKey) -> std::time::Duration {
    match key {
        DedupKey::Exact { window, .. } | DedupKey::Latest { window, .. } => *window,
    }
}

/// Where a key is kept, and what must be equal there.
fn parts(key: &DedupKey) -> (u128, u128) {
    match key {
        DedupKey::Exact { key, .. } => (*key, *key),
        DedupKey::Latest { subject, digest, .. } => (*subject, *digest),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn id(n: u8) -> EventId {
        EventId::new(Timestamp::EPOCH, [n; 10])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn an_exact_key_repeats_until_its_window_is_over_and_a_repeat_does_not_extend_it() {
        let mut index = DedupIndex::default();
        let key = [DedupKey::Exact { key: 7, window: WINDOW }];
        assert_eq!(index.repeats(&key, at(0)), None);
        index.remember(&key, id(1), at(0));
        assert_eq!(index.repeats(&key, at(9)), Some(id(1)));
        assert_eq!(index.repeats(&key, at(10)), None);
    }

    #[test]
    fn a_subject_repeats_only_its_latest_digest() {
        let mut index = DedupIndex::default();
        let latest = |digest| [DedupKey::Latest { subject: 1, digest, window: WINDOW }];
        index.remember(&latest(10), id(1), at(0));
        assert_eq!(index.repeats(&latest(10), at(1)), Some(id(1)));
        index.remember(&latest(20), id(2), at(1));
        assert_eq!(index.repeats(&latest(10), at(2)), None, "A, B, A is three events");
    }

    #[test]
    fn an_old_record_read_after_a_newer_one_does_not_replace_it() {
        let mut index = DedupIndex::default();
        let key = [DedupKey::Exact { key: 1, window: WINDOW }];
        index.remember(&key, id(2), at(20));
        index.remember(&key, id(1), at(0));
        assert_eq!(index.repeats(&key, at(25)), Some(id(2)));
    }

    #[test]
    fn forgets_what_is_over_and_keeps_what_was_renewed() {
        let mut index = DedupIndex::default();
        let key = |key| [DedupKey::Exact { key, window: WINDOW }];
        index.remember(&key(1), id(1), at(0));
        index.remember(&key(2), id(2), at(0));
        index.remember(&key(2), id(3), at(5));
        index.prune(at(10), 100);
        assert_eq!(index.len(), 1);
        assert_eq!(index.repeats(&key(2), at(10)), Some(id(3)));
        index.prune(at(15), 100);
        assert_eq!((index.len(), index.ends.len()), (0, 0));
    }
}
