//! The JSON Schema of the configuration, made from the tables that read it.

use serde_json::{Map, Value, json};

use super::raw::Root;
use super::show::json;
use super::table::{Field, Shape, Table};
use crate::rules::provider::presets;

/// What `units::parse_duration` reads.
const DURATION_PATTERN: &str =
    "^(?=.)([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// The JSON Schema (2020-12) of a configuration file, for editors and checks.
pub fn schema() -> Value {
    let mut schema =
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "everhook" });
    if let (Some(all), Value::Object(root)) = (schema.as_object_mut(), object(&Root::TABLE)) {
        all.extend(root);
    }
    schema
}

/// One table: its keys and no others.
fn object(table: &Table) -> Value {
    let properties: Map<_, _> =
        table.fields.iter().map(|field| (field.key().to_owned(), property(field))).collect();
    let required: Vec<_> =
        table.fields.iter().filter(|field| is_required(field)).map(Field::key).collect();
    let mut object = json!({
        "type": "object",
        "description": table.doc.trim(),
        "additionalProperties": false,
        "properties": properties,
    });
    if let (Some(object), false) = (object.as_object_mut(), required.is_empty()) {
        object.insert("required".into(), json!(required));
    }
    object
}

/// Sources and targets have no default that would do.
fn is_required(field: &Field) -> bool {
    field.required.is_some() || matches!(field.shape, Shape::Named(_))
}

fn property(field: &Field) -> Value {
    let mut property = typed(&field.shape, field);
    let Some(entries) = property.as_object_mut() else { return property };
    let range = match field.range {
        Some((low, high)) => format!(" From {low} to {high}."),
        None => String::new(),
    };
    let description = format!("{}{range}", field.doc.trim());
    entries.insert("description".into(), description.into());
    if let (Some(default), false) = (field.default_node(), is_required(field)) {
        entries.insert("default".into(), json(&default, &field.shape));
    }
    property
}

fn typed(shape: &Shape, field: &Field) -> Value {
    match shape {
        Shape::Text | Shape::Url => sized(json!({ "type": "string" }), "Length", field),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer => ranged(json!({ "type": "integer" }), field),
        Shape::Number => ranged(json!({ "type": "number" }), field),
        Shape::NumberOr(word) => {
            json!({ "anyOf": [ranged(json!({ "type": "number" }), field), { "const": word }] })
        }
        Shape::Duration => json!({ "type": "string", "pattern": DURATION_PATTERN }),
        Shape::DurationOrSeconds => {
            json!({ "type": ["string", "integer"], "pattern": DURATION_PATTERN })
        }
        Shape::Size => json!({ "type": "string", "pattern": "^[0-9]+([KMGT]iB|[kMGT]?B)$" }),
        Shape::Frequency => json!({ "type": "string", "pattern": "^[0-9]+/[smhd]$" }),
        Shape::Address => json!({ "type": "string", "examples": ["127.0.0.1:8080"] }),
        Shape::Network => json!({ "type": "string", "examples": ["203.0.113.0/24"] }),
        Shape::RequestRate => json!({ "type": "string", "pattern": "^[1-9][0-9]{0,6}/[smh]$" }),
        Shape::Secret => {
            json!({ "type": "string", "pattern": "^(file:/|env:.|credential:.|plain:.)" })
        }
        Shape::Provider => {
            json!({ "enum": presets().iter().map(|preset| preset.name).collect::<Vec<_>>() })
        }
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::List(of) => {
            // The bounds of the list are not those of a text in it.
            let element = if matches!(of, Shape::Text) {
                json!({ "type": "string" })
            } else {
                typed(of, field)
            };
            let list = sized(json!({ "type": "array", "items": element.clone() }), "Items", field);
            json!({ "anyOf": [list, element] })
        }
        Shape::Conditions => {
            let pattern = json!({ "type": ["string", "number", "boolean"] });
            let list = json!({ "type": "array", "minItems": 1, "items": pattern.clone() });
            let exists = json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["exists"],
                "properties": { "exists": { "type": "boolean" } },
            });
            json!({ "type": "object", "additionalProperties": { "anyOf": [list, pattern, exists] } })
        }
        Shape::HeaderFields => {
            let fields = json!({ "type": "object", "additionalProperties": { "type": "string" } });
            let Some((low, high)) = field.size else { return fields };
            let mut fields = fields;
            if let Some(entries) = fields.as_object_mut() {
                entries.insert("minProperties".into(), low.into());
                entries.insert("maxProperties".into(), high.into());
            }
            fields
        }
        Shape::Either(word, table) => json!({ "anyOf": [{ "const": word }, object(table)] }),
        Shape::Table(table) => object(table),
        Shape::Named(table) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9][a-z0-9-]{0,62}$" },
            "minProperties": 1,
            "additionalProperties": object(table),
        }),
    }
}

/// Adds `minLength` and `maxLength`, or the same of `Items`.
fn sized(mut schema: Value, of: &str, field: &Field) -> Value {
    if let (Some(entries), Some((low, high))) = (schema.as_object_mut(), field.size) {
        entries.insert(format!("min{of}"), low.into());
        entries.insert(format!("max{of}"), high.into());
    }
    schema
}

fn ranged(mut schema: Value, field: &Field) -> Value {
    if let (Some(entries), Some((low, high))) = (schema.as_object_mut(), field.range) {
        for (name, bound) in [("minimum", low), ("maximum", high)] {
            entries.extend(serde_json::from_str(bound).ok().map(|b: Value| (name.to_owned(), b)));
        }
    }
    schema
}

#[cfg(test)]
mod tests;
