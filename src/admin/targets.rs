//! Targets as an operator sees them, and what an operator tells them: pause and resume.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use crate::control::ControlError;
use crate::journal::Depth;
use crate::model::Name;
use crate::rules::breaker;
use crate::rules::dispatch::{Last, TargetView};

/// How long the relay may take to answer: it may not have begun yet.
const PATIENCE: Duration = Duration::from_secs(5);

impl Shared {
    /// Every target.
    pub(super) async fn list_targets(&self) -> Result<Answer, Problem> {
        let views = within(self.control.view()).await?;
        let depths = self.readiness.journal().map(|journal| journal.depth()).unwrap_or_default();
        let items: Vec<_> = views.iter().map(|view| self.shown(view, &depths)).collect();
        Ok(answer_json(StatusCode::OK, &json!({ "items": items, "next": null })))
    }

    /// Nothing more begins at this one.
    pub(super) async fn pause(&self, name: &Name, peer: SocketAddr) -> Result<Answer, Problem> {
        within(self.control.pause(name)).await?;
        tracing::info!(target_name = %name, %peer, "an operator paused the target");
        Ok(answer_json(StatusCode::OK, &json!({ "target": name.as_str(), "paused": true })))
    }

    /// This one is attempted again.
    pub(super) async fn resume(&self, name: &Name, peer: SocketAddr) -> Result<Answer, Problem> {
        within(self.control.resume(name)).await?;
        tracing::info!(target_name = %name, %peer, "an operator resumed the target");
        Ok(answer_json(StatusCode::OK, &json!({ "target": name.as_str(), "paused": false })))
    }

    fn shown(&self, view: &TargetView, depths: &[Depth]) -> Value {
        let depth = depths.iter().find(|depth| depth.target == view.target);
        let count = |of: fn(&Depth) -> u64| depth.map_or(0, of);
        let now = self.clock.now();
        let oldest = depth.and_then(|depth| depth.oldest).map(|at| now.since(at).as_secs());
        let breaker = match view.breaker {
            None => "off",
            Some(breaker::View::Closed) => "closed",
            Some(breaker::View::Open { .. }) => "open",
            Some(breaker::View::Probing) => "probing",
        };
        json!({
            "target": view.target.as_str(),
            "paused": view.paused,
            "breaker": breaker,
            "breaker_open_since": view.open_since,
            "held_until": view.held_until.filter(|until| *until > now),
            "in_flight": view.in_flight,
            "concurrency": view.concurrency,
            "ready": count(|depth| depth.ready),
            "waiting": count(|depth| depth.waiting),
            "dead": count(|depth| depth.dead),
            "oldest_age_seconds": oldest,
            "last_failure": view.last_failure.map(failure),
            "last_success_at": view.last_success,
        })
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, ControlError>>) -> Result<T, Problem> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(ControlError::Unknown)) => {
            Err(Problem::unknown("no target of that name is configured"))
        }
        Ok(Err(ControlError::Stopped)) | Err(_) => {
            Err(Problem::unavailable("the relay does not run"))
        }
    }
}

fn failure(last: Last) -> Value {
    let error = last.error.map(crate::model::ErrorClass::as_str);
    json!({ "at": last.at, "status": last.status, "error": error })
}
