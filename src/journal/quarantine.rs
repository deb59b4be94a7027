//! Which refused requests are kept: a pure state machine that every engine shares.
//!
//! Room is shared by source and cause: whoever takes most gives up its oldest first, so a flood of one kind evicts
//! itself and not the few that matter. What a sender was answered 200 for is held: it is never given up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Name, Refusal, Rejection, RejectionId, RejectionOutline};
use crate::rules::rate::{Bucket, Rate};
use crate::time::Timestamp;

/// Bytes that a rejection takes beside its own.
const OVERHEAD: u64 = 256;
/// Most rejections, whatever they weigh: each takes about 200 bytes of memory.
const MAX_KEPT: usize = 262_144;
/// Most of one source and cause that are kept in a second, for a time, and at once. What is held is not limited by this.
const RATE: Rate = Rate { interval: Duration::from_millis(20), burst: 500 };
/// The same while less than half of the room is taken. Then nothing is given up for what comes, and what comes may be
/// all that a provider sends while its secret is wrong.
pub(crate) const AMPLE: Rate = Rate { interval: Duration::from_millis(1), burst: 2_000 };

/// One that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept<P> {
    pub(super) source: Name,
    pub(super) cause: Refusal,
    pub(super) received_at: Timestamp,
    pub(super) client: IpAddr,
    pub(super) held: bool,
    /// Bytes of its content.
    pub(super) bytes: u64,
    pub(super) place: P,
}

/// Bytes of a rejection's body and header fields.
pub(super) fn weight(rejection: &Rejection) -> u64 {
    let bytes = rejection.body.len().saturating_add(rejection.headers.packed().len());
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Every rejection that is kept.
#[derive(Debug)]
pub(super) struct Quarantine<P> {
    kept: BTreeMap<RejectionId, Kept<P>>,
    groups: BTreeMap<(Name, Refusal), Group>,
    /// Of each source and cause, so that a flood of one kind does not use up what the others may keep.
    buckets: BTreeMap<(Name, Refusal), Buckets>,
    bytes: u64,
    limit: u64,
}

/// How many may still be kept: while there is ample room, and at any time.
#[derive(Debug)]
struct Buckets {
    ample: Bucket,
    scarce: Bucket,
}

/// Those of one source and cause that may be given up.
#[derive(Debug, Default)]
struct Group {
    ids: BTreeSet<RejectionId>,
    bytes: u64,
}

/// Why one is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotKept {
    /// There were too many of its source and cause lately.
    TooMany,
    /// There is no room, or all of it is held.
    Full,
}

