//! What becomes of the spans that are exported.

use super::{Counter, Metrics, counters};

/// The metric of spans. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SpanMetrics {
    /// `everhook_spans_total{outcome="exported"}`
    pub exported: Counter,
    /// `everhook_spans_total{outcome="failed"}`: the collector did not take them.
    pub failed: Counter,
    /// `everhook_spans_total{outcome="dropped"}`: the queue had no room.
    pub dropped: Counter,
}

impl Metrics {
    /// The metric of spans, which is there only where they are exported. Fails when it is there already.
    pub fn spans(&self) -> Result<SpanMetrics, prometheus::Error> {
        let help = "Spans that were exported, by outcome: exported, failed, dropped.";
        let spans = counters(&self.registry, "spans_total", help, &["outcome"])?;
        let outcome = |outcome| spans.with_label_values(&[outcome]);
        Ok(SpanMetrics {
            exported: outcome("exported"),
            failed: outcome("failed"),
            dropped: outcome("dropped"),
        })
    }
}
