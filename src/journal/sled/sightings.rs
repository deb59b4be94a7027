//! Where frames were found in the files of a generation, brought into the order in which they were written.
//!
//! They are found in long ascending runs: the engine writes one segment after the other, and seldom reuses one. The runs are
//! merged one by one, and grow by pieces, so that nobody waits while something large is sorted or moved.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::iter::Flatten;
use std::vec::IntoIter;

use crate::journal::record::frame::Mark;

/// Frames in one piece of a run.
const PIECE: usize = 1024;

/// A frame where it was found; the engine may have written it more than once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting<T> {
    pub(super) mark: Mark,
    pub(super) at: u32,
    pub(super) checksum: u32,
    pub(super) rest: T,
}

/// Frames as they are found.
#[derive(Debug)]
pub(super) struct Sightings<T> {
    runs: Vec<Vec<Vec<Sighting<T>>>>,
    count: usize,
}

/// Every mark once, ascending, at its first place.
#[derive(Debug)]
pub(super) struct FirstOfEach<T> {
    merge: Merge<T>,
    last: Option<(Mark, u32)>,
    is_ambiguous: bool,
}

/// Every run, as one.
#[derive(Debug)]
struct Merge<T> {
    runs: Vec<Flatten<IntoIter<Vec<Sighting<T>>>>>,
    heads: BinaryHeap<Reverse<Head<T>>>,
}

/// The next of a run.
#[derive(Debug)]
struct Head<T> {
    sighting: Sighting<T>,
    run: usize,
}

impl<T> Default for Sightings<T> {
    fn default() -> Self {
        Self { runs: Vec::new(), count: 0 }
    }
}

impl<T> Sightings<T> {
    /// Adds one more.
    pub(super) fn push(&mut self, sighting: Sighting<T>) {
        self.count = self.count.saturating_add(1);
        let run = self.runs.last_mut().filter(|run| {
            let last = run.last().and_then(|piece| piece.last());
            last.is_some_and(|last| last.place() <= sighting.place())
        });
        let piece = run.and_then(|run| {
            if run.last().is_some_and(|piece| piece.len() == PIECE) {
                run.push(Vec::with_capacity(PIECE));
            }
            run.last_mut()
        });
        match piece {
            Some(piece) => piece.push(sighting),
            None => self.runs.push(vec![vec![sighting]]),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Every mark once.
    pub(super) fn first_of_each(self) -> FirstOfEach<T> {
        let mut runs: Vec<_> = self.runs.into_iter().map(|run| run.into_iter().flatten()).collect();
        let heads = runs.iter_mut().enumerate().filter_map(|(run, sightings)| {
            Some(Reverse(Head { sighting: sightings.next()?, run }))
        });
        let heads = heads.collect();
        FirstOfEach { merge: Merge { runs, heads }, last: None, is_ambiguous: false }
    }
}

impl<T> FirstOfEach<T> {
    /// The next one that counts.
    pub(super) fn next(&mut self, mut counts: impl FnMut(Mark) -> bool) -> Option<Sighting<T>> {
        loop {
            let sighting = self.merge.next()?;
            match self.last {
                Some((mark, checksum)) if mark == sighting.mark => {
                    self.is_ambiguous |= checksum != sighting.checksum;
                }
                Some(_) | None if counts(sighting.mark) => {
                    self.last = Some((sighting.mark, sighting.checksum));
                    return Some(sighting);
                }
                Some(_) | None => {}
            }
        }
    }

    /// Whether a mark that counts has copies that differ, as far as it was looked through.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }
}

impl<T> Iterator for Merge<T> {
    type Item = Sighting<T>;

    fn next(&mut self) -> Option<Sighting<T>> {
        let mut first = self.heads.peek_mut()?;
        let run = first.0.run;
        match self.runs.get_mut(run).and_then(Iterator::next) {
            Some(next) => Some(std::mem::replace(&mut first.0.sighting, next)),
            None => Some(PeekMut::pop(first).0.sighting),
        }
    }
}

impl<T> Sighting<T> {
    fn place(&self) -> (Mark, u32) {
        (self.mark, self.at)
    }
}

impl<T> PartialEq for Head<T> {
    fn eq(&self, other: &Self) -> bool {
        self.sighting.place() == other.sighting.place()
    }
}

impl<T> Eq for Head<T> {}

impl<T> PartialOrd for Head<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Head<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.sighting.place().cmp(&other.sighting.place())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn found(frames: &[(u64, u32)]) -> Sightings<usize> {
        let mut sightings = Sightings::default();
        for (number, (commit, checksum)) in frames.iter().enumerate() {
            let mark = Mark { commit: commit / 8, ordinal: u32::try_from(commit % 8).unwrap() };
            let at = u32::try_from(number).unwrap();
            sightings.push(Sighting { mark, at, checksum: *checksum, rest: number });
        }
        sightings
    }

    proptest! {
        #[test]
        fn each_is_found_once_at_its_first_place(
            frames in proptest::collection::vec((0u64..80, 0u32..3), 0..300),
            unfinished in 0u64..12,
        ) {
            let sightings = found(&frames);
            prop_assert_eq!(sightings.len(), frames.len());
            let mut firsts = sightings.first_of_each();
            let next = || firsts.next(|mark| mark.commit != unfinished);
            let all: Vec<_> = std::iter::from_fn(next).map(|it| (it.mark.commit * 8 + u64::from(it.mark.ordinal), it.rest)).collect();
            let (mut expected, mut differ) = (BTreeMap::new(), false);
            for (number, (commit, checksum)) in frames.iter().enumerate() {
                if commit / 8 != unfinished {
                    let (_, first) = *expected.entry(*commit).or_insert((number, *checksum));
                    differ |= first != *checksum;
                }
            }
            let expected: Vec<_> = expected.into_iter().map(|(mark, (number, _))| (mark, number)).collect();
            prop_assert_eq!(all, expected);
            prop_assert_eq!(firsts.is_ambiguous(), differ);
        }
    }

    #[test]
    fn what_ascends_is_one_run_in_pieces() {
        let count = 3 * PIECE + 1;
        let ascending: Vec<_> = (0..count).map(|it| (u64::try_from(it).unwrap(), 0)).collect();
        let mut sightings = found(&ascending);
        assert_eq!((sightings.runs.len(), sightings.runs[0].len()), (1, 4));
        let again = Mark { commit: 0, ordinal: 0 };
        sightings.push(Sighting { mark: again, at: u32::MAX, checksum: 0, rest: 0 });
        assert_eq!((sightings.runs.len(), sightings.len()), (2, count + 1));
        let mut firsts = sightings.first_of_each();
        assert_eq!(std::iter::from_fn(|| firsts.next(|_| true)).count(), count);
    }
}
