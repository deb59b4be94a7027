//! Reading single values out of a request without building the whole document.

use crate::model::Headers;

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
        unimplemented!("{text}")
    }
}

/// Fields compiled together so that one pass over the body finds them all.
#[derive(Clone, Debug, Default)]
pub struct FieldSet {}

/// A field's place in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldId(pub usize);

/// The values found.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Borrowed from the request.
    pub headers: &'a Headers,
}
