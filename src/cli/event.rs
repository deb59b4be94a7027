//! One event for reading: where its deliveries stand, every attempt, what was received.

use serde_json::Value;

use super::bulk::text;
use super::many;
use super::terminal::{safe, safe_lines};

/// One event for reading.
pub(super) fn page(event: &Value) -> Vec<String> {
    let mut lines = vec![
        format!("{}  {}", text(event, "id"), safe(text(event, "event"))),
        format!("from {} at {}", text(event, "source"), text(event, "received_at")),
    ];
    if let Some(key) = event.get("order_key").and_then(Value::as_str) {
        lines.push(format!("order key {}", safe(key)));
    }
    let conflicts = event.get("conflicts").and_then(Value::as_array).into_iter().flatten();
    lines.extend(conflicts.map(|it| format!("a copy says something else: {}", text(it, "id"))));
    lines.extend(repeats(event));
    lines.push(String::new());
    let deliveries = event.get("deliveries").and_then(Value::as_array);
    for delivery in deliveries.into_iter().flatten() {
        lines.push(standing(delivery));
        let attempts = event.get("attempts").and_then(Value::as_array).into_iter().flatten();
        let of_target = attempts.filter(|it| text(it, "target") == text(delivery, "target"));
        lines.extend(of_target.map(attempt));
    }
    lines.push(String::new());
    lines.extend(headers(event));
    lines.push(String::new());
    lines.push(body(event));
    lines
}

fn standing(delivery: &Value) -> String {
    let mut line = format!("{}: {}", text(delivery, "target"), text(delivery, "state"));
    for (name, word) in [("reason", "because"), ("due_at", "next attempt at")] {
        if let Some(value) = delivery.get(name).and_then(Value::as_str) {
            line = format!("{line}, {word} {value}");
        }
    }
    line
}

/// How often it was repeated, and when last.
fn repeats(event: &Value) -> Option<String> {
    let repeats = event.get("repeats")?;
    let count = repeats.get("count").and_then(Value::as_u64).filter(|count| *count > 0)?;
    let latest = repeats.get("latest").and_then(Value::as_array);
    let at = latest.into_iter().flatten().map(|it| text(it, "received_at")).max();
    let last = at.map(|at| format!(", the latest at {at}")).unwrap_or_default();
    Some(format!("{}{last}", many(count, "repeat")))
}

/// An attempt: when, what came of it and where the time went; of one that failed what was answered, too.
fn attempt(made: &Value) -> String {
    let number = made.get("number").and_then(Value::as_u64).unwrap_or(0);
    let status = made.get("status").and_then(Value::as_u64).map(|status| status.to_string());
    let error = made.get("error").and_then(Value::as_str).map(str::to_owned);
    let what = status.or(error).unwrap_or_else(|| text(made, "outcome").to_owned());
    let took = made.get("duration_ms").and_then(Value::as_f64).unwrap_or(0.0);
    let mut line = format!("  {number}. {}  {what}  {took:.0} ms", text(made, "started_at"));
    line.extend(timing(made));
    for name in ["remote", "detail"] {
        if let Some(value) = made.get(name).and_then(Value::as_str) {
            line = format!("{line}  {}", safe(value));
        }
    }
    if text(made, "outcome") != "failed" {
        return line;
    }
    let answer = made.get("body").map(|body| text(body, "data")).unwrap_or_default();
    let fields = headers(made).into_iter().map(|field| format!("\n     < {field}"));
    line.extend(fields);
    if !answer.is_empty() {
        let start: String = answer.chars().take(200).collect();
        line = format!("{line}\n     answered: {}", safe(&start));
    }
    line
}

/// The parts of the time that were measured.
fn timing(made: &Value) -> Option<String> {
    let of = |name: &str| made.get("timing")?.get(name)?.as_f64();
    let parts = [
        ("dns", of("dns_ms")),
        ("connect", of("connect_ms")),
        ("tls", of("tls_ms")),
        ("answer", of("first_byte_ms")),
    ];
    let parts = parts.into_iter().filter_map(|(name, ms)| Some(format!("{name} {:.1}", ms?)));
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| format!(" ({})", parts.join(", ")))
}

/// Header fields, one a line.
pub(super) fn headers(of: &Value) -> Vec<String> {
    let fields = of.get("headers").and_then(Value::as_array).into_iter().flatten();
    let field = |field: &Value| {
        let part = |index: usize| field.get(index).and_then(Value::as_str).unwrap_or_default();
        format!("{}: {}", safe(part(0)), safe(part(1)))
    };
    fields.map(field).collect()
}

/// A body as it may be shown.
pub(super) fn body(of: &Value) -> String {
    let body = of.get("body").cloned().unwrap_or_default();
    let size = body.get("size").and_then(Value::as_u64).unwrap_or(0);
    let cut = body.get("truncated").and_then(Value::as_bool).unwrap_or(false);
    let shown = match text(&body, "encoding") {
        "utf-8" => safe_lines(text(&body, "data")),
        _ => format!("[{size} bytes that are no text; --body writes them]"),
    };
    if cut { format!("{shown}\n[the beginning of {size} bytes]") } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_shown_without_anything_that_steers_the_terminal() {
        let event = json!({
            "id": "evt_1", "event": "a\u{1b}[31m", "source": "s", "received_at": "t",
            "headers": [["x-a", "\u{9b}b"]],
            "body": {"encoding": "utf-8", "data": "{\n\u{202e}}", "size": 9, "truncated": true},
            "deliveries": [{"target": "t", "state": "dead", "reason": "gone", "due_at": null}],
            "repeats": {"count": 2, "latest": [{"received_at": "v"}, {"received_at": "u"}]},
            "attempts": [{
                "target": "t", "number": 1, "started_at": "u", "outcome": "failed", "status": 410,
                "duration_ms": 1.6, "timing": {"dns_ms": null, "connect_ms": 0.25, "first_byte_ms": 1.5},
                "headers": [["x-why", "n\u{1b}o"]], "detail": "\u{7}", "body": {"data": "\u{1b}]0;x\u{7}"},
            }],
        });
        let page = page(&event).join("\n");
        assert!(page.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{page:?}");
        for part in [
            "t: dead, because gone",
            "1. u  410  2 ms (connect 0.2, answer 1.5)",
            "     < x-why: n\\u{1b}o",
            "2 repeats, the latest at v",
            "[the beginning of 9 bytes]",
        ] {
            assert!(page.contains(part), "{page}");
        }
    }
}
