//! What a configuration says, key by key, so that two of them can be compared without a value being shown.
//!
//! A digest stands for each value: of what was written or of the default, and of the secret or the file that it names.
//! So a secret that was rotated in its file is a change, though the configuration's text is the same.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{Context, SHA256};
use serde::Serialize;

use super::mistake::Findings;
use super::raw::Root;
use super::secret;
use super::table::{Shape, Table};
use super::tree::{Datum, KeyPath, Node, Step};
use crate::model::Secret;

/// Keys whose change takes effect at the next start only.
pub(super) const AT_START: [&str; 9] = [
    "ingress.listen",
    "ingress.max_connections",
    "admin.listen",
    "journal.path",
    "log.format",
    "otel.endpoint",
    "otel.headers",
    "otel.sample",
    "otel.queue",
];

/// A configuration's keys, each with a digest of its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline(BTreeMap<KeyPath, Digest>);

type Digest = [u8; 32];

/// A key, or a whole source or target, whose meaning changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `log.level`, `source.github.secret`, or `target.deploy` when the whole of it came or went.
    pub key: String,
    /// What happened to it.
    pub what: What,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It was not there before.
    Added,
    /// It, or the secret or file that it names, is another one.
    Changed,
    /// It is not there any more.
    Removed,
}

impl What {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

impl Outline {
    /// Of the settings as they were written. A secret that cannot be read is a mistake, found elsewhere.
    pub(super) fn of(root: &Node) -> Self {
        let mut outline = Self::default();
        outline.add_table(&KeyPath::default(), root, &Root::TABLE);
        outline
    }

    /// What is different in a newer one, by key. Sources and targets that are there in one only are named as a whole.
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let keys: BTreeSet<_> = self.0.keys().chain(newer.0.keys()).collect();
        let mut changes: Vec<Change> = Vec::new();
        for key in keys {
            let what = match (self.0.get(key), newer.0.get(key)) {
                (Some(old), Some(new)) if old == new => continue,
                (Some(_), Some(_)) => What::Changed,
                (None, _) => What::Added,
                (_, None) => What::Removed,
            };
            let there_in_both = |item: &KeyPath| self.has(item) && newer.has(item);
            let shown = item(key).filter(|item| !there_in_both(item));
            let change = Change { key: shown.as_ref().unwrap_or(key).to_string(), what };
            if changes.last() != Some(&change) {
                changes.push(change);
            }
        }
        changes
    }

    /// The keys that differ in a newer one and take effect at the next start only.
    pub fn at_start(&self, newer: &Self) -> Vec<String> {
        let changed = self.changes(newer).into_iter().map(|change| change.key);
        changed.filter(|key| AT_START.contains(&key.as_str())).collect()
    }

    /// Whether a source or a target says the same in a newer one.
    pub fn is_same(&self, newer: &Self, section: &str, name: &str) -> bool {
        let item = KeyPath::of(&[section, name]);
        self.below(&item).eq(newer.below(&item))
    }

    fn has(&self, item: &KeyPath) -> bool {
        self.below(item).next().is_some()
    }

    fn below<'a>(&'a self, item: &'a KeyPath) -> impl Iterator<Item = (&'a KeyPath, &'a Digest)> {
        self.0.range(item..).take_while(|(key, _)| key.0.starts_with(&item.0))
    }

    fn add_table(&mut self, at: &KeyPath, node: &Node, table: &Table) {
        for field in table.fields {
            let default = field.default_node();
            if let Some(value) = node.get(field.key()).or(default.as_ref()) {
                self.add(&at.key(field.key()), value, &field.shape);
            }
        }
    }

    fn add(&mut self, at: &KeyPath, node: &Node, shape: &Shape) {
        match (shape, &node.datum) {
            (Shape::Table(of) | Shape::Either(_, of), Datum::Table(_)) => {
                self.add_table(at, node, of);
            }
            (Shape::Named(of), Datum::Table(entries)) => {
                for (name, node) in entries {
                    self.add_table(&at.key(name), node, of);
                }
            }
            _ => {
                let mut context = Context::new(&SHA256);
                digest(&mut context, at, node);
                let digest = context.finish();
                self.0.insert(at.clone(), digest.as_ref().try_into().unwrap_or_default());
            }
        }
    }
}

