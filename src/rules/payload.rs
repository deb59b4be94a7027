//! Reading single values out of a request without building the whole document.
//!
//! A form is read as the JSON it stands for. All the fields a source ever looks at are compiled into one [`FieldSet`], so that one pass over
//! the body finds them all and everything else is skipped. Nothing is allocated for what is
//! skipped, and the nesting followed is never deeper than the deepest pointer.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::model::Headers;

pub(super) mod form;
mod scan;
#[cfg(test)]
mod tests;

use scan::Trie;

/// Most steps in one pointer: it bounds how deep a body is followed.
pub const MAX_POINTER_STEPS: usize = 32;

/// Where a value stands in a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// RFC 6901 JSON pointer into the body, `"/data/build/id"`.
    Pointer(String),
    /// A header field, written `"header:NAME"`; the name is kept lower-case.
    Header(String),
    /// The whole body, written `"body"`.
    Body,
}

impl Field {
    /// Reads the written form; the error is a sentence that says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "body" {
            return Ok(Self::Body);
        }
        if let Some(name) = text.strip_prefix("header:") {
            return header_name(name).map(Self::Header);
        }
        if !text.starts_with('/') {
            return Err(format!(
                "`{text}` is not a field: write a JSON pointer such as \"/data/id\", \
                 \"header:NAME\" or \"body\""
            ));
        }
        if pointer_steps(text).any(bad_escape) {
            return Err(format!(
                "`{text}` is not a JSON pointer: `~` must be followed by 0 (for `~`) or 1 (for `/`)"
            ));
        }
        if pointer_steps(text).count() > MAX_POINTER_STEPS {
            return Err(format!(
                "`{text}` goes too deep: at most {MAX_POINTER_STEPS} steps are followed"
            ));
        }
        Ok(Self::Pointer(text.to_owned()))
    }
}

impl fmt::Display for Field {
    /// The written form, as [`Field::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(pointer) => f.write_str(pointer),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Body => f.write_str("body"),
        }
    }
}

/// Checks a header field's name (RFC 9110 token) and makes it lower-case.
pub(super) fn header_name(name: &str) -> Result<String, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!(
            "`{name}` is not the name of a header field: it is made of letters, digits and `-`"
        ));
    }
    Ok(name.to_ascii_lowercase())
}

fn pointer_steps(pointer: &str) -> impl Iterator<Item = &str> {
    pointer.split('/').skip(1)
}

fn bad_escape(step: &str) -> bool {
    step.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']))
}

/// Fields compiled together so that one pass over the body finds them all.
#[derive(Clone, Debug, Default)]
pub struct FieldSet {
    places: Vec<(Field, Place)>,
    trie: Trie,
}

/// A field's place in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldId(pub usize);

#[derive(Clone, Debug)]
enum Place {
    Slot(usize),
    Header(String),
    Body,
}

impl FieldSet {
    /// Adds a field, or finds it when it is already there.
    pub fn add(&mut self, field: &Field) -> FieldId {
        if let Some(known) = self.places.iter().position(|(known, _)| known == field) {
            return FieldId(known);
        }
        let place = match field {
            Field::Pointer(pointer) => Place::Slot(self.trie.add(pointer_steps(pointer))),
            Field::Header(name) => Place::Header(name.clone()),
            Field::Body => Place::Body,
        };
        self.places.push((field.clone(), place));
        FieldId(self.places.len() - 1)
    }

    /// Whether the body has to be JSON because some field points into it.
    pub fn reads_json(&self) -> bool {
        !self.trie.is_empty()
    }

