//! What is signed: a template, fed to the digest piece by piece.

use super::{header_name, only};
use crate::model::Headers;
use crate::rules::payload::form;

const PLACEHOLDERS: &str =
    "{body}, {timestamp}, {header:NAME}, {url}, {method}, {form_sorted}, {form:NAME}";

/// A parsed `signed`.
#[derive(Clone, Debug, Default)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    Body,
    Timestamp,
    Header(String),
    Url,
    Method,
    FormSorted,
    /// A form's only field, decoded; of anything else the whole body.
    FormField(String),
}

/// What the pieces are filled with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) headers: &'a Headers,
    pub(super) body: &'a [u8],
    pub(super) timestamp: &'a str,
    pub(super) url: &'a str,
}

impl Piece {
    /// Whether a signature over it binds what the request says.
    fn is_content(&self) -> bool {
        match self {
            Self::Body | Self::FormSorted | Self::FormField(_) => true,
            Self::Literal(_) | Self::Timestamp | Self::Header(_) | Self::Url | Self::Method => {
                false
            }
        }
    }
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("`signed` has a `{{` without `}}`; it knows {PLACEHOLDERS}"));
            };
            pieces.push(placeholder(name)?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        if !pieces.iter().any(Piece::is_content) {
            return Err("`signed` must hold {body}, {form_sorted} or {form:NAME}: \
                        otherwise a signature would fit any body"
                .into());
        }
        Ok(Self(pieces))
    }

    /// Whether everything the template needs is configured.
    pub(super) fn check(&self, has_timestamp: bool, has_url: bool) -> Result<(), String> {
        if self.signs_timestamp() && !has_timestamp {
            return Err(
                "`signed` holds {timestamp}, so `timestamp` must say where it stands".into()
            );
        }
        if self.0.contains(&Piece::Url) && !has_url {
            return Err("`signed` holds {url}, so the source needs its `public_url`".into());
        }
        Ok(())
    }

    pub(super) fn signs_timestamp(&self) -> bool {
        self.0.contains(&Piece::Timestamp)
    }

    /// The header fields that are signed.
    pub(super) fn headers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Header(name) => Some(&**name),
            Piece::Literal(_)
            | Piece::Body
            | Piece::Timestamp
            | Piece::Url
            | Piece::Method
            | Piece::FormSorted
            | Piece::FormField(_) => None,
        })
    }

    /// Hands over the signed bytes in order; `None` when a signed header field is not there exactly once.
    pub(super) fn render(&self, request: &Request<'_>, feed: &mut dyn FnMut(&[u8])) -> Option<()> {
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => feed(text.as_bytes()),
                Piece::Timestamp => feed(request.timestamp.as_bytes()),
                Piece::Header(name) => {
                    feed(only(request.headers, name).filter(|value| !value.is_empty())?);
                }
                Piece::Url => feed(request.url.as_bytes()),
                // Webhooks are received by POST only.
                Piece::Method => feed(b"POST"),
                Piece::FormSorted => form::sorted(request.body, feed),
                Piece::FormField(name) if form::is_form(request.headers) => {
                    feed(&form::sole(request.body, name)?);
                }
                Piece::Body | Piece::FormField(_) => feed(request.body),
            }
        }
        Some(())
    }
}

fn placeholder(name: &str) -> Result<Piece, String> {
    match name {
        "body" => Ok(Piece::Body),
        "timestamp" => Ok(Piece::Timestamp),
        "url" => Ok(Piece::Url),
        "method" => Ok(Piece::Method),
        "form_sorted" => Ok(Piece::FormSorted),
        _ => match (name.strip_prefix("header:"), name.strip_prefix("form:")) {
            (Some(header), _) => header_name(header).map(Piece::Header),
            (None, Some(field)) if !field.is_empty() => Ok(Piece::FormField(field.to_owned())),
            (None, _) => {
                Err(format!("`signed` does not know `{{{name}}}`; it knows {PLACEHOLDERS}"))
            }
        },
    }
}
