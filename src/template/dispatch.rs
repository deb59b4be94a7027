//! Bodies for targets that start a build: the event nested as it is, with our id so that a double can be told.

use serde_json::{Value, json};

use crate::model::Event;

/// GitHub refuses a larger `client_payload`.
pub(super) const GITHUB_LIMIT: usize = 65_535;
/// Buildkite refuses more to a pipeline trigger.
pub(super) const BUILDKITE_LIMIT: usize = 5_000_000;
/// Longest `event_type`, in characters.
const GITHUB_EVENT_TYPE: usize = 100;

/// `repository_dispatch`: `client_payload` may have ten keys, so everything is under one. A body that does not fit is
/// left out, and `body` is null.
pub(super) fn github(event: &Event, body: &Value) -> String {
    let event_type: String = event.name.chars().take(GITHUB_EVENT_TYPE).collect();
    let whole = |body: &Value| {
        let payload = json!({ "event": described(event, body) });
        json!({ "event_type": event_type, "client_payload": payload }).to_string()
    };
    let full = whole(body);
    if full.len() <= GITHUB_LIMIT { full } else { whole(&Value::Null) }
}

/// A pipeline trigger: the build sees the body and no header, so the id is in the body. The event's own body is left out,
/// too, where it does not fit.
pub(super) fn buildkite(event: &Event, body: &Value) -> String {
    let full = described(event, body).to_string();
    if full.len() <= BUILDKITE_LIMIT { full } else { described(event, &Value::Null).to_string() }
}

fn described(event: &Event, body: &Value) -> Value {
    json!({
        "id": event.id.to_string(),
        "source": event.source.as_str(),
        "name": event.name,
        "received_at": event.received_at.to_string(),
        "order_key": event.order_key,
        "body": body,
    })
}
