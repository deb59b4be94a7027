//! How what the journal holds is shown as JSON. Credentials in header fields are masked, bodies are cut.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::journal::{DeliveryState, Found, Listed, Repeat, Stage};
use crate::model::{
    AS_IT_CAME, Answer, Attempt, Event, Headers, MASKED, MAX_SEEN_BODY, Name, Rejection,
    RejectionOutline, Timing,
};
use crate::rules::outbound::is_a_proof;
use crate::time::Timestamp;

/// Most bytes of a body that an answer shows.
const MAX_BODY: usize = 1024 * 1024;
/// What stands in place of a credential.
const MASK: &str = "***";

/// An event of a list.
pub(super) fn listed(item: &Listed) -> Value {
    let deliveries: Vec<_> = item.deliveries.iter().map(delivery).collect();
    json!({
        "id": item.id.to_string(),
        "source": item.source,
        "event": item.name,
        "received_at": item.received_at,
        "bytes": item.bytes,
        "deliveries": deliveries,
    })
}

/// How a delivery stands.
pub(super) fn delivery(state: &DeliveryState) -> Value {
    let (word, reason) = state.stage.word();
    let due = match state.stage {
        Stage::Waiting(due) => Some(due),
        Stage::Ready | Stage::InFlight | Stage::Delivered | Stage::Dead(_) | Stage::Discarded => {
            None
        }
    };
    json!({
        "target": state.target.as_str(),
        "state": word.as_str(),
        "attempts": state.attempts,
        "reason": reason.map(crate::model::DeadReason::as_str),
        "due_at": due,
    })
}

/// A delivery of a list.
pub(super) fn listed_delivery(item: &Listed, state: &DeliveryState) -> Value {
    let mut shown = json!({
        "id": item.id.to_string(),
        "source": item.source,
        "event": item.name,
        "received_at": item.received_at,
        "bytes": item.bytes,
    });
    merge(&mut shown, delivery(state));
    shown
}

/// Adds the members of one object to another.
pub(super) fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// One event whole. `proofs` are header fields to be masked, whatever their names say.
pub(super) fn found(found: &Found, proofs: &[String]) -> Value {
    let Event { id, source, name, order_key, received_at, headers, body } = &found.event;
    let attempts = found.attempts.iter();
    let attempts: Vec<_> =
        attempts.map(|(target, made, due)| attempt(target, made, *due, headers)).collect();
    let repeat = |it: &Repeat| json!({ "received_at": it.at, "client": address(it.client) });
    let repeats: Vec<_> = found.repeats.latest.iter().map(repeat).collect();
    json!({
        "id": id.to_string(),
        "source": source.as_str(),
        "event": name,
        "received_at": received_at,
        "order_key": order_key,
        "headers": fields(headers, proofs),
        "body": shown_body(body, false),
        "deliveries": found.deliveries.iter().map(delivery).collect::<Vec<_>>(),
        "attempts": attempts,
        "repeats": { "count": found.repeats.count, "latest": repeats },
    })
}

/// The fields of a request with the values that came with the event filled in.
fn sent(recorded: &Headers, event: &Headers) -> Headers {
    let mut passed: HashMap<&str, usize> = HashMap::new();
    let filled = recorded.iter().map(|(name, value)| {
        if value != AS_IT_CAME {
            return (name, value);
        }
        let nth = passed.entry(name).or_default();
        let own = event.get_all(name).nth(*nth).unwrap_or_default();
        *nth = nth.saturating_add(1);
        (name, own)
    });
    Headers::from_pairs(filled)
}

/// One attempt. `event` is what came with its event: what of it was passed on is not recorded again.
pub(super) fn attempt(
    target: &Name,
    made: &Attempt,
    due: Option<Timestamp>,
    event: &Headers,
) -> Value {
    let (status, error, retry_after) = match &made.answer {
        Answer::Status { status, retry_after } => (Some(*status), None, retry_after.as_deref()),
        Answer::Failed(class) => (None, Some(class.as_str()), None),
        Answer::Interrupted => (None, None, None),
    };
    let outcome = match made.answer {
        Answer::Status { status: 200..300, .. } => "delivered",
        Answer::Status { .. } | Answer::Failed(_) => "failed",
        Answer::Interrupted => "interrupted",
    };
    let seen = &made.seen;
    let Timing { dns, connect, tls, first_byte } = seen.timing;
    json!({
        "target": target.as_str(),
        "number": made.number,
        "started_at": made.started_at,
        "duration_ms": millis(made.duration),
        "outcome": outcome,
        "status": status,
        "error": error,
        "detail": seen.detail,
        "retry_after": retry_after.or_else(|| seen.headers.get_str("retry-after")),
        "remote": seen.remote.map(|remote| remote.to_string()),
        "timing": {
            "dns_ms": dns.map(millis),
            "connect_ms": connect.map(millis),
            "tls_ms": tls.map(millis),
            "first_byte_ms": first_byte.map(millis),
        },
            "request_headers": fields(&sent(&seen.request, event), &[]),
            "headers": fields(&seen.headers, &[]),
        "body": shown_body(&seen.body, seen.body_cut),
        "next_attempt_at": due,
    })
}

/// A refused request of a list.
pub(super) fn listed_rejection(item: &RejectionOutline) -> Value {
    json!({
        "id": item.id.to_string(),
        "source": item.source.as_str(),
        "cause": item.cause.as_str(),
        "received_at": item.received_at,
        "client": address(item.client),
        "held": item.held,
        "bytes": item.bytes,
    })
}

/// A copy of an event that says something else.
pub(super) fn conflict(item: &RejectionOutline) -> Value {
    json!({
        "id": item.id.to_string(),
        "received_at": item.received_at,
        "client": address(item.client),
    })
}

