//! Deliveries that wait, attempted at once because an operator asks for it.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::resend::{read, refused};
use super::targets::within;
use crate::control::ControlError;
use crate::journal::{DeliveryState, Scope, Stage};
use crate::model::{EventId, Name};
use crate::rules::dispatch::TargetView;
use crate::time::Timestamp;

/// What `retry` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryRequest {
    targets: Option<Vec<String>>,
}

impl Shared {
    /// Makes pending deliveries of an event due now, before all others of their targets, and lets a breaker that is open
    /// probe with them. What else keeps a target from being attempted stands, and is said.
    pub(super) async fn retry(
        &self,
        id: EventId,
        body: &Bytes,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let request: RetryRequest = read(body)?;
        let found = self.found(id).await?;
        let names = match request.targets {
            Some(names) => self.configured(names)?,
            None => found.deliveries.iter().map(|delivery| delivery.target.clone()).collect(),
        };
        let scope = Scope::Targets(names.clone());
        let changed = self.journal()?.hasten(id, scope).await.map_err(|error| refused(&error))?;
        if changed.deliveries == 0 {
            let detail = nothing_pending(&found.deliveries, &names);
            return Err(Problem::new(StatusCode::CONFLICT, "not-pending", detail));
        }
        let pending = found.deliveries.iter().filter(|it| is_pending(it.stage));
        let pending: Vec<_> =
            pending.map(|it| &it.target).filter(|it| names.contains(it)).collect();
        for target in &pending {
            // One that is not configured any more is said to be held below.
            let hastened = self.control.hasten(target).await;
            within(async { hastened.or_else(unless_stopped) }).await?;
        }
        let (views, now) = (within(self.control.view()).await?, self.clock.now());
        let held: Vec<_> = pending.iter().filter_map(|target| held(target, &views, now)).collect();
        let deliveries = changed.deliveries;
        tracing::info!(event = %id, deliveries, %peer, "an operator had deliveries attempted at once");
        let body = json!({ "id": id.to_string(), "deliveries": deliveries, "held": held });
        Ok(answer_json(StatusCode::OK, &body))
    }
}

fn unless_stopped(error: ControlError) -> Result<(), ControlError> {
    match error {
        ControlError::Unknown => Ok(()),
        ControlError::Stopped => Err(ControlError::Stopped),
    }
}

fn is_pending(stage: Stage) -> bool {
    match stage {
        Stage::Ready | Stage::Waiting(_) => true,
        Stage::InFlight | Stage::Delivered | Stage::Dead(_) | Stage::Discarded => false,
    }
}

/// What keeps a target from being attempted now, if something does that an operator's wish does not overrule.
fn held(target: &Name, views: &[TargetView], now: Timestamp) -> Option<Value> {
    let view = views.iter().find(|view| view.target == *target);
    let reason = match view {
        None => "not-configured",
        Some(view) if view.paused.is_some() => "paused",
        Some(view) if view.held_until.is_some_and(|until| until > now) => "overloaded",
        Some(_) => return None,
    };
    Some(json!({ "target": target.as_str(), "reason": reason }))
}

/// Why there was nothing to do.
fn nothing_pending(deliveries: &[DeliveryState], names: &[Name]) -> String {
    let meant: Vec<_> = deliveries.iter().filter(|it| names.contains(&it.target)).collect();
    if meant.is_empty() {
        return "the event has no delivery to that target; replay makes one".to_owned();
    }
    let stands = meant.iter().map(|it| format!("{}: {}", it.target, it.stage.word().0.as_str()));
    let stands = stands.collect::<Vec<_>>().join(", ");
    format!("nothing is pending ({stands}); what is settled is replayed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeadReason;

    fn delivery(target: &str, stage: Stage) -> DeliveryState {
        DeliveryState { target: Name::parse(target).unwrap(), stage, attempts: 1 }
    }

    #[test]
    fn why_nothing_was_done_is_said_for_those_that_were_meant() {
        let all = [delivery("a", Stage::Dead(DeadReason::Gone)), delivery("b", Stage::InFlight)];
        let names = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| Name::parse(name).unwrap()).collect()
        };
        let said = nothing_pending(&all, &names(&["a", "b"]));
        assert!(said.contains("a: dead, b: in_flight"), "{said}");
        let said = nothing_pending(&all, &names(&["b"]));
        assert!(!said.contains("a:"), "{said}");
        assert!(nothing_pending(&all, &names(&["c"])).contains("no delivery"));
    }
}
