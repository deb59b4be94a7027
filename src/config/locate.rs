//! From a key path to the line of the file that says it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml_edit::{ImDocument, Item, TableLike, Value};

use super::mistake::{ConfigError, Mistake, Place};
use super::tree::{Datum, KeyPath, Node, Origin, Step};

/// A file's text with its parsed form, which knows where each key stands.
pub(super) struct Document {
    path: PathBuf,
    parsed: ImDocument<String>,
}

impl Document {
    /// Parses a file's text. The mistake names line and column and shows nothing of the line, which may hold
    /// a secret.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        match ImDocument::parse(text.to_owned()) {
            Ok(parsed) => Ok(Self { path: path.to_owned(), parsed }),
            Err(error) => {
                let offset = error.span().map_or(text.len(), |span| span.start);
                let (line, column) = line_and_column(text, offset);
                Err(ConfigError::one(Mistake {
                    place: Place::File {
                        path: path.to_owned(),
                        line: Some(line),
                        column: Some(column),
                    },
                    key: String::new(),
                    problem: format!("this is not TOML: {}", one_line(error.message())),
                    remedy: "mend the line; nothing of a file that is not TOML can be checked"
                        .into(),
                }))
            }
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many steps of a key path the file contains, and the line of the last of them.
    pub(super) fn line(&self, at: &KeyPath) -> Option<(usize, usize)> {
        let mut found = None;
        let mut here = Here::Item(self.parsed.as_item());
        for (depth, step) in at.0.iter().enumerate() {
            let Some((span, next)) = here.step(step) else { break };
            found = span.map(|span| (depth + 1, span.start)).or(found);
            here = next;
        }
        found.map(|(depth, start)| (depth, line_and_column(self.parsed.raw(), start).0))
    }
}

/// One value written as TOML, for the defaults that are built in.
pub(super) fn parse_value(text: &str) -> Option<Node> {
    text.parse::<Value>().ok().and_then(|value| node(&value))
}

fn node(value: &Value) -> Option<Node> {
    let datum = match value {
        Value::String(text) => Datum::Text(text.value().clone()),
        Value::Integer(number) => Datum::Integer((*number.value()).into()),
        Value::Float(number) => Datum::Float(*number.value()),
        Value::Boolean(value) => Datum::Boolean(*value.value()),
        Value::Datetime(_) => return None,
        Value::Array(items) => Datum::List(items.iter().map(node).collect::<Option<_>>()?),
        Value::InlineTable(entries) => {
            let entries = entries.iter().map(|(key, value)| Some((key.to_owned(), node(value)?)));
            Datum::Table(entries.collect::<Option<_>>()?)
        }
    };
    Some(Node { datum, origin: Origin::Default })
}

/// A position in the parsed document.
enum Here<'a> {
    Item(&'a Item),
    Value(&'a Value),
}

impl<'a> Here<'a> {
    /// One step down, with the span of its key.
    fn step(&self, step: &Step) -> Option<(Option<Range<usize>>, Here<'a>)> {
        match step {
            Step::Key(key) => {
                let (key, item) = self.table()?.get_key_value(key)?;
                // A dotted key has no span of its own in every position: the value's will do.
                Some((key.span().or_else(|| item.span()), Here::Item(item)))
            }
            Step::Index(index) => {
                let value = self.value()?.as_array()?.get(*index)?;
                Some((value.span(), Here::Value(value)))
            }
        }
    }

    fn table(&self) -> Option<&'a dyn TableLike> {
        match self {
            Here::Item(item) => item.as_table_like(),
            Here::Value(value) => {
                value.as_inline_table().map(|table| -> &'a dyn TableLike { table })
            }
        }
    }

    fn value(&self) -> Option<&'a Value> {
        match self {
            Here::Item(item) => item.as_value(),
            Here::Value(value) => Some(value),
        }
    }
}

/// Both count from 1; the column counts characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count();
    (before.matches('\n').count() + 1, column + 1)
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[ingress]
listen = [
  \"a\",
  \"b\",
]

[source.x]
verify = { kind = \"hmac\", header = \"h\" }

where.\"/a/b\" = [\"c\"]
[target.y.retry]
";

    fn line(at: &KeyPath) -> Option<usize> {
        let document = Document::parse(Path::new("f"), TEXT).ok();
        document.unwrap().line(at).map(|(_, line)| line)
    }

    #[test]
    fn every_kind_of_key_is_found() {
        assert_eq!(line(&KeyPath::of(&["ingress"])), Some(1));
        assert_eq!(line(&KeyPath::of(&["ingress", "listen"])), Some(2));
        assert_eq!(line(&KeyPath::of(&["ingress", "listen"]).index(1)), Some(4));
        assert_eq!(line(&KeyPath::of(&["source", "x", "verify", "kind"])), Some(8));
        assert_eq!(line(&KeyPath::of(&["source", "x", "where", "/a/b"]).index(0)), Some(10));
        assert_eq!(line(&KeyPath::of(&["target", "y", "retry"])), Some(11));
    }

    #[test]
    fn a_missing_key_is_placed_at_its_table() {
        assert_eq!(line(&KeyPath::of(&["source", "x", "provider"])), Some(7));
        assert_eq!(line(&KeyPath::of(&["journal", "path"])), None);
    }

    #[test]
    fn broken_toml_has_a_line_and_a_column_and_shows_no_value() {
        let text = "[a]\nkey = \"hunter2\" hunter3\n";
        let mistake = Document::parse(Path::new("f"), text).err().unwrap().mistakes.remove(0);
        let place = Place::File { path: "f".into(), line: Some(2), column: Some(17) };
        assert_eq!(mistake.place, place);
        assert!(!mistake.to_string().contains("hunter"), "{mistake}");
    }
}
