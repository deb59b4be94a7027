//! What the relay counts of each target.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counters, gauges, histograms};
use crate::model::{DeadReason, Name};

/// Seconds; from a fast local target to the longest timeout.
const ATTEMPT_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];
/// Seconds; from an idle queue to three days of retries.
const END_TO_END_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 21_600.0,
    86_400.0, 259_200.0,
];

/// What the relay counts.
#[derive(Clone, Debug)]
pub(super) struct DeliveryMetrics {
    pub(super) attempts: IntCounterVec,
    attempt_duration: HistogramVec,
    end_to_end: HistogramVec,
    pub(super) dead_letters: IntCounterVec,
    breaker_open: IntGaugeVec,
    paused: IntGaugeVec,
    unverified: IntGaugeVec,
}

impl DeliveryMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            attempts: counters(
                r,
                "delivery_attempts_total",
                "Attempts, by target and outcome: delivered, the class of the status code, or the class of the error.",
                &["target", "outcome"],
            )?,
            attempt_duration: histograms(
                r,
                "delivery_attempt_duration_seconds",
                "Duration of one attempt.",
                ATTEMPT_BUCKETS,
                &["target"],
            )?,
            end_to_end: histograms(
                r,
                "delivery_end_to_end_seconds",
                "From the receipt of an event to its delivery.",
                END_TO_END_BUCKETS,
                &["target"],
            )?,
            dead_letters: counters(
                r,
                "dead_letters_total",
                "Deliveries given up, by target and reason.",
                &["target", "reason"],
            )?,
            breaker_open: gauges(
                r,
                "breaker_open",
                "1 while the target fails and only single probes are made, else 0.",
                &["target"],
            )?,
            paused: gauges(
                r,
                "target_paused",
                "1 while nothing is attempted at the target until it is resumed, else 0.",
                &["target"],
            )?,
            unverified: gauges(
                r,
                "target_tls_unverified",
                "1 while the target's certificate is not checked, else 0.",
                &["target"],
            )?,
        })
    }

    /// Creates the series of a target, so that each exists before its first event.
    pub(super) fn declare(&self, target: &Name) {
        let handles = self.target(target);
        handles.attempts.with_label_values(&[target.as_str(), "delivered"]);
        for reason in DeadReason::ALL {
            handles.dead_letters.with_label_values(&[target.as_str(), reason.as_str()]);
        }
    }

    /// Takes back the gauges of a target. One that has none is left alone.
    pub(super) fn forget(&self, target: &Name) {
        for gauge in [&self.breaker_open, &self.paused, &self.unverified] {
            drop(gauge.remove_label_values(&[target.as_str()]));
        }
    }

    pub(super) fn target(&self, name: &Name) -> TargetMetrics {
        let labels = &[name.as_str()];
        TargetMetrics {
            name: name.clone(),
            attempts: self.attempts.clone(),
            attempt_duration: self.attempt_duration.with_label_values(labels),
            end_to_end: self.end_to_end.with_label_values(labels),
            dead_letters: self.dead_letters.clone(),
            breaker_open: self.breaker_open.with_label_values(labels),
            paused: self.paused.with_label_values(labels),
            unverified: self.unverified.with_label_values(labels),
        }
    }
}

/// The handles of one target, resolved once.
#[derive(Clone, Debug)]
pub struct TargetMetrics {
    name: Name,
    attempts: IntCounterVec,
    attempt_duration: Histogram,
    end_to_end: Histogram,
    dead_letters: IntCounterVec,
    breaker_open: IntGauge,
    paused: IntGauge,
    unverified: IntGauge,
}

impl TargetMetrics {
    /// The breaker opened or closed.
    pub fn breaker(&self, open: bool) {
        self.breaker_open.set(i64::from(open));
    }

    /// Whether the target's certificate is checked.
    pub fn verified(&self, verified: bool) {
        self.unverified.set(i64::from(!verified));
    }

    /// The target was paused or resumed.
    pub fn paused(&self, paused: bool) {
        self.paused.set(i64::from(paused));
    }

    /// One attempt ended with `outcome`, a word of a closed set.
    pub fn attempt(&self, outcome: &'static str, took: Duration) {
        self.attempts.with_label_values(&[self.name.as_str(), outcome]).inc();
        self.attempt_duration.observe(took.as_secs_f64());
    }

    /// A delivery was completed `age` after its event was received.
    pub fn delivered(&self, age: Duration) {
        self.end_to_end.observe(age.as_secs_f64());
    }

    /// A delivery was given up.
    pub fn dead(&self, reason: DeadReason) {
        self.dead_letters.with_label_values(&[self.name.as_str(), reason.as_str()]).inc();
    }
}
