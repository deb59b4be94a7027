//! What is counted of refused requests that are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::{counters, gauge_value, gauges};
use crate::model::Name;

/// The metrics of the quarantine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct QuarantineMetrics {
    /// `everhook_quarantine_held_total{source}`
    pub held: IntCounterVec,
    /// `everhook_quarantine_released_total{source}`
    pub released: IntCounterVec,
    rejections: IntGaugeVec,
    /// Sources that are shown also when they have none.
    declared: Arc<Mutex<BTreeSet<Name>>>,
}

impl QuarantineMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            held: counters(
                r,
                "quarantine_held_total",
                "Requests that could not be verified, were answered 200 and are held until they are released.",
                &["source"],
            )?,
            released: counters(
                r,
                "quarantine_released_total",
                "Refused requests that were released, new events and repeats alike.",
                &["source"],
            )?,
            rejections: gauges(
                r,
                "quarantine_rejections",
                "Refused requests that are kept.",
                &["source"],
            )?,
            declared: Arc::default(),
        })
    }

    pub(super) fn declare(&self, source: &Name) {
        self.held.with_label_values(&[source.as_str()]);
        self.released.with_label_values(&[source.as_str()]);
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).insert(source.clone());
    }

    /// How many are kept now, by source.
    pub fn set(&self, kept: &BTreeMap<Name, u64>) {
        self.rejections.reset();
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        for source in declared.iter().filter(|source| !kept.contains_key(*source)) {
            self.rejections.with_label_values(&[source.as_str()]).set(0);
        }
        for (source, count) in kept {
            self.rejections.with_label_values(&[source.as_str()]).set(gauge_value(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_any_is_shown_and_one_that_left_only_as_long_as_it_has_some() {
        let metrics = QuarantineMetrics::new(&Registry::new()).unwrap();
        let (here, gone) = (Name::parse("here").unwrap(), Name::parse("gone").unwrap());
        metrics.declare(&here);
        let shown = || {
            let families = prometheus::core::Collector::collect(&metrics.rejections);
            let of = |metric: &prometheus::proto::Metric| {
                (metric.get_label()[0].value().to_owned(), metric.get_gauge().get_value())
            };
            families
                .iter()
                .flat_map(|family| family.get_metric().iter().map(of))
                .collect::<Vec<_>>()
        };
        metrics.set(&[(gone.clone(), 2)].into());
        let mut both = shown();
        both.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(both, [("gone".to_owned(), 2.0), ("here".to_owned(), 0.0)]);
        metrics.set(&[(here, 1)].into());
        assert_eq!(shown(), [("here".to_owned(), 1.0)]);
    }
}
