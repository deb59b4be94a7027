//! The settings as they were written, merged from every place, before anything is believed of them.
//!
//! Each value remembers where it came from, so that a mistake found much later can still name the file and
//! the line, or the environment variable.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A value and where it came from. No `Debug`: it may hold a secret.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) datum: Datum,
    pub(super) origin: Origin,
}

/// What TOML can say.
#[derive(Clone)]
pub(super) enum Datum {
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Built in.
    Default,
    /// A file; the line is found from the key path when it is needed.
    File(PathBuf),
    /// An `EVERHOOK_` variable; its name follows from the key path.
    Environment,
    /// A flag of the command line.
    Flag(String),
}

impl Node {
    /// The value under one key of a table.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.datum {
            Datum::Table(entries) => entries.get(key),
            Datum::Text(_)
            | Datum::Integer(_)
            | Datum::Float(_)
            | Datum::Boolean(_)
            | Datum::List(_) => None,
        }
    }

    /// The value at a path, or the deepest one on the way to it.
    pub(super) fn deepest(&self, path: &KeyPath) -> &Self {
        let mut node = self;
        for step in &path.0 {
            let next = match (step, &node.datum) {
                (Step::Key(key), Datum::Table(entries)) => entries.get(key),
                (Step::Index(index), Datum::List(items)) => items.get(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// "the integer 5", without ever showing a text: a text may be a secret in the wrong place.
    pub(super) fn kind(&self) -> &'static str {
        match &self.datum {
            Datum::Text(_) => "a text",
            Datum::Integer(_) => "an integer",
            Datum::Float(_) => "a number",
            Datum::Boolean(_) => "a boolean",
            Datum::List(_) => "a list",
            Datum::Table(_) => "a table",
        }
    }
}

/// One step down into the settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The way to a setting, `target.deploy.events[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPath(pub(super) Vec<Step>);

impl KeyPath {
    /// A path of plain keys.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    /// One key further down.
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// One element of the list here.
    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The environment variable that sets this path. A list is set as a whole.
    pub(super) fn variable(&self) -> String {
        let keys = self.0.iter().map_while(|step| match step {
            Step::Key(key) => Some(key.to_ascii_uppercase()),
            Step::Index(_) => None,
        });
        format!("{}{}", super::ENV_PREFIX, keys.collect::<Vec<_>>().join("__"))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if depth == 0 { "" } else { "." };
                    if !key.is_empty() && key.bytes().all(bare) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prints_as_toml_would_write_it() {
        let path = KeyPath::of(&["target", "deploy", "where", "/data/x"]).index(1);
        assert_eq!(path.to_string(), r#"target.deploy.where."/data/x"[1]"#);
        assert_eq!(KeyPath::of(&["source", "a-b"]).to_string(), "source.a-b");
    }

    #[test]
    fn a_path_names_its_variable() {
        let path = KeyPath::of(&["ingress", "ack_timeout"]);
        assert_eq!(path.variable(), "EVERHOOK_INGRESS__ACK_TIMEOUT");
        assert_eq!(
            KeyPath::of(&["ingress", "listen"]).index(3).variable(),
            "EVERHOOK_INGRESS__LISTEN"
        );
    }
}
