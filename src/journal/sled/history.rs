//! Where which event is spoken of: for each stretch of small records, which events it may be about.
//!
//! A list of a million events, or one of them by its id, is answered from the records on the disk; these digests, about
//! two per cent of the records' size, say which few stretches must be read.

use std::sync::Arc;

use crate::journal::record::Record;
use crate::journal::record::frame::{self, KIND_EVENT, KIND_SETTLED};
use crate::model::EventId;
use crate::time::Timestamp;

/// Bits of the filter for each key, and how many of them a key sets: one stretch in 400 is read in vain.
const BITS_PER_KEY: usize = 12;
const PROBES: u64 = 4;

/// Every stretch of one generation, in the order in which the records were written.
pub(super) type Blocks = Vec<Arc<Block>>;

/// One stretch of small records.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) at: At,
    /// The commit of its first record.
    pub(super) commit: u64,
    /// The lowest and the highest sequence of the events that are recorded in it.
    pub(super) events: Option<(u64, u64)>,
    /// When the first and the last of them were received.
    received: Option<(Timestamp, Timestamp)>,
    filter: Box<[u64]>,
}

/// Where a stretch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Bytes of a sealed generation's file.
    File { start: u32, length: u32 },
    /// A value of the store.
    Pack { commit: u64, number: u32 },
}

/// Whom a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Nobody in particular.
    Nothing,
    /// It records an event, which was received then.
    Event(u64, EventId, Timestamp),
    /// It settles a delivery of the event of this sequence.
    Delivery(u64),
}

impl About {
    /// Whom a record is about.
    pub(super) fn of(record: &Record) -> Self {
        match record {
            Record::Event { sequence, id, received_at, .. } => {
                Self::Event(*sequence, *id, *received_at)
            }
            Record::Settled { sequence, .. } => Self::Delivery(*sequence),
            Record::Dedup { .. }
            | Record::Name { .. }
            | Record::Note { .. }
            | Record::Rejected { .. }
            | Record::Dropped { .. }
            | Record::Commit { .. } => Self::Nothing,
        }
    }

    /// The same from a frame, of which no more is read: sequence, id and moment come first.
    pub(super) fn of_frame(frame: &frame::Frame<'_>) -> Self {
        let Some((sequence, rest)) = frame.payload.split_first_chunk::<8>() else {
            return Self::Nothing;
        };
        let sequence = u64::from_be_bytes(*sequence);
        if frame.kind == KIND_SETTLED {
            return Self::Delivery(sequence);
        }
        let Some((id, rest)) = rest.split_first_chunk::<16>() else { return Self::Nothing };
        match (frame.kind, rest.first_chunk::<8>()) {
            (KIND_EVENT, Some(micros)) => {
                let received_at = Timestamp::from_micros(i64::from_be_bytes(*micros));
                Self::Event(sequence, EventId::from_bytes(*id), received_at)
            }
            _ => Self::Nothing,
        }
    }
}

impl Block {
    /// A stretch that holds records about these.
    pub(super) fn new(at: At, commit: u64, about: &[About]) -> Self {
        let mut block = Self { at, commit, events: None, received: None, filter: Box::default() };
        let keys = about.iter().map(|about| match about {
            About::Nothing => 0,
            About::Event(..) => 2,
            About::Delivery(_) => 1,
        });
        let bits = keys.sum::<usize>().saturating_mul(BITS_PER_KEY);
        block.filter = vec![0; bits.div_ceil(64)].into();
        for about in about {
            match about {
                About::Nothing => {}
                About::Event(sequence, id, received_at) => {
                    block.set(of_sequence(*sequence));
                    block.set(of_id(*id));
                    let (first, last) = block.received.unwrap_or((*received_at, *received_at));
                    block.received = Some((first.min(*received_at), last.max(*received_at)));
                    let (low, high) = block.events.unwrap_or((*sequence, *sequence));
                    block.events = Some((low.min(*sequence), high.max(*sequence)));
                }
                About::Delivery(sequence) => block.set(of_sequence(*sequence)),
            }
        }
        block
    }