/// A refused request whole, with the same fields masked.
pub(super) fn rejection(it: &Rejection, proofs: &[String]) -> Value {
    json!({
        "id": it.id.to_string(),
        "source": it.source.as_str(),
        "cause": it.cause.as_str(),
        "received_at": it.received_at,
        "client": address(it.client),
        "held": it.held,
        "query": it.query.as_deref().map(masked_query),
        "headers": fields(&it.headers, proofs),
        "body": shown_body(&it.body, false),
    })
}

fn address(client: IpAddr) -> String {
    client.to_canonical().to_string()
}

fn millis(took: Duration) -> f64 {
    // To the microsecond, which is what is recorded.
    (took.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// Header fields as names and values, with a third word where a value is not as it came.
fn fields(headers: &Headers, proofs: &[String]) -> Value {
    let field = |(name, value): (&str, &[u8])| {
        if is_a_proof(name) || value == MASKED || proofs.iter().any(|proof| proof == name) {
            return json!([name, MASK, "masked"]);
        }
        match std::str::from_utf8(value) {
            Ok(value) => json!([name, value]),
            Err(_not_text) => json!([name, escaped(value), "escaped"]),
        }
    };
    headers.iter().map(field).collect()
}

fn escaped(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            write!(text, "\\x{byte:02x}").unwrap_or_default();
        }
    }
    text
}

/// The query of a URL without the values that are secrets.
pub(super) fn masked_query(query: &str) -> String {
    let masked = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_a_proof(&name.to_ascii_lowercase()) => format!("{name}={MASK}"),
        Some(_) | None => pair.to_owned(),
    };
    query.split('&').map(masked).collect::<Vec<_>>().join("&")
}

/// A body as text if it is text, else as base64. `is_cut`: it is not whole already.
fn shown_body(body: &Bytes, is_cut: bool) -> Value {
    let beginning = body.get(..MAX_BODY).unwrap_or(body);
    let truncated = is_cut || beginning.len() < body.len();
    let (encoding, data) = match std::str::from_utf8(beginning) {
        Ok(text) => ("utf-8", text.to_owned()),
        // It was cut amid a character.
        Err(error) if truncated && error.error_len().is_none() => {
            let whole = beginning.get(..error.valid_up_to()).unwrap_or_default();
            ("utf-8", String::from_utf8_lossy(whole).into_owned())
        }
        Err(_not_text) => ("base64", base64(beginning)),
    };
    json!({ "encoding": encoding, "data": data, "size": body.len(), "truncated": truncated })
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

// What is recorded of an answer is never cut again.
const _: () = assert!(MAX_SEEN_BODY < MAX_BODY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_and_bytes_that_are_no_text_are_escaped() {
        let headers = Headers::from_pairs([
            ("content-type", &b"text/plain"[..]),
            ("x-gitlab-token", b"canary"),
            ("authorization", b"Bearer canary"),
            ("cookie", b"canary"),
            ("x-hub-signature-256", b"canary"),
            ("x-shopify-hmac-sha256", b"canary"),
            ("idempotency-key", b"7"),
            ("x-odd", b"a\xffb"),
            ("x-seal", b"canary"),
        ]);
        let shown = fields(&headers, &["x-seal".to_owned()]);
        assert!(!shown.to_string().contains("canary"), "{shown}");
        assert_eq!(shown[0], json!(["content-type", "text/plain"]));
        assert_eq!(shown[1], json!(["x-gitlab-token", "***", "masked"]));
        assert_eq!(shown[6], json!(["idempotency-key", "7"]));
        assert_eq!(shown[7], json!(["x-odd", "a\\xffb", "escaped"]));
        assert_eq!(masked_query("a=b&Token=canary&c"), "a=b&Token=***&c");
    }

    #[test]
    fn what_a_request_passed_on_is_shown_with_its_values_and_what_is_secret_is_not() {
        let event = Headers::from_pairs([
            ("x-event", &b"push"[..]),
            ("x-token", b"canary"),
            ("x-event", b"second"),
        ]);
        let recorded = Headers::from_pairs([
            ("x-event", AS_IT_CAME),
            ("x-event", AS_IT_CAME),
            ("x-token", AS_IT_CAME),
            ("x-team", MASKED),
            ("webhook-id", b"evt_1"),
            ("x-gone", AS_IT_CAME),
        ]);
        let expected = json!([
            ["x-event", "push"],
            ["x-event", "second"],
            ["x-token", "***", "masked"],
            ["x-team", "***", "masked"],
            ["webhook-id", "evt_1"],
            ["x-gone", ""],
        ]);
        assert_eq!(fields(&sent(&recorded, &event), &[]), expected);
    }

    #[test]
    fn a_body_is_text_or_base64_and_is_cut_between_characters() {
        let text = shown_body(&Bytes::from_static("é".as_bytes()), false);
        assert_eq!(text, json!({"encoding": "utf-8", "data": "é", "size": 2, "truncated": false}));
        let bytes = shown_body(&Bytes::from_static(b"\xff\x00"), false);
        assert_eq!((&bytes["encoding"], &bytes["data"]), (&json!("base64"), &json!("/wA=")));
        // Half a character at the end of a body that is whole is no text.
        let half = Bytes::from_static(b"a\xc3");
        assert_eq!(shown_body(&half, false)["encoding"], "base64");
        assert_eq!(shown_body(&half, true)["data"], "a");
        let long = Bytes::from(vec![b'x'; MAX_BODY + 3]);
        let long = shown_body(&long, false);
        assert_eq!((&long["size"], &long["truncated"]), (&json!(MAX_BODY + 3), &json!(true)));
        assert_eq!(long["data"].as_str().map(str::len), Some(MAX_BODY));
    }
}