impl<P> Quarantine<P> {
    /// An empty one for so many bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            kept: BTreeMap::new(),
            groups: BTreeMap::new(),
            buckets: BTreeMap::new(),
            bytes: 0,
            limit,
        }
    }

    /// From now on for so many bytes; what is too much goes when it is pruned.
    pub(super) fn limit_to(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Makes room for one more of so many bytes, and names what was given up for it. It is to be [`Self::put`] then.
    pub(super) fn admit(
        &mut self,
        (source, cause): (&Name, Refusal),
        held: bool,
        bytes: u64,
        now: Timestamp,
    ) -> Result<Vec<(RejectionId, Kept<P>)>, NotKept> {
        let weight = bytes.saturating_add(OVERHEAD);
        let held_bytes =
            self.bytes.saturating_sub(self.groups.values().map(|group| group.bytes).sum());
        if weight.saturating_add(held_bytes) > self.limit {
            return Err(NotKept::Full);
        }
        let is_ample = self.bytes < self.limit / 2 && self.kept.len() < MAX_KEPT / 2;
        if !held {
            let buckets = self.buckets.entry((source.clone(), cause));
            let buckets = buckets.or_insert_with(|| Buckets::full(now));
            if !buckets.take(is_ample, now) {
                return Err(NotKept::TooMany);
            }
        }
        let mut given_up = Vec::new();
        while self.bytes.saturating_add(weight) > self.limit || self.kept.len() >= MAX_KEPT {
            let Some(evicted) = self.evict() else { return Err(NotKept::Full) };
            given_up.push(evicted);
        }
        Ok(given_up)
    }

    /// What must go for the limit, and what is not held and was received before `oldest`.
    pub(super) fn prune(&mut self, oldest: Timestamp) -> Vec<(RejectionId, Kept<P>)> {
        let over = |(_, kept): &(&RejectionId, &Kept<P>)| !kept.held && kept.received_at < oldest;
        let over: Vec<_> = self.kept.iter().filter(over).map(|(id, _)| *id).take(1_000).collect();
        let mut gone: Vec<_> =
            over.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect();
        while self.bytes > self.limit {
            let Some(evicted) = self.evict() else { break };
            gone.push(evicted);
        }
        gone
    }

    /// Gives up the oldest of the group that takes most.
    fn evict(&mut self) -> Option<(RejectionId, Kept<P>)> {
        let largest = self.groups.values().max_by_key(|group| group.bytes)?;
        let id = *largest.ids.first()?;
        Some((id, self.remove(id)?))
    }

    /// Takes one up. One of the same id is replaced: it was written again.
    pub(super) fn put(&mut self, id: RejectionId, kept: Kept<P>) -> Option<Kept<P>> {
        let old = self.remove(id);
        let weight = kept.bytes.saturating_add(OVERHEAD);
        self.bytes = self.bytes.saturating_add(weight);
        if !kept.held {
            let group = self.groups.entry((kept.source.clone(), kept.cause)).or_default();
            group.ids.insert(id);
            group.bytes = group.bytes.saturating_add(weight);
        }
        self.kept.insert(id, kept);
        old
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, id: RejectionId) -> Option<Kept<P>> {
        let kept = self.kept.remove(&id)?;
        let weight = kept.bytes.saturating_add(OVERHEAD);
        self.bytes = self.bytes.saturating_sub(weight);
        let key = (kept.source.clone(), kept.cause);
        if let Some(group) = self.groups.get_mut(&key).filter(|_| !kept.held) {
            group.ids.remove(&id);
            group.bytes = group.bytes.saturating_sub(weight);
            if group.ids.is_empty() {
                self.groups.remove(&key);
            }
        }
        Some(kept)
    }

    /// One that is kept.
    pub(super) fn get(&self, id: RejectionId) -> Option<&Kept<P>> {
        self.kept.get(&id)
    }

    /// One that is kept, to be moved.
    pub(super) fn get_mut(&mut self, id: RejectionId) -> Option<&mut Kept<P>> {
        self.kept.get_mut(&id)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RejectionId, &Kept<P>)> {
        self.kept.iter().map(|(id, kept)| (*id, kept))
    }

    /// Those before an id, the latest first.
    pub(super) fn list(
        &self,
        before: Option<RejectionId>,
        fits: impl Fn(&RejectionOutline) -> bool,
        limit: usize,
    ) -> Vec<RejectionOutline> {
        let upper = before.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let earlier = self.kept.range((std::ops::Bound::Unbounded, upper)).rev();
        earlier.map(|(id, kept)| kept.outline(*id)).filter(fits).take(limit).collect()
    }

    /// How many each source has.
    pub(super) fn counts(&self) -> BTreeMap<Name, u64> {
        let mut counts: BTreeMap<Name, u64> = BTreeMap::new();
        for kept in self.kept.values() {
            let count = counts.entry(kept.source.clone()).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }
}

impl Buckets {
    fn full(now: Timestamp) -> Self {
        Self { ample: Bucket::full(AMPLE, now), scarce: Bucket::full(RATE, now) }
    }

    /// Whether one more may be kept.
    fn take(&mut self, is_ample: bool, now: Timestamp) -> bool {
        let bucket = if is_ample { &mut self.ample } else { &mut self.scarce };
        let may = bucket.room(now) > 0;
        if may {
            bucket.take(now);
        }
        may
    }
}

impl<P> Kept<P> {
    /// A rejection as it is kept; its own bytes are at `place`.
    pub(super) fn of(rejection: &Rejection, place: P) -> Self {
        let Rejection { source, cause, received_at, client, held, .. } = rejection;
        Self {
            source: source.clone(),
            cause: *cause,
            received_at: *received_at,
            client: *client,
            held: *held,
            bytes: weight(rejection),
            place,
        }
    }

    /// What a list shows of it.
    pub(super) fn outline(&self, id: RejectionId) -> RejectionOutline {
        RejectionOutline {
            id,
            source: self.source.clone(),
            cause: self.cause,
            received_at: self.received_at,
            client: self.client,
            held: self.held,
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn id(number: u8) -> RejectionId {
        RejectionId::new(at(i64::from(number)), [number; 10])
    }

    fn kept(source: &str, cause: Refusal, held: bool) -> Kept<()> {
        Kept {
            source: Name::parse(source).unwrap(),
            cause,
            received_at: at(0),
            client: Ipv4Addr::LOCALHOST.into(),
            held,
            bytes: 744,
            place: (),
        }
    }

    fn put(quarantine: &mut Quarantine<()>, number: u8, kept: Kept<()>) -> Result<usize, NotKept> {
        let evicted =
            quarantine.admit((&kept.source, kept.cause), kept.held, kept.bytes, at(1_000))?;
        quarantine.put(id(number), kept);
        Ok(evicted.len())
    }

    #[test]
    fn a_flood_evicts_itself_and_not_the_few_of_another_cause_or_source() {
        let mut quarantine = Quarantine::new(10_000);
        put(&mut quarantine, 1, kept("a", Refusal::NotAllowed, false)).unwrap();
        put(&mut quarantine, 2, kept("b", Refusal::Unverified, false)).unwrap();
        for number in 10..200 {
            put(&mut quarantine, number, kept("a", Refusal::Unverified, false)).unwrap();
        }
        assert!(quarantine.get(id(1)).is_some() && quarantine.get(id(2)).is_some());
        assert_eq!(quarantine.iter().count(), 10);
        assert!(quarantine.get(id(199)).is_some() && quarantine.get(id(10)).is_none());
        let latest = quarantine.list(Some(id(199)), |it| it.cause == Refusal::Unverified, 2);
        assert_eq!(latest.iter().map(|it| it.id).collect::<Vec<_>>(), [id(198), id(197)]);
    }

    #[test]
    fn what_is_held_is_never_given_up_and_refused_when_there_is_no_room() {
        let mut quarantine = Quarantine::new(3_000);
        for number in 1..=3 {
            put(&mut quarantine, number, kept("a", Refusal::Unverified, true)).unwrap();
        }
        let held = kept("a", Refusal::Unverified, true);
        assert_eq!(put(&mut quarantine, 4, held), Err(NotKept::Full));
        assert_eq!(quarantine.prune(at(5_000)).len(), 0);
        quarantine.remove(id(1)).unwrap();
        put(&mut quarantine, 5, kept("b", Refusal::Malformed, false)).unwrap();
        let evicted = put(&mut quarantine, 6, kept("a", Refusal::Unverified, true));
        assert_eq!(evicted, Ok(1), "what is not held makes room");
    }

    /// How many of a thousand that come at once are kept.
    fn kept_of_many(quarantine: &mut Quarantine<()>, source: &str, cause: Refusal) -> usize {
        let name = Name::parse(source).unwrap();
        (0..5_000).filter(|_| quarantine.admit((&name, cause), false, 1, at(1_000)).is_ok()).count()
    }

    #[test]
    fn a_flood_of_one_cause_is_kept_in_part_and_leaves_the_others_their_share() {
        // Half of the room is held by something else.
        let mut quarantine = Quarantine::new(2_000_000);
        quarantine.put(id(1), Kept { bytes: 1_000_000, ..kept("z", Refusal::Unverified, true) });
        let few = usize::try_from(RATE.burst).unwrap();
        assert_eq!(kept_of_many(&mut quarantine, "a", Refusal::Unverified), few);
        assert_eq!(kept_of_many(&mut quarantine, "a", Refusal::NotAllowed), few, "another cause");
        assert_eq!(kept_of_many(&mut quarantine, "b", Refusal::Unverified), few, "another source");
        let name = Name::parse("a").unwrap();
        let held = quarantine.admit((&name, Refusal::Unverified), true, 1, at(1_000));
        assert!(held.is_ok(), "what is held is not limited");
    }

    #[test]
    fn while_there_is_ample_room_a_busy_source_is_kept_whole() {
        let mut quarantine = Quarantine::new(10_000_000);
        let mut number = 0_u64;
        // 800 a second for half a minute, until half of the room is taken.
        for millis in (1_000_000..1_030_000).step_by(10) {
            for _ in 0..8 {
                let kept = Kept { bytes: 44, ..kept("a", Refusal::Unverified, false) };
                let now = Timestamp::from_millis(millis);
                let name = (&kept.source, kept.cause);
                if quarantine.admit(name, false, kept.bytes, now).is_ok() {
                    number += 1;
                    let mut entropy = [0; 10];
                    entropy[..8].copy_from_slice(&number.to_be_bytes());
                    quarantine.put(RejectionId::new(now, entropy), kept);
                }
            }
        }
        let half = 5_000_000 / (44 + OVERHEAD);
        // From then on as many as at any time: for some thirteen seconds here.
        assert!((half..half + 1_300).contains(&number), "{number} of 24000");
    }

    #[test]
    fn what_is_old_goes() {
        let mut quarantine = Quarantine::new(u64::MAX);
        quarantine.put(id(1), kept("a", Refusal::Malformed, false));
        assert_eq!(quarantine.prune(at(0)).len(), 0);
        assert_eq!(quarantine.prune(at(1)).len(), 1);
        assert_eq!((quarantine.bytes, quarantine.groups.len()), (0, 0));
    }
}