    /// Whether it may speak of the event of this sequence.
    pub(super) fn may_concern(&self, sequence: u64) -> bool {
        self.has(of_sequence(sequence))
    }

    /// Whether it may record the event of this id.
    pub(super) fn may_record(&self, id: EventId) -> bool {
        self.events.is_some() && self.has(of_id(id))
    }

    /// Whether it may record an event that was received at or after the one moment and before the other.
    pub(super) fn may_be_of(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
        self.received.is_some_and(|(first, last)| {
            since.is_none_or(|since| last >= since) && until.is_none_or(|until| first < until)
        })
    }

    fn bits(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let count = u64::try_from(self.filter.len()).unwrap_or(0).saturating_mul(64).max(1);
        let step = (hash >> 32) | 1;
        (0..PROBES).map(move |probe| {
            let bit = hash.wrapping_add(probe.wrapping_mul(step)) % count;
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }

    fn set(&mut self, hash: u64) {
        for (word, bit) in self.bits(hash) {
            if let Some(word) = self.filter.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn has(&self, hash: u64) -> bool {
        self.bits(hash).all(|(word, bit)| self.filter.get(word).is_some_and(|word| word & bit != 0))
    }
}

fn of_sequence(sequence: u64) -> u64 {
    mix(sequence)
}

fn of_id(id: EventId) -> u64 {
    let value = u128::from_be_bytes(id.to_bytes());
    let (high, low) = (u64::try_from(value >> 64).unwrap_or(0), value & u128::from(u64::MAX));
    mix(high ^ mix(u64::try_from(low).unwrap_or(0)) ^ 0x6964)
}

/// The finalizer of `SplitMix64`: spreads neighbouring numbers over all bits.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> EventId {
        EventId::new(Timestamp::EPOCH, [number; 10])
    }

    #[test]
    fn a_block_knows_whom_it_is_about_and_seldom_names_another() {
        let about: Vec<_> = (1_000..1_040).map(About::Delivery).collect();
        let event = About::Event(7, id(1), Timestamp::from_secs(10));
        let block = Block::new(
            At::Pack { commit: 1, number: 0 },
            1,
            &[&about[..], &[event, About::Nothing]].concat(),
        );
        assert_eq!(block.events, Some((7, 7)));
        assert!((1_000..1_040).all(|sequence| block.may_concern(sequence)));
        assert!(block.may_concern(7) && block.may_record(id(1)));
        let wrong = (2_000..12_000).filter(|sequence| block.may_concern(*sequence)).count();
        assert!(wrong < 100, "{wrong} of 10,000");
        assert!((2..200).filter(|n| block.may_record(id(*n))).count() < 10);
    }

    #[test]
    fn a_block_knows_when_its_events_were_received() {
        let at = Timestamp::from_secs;
        let event = |second| About::Event(1, id(1), at(second));
        let of = |about: &[About]| Block::new(At::File { start: 0, length: 0 }, 1, about);
        let block = of(&[event(20), event(10), About::Delivery(9)]);
        let cases = [
            (None, None, true),
            (Some(20), None, true),
            (Some(21), None, false),
            (None, Some(11), true),
            (None, Some(10), false),
            (Some(12), Some(15), true),
        ];
        for (since, until, may) in cases {
            assert_eq!(block.may_be_of(since.map(at), until.map(at)), may, "{since:?} {until:?}");
        }
        assert!(!of(&[About::Delivery(1)]).may_be_of(None, None));
    }

    #[test]
    fn a_block_about_nothing_is_about_nobody() {
        let block = Block::new(At::File { start: 0, length: 0 }, 1, &[About::Nothing]);
        assert!(!block.may_concern(1) && !block.may_record(id(1)) && block.events.is_none());
    }
}
