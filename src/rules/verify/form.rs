//! A form body in the order in which some providers sign it.

use std::collections::BTreeSet;

/// Hands over key and value of every distinct field, sorted by key, then by value.
pub(super) fn sorted(body: &[u8], feed: &mut dyn FnMut(&[u8])) {
    let fields: BTreeSet<(Vec<u8>, Vec<u8>)> = body
        .split(|&b| b == b'&')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let split = field.iter().position(|&b| b == b'=').unwrap_or(field.len());
            let (key, value) = field.split_at(split);
            (unescape(key), unescape(value.strip_prefix(b"=").unwrap_or_default()))
        })
        .collect();
    for (key, value) in &fields {
        feed(key);
        feed(value);
    }
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
    #[test]
    fn fields_are_unescaped_sorted_and_said_once() {
        let mut signed = Vec::new();
        super::sorted(b"b=2%2B&a=x+y&a=w&a=w&%zz=%4&flag&", &mut |piece| {
            signed.extend_from_slice(piece);
        });
        assert_eq!(String::from_utf8(signed).unwrap(), "%zz%4awax yb2+flag");
    }
}
