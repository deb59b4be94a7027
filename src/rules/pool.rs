//! How the attempts that may be made at once are shared between targets.
//!
//! Half of the pool is set apart in equal parts, one part for each target. Of the other half a target may have as
//! much as it leaves free, which is the dynamic threshold of shared packet buffers (Choudhury and Hahne, 1998):
//! however many targets hang, another one always finds its own part and a share of what is left.

/// The shape of the pool, and how much of its common half is taken.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Each target's own part.
    part: usize,
    /// The common half.
    common: usize,
    taken: usize,
    /// Every target can have all it is configured for at once, so there is nothing to share.
    ample: bool,
}

impl Pool {
    /// A pool of `size` attempts for targets with these limits. Each target has at least one attempt, so the pool
    /// is never smaller than the number of targets.
    pub fn new(size: usize, limits: impl IntoIterator<Item = usize>) -> Self {
        let (count, all) = limits.into_iter().fold((0usize, 0usize), |(count, all), limit| {
            (count.saturating_add(1), all.saturating_add(limit))
        });
        let part = (size / 2).checked_div(count).unwrap_or(0).max(1);
        let common = size.saturating_sub(part.saturating_mul(count));
        Self { part, common, taken: 0, ample: all <= size }
    }

    /// How many more attempts a target with `in_flight` of them may begin.
    pub fn room(&self, in_flight: usize) -> usize {
        if self.ample {
            return usize::MAX;
        }
        let own = self.part.saturating_sub(in_flight);
        let free = self.common.saturating_sub(self.taken);
        let above = in_flight.saturating_sub(self.part);
        own.saturating_add(free.saturating_sub(above).div_ceil(2))
    }

    /// A target that had `in_flight` attempts begins one more.
    pub fn begun(&mut self, in_flight: usize) {
        self.taken = self.taken.saturating_add(usize::from(in_flight >= self.part));
    }

    /// A target that has `in_flight` attempts left has ended one.
    pub fn ended(&mut self, in_flight: usize) {
        self.taken = self.taken.saturating_sub(usize::from(in_flight >= self.part));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_shared_while_there_is_enough_for_all() {
        assert_eq!(Pool::new(32, [16, 16]).room(16), usize::MAX);
        assert_ne!(Pool::new(31, [16, 16]).room(0), usize::MAX);
    }

    #[test]
    fn fifty_greedy_targets_leave_room_for_one_more() {
        let mut pool = Pool::new(256, [1_024; 51]);
        let mut held = [0usize; 50];
        for _ in 0..1_000 {
            for held in &mut held {
                if pool.room(*held) > 0 {
                    pool.begun(*held);
                    *held += 1;
                }
            }
        }
        assert!(held.iter().all(|held| *held >= 2), "each has its own part");
        assert!(pool.room(0) >= 2, "and so has the one that comes late");
    }

    #[test]
    fn every_target_has_one_however_small_the_pool() {
        let mut pool = Pool::new(1, [4; 3]);
        for _ in 0..3 {
            assert_eq!(pool.room(0), 1);
            pool.begun(0);
        }
        assert_eq!(pool.room(1), 0);
    }

    proptest! {
        #[test]
        fn it_is_never_exceeded_and_takes_back_what_it_gave(
            size in 1usize..300,
            moves in prop::collection::vec((0usize..8, any::<bool>()), 0..600),
        ) {
            let mut pool = Pool::new(size, [1_024; 8]);
            let mut held = [0usize; 8];
            for (target, begin) in moves {
                if begin && pool.room(held[target]) > 0 {
                    pool.begun(held[target]);
                    held[target] += 1;
                } else if !begin && held[target] > 0 {
                    held[target] -= 1;
                    pool.ended(held[target]);
                }
                prop_assert!(held.iter().sum::<usize>() <= size.max(8));
                prop_assert!(held.iter().all(|held| *held > 0 || pool.room(*held) > 0), "nobody is shut out");
            }
            for held in held {
                (0..held).rev().for_each(|left| pool.ended(left));
            }
            prop_assert_eq!(pool.taken, 0);
        }
    }
}
