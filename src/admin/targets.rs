//! Targets as an operator sees them, and what an operator tells them: pause, resume, and an event to try.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::asked::Words;
use super::setup::TargetSetup;
use crate::control::ControlError;
use crate::journal::{Append, Depth};
use crate::metrics::{TargetTotals, Totals};
use crate::model::Name;
use crate::rules::breaker;
use crate::rules::dispatch::{Last, TargetView};
use crate::rules::notice::Told;

/// How long the relay may take to answer: it may not have begun yet.
const PATIENCE: Duration = Duration::from_secs(5);

impl Shared {
    /// Every target: those that are configured, and those that only the journal still knows.
    pub(super) async fn list_targets(&self, query: Option<&str>) -> Result<Answer, Problem> {
        let words = Words::parse(query, &["rates"])?;
        let rates = words.read("rates", "true or false")?.unwrap_or(false);
        let views = within(self.control.view()).await?;
        let depths = self.readiness.journal().map(|journal| journal.depth()).unwrap_or_default();
        let setup = self.setup();
        let known = |name: &Name| views.iter().any(|view| view.target == *name);
        let orphan = |depth: &&Depth| {
            let kept = [depth.ready, depth.waiting, depth.in_flight, depth.dead];
            !known(&depth.target) && kept.iter().any(|count| *count > 0)
        };
        let configured = views.iter().map(|view| {
            let depth = depths.iter().find(|depth| depth.target == view.target);
            let setup = setup.targets.iter().find(|target| target.name == view.target);
            self.shown(&view.target, Some(view), (setup, depth))
        });
        let orphans = depths.iter().filter(orphan);
        let orphans = orphans.map(|depth| self.shown(&depth.target, None, (None, Some(depth))));
        let mut items: Vec<_> = configured.chain(orphans).collect();
        if rates {
            self.add_rates(&mut items);
        }
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

    /// Sends it an event that means nothing.
    pub(super) async fn test(&self, name: &Name, peer: SocketAddr) -> Result<Answer, Problem> {
        if !self.setup().has_target(name) {
            return Err(Problem::unknown("no target of that name is configured"));
        }
        let event = Told::Test.event(name, self.new_event_id(), self.clock.now());
        let event = event.ok_or_else(|| Problem::unavailable("no source"))?;
        let append = Append { event, targets: vec![name.clone()], dedup: Vec::new() };
        let id = self.append(append).await?;
        tracing::info!(target_name = %name, event = %id, %peer, "an operator tries the target");
        let made = json!({ "id": id.to_string(), "targets": [name.as_str()] });
        Ok(answer_json(StatusCode::ACCEPTED, &made))
    }

    fn shown(
        &self,
        name: &Name,
        view: Option<&TargetView>,
        (setup, depth): (Option<&TargetSetup>, Option<&Depth>),
    ) -> Value {
        let count = |of: fn(&Depth) -> u64| depth.map_or(0, of);
        let now = self.clock.now();
        let oldest = depth.and_then(|depth| depth.oldest).map(|at| now.since(at).as_secs());
        let breaker = match view.and_then(|view| view.breaker) {
            None => "off",
            Some(breaker::View::Closed) => "closed",
            Some(breaker::View::Open { .. }) => "open",
            Some(breaker::View::Probing) => "probing",
        };
        json!({
            "target": name.as_str(),
            "configured": view.is_some(),
            "url": setup.map(|setup| setup.origin.as_str()),
            "order": setup.map(|setup| setup.order),
            "paused": view.and_then(|view| view.paused),
            "breaker": breaker,
            "breaker_open_since": view.and_then(|view| view.open_since),
            "held_until": view.and_then(|view| view.held_until).filter(|until| *until > now),
            "in_flight": view.map_or(0, |view| view.in_flight),
            "concurrency": view.map(|view| view.concurrency),
            "ready": count(|depth| depth.ready),
            "waiting": count(|depth| depth.waiting),
            "dead": count(|depth| depth.dead),
            "oldest_age_seconds": oldest,
            "last_failure": view.and_then(|view| view.last_failure).map(failure),
            "last_success_at": view.and_then(|view| view.last_success),
            "per_minute": null,
        })
    }

    fn add_rates(&self, items: &mut [Value]) {
        let (now, totals, rates) = (self.clock.now(), self.metrics.totals(), self.rates());
        for item in items {
            let name = item.get("target").and_then(Value::as_str).unwrap_or_default().to_owned();
            let series = |of: fn(&TargetTotals) -> u64| {
                rates
                    .series(now, &totals, |totals: &Totals| totals.targets.get(&name).map_or(0, of))
            };
            let (delivered, failed) = (series(|it| it.delivered), series(|it| it.failed));
            if let Some(rates) = item.get_mut("per_minute") {
                *rates = json!({ "delivered": delivered, "failed": failed });
            }
        }
    }
}

/// What the relay says, if it says it in time.
pub(super) async fn within<T>(
    asked: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, Problem> {
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
