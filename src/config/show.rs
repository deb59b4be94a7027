//! The configuration in effect, as a user would write it, with every secret as its reference.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::raw::{self, Root};
use super::secret::PLAIN;
use super::table::{Shape, Table};
use super::tree::{Datum, Node};
use super::units;

/// Every key of every table that is in effect, in the order they are declared.
pub(super) fn effective(root: &Node) -> Value {
    table(root, &Root::TABLE)
}

fn table(node: &Node, table: &Table) -> Value {
    let mut entries = Map::new();
    for field in table.fields {
        let default = field.default_node();
        if let Some(value) = node.get(field.key()).or(default.as_ref()) {
            entries.insert(field.key().to_owned(), json(value, &field.shape));
        }
    }
    Value::Object(entries)
}

/// One value as JSON.
pub(super) fn json(node: &Node, shape: &Shape) -> Value {
    match (shape, &node.datum) {
        (Shape::Secret, Datum::Text(reference)) => redacted(reference).into(),
        (Shape::Secret, _) => "[redacted]".into(),
        (Shape::List(of), Datum::List(items)) => items.iter().map(|item| json(item, of)).collect(),
        (Shape::List(of), _) => Value::Array(vec![json(node, of)]),
        (Shape::Table(of) | Shape::Either(_, of), Datum::Table(_)) => table(node, of),
        (Shape::Named(of), Datum::Table(entries)) => {
            let named = entries.iter().map(|(name, node)| (name.clone(), named(name, node, of)));
            Value::Object(named.collect())
        }
        (_, Datum::Text(text)) => text.clone().into(),
        (_, Datum::Integer(number)) => i64::try_from(*number).unwrap_or(i64::MAX).into(),
        (_, Datum::Float(number)) => (*number).into(),
        (_, Datum::Boolean(value)) => (*value).into(),
        (_, Datum::List(items)) => items.iter().map(|item| json(item, &Shape::Text)).collect(),
        (_, Datum::Table(entries)) => {
            let entries = entries.iter().map(|(k, node)| (k.clone(), json(node, &Shape::Text)));
            Value::Object(entries.collect())
        }
    }
}

/// A source or a target, with the defaults that depend on other keys.
fn named(name: &str, node: &Node, of: &Table) -> Value {
    let mut value = table(node, of);
    let is_source = of.fields.iter().any(|field| field.key() == "provider");
    if let (Some(entries), true) = (value.as_object_mut(), is_source) {
        entries.entry("path").or_insert_with(|| format!("/in/{name}").into());
    }
    if let Some(retry) = value.get_mut("retry").and_then(Value::as_object_mut) {
        let delays = ["schedule", "initial", "factor", "max", "attempts"];
        if delays.iter().all(|key| !retry.contains_key(*key)) {
            let schedule = raw::DEFAULT_SCHEDULE.iter().map(|delay| units::format_duration(*delay));
            retry.insert("schedule".into(), schedule.collect());
        } else if !retry.contains_key("schedule") {
            let initial = units::format_duration(raw::DEFAULT_INITIAL);
            let max = units::format_duration(raw::DEFAULT_MAX);
            retry.entry("initial").or_insert(initial.into());
            retry.entry("factor").or_insert(raw::DEFAULT_FACTOR.into());
            retry.entry("max").or_insert(max.into());
            retry.entry("attempts").or_insert(raw::DEFAULT_ATTEMPTS.into());
        }
    }
    value
}

fn redacted(reference: &str) -> String {
    if reference.starts_with(PLAIN) {
        return format!("{PLAIN}[redacted]");
    }
    reference.to_owned()
}

/// What [`effective`] gave, as TOML.
pub fn toml_text(effective: &Value) -> String {
    let mut text = String::new();
    section(&mut text, "", effective);
    text.trim_start().to_owned()
}

/// Tables down to the second level have headers of their own; deeper ones are written inline.
fn section(text: &mut String, header: &str, value: &Value) {
    let Some(entries) = value.as_object() else { return };
    let has_header = |key: &str, value: &Value| {
        value.is_object()
            && (header.is_empty() || ["source", "target"].contains(&header))
            && !key.is_empty()
    };
    if !header.is_empty() && !entries.iter().all(|(key, value)| has_header(key, value)) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n[{header}]");
    }
    for (key, value) in entries.iter().filter(|(key, value)| !has_header(key, value)) {
        let _ = writeln!(text, "{} = {}", bare(key), inline(value));
    }
    for (key, value) in entries.iter().filter(|(key, value)| has_header(key, value)) {
        let path = if header.is_empty() { bare(key) } else { format!("{header}.{}", bare(key)) };
        section(text, &path, value);
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) if entries.is_empty() => "{}".into(),
        Value::Object(entries) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{} = {}", bare(key), inline(value));
            format!("{{ {} }}", entries.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        // A JSON string is a TOML basic string; numbers and booleans are written alike.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A key, quoted when it has to be.
fn bare(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !key.is_empty() && key.bytes().all(plain) {
        return key.to_owned();
    }
    Value::from(key).to_string()
}
