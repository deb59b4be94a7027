//! Compiled patterns: which events a target wants, which requests a source admits.
//!
//! The syntax is that of Buildkite's branch filters, because users of one of the providers know it
//! already: white space separates patterns, `*` stands for any run of characters (`/` included), a
//! leading `!` negates. Nothing else is special, so a space inside a value is written `*`.

use super::payload::{Field, Value};

#[cfg(test)]
mod tests;

/// One `where` entry: every entry must hold.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Whose value is looked at.
    pub field: Field,
    /// What it must match.
    pub patterns: Patterns,
}

/// A pattern list: some positive must match if there is one, and no negative (`!`) may.
///
/// An empty list matches everything. Instead of a list it may ask whether there is a value at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    positive: Vec<Glob>,
    negative: Vec<Glob>,
    presence: Presence,
}

/// Whether there has to be a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// The lists decide.
    Listed,
    /// Any value but null.
    There,
    /// None, or null.
    Absent,
}

impl Patterns {
    /// Compiles a list; each item may itself be a white-space separated list. The error is a sentence.
    pub fn parse<S: AsRef<str>>(items: &[S]) -> Result<Self, String> {
        let mut patterns = Self::asking(Presence::Listed);
        for word in items.iter().flat_map(|item| item.as_ref().split_whitespace()) {
            match word.strip_prefix('!') {
                Some("") => return Err("`!` must be followed by the pattern it negates".to_owned()),
                Some(negated) => patterns.negative.push(Glob::new(negated)),
                None => patterns.positive.push(Glob::new(word)),
            }
        }
        Ok(patterns)
    }

    /// `{ exists = true }`: there is a value, of any kind. Null counts as none, because that is how providers
    /// write that a build has no tag or no objection.
    pub fn there() -> Self {
        Self::asking(Presence::There)
    }

    /// `{ exists = false }`: there is no value, or it is null.
    pub fn absent() -> Self {
        Self::asking(Presence::Absent)
    }

    fn asking(presence: Presence) -> Self {
        Self { positive: Vec::new(), negative: Vec::new(), presence }
    }

    /// The texts one of which a value must be, if it is as simple as that: what does not have one of them does not match.
    pub fn literals(&self) -> Option<Vec<&str>> {
        let whole = |glob: &Glob| glob.rest.is_none();
        let simple = !self.positive.is_empty() && self.positive.iter().all(whole);
        simple.then(|| self.positive.iter().map(|glob| glob.start.as_str()).collect())
    }

    /// Whether a value matches a positive pattern that names its beginning: `everhook.*` asks for `everhook.gap`,
    /// and `*` does not.
    pub fn asks_for(&self, value: &str, beginning: &str) -> bool {
        let named = |glob: &Glob| glob.start.starts_with(beginning) && glob.matches(value);
        self.matches(value) && self.positive.iter().any(named)
    }

    /// Whether a value matches.
    pub fn matches(&self, value: &str) -> bool {
        self.presence != Presence::Absent
            && (self.positive.is_empty() || self.positive.iter().any(|glob| glob.matches(value)))
            && !self.negative.iter().any(|glob| glob.matches(value))
    }

    /// Whether a request's value matches. An array has one text for each scalar in it: some text must
    /// match a positive pattern, and no text may match a negative one.
    ///
    /// A value without text (missing, null, an object, an empty array) matches only a list without
    /// positive patterns: `!wip` admits what has no branch, `*` does not.
    pub fn matches_value(&self, value: &Value<'_>) -> bool {
        let missing = matches!(value, Value::Missing | Value::Null);
        match self.presence {
            Presence::There => return !missing,
            Presence::Absent => return missing,
            Presence::Listed => {}
        }
        let any =
            |globs: &[Glob]| value.any_text(|text| globs.iter().any(|glob| glob.matches(text)));
        (self.positive.is_empty() || any(&self.positive))
            && (self.negative.is_empty() || !any(&self.negative))
    }
}

/// Literals with any run of characters between them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob {
    start: String,
    /// `None` when the pattern has no `*`: the whole value is `start`.
    rest: Option<Rest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rest {
    /// Literals between two `*`, in order; none is empty.
    middle: Vec<String>,
    end: String,
}

impl Glob {
    fn new(pattern: &str) -> Self {
        let Some((start, rest)) = pattern.split_once('*') else {
            return Self { start: pattern.to_owned(), rest: None };
        };
        let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { start: start.to_owned(), rest: Some(Rest { middle, end: end.to_owned() }) }
    }

    /// Each literal is taken at its first place after the one before. No later place could match
    /// more, so there is nothing to go back to and the time is linear in the value.
    fn matches(&self, value: &str) -> bool {
        let Some(rest) = &self.rest else { return value == self.start };
        let Some(inner) =
            value.strip_prefix(&*self.start).and_then(|tail| tail.strip_suffix(&*rest.end))
        else {
            return false;
        };
        rest.middle
            .iter()
            .try_fold(inner, |tail, part| tail.split_once(&**part).map(|(_, after)| after))
            .is_some()
    }
}
