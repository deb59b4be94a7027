//! What was counted since the start, read back for the operator's page.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::Metric;

use super::Metrics;

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// By source; requests that match none are under [`super::NO_SOURCE`].
    pub sources: BTreeMap<String, SourceTotals>,
    /// By target.
    pub targets: BTreeMap<String, TargetTotals>,
    /// From the complete request to its 2xx answer, over all sources.
    pub ack: Spread,
    /// Bytes the journal occupies.
    pub journal_bytes: u64,
    /// Bytes free on its file system.
    pub free_bytes: u64,
}

/// Counts of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceTotals {
    /// Events stored.
    pub accepted: u64,
    /// Repeats recognised.
    pub duplicates: u64,
    /// Requests refused.
    pub refused: u64,
}

/// Counts of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetTotals {
    /// Attempts that delivered.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries given up.
    pub dead_letters: u64,
}

/// How measurements are spread over a histogram's buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Upper bounds in seconds with how many measurements are at most that, ascending.
    buckets: Vec<(f64, u64)>,
    /// All measurements.
    pub count: u64,
}

impl Metrics {
    /// Reads the counters.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            journal_bytes: u64::try_from(self.journal.bytes.get()).unwrap_or(0),
            free_bytes: u64::try_from(self.journal.free_bytes.get()).unwrap_or(0),
            ..Totals::default()
        };
        each(&self.events_accepted, |metric, count| {
            totals.source(metric).accepted = count;
        });
        each(&self.events_duplicate, |metric, count| {
            totals.source(metric).duplicates = count;
        });
        each(&self.ingress_rejected, |metric, count| {
            let refused = &mut totals.source(metric).refused;
            *refused = refused.saturating_add(count);
        });
        each(&self.delivery.attempts, |metric, count| {
            let of = totals.target(metric);
            match label(metric, "outcome") {
                "delivered" => of.delivered = count,
                "interrupted" => {}
                _ => of.failed = of.failed.saturating_add(count),
            }
        });
        each(&self.delivery.dead_letters, |metric, count| {
            let dead = &mut totals.target(metric).dead_letters;
            *dead = dead.saturating_add(count);
        });
        for family in self.ingress_ack_duration.collect() {
            for metric in family.get_metric() {
                totals.ack.add(metric);
            }
        }
        totals
    }
}

impl Totals {
    fn source(&mut self, metric: &Metric) -> &mut SourceTotals {
        self.sources.entry(label(metric, "source").to_owned()).or_default()
    }

    fn target(&mut self, metric: &Metric) -> &mut TargetTotals {
        self.targets.entry(label(metric, "target").to_owned()).or_default()
    }
}

impl Spread {
    fn add(&mut self, metric: &Metric) {
        let histogram = metric.get_histogram();
        self.count = self.count.saturating_add(histogram.get_sample_count());
        for (index, bucket) in histogram.get_bucket().iter().enumerate() {
            let count = bucket.cumulative_count();
            match self.buckets.get_mut(index) {
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => self.buckets.push((bucket.upper_bound(), count)),
            }
        }
    }

    /// The time that so many percent of the measurements do not exceed, as far as buckets can tell: between the bounds
    /// of a bucket it is read off a straight line. `None` without measurements.
    pub fn percentile(&self, percent: u32) -> Option<f64> {
        let wanted = f64::from(percent) / 100.0 * as_float(self.count);
        let (mut low, mut below) = (0.0, 0u64);
        if self.count == 0 {
            return None;
        }
        for (high, count) in &self.buckets {
            if as_float(*count) >= wanted {
                let inside = as_float(count.saturating_sub(below)).max(1.0);
                let part = (wanted - as_float(below)).max(0.0) / inside;
                return Some(low + (high - low) * part);
            }
            (low, below) = (*high, *count);
        }
        // Above the last bound all that is known is that it is above.
        Some(low)
    }
}

/// Counts are far below what a float holds exactly.
fn as_float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn each(counters: &impl Collector, mut visit: impl FnMut(&Metric, u64)) {
    for family in counters.collect() {
        for metric in family.get_metric() {
            visit(metric, whole(metric.get_counter().get_value()));
        }
    }
}

/// A counter as the whole number it is.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the library keeps whole counts as floats; the cast saturates"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    let label = metric.get_label().iter().find(|label| label.name() == name);
    label.map_or("", |label| label.value())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{DeadReason, Name};

    #[test]
    fn counters_are_read_back_by_source_and_target() {
        let metrics = Metrics::new("1", "r").unwrap();
        let (source, target) = (Name::parse("ci").unwrap(), Name::parse("deploy").unwrap());
        metrics.declare(std::slice::from_ref(&source), std::slice::from_ref(&target));
        metrics.events_accepted.with_label_values(&["ci"]).inc_by(3);
        metrics.ingress_rejected.with_label_values(&["ci", "malformed"]).inc_by(2);
        metrics.ingress_rejected.with_label_values(&["ci", "unverified"]).inc();
        let handles = metrics.target(&target);
        handles.attempt("delivered", Duration::ZERO);
        handles.attempt("5xx", Duration::ZERO);
        handles.attempt("dns", Duration::ZERO);
        handles.attempt("interrupted", Duration::ZERO);
        handles.dead(DeadReason::Gone);
        handles.dead(DeadReason::Expired);
        let totals = metrics.totals();
        let of_source = SourceTotals { accepted: 3, duplicates: 0, refused: 3 };
        let of_target = TargetTotals { delivered: 1, failed: 2, dead_letters: 2 };
        assert_eq!(totals.sources["ci"], of_source);
        assert_eq!(totals.targets["deploy"], of_target);
    }

    #[test]
    fn percentiles_are_read_off_the_buckets() {
        let metrics = Metrics::new("1", "r").unwrap();
        assert_eq!(metrics.totals().ack.percentile(50), None);
        for (source, seconds) in [("a", 0.0015), ("a", 0.0015), ("b", 0.003), ("b", 60.0)] {
            metrics.ingress_ack_duration.with_label_values(&[source]).observe(seconds);
        }
        let ack = metrics.totals().ack;
        assert_eq!(ack.count, 4);
        // Two of four lie between 1 and 2 ms, three below 4 ms, the last above every bound.
        assert_eq!(ack.percentile(50), Some(0.002));
        assert_eq!(ack.percentile(75), Some(0.004));
        assert_eq!(ack.percentile(99), Some(4.0));
    }
}
