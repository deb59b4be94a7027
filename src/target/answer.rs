//! What an answer says about when to come again, in the words of each kind of target.

use hyper::header::{HeaderMap, RETRY_AFTER};

use crate::template::Preset;

/// The wait that the answer asks for, as `Retry-After` would write it.
///
/// For most targets the field has a meaning only with 429, 502, 503 and 504. Discord says with every answer when its
/// window is used up, and GitHub says it with 403 as well.
pub(super) fn wish(preset: Preset, status: u16, fields: &HeaderMap) -> Option<String> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let asked = text(RETRY_AFTER.as_str()).map(str::to_owned);
    match (preset, status) {
        (_, 429 | 502..=504) => {
            asked.or_else(|| text("x-ratelimit-reset-after").map(str::to_owned))
        }
        (Preset::GithubDispatch, 403) => asked,
        (Preset::Discord, 200..=299) if text("x-ratelimit-remaining") == Some("0") => {
            text("x-ratelimit-reset-after").map(str::to_owned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(field).collect()
    }

    #[test]
    fn retry_after_means_something_where_the_standard_gives_it_a_meaning() {
        let asked = fields(&[("retry-after", "7")]);
        for status in [429, 502, 503, 504] {
            assert_eq!(wish(Preset::Raw, status, &asked).as_deref(), Some("7"), "{status}");
        }
        for status in [200, 301, 403, 404, 500] {
            assert_eq!(wish(Preset::Raw, status, &asked), None, "{status}");
        }
        assert_eq!(wish(Preset::GithubDispatch, 403, &asked).as_deref(), Some("7"));
    }

    #[test]
    fn discord_says_with_its_last_message_when_the_next_may_come() {
        let used_up = fields(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "1.5")]);
        assert_eq!(wish(Preset::Discord, 200, &used_up).as_deref(), Some("1.5"));
        assert_eq!(wish(Preset::Raw, 200, &used_up), None);
        let left = fields(&[("x-ratelimit-remaining", "4"), ("x-ratelimit-reset-after", "1.5")]);
        assert_eq!(wish(Preset::Discord, 200, &left), None);
        assert_eq!(wish(Preset::Discord, 429, &used_up).as_deref(), Some("1.5"));
    }
}
