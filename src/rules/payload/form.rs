//! Form bodies: the order in which some providers sign them, and the JSON that pointers read them as.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::model::Headers;

/// The one field in which a form carries a whole JSON document (GitHub, Gitea, Slack's interactions).
const DOCUMENT: &str = "payload";

/// Whether a request says that its body is a form.
pub(in crate::rules) fn is_form(headers: &Headers) -> bool {
    media_type(headers)
        .is_some_and(|media| media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
}

/// The media type without its parameters, when it is said exactly once.
pub(super) fn media_type(headers: &Headers) -> Option<&[u8]> {
    let value = super::only(headers, "content-type")?;
    value.split(|&b| b == b';').next().map(<[u8]>::trim_ascii)
}

/// Hands over key and value of every distinct field, sorted by key, then by value.
pub(in crate::rules) fn sorted(body: &[u8], feed: &mut dyn FnMut(&[u8])) {
    let fields: BTreeSet<_> = fields(body).collect();
    for (key, value) in &fields {
        feed(key);
        feed(value);
    }
}

/// The value of a field that is the whole form; beside it nothing may stand, for nothing else would be signed.
pub(in crate::rules) fn sole(body: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut all = fields(body);
    let (key, value) = all.next()?;
    (key == name.as_bytes() && all.next().is_none()).then_some(value)
}

/// A form as JSON: the document in its only field `payload`, or an object of its fields as texts.
///
/// `None` when a field is not UTF-8. A name that occurs twice occurs twice in the object, and is refused there
/// if it is looked at.
pub(super) fn document(body: &[u8]) -> Option<Cow<'static, [u8]>> {
    if let Some(json) = sole(body, DOCUMENT).filter(|json| json.starts_with(b"{")) {
        return Some(Cow::Owned(json));
    }
    let mut json = String::from("{");
    for (key, value) in fields(body) {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&quoted(&key)?);
        json.push(':');
        json.push_str(&quoted(&value)?);
    }
    json.push('}');
    Some(Cow::Owned(json.into_bytes()))
}

fn quoted(text: &[u8]) -> Option<String> {
    serde_json::to_string(std::str::from_utf8(text).ok()?).ok()
}

fn fields(body: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    body.split(|&b| b == b'&').filter(|field| !field.is_empty()).map(|field| {
        let split = field.iter().position(|&b| b == b'=').unwrap_or(field.len());
        let (key, value) = field.split_at(split);
        (unescape(key), unescape(value.strip_prefix(b"=").unwrap_or_default()))
    })
}

/// The value of a query's parameter that occurs exactly once.
pub(in crate::rules) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut values =
        fields(query.as_bytes()).filter(|(key, _)| key == name.as_bytes()).map(|(_, value)| value);
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    String::from_utf8(value).ok()
}

/// `+` is a space and `%XX` a byte; a `%` before anything else stands for itself.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let escaped = match (first, rest) {
            (b'%', [high, low, after @ ..]) => hex_byte(*high, *low).map(|byte| (byte, after)),
            _ => None,
        };
        let plain = if *first == b'+' { b' ' } else { *first };
        let (byte, after) = escaped.unwrap_or((plain, rest));
        bytes.push(byte);
        text = after;
    }
    bytes
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let mut byte = [0];
    hex::decode_to_slice([high, low], &mut byte).ok()?;
    Some(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unescaped_sorted_and_said_once() {
        let mut signed = Vec::new();
        sorted(b"b=2%2B&a=x+y&a=w&a=w&%zz=%4&flag&", &mut |piece| {
            signed.extend_from_slice(piece);
        });
        assert_eq!(String::from_utf8(signed).unwrap(), "%zz%4awax yb2+flag");
    }

    #[test]
    fn a_form_reads_as_its_document_or_as_an_object_of_its_fields() {
        for (form, json) in [
            ("payload=%7B%22a%22%3A1%7D", r#"{"a":1}"#),
            ("payload=%7B%22a%22%3A1%7D&b=2", r#"{"payload":"{\"a\":1}","b":"2"}"#),
            ("payload=text", r#"{"payload":"text"}"#),
            ("CallSid=CA1&Digits=%2B1+2&x", r#"{"CallSid":"CA1","Digits":"+1 2","x":""}"#),
            ("", "{}"),
        ] {
            assert_eq!(document(form.as_bytes()).unwrap(), json.as_bytes(), "{form}");
        }
        assert_eq!(document(b"a=%ff"), None);
    }

    #[test]
    fn a_field_stands_alone_or_is_none() {
        assert_eq!(sole(b"payload=a%20b", "payload").unwrap(), b"a b");
        for form in ["payload=a&x=1", "x=1&payload=a", "payload=a&payload=a", "", "x=1"] {
            assert_eq!(sole(form.as_bytes(), "payload"), None, "{form}");
        }
    }

    #[test]
    fn a_parameter_of_a_query_occurs_once_or_is_none() {
        let query = "hub.mode=subscribe&hub.challenge=1%202&twice=1&twice=2&bad=%ff";
        assert_eq!(parameter(query, "hub.challenge").as_deref(), Some("1 2"));
        for name in ["twice", "bad", "missing"] {
            assert_eq!(parameter(query, name), None, "{name}");
        }
    }
}
