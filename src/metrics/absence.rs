//! What is counted of what never came: steps of builds, and sources of which nothing is heard.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::{counters, gauges};

/// The metrics of what never came. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AbsenceMetrics {
    /// `everhook_stage_gaps_total{source}`
    pub gaps: IntCounterVec,
    /// `everhook_stage_stalls_total{source}`
    pub stalls: IntCounterVec,
    /// `everhook_source_silences_total{source}`
    pub silences: IntCounterVec,
    /// `everhook_source_silent{source}`
    pub is_silent: IntGaugeVec,
}

impl AbsenceMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            gaps: counters(r, "stage_gaps_total", "Steps of builds that never came.", &["source"])?,
            stalls: counters(
                r,
                "stage_stalls_total",
                "Builds of which nothing was heard for too long.",
                &["source"],
            )?,
            silences: counters(
                r,
                "source_silences_total",
                "Times when nothing was heard of a source for longer than expect_every.",
                &["source"],
            )?,
            is_silent: gauges(
                r,
                "source_silent",
                "Whether nothing has been heard of a source for longer than expect_every.",
                &["source"],
            )?,
        })
    }

    /// A source's series exist before anything is missing.
    pub(super) fn declare(&self, source: &str) {
        self.gaps.with_label_values(&[source]);
        self.stalls.with_label_values(&[source]);
        self.silences.with_label_values(&[source]);
        self.is_silent.with_label_values(&[source]);
    }
}
