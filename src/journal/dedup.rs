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

/// Most ends that an event looks at to make room for its keys: it may find some that were put off, and then there are a few
/// keys too many for a moment.
const MOST_LOOKS: usize = 64;

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
#[derive(Debug)]
pub(super) struct DedupIndex {
    exact: Parts<Seen>,
    latest: Parts<Latest>,
    /// One for each entry: when it may end. One that was renewed since has a later date in its map.
    ends: Ends<(Kind, Digest)>,
    most: usize,
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

/// What became of the entry that was to end first.
enum Next {
    Dropped,
    /// It was renewed, and ends later.
    Renewed,
}

impl Default for DedupIndex {
    fn default() -> Self {
        Self::of(MAX_KEYS)
    }
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

    /// Whether the digest is new.
    fn insert(&mut self, digest: Digest, value: T) -> bool {
        let part = self.parts.get_mut(part_of(&digest));
        let new = part.is_some_and(|part| part.insert(digest, value).is_none());
        self.count = self.count.saturating_add(usize::from(new));
        new
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
    /// Remembers at most so many keys at once.
    fn of(most: usize) -> Self {
        let (exact, latest) = (Parts::default(), Parts::default());
        Self { exact, latest, ends: Ends::default(), most, evicted: 0 }
    }

    /// Looks keys up that are asked for next, and says how many are known. Entries are nowhere near each other, and the
    /// processor waits for the memory of several at once only if it is asked for them one right after the other.
    pub(super) fn fetch<'a>(&self, keys: impl Iterator<Item = &'a DedupKey>) -> usize {
        let is_known = |key: &&DedupKey| match key {
            DedupKey::Exact { key, .. } => self.exact.get(&key.to_be_bytes()).is_some(),
            DedupKey::Latest { subject, .. } => self.latest.get(&subject.to_be_bytes()).is_some(),
        };
        keys.filter(is_known).count()
    }

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
            let (new, kind, place) = match key {
                DedupKey::Exact { key, .. } => {
                    let place = key.to_be_bytes();
                    (self.exact.insert(place, seen), Kind::Exact, place)
                }
                DedupKey::Latest { subject, digest, .. } => {
                    let place = subject.to_be_bytes();
                    let latest = Latest { digest: digest.to_be_bytes(), seen };
                    (self.latest.insert(place, latest), Kind::Latest, place)
                }
            };
            // The end of one that is renewed is looked at again when it comes: a subject may change without an end.
            if new {
                self.ends.push(window(key), seen.expires, (kind, place));
            }
        }
        for _ in 0..MOST_LOOKS {
            if self.len() <= self.most {
                break;
            }
            if let Some(Next::Dropped) = self.drop_next() {
                self.evicted = self.evicted.saturating_add(1);
            }
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

    /// Drops the entry that ends first, unless it was renewed; `None` when there is none.
    fn drop_next(&mut self) -> Option<Next> {
        let (end, (kind, place)) = self.ends.pop()?;
        let seen = match kind {
            Kind::Exact => self.exact.get(&place),
            Kind::Latest => self.latest.get(&place).map(|latest| &latest.seen),
        };
        match seen.map(|seen| seen.expires) {
            Some(expires) if expires > end => {
                self.ends.put_off(expires, (kind, place));
                return Some(Next::Renewed);
            }
            Some(_) | None => {}
        }
        match kind {
            Kind::Exact => self.exact.remove(&place),
            Kind::Latest => self.latest.remove(&place),
        }
        Some(Next::Dropped)
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

    #[test]
    fn a_subject_that_changes_all_the_time_takes_no_more_than_one_that_does_not() {
        let mut index = DedupIndex::default();
        let latest = |digest| [DedupKey::Latest { subject: 1, digest, window: WINDOW }];
        for second in 0..1_000u16 {
            index.remember(&latest(second.into()), id(1), at(second.into()));
            index.prune(at(second.into()), 3);
            assert_eq!((index.len(), index.ends.len()), (1, 1));
        }
        index.prune(at(1_008), 3);
        assert_eq!(index.len(), 1);
        index.prune(at(1_009), 3);
        assert_eq!((index.len(), index.ends.len()), (0, 0));
    }

    #[test]
    fn the_one_that_ends_first_leaves_when_there_are_too_many_and_only_what_left_is_counted() {
        let mut index = DedupIndex::of(3);
        let key = |key| [DedupKey::Exact { key, window: WINDOW }];
        for (number, second) in [(1, 0), (2, 1), (3, 2), (1, 3)] {
            index.remember(&key(number), id(1), at(second));
        }
        assert_eq!((index.len(), index.take_evicted()), (3, 0));
        index.remember(&key(4), id(1), at(4));
        let known = [1, 2, 3, 4].map(|number| index.repeats(&key(number), at(5)).is_some());
        assert_eq!(known, [true, false, true, true], "1 was renewed");
        assert_eq!((index.len(), index.take_evicted(), index.ends.len()), (3, 1, 3));
    }
}
