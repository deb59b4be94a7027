//! Where which event is spoken of: for each stretch of small records, which events it may be about.
//!
//! A list of a million events, or one of them by its id, is answered from the records on the disk; these digests, about
//! two per cent of the records' size, say which few stretches must be read.

use std::sync::Arc;

use crate::journal::record::Record;
use crate::journal::record::frame::{self, KIND_EVENT, KIND_SETTLED};
use crate::model::EventId;

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
    /// It records an event.
    Event(u64, EventId),
    /// It settles a delivery of the event of this sequence.
    Delivery(u64),
}

impl About {
    /// Whom a record is about.
    pub(super) fn of(record: &Record) -> Self {
        match record {
            Record::Event { sequence, id, .. } => Self::Event(*sequence, *id),
            Record::Settled { sequence, .. } => Self::Delivery(*sequence),
            Record::Dedup { .. }
            | Record::Name { .. }
            | Record::Note { .. }
            | Record::Rejected { .. }
            | Record::Dropped { .. }
            | Record::Commit { .. } => Self::Nothing,
        }
    }

    /// The same from a frame, of which no more is read: sequence and id come first.
    pub(super) fn of_frame(frame: &frame::Frame<'_>) -> Self {
        let Some((sequence, rest)) = frame.payload.split_first_chunk::<8>() else {
            return Self::Nothing;
        };
        let sequence = u64::from_be_bytes(*sequence);
        match (frame.kind, rest.first_chunk::<16>()) {
            (KIND_EVENT, Some(id)) => Self::Event(sequence, EventId::from_bytes(*id)),
            (KIND_SETTLED, _) => Self::Delivery(sequence),
            _ => Self::Nothing,
        }
    }
}

impl Block {
    /// A stretch that holds records about these.
    pub(super) fn new(at: At, commit: u64, about: &[About]) -> Self {
        let mut block = Self { at, commit, events: None, filter: Box::default() };
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
                About::Event(sequence, id) => {
                    block.set(of_sequence(*sequence));
                    block.set(of_id(*id));
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
    use crate::time::Timestamp;

    fn id(number: u8) -> EventId {
        EventId::new(Timestamp::EPOCH, [number; 10])
    }

    #[test]
    fn a_block_knows_whom_it_is_about_and_seldom_names_another() {
        let about: Vec<_> = (1_000..1_040).map(About::Delivery).collect();
        let event = About::Event(7, id(1));
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
    fn a_block_about_nothing_is_about_nobody() {
        let block = Block::new(At::File { start: 0, length: 0 }, 1, &[About::Nothing]);
        assert!(!block.may_concern(1) && !block.may_record(id(1)) && block.events.is_none());
    }
}
