//! Where a request's timestamp stands, and what moment it says.

use std::borrow::Cow;

use super::signature::Layout;
use super::{Field, Scheme, Unit, header_name, only};
use crate::model::Headers;
use crate::rules::payload::{FieldId, FieldSet};
use crate::time::Timestamp;

/// A parsed `timestamp` with its unit.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    place: Place,
    unit: Unit,
}

#[derive(Clone, Debug)]
enum Place {
    Header(String),
    Signature(String),
    Json { fields: FieldSet, at: FieldId },
}

impl Stamp {
    pub(super) fn parse(text: &str, scheme: &Scheme) -> Result<Self, String> {
        let place = if let Some(name) = text.strip_prefix("header:") {
            Place::Header(header_name(name)?)
        } else if let Some(key) = text.strip_prefix("sig:") {
            if scheme.kv.is_none() || scheme.list.is_none() || key.is_empty() {
                return Err("a timestamp at `sig:KEY` needs `list` and `kv`, and a key".into());
            }
            Place::Signature(key.to_owned())
        } else if let Some(pointer) = text.strip_prefix("json:").filter(|p| p.starts_with('/')) {
            let mut fields = FieldSet::default();
            let at = fields.add(&Field::parse(pointer)?);
            Place::Json { fields, at }
        } else {
            return Err(format!(
                "`{text}` is no place of a timestamp: write \"header:NAME\", \"sig:KEY\" or \"json:/POINTER\""
            ));
        };
        Ok(Self { place, unit: scheme.unit })
    }

    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.place, Place::Json { .. })
    }

    /// The timestamp's text as it came; `None` when it is not there exactly once.
    pub(super) fn read<'r>(
        &'r self,
        headers: &'r Headers,
        body: &'r [u8],
        signature: &'r str,
        layout: &Layout,
    ) -> Option<Cow<'r, str>> {
        let text = match &self.place {
            Place::Header(name) => Cow::Borrowed(std::str::from_utf8(only(headers, name)?).ok()?),
            Place::Signature(key) => Cow::Borrowed(layout.value_of(signature, key)?),
            Place::Json { fields, at } => {
                let fields = fields.extract(headers, body).ok()?;
                Cow::Owned(fields.get(*at).as_text()?.to_owned())
            }
        };
        (!text.is_empty()).then_some(text)
    }

    /// The moment the text says; `None` when it is not written in the scheme's unit.
    pub(super) fn moment(&self, text: &str) -> Option<Timestamp> {
        let number = || {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<i64>().ok()).flatten()
        };
        match self.unit {
            Unit::Seconds => number().map(Timestamp::from_secs),
            Unit::Millis => number().map(Timestamp::from_millis),
            Unit::Rfc3339 => {
                let at: jiff::Timestamp = text.parse().ok()?;
                Some(Timestamp::from_micros(at.as_microsecond()))
            }
        }
    }

    /// How a moment is written in the scheme's unit.
    pub(super) fn write(&self, at: Timestamp) -> String {
        match self.unit {
            Unit::Seconds => at.as_secs().to_string(),
            Unit::Millis => at.as_millis().to_string(),
            Unit::Rfc3339 => at.to_string(),
        }
    }

    /// The header field the timestamp stands in by itself.
    pub(super) fn header(&self) -> Option<&str> {
        match &self.place {
            Place::Header(name) => Some(name),
            Place::Signature(_) | Place::Json { .. } => None,
        }
    }

    /// The key under which the timestamp stands beside the signature.
    pub(super) fn signature_key(&self) -> Option<&str> {
        match &self.place {
            Place::Signature(key) => Some(key),
            Place::Header(_) | Place::Json { .. } => None,
        }
    }
}
