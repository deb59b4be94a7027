//! How often attempts begin: a token bucket as one moment, the earliest at which the bucket would be full again.
//!
//! The moment is the "theoretical arrival time" of the generic cell rate algorithm (ITU-T I.371), which is the same
//! law as a bucket that is filled steadily, without a timer that fills it.

use std::time::Duration;

use crate::time::Timestamp;

/// A target's rate, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From one token to the next; at least a microsecond.
    pub interval: Duration,
    /// Most tokens kept; at least 1.
    pub burst: u32,
}

/// One target's bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    full_at: Timestamp,
}

impl Bucket {
    /// With a single token, so that one restart after another is no way around the rate.
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        let missing = rate.burst.saturating_sub(1);
        Self { rate, full_at: now.plus(rate.interval.saturating_mul(missing)) }
    }

    /// With every token it can have.
    pub fn full(rate: Rate, now: Timestamp) -> Self {
        Self { rate, full_at: now }
    }

    /// The tokens that are there.
    pub fn room(&self, now: Timestamp) -> usize {
        let missing = self.full_at.since(now);
        let depth = self.rate.interval.saturating_mul(self.rate.burst);
        let tokens = depth
            .saturating_sub(missing)
            .as_micros()
            .checked_div(self.rate.interval.as_micros())
            .unwrap_or(0);
        usize::try_from(tokens).unwrap_or(usize::MAX)
    }

    /// When the next token comes, if there is none.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let depth = self.rate.interval.saturating_mul(self.rate.burst.saturating_sub(1));
        (self.room(now) == 0).then(|| self.full_at.minus(depth))
    }

    /// Takes one token.
    pub fn take(&mut self, now: Timestamp) {
        self.full_at = self.full_at.max(now).plus(self.rate.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn bucket(interval_ms: u64, burst: u32) -> Bucket {
        Bucket::new(Rate { interval: Duration::from_millis(interval_ms), burst }, at(0))
    }

    #[test]
    fn begins_with_one_token_and_fills_to_its_burst() {
        let mut b = bucket(100, 3);
        assert_eq!([0, 99, 100, 200, 9_999].map(|t| b.room(at(t))), [1, 1, 2, 3, 3]);
        b.take(at(0));
        assert_eq!(b.room(at(0)), 0);
        assert_eq!(b.next(at(0)), Some(at(100)));
        assert_eq!(b.room(at(99)), 0);
        assert_eq!(b.room(at(100)), 1);
        assert_eq!(b.next(at(100)), None);
    }

    proptest! {
        #[test]
        fn no_span_of_time_sees_more_than_its_share(interval in 1u64..500, burst in 1u32..20, steps in prop::collection::vec(0i64..700, 1..100)) {
            let mut b = bucket(interval, burst);
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                while b.room(at(now)) > 0 {
                    b.take(at(now));
                    taken.push(now);
                }
                let next = b.next(at(now)).unwrap();
                prop_assert!(b.room(next) == 1 && next > at(now), "it says when to come back");
            }
            for (i, first) in taken.iter().enumerate() {
                for (j, last) in taken.iter().enumerate().skip(i) {
                    let span = u64::try_from(last - first).unwrap();
                    let allowed = u64::from(burst) + span / interval;
                    prop_assert!(u64::try_from(j - i + 1).unwrap() <= allowed);
                }
            }
        }
    }
}
