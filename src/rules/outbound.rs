//! Which header fields a configuration may set on a target's requests.

use super::payload::header_name;

/// Fields of the HTTP connection itself, and those that every target can rely on to be ours.
const OURS: [&str; 17] = [
    "connection",
    "content-length",
    "everhook-attempt",
    "everhook-event",
    "everhook-source",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-timestamp",
];

/// Words in the name of a field that carries a secret.
const TELLING: [&str; 6] = ["auth", "cookie", "token", "key", "secret", "password"];

/// Whether a field of this lower-case name is one that carries a secret.
pub fn speaks_of_a_secret(name: &str) -> bool {
    // Names are short and there are many: setting up a search for each word takes longer than looking at each place.
    let name = name.as_bytes();
    let begins = |rest: &[u8], word: &str| {
        rest.first() == word.as_bytes().first() && rest.starts_with(word.as_bytes())
    };
    let mut places = (0..name.len()).filter_map(|at| name.get(at..));
    places.any(|rest| TELLING.iter().any(|word| begins(rest, word)))
}

/// Whether a field of this lower-case name carries a credential, or a proof that others would accept. An idempotency key
/// is a name of the event, and no secret.
pub fn is_a_proof(name: &str) -> bool {
    speaks_of_a_secret(name) && name != "idempotency-key"
        || name.contains("sign")
        || name.contains("hmac")
}

/// Checks the name of a field that is to be set, and makes it lower-case. The error is a sentence.
pub fn settable(name: &str) -> Result<String, String> {
    let name = header_name(name)?;
    if OURS.binary_search(&name.as_str()).is_ok() {
        return Err(format!("`{name}` is set by everhook itself"));
    }
    Ok(name)
}

/// Checks that a text can be the value of a field: visible ASCII and spaces inside. The error is a sentence and does
/// not show the text, which may be a secret.
pub fn sendable(value: &str) -> Result<(), String> {
    let inside = |b: u8| b.is_ascii_graphic() || b == b' ' || b == b'\t';
    if value.bytes().all(inside) && value.trim() == value {
        return Ok(());
    }
    Err("the value has a character that no header field can carry".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_its_binary_search() {
        assert!(OURS.is_sorted());
    }

    #[test]
    fn a_telling_word_is_found_wherever_it_stands_in_a_name() {
        for word in TELLING {
            for name in
                [word.to_owned(), format!("x-{word}"), format!("{word}-id"), format!("a{word}z")]
            {
                assert!(speaks_of_a_secret(&name), "{name}");
            }
            assert!(
                !speaks_of_a_secret(&word[1..])
                    && !speaks_of_a_secret(&word[..3].replace("key", ""))
            );
        }
        assert!(!speaks_of_a_secret("") && !speaks_of_a_secret("content-type"));
    }

    #[test]
    fn what_belongs_to_the_connection_or_to_us_cannot_be_set() {
        assert_eq!(settable("X-Signature").as_deref(), Ok("x-signature"));
        assert_eq!(settable("Authorization").as_deref(), Ok("authorization"));
        for bad in ["Host", "Content-Length", "webhook-id", "X Y", "", "a:b"] {
            assert!(settable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_holds_nothing_that_could_begin_another_field() {
        assert!(sendable("Bearer abc").is_ok());
        for bad in ["a\r\nb: c", "a\nb", "é", " a", "a\0"] {
            assert!(sendable(bad).is_err(), "{bad:?}");
        }
    }
}
