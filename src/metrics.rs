//! Every metric, named once, with its help text and its closed label set.
//!
//! Labels come from the configured names of sources and targets and from closed enums, so no request can
//! mint a series. Handles are resolved once and cached; counting an event is one atomic add.

mod absence;
mod config;
mod delivery;
mod quarantine;
mod spans;
mod totals;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::absence::AbsenceMetrics;
pub use self::config::ConfigMetrics;
use self::delivery::DeliveryMetrics;
pub use self::delivery::TargetMetrics;
pub use self::quarantine::QuarantineMetrics;
pub use self::spans::SpanMetrics;
pub use self::totals::{SourceTotals, Spread, TargetTotals, Totals};
use crate::model::Name;

/// The label value for requests that match no source; not a valid source name, so it collides with none.
pub const NO_SOURCE: &str = "_none";

/// A counter's handle.
pub type Counter = IntCounter;
/// A gauge's handle.
pub type Gauge = IntGauge;
/// A histogram's handle, in seconds.
pub type Timing = Histogram;

/// Seconds; fine around a millisecond, where the acknowledgement should be.
const ACK_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0];
/// Events in one commit.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// All metrics of one daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Apart, because the process metrics have conventional names without our prefix.
    process: Registry,
    /// `everhook_ingress_requests_total{source,code}`
    pub ingress_requests: IntCounterVec,
    /// `everhook_ingress_rejected_total{source,cause}`
    pub ingress_rejected: IntCounterVec,
    /// `everhook_ingress_ack_duration_seconds{source}`
    pub ingress_ack_duration: HistogramVec,
    /// `everhook_events_accepted_total{source}`
    pub events_accepted: IntCounterVec,
    /// `everhook_events_duplicate_total{source}`
    pub events_duplicate: IntCounterVec,
    /// `everhook_events_conflict_total{source}`
    pub events_conflict: IntCounterVec,
    /// Whether reloads succeed.
    pub config: ConfigMetrics,
    /// What is counted of what never came.
    pub absence: AbsenceMetrics,
    /// What is counted of refused requests that are kept.
    pub quarantine: QuarantineMetrics,
    delivery: DeliveryMetrics,
    queue: QueueMetrics,
    /// What the journal counts.
    pub journal: JournalMetrics,
}

/// Gauges that are read from the journal when a scrape asks.
#[derive(Clone, Debug)]
struct QueueMetrics {
    deliveries: IntGaugeVec,
    oldest_age: GaugeVec,
    dead_letters: IntGaugeVec,
}

/// What the journal counts about itself.
#[derive(Clone, Debug)]
pub struct JournalMetrics {
    /// `everhook_journal_commit_duration_seconds`: one whole commit, write and sync.
    pub commit_duration: Histogram,
    /// `everhook_journal_fsync_duration_seconds`: the sync alone.
    pub fsync_duration: Histogram,
    /// `everhook_journal_batch_events`: events in one commit.
    pub batch_events: Histogram,
    /// `everhook_journal_bytes`: bytes on disk.
    pub bytes: IntGauge,
    /// `everhook_journal_free_bytes`: bytes free on its file system.
    pub free_bytes: IntGauge,
    /// `everhook_journal_errors_total{op}`
    pub errors: IntCounterVec,
    /// `everhook_journal_damaged_records_total`
    pub damaged_records: IntCounter,
    /// `everhook_dedup_evicted_total`
    pub dedup_evicted: IntCounter,
}

/// The operations in which the journal can fail: the values of `op`.
pub const JOURNAL_OPS: [&str; 3] = ["commit", "ledger", "load"];

/// The numbers of one target for a scrape.
#[derive(Clone, Debug)]
pub struct QueueSample {
    /// The target.
    pub target: Name,
    /// False when the target is no longer in the configuration: its deliveries then count as `orphaned`.
    pub configured: bool,
    /// Due and not leased.
    pub ready: u64,
    /// Waiting for their next attempt.
    pub waiting: u64,
    /// Leased.
    pub in_flight: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// Age of the oldest pending delivery in seconds.
    pub oldest_seconds: f64,
}

