//! What ends next, of many things that each have their own length.
//!
//! Things of one length end in the order in which they came, so they stand in a queue, and whoever comes or goes touches
//! one end of it. A heap would touch places far apart, and move all of itself when it grows. The few that come out of
//! order, after a start, when the clock was set back or because their end was put off, stand in one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::time::Timestamp;

/// Most queues; things of further lengths stand in the heap.
const MOST: usize = 32;
/// Things in one piece of a queue. A queue grows by pieces, and nothing is moved.
const PIECE: usize = 1024;

/// Things by when they end.
#[derive(Debug)]
pub(super) struct Ends<T> {
    /// By length. A configuration has few; a journal that is read in may have any number.
    queues: Vec<(Duration, Queue<Ending<T>>)>,
    late: BinaryHeap<Reverse<(Timestamp, T)>>,
}

/// A thing and when it ends. The moment is in bytes, so that nothing is filled up: seven bytes of each, of a million.
#[derive(Clone, Copy, Debug)]
struct Ending<T> {
    micros: [u8; 8],
    thing: T,
}

/// First in, first out.
#[derive(Debug)]
struct Queue<T>(VecDeque<VecDeque<T>>);

/// Where the next one is.
#[derive(Clone, Copy, Debug)]
enum At {
    Queue(usize),
    Late,
}

impl<T: Ord> Default for Ends<T> {
    fn default() -> Self {
        Self { queues: Vec::new(), late: BinaryHeap::new() }
    }
}

impl<T: Ord> Ends<T> {
    /// Adds a thing of this length that ends then.
    pub(super) fn push(&mut self, length: Duration, end: Timestamp, thing: T) {
        if self.queues.iter().all(|(of, _)| *of != length) && self.queues.len() < MOST {
            self.queues.push((length, Queue(VecDeque::new())));
        }
        match self.queues.iter_mut().find(|(of, _)| *of == length) {
            Some((_, queue)) if queue.last().is_none_or(|last| last.end() <= end) => {
                queue.push(Ending { micros: end.as_micros().to_be_bytes(), thing });
            }
            Some(_) | None => self.put_off(end, thing),
        }
    }

    /// Adds a thing that has been taken and does not end before then.
    pub(super) fn put_off(&mut self, end: Timestamp, thing: T) {
        self.late.push(Reverse((end, thing)));
    }

    /// When the next one ends.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.first().map(|(end, _)| end)
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<(Timestamp, T)> {
        match self.first()?.1 {
            At::Late => self.late.pop().map(|Reverse(thing)| thing),
            At::Queue(at) => {
                let (_, queue) = self.queues.get_mut(at)?;
                let ending = queue.pop();
                if queue.last().is_none() {
                    self.queues.swap_remove(at);
                }
                ending.map(|ending| (ending.end(), ending.thing))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let queued = |(_, queue): &(_, Queue<_>)| queue.0.iter().map(VecDeque::len).sum::<usize>();
        self.queues.iter().map(queued).sum::<usize>() + self.late.len()
    }

    fn first(&self) -> Option<(Timestamp, At)> {
        let queues = self.queues.iter().enumerate();
        let queues =
            queues.filter_map(|(at, (_, queue))| Some((queue.first()?.end(), At::Queue(at))));
        let late = self.late.peek().map(|Reverse((end, _))| (*end, At::Late));
        queues.chain(late).min_by_key(|(end, _)| *end)
    }
}

impl<T> Ending<T> {
    fn end(&self) -> Timestamp {
        Timestamp::from_micros(i64::from_be_bytes(self.micros))
    }
}

impl<T> Queue<T> {
    fn push(&mut self, thing: T) {
        match self.0.back_mut() {
            Some(piece) if piece.len() < PIECE => piece.push_back(thing),
            Some(_) | None => {
                let mut piece = VecDeque::with_capacity(PIECE);
                piece.push_back(thing);
                self.0.push_back(piece);
            }
        }
    }

    fn pop(&mut self) -> Option<T> {
        let piece = self.0.front_mut()?;
        let thing = piece.pop_front();
        if piece.is_empty() {
            self.0.pop_front();
        }
        thing
    }

    fn first(&self) -> Option<&T> {
        self.0.front()?.front()
    }

    fn last(&self) -> Option<&T> {
        self.0.back()?.back()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_ends_first_comes_first(steps in proptest::collection::vec((0u64..4, 0i64..100, any::<bool>()), 0..6_000)) {
            let (mut ends, mut heap) = (Ends::default(), BinaryHeap::new());
            for (number, (length, moment, pops)) in steps.into_iter().enumerate() {
                // Mostly as time goes on, with a clock that is set back now and then.
                let at = i64::try_from(number).unwrap() - moment * i64::from(moment % 9 == 0);
                let length = Duration::from_secs(length * 50);
                let end = Timestamp::from_secs(at).plus(length);
                ends.push(length, end, number);
                heap.push(Reverse(end));
                if pops {
                    prop_assert_eq!(ends.next(), heap.peek().map(|Reverse(end)| *end));
                    prop_assert_eq!(ends.pop().map(|(end, _)| end), heap.pop().map(|Reverse(end)| end));
                }
            }
            while let Some(Reverse(end)) = heap.pop() {
                prop_assert_eq!(ends.pop().map(|(end, _)| end), Some(end));
            }
            prop_assert!(ends.pop().is_none() && ends.queues.is_empty());
        }
    }

    #[test]
    fn however_many_lengths_there_are_there_are_few_queues() {
        let mut ends = Ends::default();
        for number in 0..1_000 {
            ends.push(Duration::from_secs(number), Timestamp::from_secs(5), number);
        }
        assert_eq!((ends.queues.len(), ends.len()), (MOST, 1_000));
        assert_eq!(std::iter::from_fn(|| ends.pop()).count(), 1_000);
    }

    #[test]
    fn a_key_and_its_end_take_25_bytes() {
        assert_eq!(size_of::<Ending<(bool, [u8; 16])>>(), 25);
    }

    #[test]
    fn things_of_one_length_stand_in_pieces_of_one_queue() {
        let mut ends = Ends::default();
        for number in 0..3 * PIECE {
            let end = Timestamp::from_secs(i64::try_from(number / 7).unwrap());
            ends.push(Duration::ZERO, end, number);
        }
        assert!(ends.late.is_empty());
        assert_eq!((ends.queues.len(), ends.queues[0].1.0.len()), (1, 3));
        let all: Vec<_> = std::iter::from_fn(|| ends.pop().map(|(_, number)| number)).collect();
        assert!(all.iter().copied().eq(0..3 * PIECE), "in the order in which they came");
    }
}
