//! What an answer says about when to come again, in the words of each kind of target.

use std::time::{Duration, UNIX_EPOCH};

use hyper::header::{HeaderMap, RETRY_AFTER};

use crate::template::Preset;

/// The end of the year 9999.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// The wait that the answer asks for, as `Retry-After` would write it. `body` is the answer's, as far as it was read.
///
/// For most targets the field has a meaning only with 429, 502, 503 and 504. Discord says with every answer when its
/// window is used up, and the exact time of a 429 in its body; GitHub says it with 403 as well, and in its own field as a
/// moment; Buildkite has seconds in a field of its own.
pub(super) fn wish(preset: Preset, status: u16, fields: &HeaderMap, body: &[u8]) -> Option<String> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let owned = |name: &str| text(name).map(str::to_owned);
    let asked = owned(RETRY_AFTER.as_str());
    match (preset, status) {
        (Preset::Discord, 429) => {
            in_body(body).or(asked).or_else(|| owned("x-ratelimit-reset-after"))
        }
        (Preset::Discord, 200..=299) if text("x-ratelimit-remaining") == Some("0") => {
            owned("x-ratelimit-reset-after")
        }
        (Preset::GithubDispatch, 403 | 429) => {
            let used_up = text("x-ratelimit-remaining") == Some("0");
            asked.or_else(|| used_up.then(|| text("x-ratelimit-reset").and_then(as_date))?)
        }
        (Preset::BuildkiteTrigger, 429) => asked.or_else(|| owned("ratelimit-reset")),
        (_, 429 | 502..=504) => asked.or_else(|| owned("x-ratelimit-reset-after")),
        _ => None,
    }
}

/// Discord's `{"retry_after": 1.337}`.
fn in_body(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body.get("retry_after")?.as_f64().filter(|wait| *wait >= 0.0).map(|wait| wait.to_string())
}

/// Seconds since the epoch as a date.
fn as_date(text: &str) -> Option<String> {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(text.parse().ok()?))?;
    // The library's dates end with the year 9999.
    (at < UNIX_EPOCH.checked_add(LAST_DATE)?).then(|| httpdate::fmt_http_date(at))
}

#[cfg(test)]
pub(super) mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    /// A head's fields.
    pub(in crate::target) fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(field).collect()
    }

    #[test]
    fn retry_after_means_something_where_the_standard_gives_it_a_meaning() {
        let asked = fields(&[("retry-after", "7")]);
        for status in [429, 502, 503, 504] {
            assert_eq!(wish(Preset::Raw, status, &asked, b"").as_deref(), Some("7"), "{status}");
        }
        for status in [200, 301, 403, 404, 500] {
            assert_eq!(wish(Preset::Raw, status, &asked, b""), None, "{status}");
        }
        assert_eq!(wish(Preset::GithubDispatch, 403, &asked, b"").as_deref(), Some("7"));
    }

    #[test]
    fn discord_says_with_its_last_message_when_the_next_may_come() {
        let used_up = fields(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "1.5")]);
        assert_eq!(wish(Preset::Discord, 200, &used_up, b"").as_deref(), Some("1.5"));
        assert_eq!(wish(Preset::Raw, 200, &used_up, b""), None);
        let left = fields(&[("x-ratelimit-remaining", "4"), ("x-ratelimit-reset-after", "1.5")]);
        assert_eq!(wish(Preset::Discord, 200, &left, b""), None);
        assert_eq!(wish(Preset::Discord, 429, &used_up, b"").as_deref(), Some("1.5"));
    }
    #[test]
    fn discord_says_it_to_the_millisecond_in_its_body() {
        let whole = fields(&[("retry-after", "2")]);
        let body =
            br#"{"message": "You are being rate limited.", "retry_after": 64.57, "global": false}"#;
        assert_eq!(wish(Preset::Discord, 429, &whole, body).as_deref(), Some("64.57"));
        for odd in [&b"<html>"[..], b"{}", br#"{"retry_after": "x"}"#, br#"{"retry_after": -1}"#] {
            assert_eq!(wish(Preset::Discord, 429, &whole, odd).as_deref(), Some("2"));
        }
    }

    #[test]
    fn github_names_a_moment_and_buildkite_a_field_of_its_own() {
        let used_up =
            fields(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1774789200")]);
        let date = Some("Sun, 29 Mar 2026 13:00:00 GMT");
        assert_eq!(wish(Preset::GithubDispatch, 403, &used_up, b"").as_deref(), date);
        assert_eq!(wish(Preset::GithubDispatch, 404, &used_up, b""), None);
        for odd in ["-1", "x", "99999999999999999999", "253402300800"] {
            let odd = fields(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", odd)]);
            assert_eq!(wish(Preset::GithubDispatch, 403, &odd, b""), None, "{odd:?}");
        }
        let seconds = fields(&[("ratelimit-reset", "30")]);
        assert_eq!(wish(Preset::BuildkiteTrigger, 429, &seconds, b"").as_deref(), Some("30"));
    }
}