impl QueueSample {
    /// A configured target with nothing queued.
    pub fn idle(target: Name) -> Self {
        Self {
            target,
            configured: true,
            ready: 0,
            waiting: 0,
            in_flight: 0,
            dead: 0,
            oldest_seconds: 0.0,
        }
    }
}

impl Metrics {
    /// Registers everything. Fails only if two metrics share a name.
    pub fn new(version: &str, revision: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("everhook".into()), None)?;
        let r = &registry.clone();
        let build = gauges(
            r,
            "build_info",
            "Version and revision of this binary; always 1.",
            &["version", "revision"],
        )?;
        build.with_label_values(&[version, revision]).set(1);
        let process = Registry::new();
        process.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            ingress_requests: counters(
                r,
                "ingress_requests_total",
                "Requests answered, by source and HTTP status code; 200 also when the event was stored and its sender had left.",
                &["source", "code"],
            )?,
            ingress_rejected: counters(
                r,
                "ingress_rejected_total",
                "Requests refused, by source and cause.",
                &["source", "cause"],
            )?,
            ingress_ack_duration: histograms(
                r,
                "ingress_ack_duration_seconds",
                "From the complete request to the 2xx answer, the commit included.",
                ACK_BUCKETS,
                &["source"],
            )?,
            events_accepted: counters(
                r,
                "events_accepted_total",
                "Events stored durably.",
                &["source"],
            )?,
            events_duplicate: counters(
                r,
                "events_duplicate_total",
                "Requests recognised as repeats of a stored event.",
                &["source"],
            )?,
            events_conflict: counters(
                r,
                "events_conflict_total",
                "Repeats of a stored event whose body is another one.",
                &["source"],
            )?,
            config: ConfigMetrics::new(r)?,
            absence: AbsenceMetrics::new(r)?,
            quarantine: QuarantineMetrics::new(r)?,
            delivery: DeliveryMetrics::new(r)?,
            queue: QueueMetrics::new(r)?,
            journal: JournalMetrics::new(r)?,
            registry,
            process,
        })
    }

    /// Creates the series of every configured source and target, so that each exists before its first event.
    pub fn declare(&self, sources: &[Name], targets: &[Name]) {
        for source in sources {
            self.quarantine.declare(source);
            let source = source.as_str();
            self.events_accepted.with_label_values(&[source]);
            self.events_duplicate.with_label_values(&[source]);
            self.events_conflict.with_label_values(&[source]);
            self.absence.declare(source);
            self.ingress_ack_duration.with_label_values(&[source]);
        }
        for target in targets {
            self.delivery.declare(target);
        }
    }

    /// The handles of one target.
    pub fn target(&self, name: &Name) -> TargetMetrics {
        self.delivery.target(name)
    }

    /// Takes back the gauge of a source of which nothing is expected any more. One that has none is left alone.
    pub fn forget_source(&self, source: &Name) {
        drop(self.absence.is_silent.remove_label_values(&[source.as_str()]));
    }

    /// Takes back the gauges of a target that left the configuration: nothing is true of it any more. What was counted
    /// stays.
    pub fn forget(&self, target: &Name) {
        self.delivery.forget(target);
    }

    /// Everything in the Prometheus text format, with the queue as it stands.
    pub fn render(&self, queue: &[QueueSample]) -> Result<Vec<u8>, prometheus::Error> {
        self.queue.set(queue);
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        TextEncoder::new().encode(&self.process.gather(), &mut text)?;
        Ok(text)
    }
}