/// The source or target that a key belongs to.
fn item(key: &KeyPath) -> Option<KeyPath> {
    match key.0.as_slice() {
        [Step::Key(section), name, ..] if section == "source" || section == "target" => {
            Some(KeyPath(vec![Step::Key(section.clone()), name.clone()]))
        }
        _ => None,
    }
}

/// A value, unmistakably: each part with its kind and its length.
fn digest(context: &mut Context, at: &KeyPath, node: &Node) {
    let mut part = |kind: u8, bytes: &[u8]| {
        context.update(&[kind]);
        context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(bytes);
    };
    match &node.datum {
        Datum::Text(text) => {
            part(b't', text.as_bytes());
            if let Some(named) = named(at, text) {
                part(b'n', named.expose());
            }
        }
        Datum::Integer(number) => part(b'i', &number.to_be_bytes()),
        Datum::Float(number) => part(b'f', &number.to_be_bytes()),
        Datum::Boolean(value) => part(b'b', &[u8::from(*value)]),
        Datum::List(items) => {
            part(b'l', &items.len().to_be_bytes());
            for item in items {
                digest(context, at, item);
            }
        }
        Datum::Table(entries) => {
            part(b'm', &entries.len().to_be_bytes());
            for (key, node) in entries {
                context.update(key.as_bytes());
                digest(context, &at.key(key), node);
            }
        }
    }
}

/// What a text names outside of the configuration: a secret, or a file of certificates.
fn named(at: &KeyPath, text: &str) -> Option<Secret> {
    if secret::is_reference(text) {
        return secret::resolve(text, at, &mut Findings::default());
    }
    let is_file = matches!(at.0.last(), Some(Step::Key(key)) if key.ends_with("_file"));
    is_file.then(|| super::read(text.as_ref()).ok().map(Secret::new)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::describe::schema;

    fn outline(toml: &str) -> Outline {
        let root = super::super::locate::parse_value(toml).unwrap();
        Outline::of(&root)
    }

    fn changes(old: &str, new: &str) -> Vec<String> {
        let changes = outline(old).changes(&outline(new));
        changes.iter().map(|change| format!("{} {}", change.what.as_str(), change.key)).collect()
    }

    #[test]
    fn names_the_keys_that_mean_something_else_and_no_others() {
        let old = r#"{ log = { level = "info" }, target = { a = { url = "http://a/", retry = { jitter = 0.1 } } } }"#;
        assert!(changes(old, old).is_empty());
        let new = r#"{ target = { a = { url = "http://a/", retry = { jitter = 0.3 }, timeout = "15s" } } }"#;
        assert_eq!(changes(old, new), ["changed target.a.retry.jitter"], "defaults are no change");
        let new = r#"{ log = { level = "debug" }, target = { b = { url = "http://a/" } } }"#;
        assert_eq!(changes(old, new), ["changed log.level", "removed target.a", "added target.b"]);
        let new =
            r#"{ target = { a = { url = "http://a/", rate = "5/s", retry = { jitter = 0.1 } } } }"#;
        assert_eq!(changes(old, new), ["added target.a.rate"]);
        assert!(outline(old).is_same(&outline(old), "target", "a"));
        assert!(!outline(old).is_same(&outline(new), "target", "a"));
    }

    #[test]
    fn a_secret_or_a_certificate_that_was_replaced_in_its_file_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "one").unwrap();
        let text = format!(
            "{{ source = {{ a = {{ provider = \"github\", secrets = [\"file:{0}\"] }} }}, ingress = {{ tls = {{ cert_file = \"{0}\" }} }} }}",
            file.display()
        );
        let before = outline(&text);
        std::fs::write(&file, "two").unwrap();
        let changed: Vec<_> =
            before.changes(&outline(&text)).into_iter().map(|change| change.key).collect();
        assert_eq!(changed, ["ingress.tls.cert_file", "source.a.secrets"]);
    }

    #[test]
    fn what_waits_for_the_next_start_is_named() {
        let old = outline("{}");
        let new = outline(r#"{ ingress = { listen = ["127.0.0.1:1"], max_body = "2MiB" } }"#);
        assert_eq!(old.at_start(&new), ["ingress.listen"]);
        let schema = schema();
        for key in AT_START {
            let path = format!("/properties/{}", key.replace('.', "/properties/"));
            assert!(schema.pointer(&path).is_some(), "{key} is no key");
        }
    }
}
