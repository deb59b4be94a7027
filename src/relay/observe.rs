//! What the relay tells the operator: metrics of each attempt, and a log line when a target's state changes.

use std::collections::HashMap;

use crate::journal::Lease;
use crate::metrics::{Metrics, TargetMetrics};
use crate::model::{Answer, Attempt, Name, Settlement};
use crate::rules::dispatch::{Job, Notice, PauseReason, Remembered};
use crate::time::Timestamp;

/// Counts and reports, per target.
pub(super) struct Observer {
    metrics: Metrics,
    targets: HashMap<Name, Observed>,
}

struct Observed {
    metrics: TargetMetrics,
    /// The last attempt failed: reported once, not once per attempt.
    failing: bool,
}

impl Observer {
    pub(super) fn new(metrics: &Metrics, targets: &[Name]) -> Self {
        let mut observer = Self { metrics: metrics.clone(), targets: HashMap::new() };
        observer.follow(targets.iter(), |_name| true);
        observer
    }

    /// Follows these targets and no others. What is known of one that was followed before stays.
    pub(super) fn follow<'a>(
        &mut self,
        names: impl Iterator<Item = &'a Name>,
        is_configured: impl Fn(&Name) -> bool,
    ) {
        let mut before = std::mem::take(&mut self.targets);
        for name in names {
            let before = before.remove(name);
            let failing = before.as_ref().is_some_and(|observed| observed.failing);
            let observed = match before {
                // One that has left does not come back to the metrics page by what is still in flight.
                Some(observed) if !is_configured(name) => observed,
                // New handles: those of a target that had left belong to nothing any more.
                Some(_) | None => Observed { metrics: self.metrics.target(name), failing },
            };
            self.targets.insert(name.clone(), observed);
        }
    }

    /// A delivery was settled.
    pub(super) fn settled(
        &mut self,
        job: &Job<Lease>,
        settlement: Settlement,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) {
        let Some(target) = self.targets.get_mut(&job.target) else {
            return;
        };
        if let Some(attempt) = attempt {
            target.metrics.attempt(outcome(&attempt.answer), attempt.duration);
        }
        match settlement {
            Settlement::Delivered => {
                target.metrics.delivered(now.since(job.received_at));
                tracing::debug!(event = %job.event, target_name = %job.target, "delivered");
                if std::mem::take(&mut target.failing) {
                    tracing::info!(target_name = %job.target, "the target answers again");
                }
            }
            Settlement::RetryAt(at) => {
                let outcome = attempt.map_or("not-attempted", |a| outcome(&a.answer));
                tracing::debug!(event = %job.event, target_name = %job.target, outcome, next = %at,
                    "an attempt failed");
                if !std::mem::replace(&mut target.failing, true) {
                    tracing::warn!(target_name = %job.target, outcome,
                        "the target is failing; its deliveries wait and are tried again");
                }
            }
            Settlement::Dead(reason) => {
                target.metrics.dead(reason);
                tracing::warn!(event = %job.event, target_name = %job.target,
                    reason = reason.as_str(), "a delivery was given up and is a dead letter now");
            }
            Settlement::Released => {}
        }
    }
}

impl Observer {
    /// How a target stood when the last run ended.
    pub(super) fn recalled(&self, name: &Name, state: Remembered) {
        let Some(Observed { metrics, .. }) = self.targets.get(name) else { return };
        metrics.breaker(state.open_since.is_some());
        metrics.paused(state.paused.is_some());
        if let Some(pause) = state.paused {
            tracing::warn!(target_name = %name, reason = pause.reason.as_str(), since = %pause.since,
                "the target is still paused; nothing is sent until it is resumed");
        }
    }

    /// Something changed for a target as a whole.
    pub(super) fn notified(&self, name: &Name, notice: Notice) {
        let Some(Observed { metrics, .. }) = self.targets.get(name) else {
            return;
        };
        match notice {
            Notice::BreakerOpened => {
                metrics.breaker(true);
                tracing::warn!(target_name = %name,
                    "the breaker is open: the target fails, so its deliveries wait and only single probes are made");
            }
            Notice::BreakerClosed => {
                metrics.breaker(false);
                tracing::info!(target_name = %name, "the breaker is closed: the target is back");
            }
            Notice::BreakerReset => {
                metrics.breaker(false);
                tracing::info!(target_name = %name,
                    "the breaker is closed: the target has another address, or no breaker any more");
            }
            Notice::Held(until) => {
                tracing::info!(target_name = %name, %until, "the target has too much to do and is left alone");
            }
            Notice::Paused(PauseReason::Gone) => {
                metrics.paused(true);
                tracing::error!(target_name = %name,
                    "the target answered 410 Gone and is paused: its deliveries are kept and nothing is sent until \
                     it is resumed (`everhook targets resume`) or has another url");
            }
            Notice::Paused(PauseReason::Operator) => {
                metrics.paused(true);
                tracing::warn!(target_name = %name,
                    "the target was paused: its deliveries are kept and nothing is sent until it is resumed");
            }
            Notice::Resumed => {
                metrics.paused(false);
                tracing::info!(target_name = %name, "the target is resumed");
            }
        }
    }
}

/// The closed set of words for what came back.
fn outcome(answer: &Answer) -> &'static str {
    match answer {
        Answer::Status { status: 200..=299, .. } => "delivered",
        Answer::Status { status: 300..=399, .. } => "3xx",
        Answer::Status { status: 429, .. } => "429",
        Answer::Status { status: 400..=499, .. } => "4xx",
        Answer::Status { status: 500..=599, .. } => "5xx",
        Answer::Status { .. } => "other-status",
        Answer::Failed(class) => class.as_str(),
        Answer::Interrupted => "interrupted",
    }
}