impl QueueMetrics {
    fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let oldest = Opts::new(
            "delivery_oldest_age_seconds",
            "Age of the oldest pending delivery; 0 when nothing is pending.",
        );
        Ok(Self {
            deliveries: gauges(
                r,
                "deliveries",
                "Pending deliveries, by target and state; `orphaned` are those whose target left the configuration.",
                &["target", "state"],
            )?,
            oldest_age: register(r, GaugeVec::new(oldest, &["target"])?)?,
            dead_letters: gauges(r, "dead_letters", "Dead letters kept.", &["target"])?,
        })
    }

    fn set(&self, queue: &[QueueSample]) {
        self.deliveries.reset();
        self.oldest_age.reset();
        self.dead_letters.reset();
        for sample in queue {
            let target = sample.target.as_str();
            let pending =
                sample.ready.saturating_add(sample.waiting).saturating_add(sample.in_flight);
            let states: &[(&str, u64)] = if sample.configured {
                &[
                    ("ready", sample.ready),
                    ("waiting", sample.waiting),
                    ("in_flight", sample.in_flight),
                ]
            } else {
                &[("orphaned", pending)]
            };
            for (state, count) in states {
                self.deliveries.with_label_values(&[target, state]).set(gauge_value(*count));
            }
            self.oldest_age.with_label_values(&[target]).set(sample.oldest_seconds);
            self.dead_letters.with_label_values(&[target]).set(gauge_value(sample.dead));
        }
    }
}

impl JournalMetrics {
    fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let errors =
            counters(r, "journal_errors_total", "Journal operations that failed.", &["op"])?;
        for op in JOURNAL_OPS {
            errors.with_label_values(&[op]);
        }
        let commit = histograms(
            r,
            "journal_commit_duration_seconds",
            "One commit, write and sync.",
            ACK_BUCKETS,
            &[],
        )?;
        let fsync = histograms(
            r,
            "journal_fsync_duration_seconds",
            "The sync to stable storage alone.",
            ACK_BUCKETS,
            &[],
        )?;
        let batch = histograms(
            r,
            "journal_batch_events",
            "Events made durable by one commit.",
            BATCH_BUCKETS,
            &[],
        )?;
        let none: &[&str] = &[];
        Ok(Self {
            commit_duration: commit.with_label_values(none),
            fsync_duration: fsync.with_label_values(none),
            batch_events: batch.with_label_values(none),
            bytes: gauges(r, "journal_bytes", "Bytes the journal occupies on disk.", &[])?
                .with_label_values(none),
            free_bytes: gauges(
                r,
                "journal_free_bytes",
                "Bytes free on the journal's file system.",
                &[],
            )?
            .with_label_values(none),
            errors,
            damaged_records: counters(
                r,
                "journal_damaged_records_total",
                "Stored records that failed their check.",
                &[],
            )?
            .with_label_values(none),
            dedup_evicted: counters(
                r,
                "dedup_evicted_total",
                "Dedup keys forgotten before their window was over, because too many are remembered.",
                &[],
            )?
            .with_label_values(none),
        })
    }

    /// Metrics that nobody scrapes, for tests and benches of a journal alone.
    pub fn detached() -> Result<Self, prometheus::Error> {
        Self::new(&Registry::new())
    }
}

/// A count as a gauge holds it.
pub fn gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn register<C: Collector + Clone + 'static>(
    r: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(r, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    register(r, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(r, HistogramVec::new(opts, labels)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_queue_as_it_stands_and_forgets_what_left() {
        let metrics = Metrics::new("1", "r").unwrap();
        let target = Name::parse("deploy").unwrap();
        let sample = QueueSample {
            target,
            configured: true,
            ready: 2,
            waiting: 1,
            in_flight: 0,
            dead: 3,
            oldest_seconds: 1.5,
        };
        let text = String::from_utf8(metrics.render(&[sample]).unwrap()).unwrap();
        assert!(
            text.contains("everhook_deliveries{state=\"ready\",target=\"deploy\"} 2"),
            "{text}"
        );
        assert!(text.contains("everhook_dead_letters{target=\"deploy\"} 3"));
        assert!(text.contains("\nprocess_resident_memory_bytes "));
        let text = String::from_utf8(metrics.render(&[]).unwrap()).unwrap();
        assert!(!text.contains("deploy"), "{text}");
    }
}
