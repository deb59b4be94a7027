//! How much happened in each minute of the last hour: the counters as they were at the beginning of each minute.

use std::collections::VecDeque;

use crate::metrics::Totals;
use crate::time::Timestamp;

/// Minutes that are shown.
pub(super) const MINUTES: usize = 60;
/// Seconds of one.
const MINUTE: i64 = 60;

/// Counters at the beginning of each minute, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Number of the minute since the epoch, and what was counted before it.
    samples: VecDeque<(i64, Totals)>,
}

/// When the minute after `now` begins.
pub(super) fn next_minute(now: Timestamp) -> Timestamp {
    Timestamp::from_secs(minute(now).saturating_add(1).saturating_mul(MINUTE))
}

fn minute(now: Timestamp) -> i64 {
    now.as_secs().div_euclid(MINUTE)
}

impl Rates {
    /// Remembers what was counted before the minute of `now`.
    pub(super) fn record(&mut self, now: Timestamp, mut totals: Totals) {
        // Only what is counted is of use later.
        totals.ack = crate::metrics::Spread::default();
        let number = minute(now);
        if self.samples.back().is_none_or(|(last, _)| *last < number) {
            self.samples.push_back((number, totals));
        }
        while self.samples.len() > MINUTES {
            self.samples.pop_front();
        }
    }

    /// What `of` counts in each of the last minutes, the current one last. A minute before the start has nothing.
    pub(super) fn series(
        &self,
        now: Timestamp,
        totals: &Totals,
        of: impl Fn(&Totals) -> u64,
    ) -> Vec<u64> {
        let mut counts = vec![0u64; MINUTES];
        let current = minute(now);
        let ends = self.samples.iter().skip(1).map(|(_, totals)| totals).chain([totals]);
        for ((number, before), after) in self.samples.iter().zip(ends) {
            let ago = usize::try_from(current.saturating_sub(*number)).unwrap_or(0);
            let place = MINUTES.checked_sub(ago.saturating_add(1));
            if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                *count = of(after).saturating_sub(of(before));
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::SourceTotals;

    fn totals(accepted: u64) -> Totals {
        let mut totals = Totals::default();
        totals.sources.insert("a".into(), SourceTotals { accepted, ..SourceTotals::default() });
        totals
    }

    fn accepted(totals: &Totals) -> u64 {
        totals.sources["a"].accepted
    }

    #[test]
    fn each_minute_has_what_was_counted_in_it() {
        let mut rates = Rates::default();
        let at = |minute: i64, second| Timestamp::from_secs(minute * 60 + second);
        rates.record(at(100, 30), totals(0));
        rates.record(at(101, 0), totals(5));
        // The clock may wake late: the minute between was not seen, and its events count to the one before.
        rates.record(at(103, 1), totals(12));
        let series = rates.series(at(104, 0), &totals(20), accepted);
        assert_eq!(series.len(), MINUTES);
        assert_eq!(series[55..], [5, 7, 0, 8, 0]);
        assert_eq!(next_minute(at(103, 1)), at(104, 0));
        // An hour later nothing of it is left but what came since the last sample.
        assert_eq!(rates.series(at(200, 0), &totals(20), accepted).iter().sum::<u64>(), 0);
        for minute in 104..300 {
            rates.record(at(minute, 0), totals(20));
        }
        assert_eq!(rates.samples.len(), MINUTES);
    }
}
