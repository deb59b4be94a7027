//! How far the daemon is, and what it measures: the health checks and the metrics page.

use std::sync::{Arc, OnceLock};

use hyper::StatusCode;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::{Answer, Problem, json, text, with_type};
use crate::journal::{Depth, Health, Journal};
use crate::metrics::QueueSample;

/// How far the daemon is: `recovering -> ready -> draining`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Readiness {
    journal: Arc<OnceLock<Arc<dyn Journal>>>,
    open: CancellationToken,
    draining: CancellationToken,
}

impl Readiness {
    /// The journal is open and the ingress accepts.
    pub fn ready(&self, journal: Arc<dyn Journal>) {
        // Only the first call counts; there is one journal.
        drop(self.journal.set(journal));
        self.open.cancel();
    }

    /// The daemon is stopping.
    pub fn draining(&self) {
        self.draining.cancel();
    }

    /// The journal, once it is open.
    pub(super) fn journal(&self) -> Option<&Arc<dyn Journal>> {
        self.journal.get()
    }

    /// The journal; resolves when it is open.
    pub(super) async fn opened(&self) -> Arc<dyn Journal> {
        self.open.cancelled().await;
        match self.journal.get() {
            Some(journal) => Arc::clone(journal),
            None => std::future::pending().await,
        }
    }

    /// The checks by name, each with what is wrong, if something is.
    fn checks(&self) -> [(&'static str, Result<(), String>); 2] {
        let journal = match self.journal.get().map(|journal| journal.health()) {
            None => Err("recovering".to_owned()),
            Some(Health::Healthy) => Ok(()),
            Some(Health::Full { detail } | Health::Failed { detail }) => Err(detail),
        };
        let ingress = match (self.draining.is_cancelled(), self.journal.get()) {
            (true, _) => Err("draining".to_owned()),
            (false, None) => Err("starting".to_owned()),
            (false, Some(_)) => Ok(()),
        };
        [("journal", journal), ("ingress", ingress)]
    }
}

impl Shared {
    pub(super) fn metrics(&self) -> Answer {
        let setup = self.setup();
        let journal = self.readiness.journal();
        let depth = journal.map(|journal| journal.depth());
        let quarantined = journal.map(|journal| journal.quarantined());
        self.metrics.quarantine.set(&quarantined.unwrap_or_default());
        let now = self.clock.now();
        let sample = |depth: Depth| QueueSample {
            configured: setup.has_heir(&depth.target),
            ready: depth.ready,
            waiting: depth.waiting,
            in_flight: depth.in_flight,
            dead: depth.dead,
            oldest_seconds: depth.oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64()),
            target: depth.target,
        };
        let mut queue: Vec<_> = depth.unwrap_or_default().into_iter().map(sample).collect();
        for target in &setup.targets {
            if !queue.iter().any(|sample| sample.target == target.name) {
                queue.push(QueueSample::idle(target.name.clone()));
            }
        }
        match self.metrics.render(&queue) {
            Ok(page) => with_type(StatusCode::OK, "text/plain; version=0.0.4", page.into()),
            Err(error) => {
                tracing::error!(%error, "the metrics could not be rendered");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Problem::new(status, "failed", "the metrics could not be rendered").into()
            }
        }
    }

    pub(super) fn health(&self, verbose: bool) -> Answer {
        let checks = self.readiness.checks();
        let ready = checks.iter().all(|(_, check)| check.is_ok());
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if !verbose {
            return text(status, if ready { "ok\n" } else { "not ready\n" });
        }
        let check = |(name, check): &(&str, Result<(), String>)| {
            let state = check.as_ref().map_or_else(String::as_str, |()| "ok");
            ((*name).to_owned(), serde_json::Value::from(state))
        };
        let checks: serde_json::Map<_, _> = checks.iter().map(check).collect();
        json(status, &serde_json::json!({ "ready": ready, "checks": checks }))
    }
}
