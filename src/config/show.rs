//! The configuration in effect, as a user would write it, with every secret as its reference.

use serde_json::{Map, Value};

use super::Config;
use super::raw::{self, Root};
use super::secret::PLAIN;
use super::table::{Field, Shape, Table};
use super::tree::{Datum, Node};
use super::units;

/// Every key of every table that is in effect, in the order they are declared.
pub(super) fn effective(root: &Node, config: &Config) -> Value {
    let mut shown = table(root, &Root::TABLE);
    if let Some(path) = shown.pointer_mut("/journal/path") {
        *path = config.journal.path.to_string_lossy().into();
    }
    shown
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
        (Shape::HeaderFields, Datum::Table(fields)) => {
            let fields = fields.iter().map(|(k, node)| (k.clone(), json(node, &Shape::Secret)));
            Value::Object(fields.collect())
        }
        (Shape::Url, Datum::Text(url)) => without_query_values(url).into(),
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
    let Some(entries) = value.as_object_mut() else { return value };
    if of.fields.iter().any(|field| field.key() == "provider") {
        entries.entry("path").or_insert_with(|| format!("/in/{name}").into());
        sort(entries, of);
    }
    if let Some(retry) = entries.get_mut("retry").and_then(Value::as_object_mut) {
        complete_retry(retry);
        sort(retry, &raw::Retry::TABLE);
    }
    value
}

/// Fills in the keys of the way of retrying that was chosen.
fn complete_retry(retry: &mut Map<String, Value>) {
    let grows = ["initial", "factor", "max", "attempts"].iter().any(|key| retry.contains_key(*key));
    if grows {
        let initial = units::format_duration(raw::DEFAULT_INITIAL);
        let max = units::format_duration(raw::DEFAULT_MAX);
        retry.entry("initial").or_insert(initial.into());
        retry.entry("factor").or_insert(raw::DEFAULT_FACTOR.into());
        retry.entry("max").or_insert(max.into());
        retry.entry("attempts").or_insert(raw::DEFAULT_ATTEMPTS.into());
    } else {
        let schedule = raw::DEFAULT_SCHEDULE.iter().map(|delay| units::format_duration(*delay));
        retry.entry("schedule").or_insert_with(|| schedule.collect());
    }
}

/// Puts the keys back into the order in which they are declared.
fn sort(entries: &mut Map<String, Value>, of: &Table) {
    let mut rest = std::mem::take(entries);
    let declared = of.fields.iter().map(Field::key);
    entries.extend(declared.filter_map(|key| rest.remove_entry(key)));
}

fn redacted(reference: &str) -> String {
    if reference.starts_with(PLAIN) {
        return format!("{PLAIN}[redacted]");
    }
    reference.to_owned()
}

/// A URL as it may be shown: tokens of receivers often stand in the query. A user or a password is refused before.
fn without_query_values(url: &str) -> String {
    let Some((before, query)) = url.split_once('?') else { return url.to_owned() };
    let shown = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=[redacted]"),
        None if pair.is_empty() => String::new(),
        None => "[redacted]".to_owned(),
    };
    format!("{before}?{}", query.split('&').map(shown).collect::<Vec<_>>().join("&"))
}

/// What `effective` gave, as TOML.
pub fn toml_text(effective: &Value) -> String {
    let mut lines = Vec::new();
    section(&mut lines, "", effective);
    lines.join("\n").trim_start().to_owned()
}

/// Tables down to the second level have headers of their own; deeper ones are written inline.
fn section(lines: &mut Vec<String>, header: &str, value: &Value) {
    let Some(entries) = value.as_object() else { return };
    let of_tables = ["", "source", "target"].contains(&header);
    let (tables, values): (Vec<_>, Vec<_>) =
        entries.iter().partition(|(_, value)| of_tables && value.is_object());
    if !values.is_empty() {
        lines.push(format!("\n[{header}]"));
    }
    for (key, value) in values {
        lines.push(format!("{} = {}", bare(key), inline(value)));
    }
    for (key, value) in tables {
        let dot = if header.is_empty() { "" } else { "." };
        section(lines, &format!("{header}{dot}{}", bare(key)), value);
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
