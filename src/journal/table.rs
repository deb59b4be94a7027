//! Pending events by sequence, in little memory: runs of neighbours in sorted vectors, without the empty buckets of a
//! hash table. A million events of 72 bytes take about 80 MB here.

use std::collections::BTreeMap;

/// How many neighbouring sequences share a run.
const RUN: u64 = 64;

/// A map from sequence to event.
#[derive(Debug)]
pub(super) struct Table<T> {
    runs: BTreeMap<u64, Run<T>>,
}

#[derive(Debug)]
struct Run<T> {
    /// The place of each entry in its run, ascending.
    places: Vec<u8>,
    entries: Vec<T>,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self { runs: BTreeMap::new() }
    }

    /// Puts an entry in, in place of an earlier one of the same sequence.
    pub(super) fn insert(&mut self, sequence: u64, entry: T) -> Option<T> {
        let (number, place) = split(sequence);
        // One that begins with its first place is mostly filled one by one.
        let room = if place == 0 { usize::try_from(RUN).unwrap_or(0) } else { 0 };
        let new = || Run { places: Vec::with_capacity(room), entries: Vec::with_capacity(room) };
        let run = self.runs.entry(number).or_insert_with(new);
        match run.places.binary_search(&place) {
            Ok(at) => run.entries.get_mut(at).map(|old| std::mem::replace(old, entry)),
            Err(at) => {
                run.places.insert(at, place);
                run.entries.insert(at, entry);
                None
            }
        }
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&T> {
        let (number, place) = split(sequence);
        let run = self.runs.get(&number)?;
        run.entries.get(run.places.binary_search(&place).ok()?)
    }

    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut T> {
        let (number, place) = split(sequence);
        let run = self.runs.get_mut(&number)?;
        let at = run.places.binary_search(&place).ok()?;
        run.entries.get_mut(at)
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<T> {
        let (number, place) = split(sequence);
        let run = self.runs.get_mut(&number)?;
        let at = run.places.binary_search(&place).ok()?;
        run.places.remove(at);
        let entry = run.entries.remove(at);
        if run.entries.is_empty() {
            self.runs.remove(&number);
        } else if run.entries.len() <= run.entries.capacity() / 4 {
            // The newest is being filled.
            let is_newest = self.runs.last_key_value().is_some_and(|(last, _)| *last == number);
            if let Some(run) = self.runs.get_mut(&number).filter(|_| !is_newest) {
                run.entries.shrink_to_fit();
                run.places.shrink_to_fit();
            }
        }
        Some(entry)
    }

    /// Keeps only what fits.
    pub(super) fn retain(&mut self, mut fits: impl FnMut(&T) -> bool) {
        let not = |(sequence, entry): (u64, &T)| (!fits(entry)).then_some(sequence);
        let gone: Vec<_> = self.iter().filter_map(not).collect();
        for sequence in gone {
            self.remove(sequence);
        }
    }

    /// Every entry, by sequence.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.runs.iter().flat_map(|(number, run)| entries(*number, run))
    }

    /// Every entry before this sequence, the highest first.
    pub(super) fn iter_back(&self, before: u64) -> impl Iterator<Item = (u64, &T)> {
        let runs = self.runs.range(..=before / RUN).rev();
        let entries = runs.flat_map(|(number, run)| entries(*number, run).rev());
        entries.skip_while(move |(sequence, _)| *sequence >= before)
    }

    /// Every entry from this sequence on, by sequence.
    pub(super) fn iter_from(&self, sequence: u64) -> impl Iterator<Item = (u64, &T)> {
        let from = sequence / RUN;
        let runs = self.runs.range(from..).flat_map(|(number, run)| entries(*number, run));
        runs.skip_while(move |(other, _)| *other < sequence)
    }
}

fn entries<T>(number: u64, run: &Run<T>) -> impl DoubleEndedIterator<Item = (u64, &T)> {
    let sequence = move |place: &u8| number.saturating_mul(RUN).saturating_add(u64::from(*place));
    run.places.iter().map(sequence).zip(&run.entries)
}

fn split(sequence: u64) -> (u64, u8) {
    // The remainder is below 64.
    (sequence / RUN, u8::try_from(sequence % RUN).unwrap_or(u8::MAX))
}

/// A set of sequences: one bit each where they stand close together.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    blocks: BTreeMap<u64, u64>,
}

impl Sequences {
    pub(super) fn insert(&mut self, sequence: u64) {
        *self.blocks.entry(sequence / RUN).or_default() |= bit(sequence);
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let block = sequence / RUN;
        if let Some(bits) = self.blocks.get_mut(&block) {
            *bits &= !bit(sequence);
            if *bits == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    /// The lowest one.
    pub(super) fn first(&self) -> Option<u64> {
        let (block, bits) = self.blocks.first_key_value()?;
        Some(block.saturating_mul(RUN).saturating_add(u64::from(bits.trailing_zeros())))
    }
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % RUN)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_that_few_are_left_of_gives_its_room_back_unless_it_is_being_filled() {
        let mut table = Table::new();
        for sequence in 0..RUN + 8 {
            table.insert(sequence, sequence);
        }
        for sequence in (4..RUN).chain(RUN..RUN + 7) {
            table.remove(sequence);
        }
        let room: Vec<_> = table.runs.values().map(|run| run.entries.capacity()).collect();
        assert_eq!(room, [4, 64]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in proptest::collection::vec((0u64..400, any::<bool>()), 0..400)) {
            let (mut sequences, mut set) = (Sequences::default(), BTreeSet::new());
            for (sequence, insert) in steps {
                if insert {
                    sequences.insert(sequence);
                    set.insert(sequence);
                } else {
                    sequences.remove(sequence);
                    set.remove(&sequence);
                }
                prop_assert_eq!(sequences.first(), set.first().copied());
            }
        }

        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec((0u64..400, any::<bool>()), 0..400)) {
            let (mut table, mut map) = (Table::new(), BTreeMap::new());
            for (sequence, insert) in steps {
                if insert {
                    prop_assert_eq!(table.insert(sequence, sequence), map.insert(sequence, sequence));
                } else {
                    prop_assert_eq!(table.remove(sequence), map.remove(&sequence));
                }
                prop_assert_eq!(table.get(sequence), map.get(&sequence));
            }
            let all: Vec<_> = table.iter().map(|(sequence, _)| sequence).collect();
            prop_assert_eq!(all, map.keys().copied().collect::<Vec<_>>());
            let some: Vec<_> = table.iter_from(130).map(|(sequence, _)| sequence).collect();
            prop_assert_eq!(some, map.range(130..).map(|(s, _)| *s).collect::<Vec<_>>());
            let back: Vec<_> = table.iter_back(130).map(|(sequence, _)| sequence).collect();
            prop_assert_eq!(back, map.range(..130).rev().map(|(s, _)| *s).collect::<Vec<_>>());
        }
    }
}
