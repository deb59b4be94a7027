//! The reference of the configuration, made from the tables that read it.

use super::raw::Root;
use super::table::{Field, Shape, Table};

/// Every table and every key, in Markdown: what it takes, its default and its bounds. `docs/configuration.md` ends with it.
pub fn reference() -> String {
    let mut text = String::from("## Reference\n\n");
    walk(&[], &Root::TABLE, &mut |path, table| {
        if path.is_empty() {
            return;
        }
        let title = path.join(".").replace(".name", ".NAME");
        let about = table.doc.trim();
        text.extend(["### `[", &title, "]`\n\n", about, "\n\n"]);
        text += "| key | value | default | bounds | meaning |\n|---|---|---|---|---|\n";
        for field in table.fields.iter().filter(|field| !matches!(field.shape, Shape::Table(_))) {
            let default = match (field.required, field.default) {
                (Some(_), _) => "required".to_owned(),
                (None, None) => "-".to_owned(),
                (None, Some(default)) => format!("`{default}`"),
            };
            let row =
                [&*named(&field.shape), &*default, &*bounds(field), field.doc.trim()].join(" | ");
            text.extend(["| `", field.key(), "` | ", &row, " |\n"]);
        }
        text.push('\n');
    });
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// Visits every table below `table` with the keys that lead to it.
pub(super) fn walk(
    path: &[&'static str],
    table: &Table,
    visit: &mut impl FnMut(&[&'static str], &Table),
) {
    visit(path, table);
    for field in table.fields {
        let key = [path, &[field.key()]].concat();
        if let Shape::Table(below) | Shape::Either(_, below) = field.shape {
            walk(&key, below, visit);
        } else if let Shape::Named(below) = field.shape {
            walk(&[&key[..], &["name"]].concat(), below, visit);
        }
    }
}

fn bounds(field: &Field) -> String {
    let range = field.range.map(|(low, high)| format!("{low} to {high}"));
    let is_text = matches!(field.shape, Shape::Text | Shape::Url);
    let unit = if is_text {
        "bytes"
    } else if matches!(field.shape, Shape::Conditions | Shape::HeaderFields) {
        "fields"
    } else {
        "elements"
    };
    // What `setting` gives a text that declares no bound.
    let text = is_text.then_some((1, 1_024));
    let size = field.size.or(text).map(|(low, high)| format!("{low} to {high} {unit}"));
    let both: Vec<_> = size.into_iter().chain(range).collect();
    if both.is_empty() { "-".to_owned() } else { both.join(", each ") }
}

/// What a key takes, in words.
pub(super) fn named(shape: &Shape) -> String {
    match shape {
        Shape::Network => "address or network".into(),
        Shape::Text | Shape::Url => "text".into(),
        Shape::Boolean => "true or false".into(),
        Shape::Integer => "whole number".into(),
        Shape::Number => "number".into(),
        Shape::NumberOr(word) => format!("number, or `{word:?}`"),
        Shape::Duration => "duration".into(),
        Shape::DurationOrSeconds => "duration, or whole seconds".into(),
        Shape::Size => "size".into(),
        Shape::Frequency | Shape::RequestRate => "rate".into(),
        Shape::Address => "IP:PORT".into(),
        Shape::Secret => "secret".into(),
        Shape::Provider => "provider".into(),
        Shape::Choice(words) => {
            words.iter().map(|word| format!("`{word:?}`")).collect::<Vec<_>>().join(" ")
        }
        Shape::List(of) => format!("one or several: {}", named(of)),
        Shape::Conditions => "fields and patterns".into(),
        Shape::HeaderFields => "header fields".into(),
        Shape::Either(word, _) => format!("`{word:?}` or a table"),
        Shape::Table(_) => "table".into(),
        Shape::Named(_) => "tables by name".into(),
    }
}
