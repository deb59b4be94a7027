//! Which webhooks have been seen: the memory behind "a repeat yields no second event".
//!
//! Entries leave when their window is over. An entry takes about 100 bytes; at most [`MAX_KEYS`] are kept, and
//! beyond that the oldest leaves before its time, which costs at worst a repeat, never an event.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::ends::Ends;
use crate::model::{DedupKey, EventId};
use crate::time::Timestamp;

/// Most keys remembered at once: what 256 hash tables of 2^13 buckets hold without growing, if chance spreads keys over them.
pub(super) const MAX_KEYS: usize = 1_750_000;

/// A key or a digest, unaligned so that an entry needs no padding.
type Digest = [u8; 16];

/// The event that brought an exact key.
#[derive(Clone, Copy, Debug)]
struct Seen {
    event: EventId,
    expires: Timestamp,
}

/// The latest body of a subject.
#[derive(Clone, Copy, Debug)]
struct Latest {
    digest: Digest,
    seen: Seen,
}

/// Every key inside its window.
#[derive(Debug, Default)]
pub(super) struct DedupIndex {
    exact: Parts<Seen>,
    latest: Parts<Latest>,
    /// When each entry may end; an entry that was renewed since has a later date in its map.
    ends: Ends<(Kind, Digest)>,
    /// Keys that left before their window was over.
    evicted: u64,
}

/// A hash table in 256 parts, by a digest's first byte. A hash table that grows moves all it has at once; a part has so
/// little that nobody who waits for the writer notices, and few of them grow at the same time. A digest is that of a
/// cryptographic hash, so that nothing more is asked of the table's own than that nobody can foresee it.
#[derive(Debug)]
struct Parts<T> {
    parts: Vec<HashMap<Digest, T, RandomState>>,
    count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Exact,
    Latest,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        let hash = RandomState::default();
        let parts = (0..=u8::MAX).map(|_| HashMap::with_hasher(hash.clone())).collect();
        Self { parts, count: 0 }
    }
}

impl<T> Parts<T> {
    fn get(&self, digest: &Digest) -> Option<&T> {
        self.parts.get(part_of(digest))?.get(digest)
    }

    fn insert(&mut self, digest: Digest, value: T) {
        if let Some(part) = self.parts.get_mut(part_of(&digest)) {
            self.count =
                self.count.saturating_add(usize::from(part.insert(digest, value).is_none()));
        }
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(part) = self.parts.get_mut(part_of(digest)) {
            self.count = self.count.saturating_sub(usize::from(part.remove(digest).is_some()));
        }
    }
}

fn part_of(digest: &Digest) -> usize {
    let [first, ..] = digest;
    usize::from(*first)
}

impl DedupIndex {
    /// The first event that any of these keys repeats, at `now`.
    pub(super) fn repeats(&self, keys: &[DedupKey], now: Timestamp) -> Option<EventId> {
        keys.iter().find_map(|key| {
            let seen = match key {
                DedupKey::Exact { key, .. } => self.exact.get(&key.to_be_bytes())?,
                DedupKey::Latest { subject, digest, .. } => {
                    let latest = self.latest.get(&subject.to_be_bytes())?;
                    (latest.digest == digest.to_be_bytes()).then_some(&latest.seen)?
                }
            };
            (seen.expires > now).then_some(seen.event)
        })
    }

    /// Remembers the keys of an event received at `at`, in place of what was known of them.
    pub(super) fn remember(&mut self, keys: &[DedupKey], event: EventId, at: Timestamp) {
        for key in keys {
            let seen = Seen { event, expires: at.plus(window(key)) };
            let (kind, place) = match key {
                DedupKey::Exact { key, .. } => {
                    let place = key.to_be_bytes();
                    self.exact.insert(place, seen);
                    (Kind::Exact, place)
                }
                DedupKey::Latest { subject, digest, .. } => {
                    let place = subject.to_be_bytes();
                    self.latest.insert(place, Latest { digest: digest.to_be_bytes(), seen });
                    (Kind::Latest, place)
                }
            };
            self.ends.push(window(key), seen.expires, (kind, place));
        }
        while self.len() > MAX_KEYS {
            if !self.drop_next() {
                break;
            }
            self.evicted = self.evicted.saturating_add(1);
        }
    }

