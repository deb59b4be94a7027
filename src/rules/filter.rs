//! Compiled patterns: which events a target wants, which requests a source admits.

use super::payload::Field;

/// One `where` entry: every entry must hold.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Whose value is looked at.
    pub field: Field,
    /// What it must match.
    pub patterns: Patterns,
}

/// A pattern list: some positive must match if there is one, and no negative (`!`) may.
#[derive(Clone, Debug)]
pub struct Patterns {}

impl Patterns {
    /// Compiles a list; each item may itself be a white-space separated list. The error is a sentence.
    pub fn parse<S: AsRef<str>>(items: &[S]) -> Result<Self, String> {
        unimplemented!("{}", items.len())
    }

    /// Whether a value matches.
    pub fn matches(&self, value: &str) -> bool {
        unimplemented!("{value}")
    }
}