    /// Finds every field's value. A body that no field points into is not looked at.
    pub fn extract<'a>(
        &'a self,
        headers: &'a Headers,
        body: &'a [u8],
    ) -> Result<Fields<'a>, Unreadable> {
        self.extract_from(headers, body, body)
    }

    /// The same with pointers into a document that is not the body itself; see [`FieldSet::document`].
    pub fn extract_from<'a>(
        &'a self,
        headers: &'a Headers,
        body: &'a [u8],
        document: &'a [u8],
    ) -> Result<Fields<'a>, Unreadable> {
        let values = if self.reads_json() { self.trie.scan(document)? } else { Vec::new() };
        Ok(Fields { headers, body, set: self, values })
    }

    /// The fields of a request whose body cannot be read: those in it are missing.
    pub(super) fn unread<'a>(&'a self, headers: &'a Headers, body: &'a [u8]) -> Fields<'a> {
        Fields { headers, body, set: self, values: Vec::new() }
    }

    /// What pointers point into: the body, or the JSON that a form stands for. A body that says it is something
    /// else than JSON, and is, has no fields; one that says nothing, or says JSON, is read as JSON.
    pub fn document<'a>(
        &self,
        headers: &Headers,
        body: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, Unreadable> {
        if !self.reads_json() {
            return Ok(Cow::Borrowed(body));
        }
        if form::is_form(headers) {
            return form::document(body).ok_or(Unreadable);
        }
        let other = form::media_type(headers).is_some_and(|media| !ends_in_json(media));
        let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
        Ok(Cow::Borrowed(if other && !is_json() { NO_FIELDS } else { body }))
    }
}

/// The document of a body that has no fields.
const NO_FIELDS: &[u8] = b"null";

/// `application/json`, `text/json`, `application/vnd.x+json`.
fn ends_in_json(media: &[u8]) -> bool {
    let tail = media.len().saturating_sub(4);
    media.get(tail..).is_some_and(|tail| tail.eq_ignore_ascii_case(b"json"))
}

/// The body is not JSON in UTF-8, or a member that is looked at occurs twice in its object.
///
/// Readers of JSON disagree about which of two members counts, so such a body could show one
/// value here and another at the target; it is refused rather than guessed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not unambiguous JSON")]
pub struct Unreadable;

/// The values found.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Borrowed from the request.
    pub headers: &'a Headers,
    body: &'a [u8],
    set: &'a FieldSet,
    values: Vec<Value<'a>>,
}

impl<'a> Fields<'a> {
    /// The value of one field of the set these were extracted with.
    ///
    /// A header field that occurs twice is ambiguous and reads as missing.
    pub fn get(&self, id: FieldId) -> Value<'a> {
        match self.set.places.get(id.0).map(|(_, place)| place) {
            Some(Place::Slot(slot)) => self.values.get(*slot).cloned().unwrap_or(Value::Missing),
            Some(Place::Header(name)) => {
                only(self.headers, name).map_or(Value::Missing, Value::Bytes)
            }
            Some(Place::Body) => Value::Bytes(self.body),
            None => Value::Missing,
        }
    }
}

/// The value of a header field that occurs exactly once.
pub(super) fn only<'a>(headers: &'a Headers, name: &'a str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// One value of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// There is none.
    Missing,
    /// JSON `null`.
    Null,
    /// A JSON string, unescaped.
    Text(Cow<'a, str>),
    /// A JSON number or boolean exactly as it was written: `1.50` stays `1.50`.
    Literal(&'a str),
    /// The JSON text of an array, of an object, or of a string that is not Unicode (a lone
    /// surrogate escape).
    Raw(&'a str),
    /// A header field's value, or the whole body.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Classifies the text of one JSON value.
    fn of_json(json: &'a str) -> Self {
        match json.as_bytes() {
            [b'n', ..] => Self::Null,
            [b'{' | b'[', ..] => Self::Raw(json),
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
                Self::Text(Cow::Borrowed(json.get(1..json.len() - 1).unwrap_or_default()))
            }
            [b'"', ..] => serde_json::from_str::<String>(json)
                .map_or(Self::Raw(json), |text| Self::Text(Cow::Owned(text))),
            _ => Self::Literal(json),
        }
    }

    /// The value as one text: a string, a number, a boolean, or bytes that are UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Literal(text) => Some(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Missing | Self::Null | Self::Raw(_) => None,
        }
    }

    /// Whether any text of this value satisfies `wanted`; an array has one text for each scalar in it.
    pub fn any_text(&self, mut wanted: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::Raw(json) if json.starts_with('[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
                elements
                    .iter()
                    .any(|raw| Value::of_json(raw.get()).as_text().is_some_and(&mut wanted))
            }
            Self::Missing
            | Self::Null
            | Self::Text(_)
            | Self::Literal(_)
            | Self::Raw(_)
            | Self::Bytes(_) => self.as_text().is_some_and(wanted),
        }
    }
}