    /// The exact keys of a repeat that are not known yet: it was recognised by another of its keys, and whoever sends
    /// it once more is to be recognised by these, too.
    pub(super) fn unknown(&self, keys: &[DedupKey], now: Timestamp) -> Vec<DedupKey> {
        let is_unknown = |key: &&DedupKey| match key {
            DedupKey::Exact { key, .. } => {
                self.exact.get(&key.to_be_bytes()).is_none_or(|seen| seen.expires <= now)
            }
            DedupKey::Latest { .. } => false,
        };
        keys.iter().filter(is_unknown).copied().collect()
    }

    /// Whether what is known of a key came from this event and its window is not over.
    pub(super) fn is_of(&self, key: &DedupKey, event: EventId, now: Timestamp) -> bool {
        let seen = match key {
            DedupKey::Exact { key, .. } => self.exact.get(&key.to_be_bytes()),
            DedupKey::Latest { subject, .. } => {
                self.latest.get(&subject.to_be_bytes()).map(|latest| &latest.seen)
            }
        };
        seen.is_some_and(|seen| seen.event == event && seen.expires > now)
    }

    /// Whether something later than `at` is known of a key's subject.
    pub(super) fn knows_later(&self, key: &DedupKey, at: Timestamp) -> bool {
        let DedupKey::Latest { subject, window, .. } = key else { return false };
        let latest = self.latest.get(&subject.to_be_bytes());
        latest.is_some_and(|latest| latest.seen.expires > at.plus(*window))
    }

    /// Forgets at most `most` entries whose window is over.
    pub(super) fn prune(&mut self, now: Timestamp, most: usize) {
        for _ in 0..most {
            if self.ends.next().is_none_or(|expires| expires > now) {
                return;
            }
            self.drop_next();
        }
    }

    /// Keys remembered.
    pub(super) fn len(&self) -> usize {
        self.exact.count.saturating_add(self.latest.count)
    }

    /// Keys that left before their window was over, since this was last asked.
    pub(super) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Drops the entry that ends first, unless it was renewed; false when there is none.
    fn drop_next(&mut self) -> bool {
        let Some((expires, (kind, place))) = self.ends.pop() else { return false };
        match kind {
            Kind::Exact => {
                if self.exact.get(&place).is_some_and(|seen| seen.expires <= expires) {
                    self.exact.remove(&place);
                }
            }
            Kind::Latest => {
                if self.latest.get(&place).is_some_and(|latest| latest.seen.expires <= expires) {
                    self.latest.remove(&place);
                }
            }
        }
        true
    }
}

/// How long a key is remembered.
pub(super) fn window(key: &DedupKey) -> std::time::Duration {
    match key {
        DedupKey::Exact { window, .. } | DedupKey::Latest { window, .. } => *window,
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
    fn a_newer_event_counts_even_if_the_clock_went_back() {
        let mut index = DedupIndex::default();
        let latest = |digest| [DedupKey::Latest { subject: 1, digest, window: WINDOW }];
        index.remember(&latest(10), id(1), at(1_000));
        index.remember(&latest(20), id(2), at(5));
        assert_eq!(index.repeats(&latest(20), at(6)), Some(id(2)));
        assert_eq!(index.repeats(&latest(10), at(6)), None, "A, B, A is three events");
    }

    #[test]
    fn what_is_known_of_a_key_belongs_to_the_event_that_brought_it_last() {
        let mut index = DedupIndex::default();
        let key = DedupKey::Exact { key: 1, window: WINDOW };
        index.remember(&[key], id(1), at(0));
        index.remember(&[key], id(2), at(20));
        assert!(!index.is_of(&key, id(1), at(25)));
        assert!(index.is_of(&key, id(2), at(25)));
        assert!(!index.is_of(&key, id(2), at(30)), "its window is over");
        let other = DedupKey::Exact { key: 2, window: WINDOW };
        let latest = DedupKey::Latest { subject: 3, digest: 4, window: WINDOW };
        assert_eq!(index.unknown(&[key, other, latest], at(25)), [other]);
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
        assert_eq!((index.len(), index.ends.next()), (0, None));
    }
}
