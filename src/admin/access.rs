//! Who may ask: whoever names this listener, shows the token where one is configured, and is no page of another site.
//!
//! There are no cookies, so a browser never carries a right that a page of another site could use.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use hyper::header::{HeaderMap, TRANSFER_ENCODING};
use subtle::ConstantTimeEq as _;

use super::answer::Problem;
use super::route::Rights;
use crate::config;
use crate::model::Secret;

/// What decides about access.
#[derive(Debug)]
pub(super) struct Access {
    listen: SocketAddr,
    /// They may be replaced while we run.
    token: ArcSwapOption<Secret>,
    read_only_token: ArcSwapOption<Secret>,
}

impl Access {
    pub(super) fn new(config: &config::Admin) -> Self {
        let access = Self {
            listen: config.listen,
            token: ArcSwapOption::empty(),
            read_only_token: ArcSwapOption::empty(),
        };
        access.renew(config);
        access
    }

    /// The tokens of this configuration count from now on.
    pub(super) fn renew(&self, config: &config::Admin) {
        self.token.store(config.token.clone().map(Arc::new));
        self.read_only_token.store(config.read_only_token.clone().map(Arc::new));
    }

    /// Whether the Host field names this listener. On loopback, any name but ours is somebody else's name for this
    /// machine (DNS rebinding).
    pub(super) fn is_our_name(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST) else { return false };
        if !self.listen.ip().is_loopback() {
            return true;
        }
        let host = host.to_str().unwrap_or_default();
        let host = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            Some(_) | None => host,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether the request may do what needs these rights.
    pub(super) fn check<B>(&self, request: &Request<B>, rights: Rights) -> Result<(), Problem> {
        if rights == Rights::None {
            return Ok(());
        }
        if !is_own_page(request.headers()) {
            return Err(Problem::forbidden("another site's page may not ask this"));
        }
        if let Some(token) = &*self.token.load() {
            let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
            let given = given.and_then(bearer);
            let is = |token: &Secret| given.is_some_and(|it| it.ct_eq(token.expose()).into());
            if is(token) {
                return Ok(());
            }
            if !self.read_only_token.load().as_deref().is_some_and(is) {
                return Err(Problem::unauthorized(given.is_some()));
            }
            if rights != Rights::Read {
                return Err(Problem::forbidden("this token is for looking only"));
            }
        }
        Ok(())
    }
}

/// The token of an Authorization field; the scheme's letter case means nothing.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
}

/// A browser says where a page that asks comes from; a program says nothing.
fn is_own_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    headers.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let origin = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
        origin.is_some() && origin == host
    })
}

/// Whether a body, if there is one, says that it is JSON: a form of another site cannot.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    if length.is_none_or(|length| length == b"0") && !headers.contains_key(TRANSFER_ENCODING) {
        return true;
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(HOST, HeaderValue::from_static("127.0.0.1:9464"));
        for (name, value) in pairs {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            fields.insert(name, value.parse().unwrap());
        }
        fields
    }

    #[test]
    fn a_page_of_another_site_may_not_ask_anything() {
        let own = |pairs: &[(&str, &str)]| is_own_page(&fields(pairs));
        assert!(own(&[]) && own(&[("origin", "http://127.0.0.1:9464")]));
        assert!(own(&[("sec-fetch-site", "same-origin")]));
        assert!(!own(&[("sec-fetch-site", "cross-site")]));
        assert!(!own(&[("sec-fetch-site", "same-site")]));
        assert!(!own(&[("origin", "http://evil.example")]) && !own(&[("origin", "null")]));
    }

    #[test]
    fn a_token_is_read_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer(b"Bearer a b"), Some(&b"a b"[..]));
        assert_eq!(bearer(b"bEARER tok"), Some(&b"tok"[..]));
        for none in [&b"Basic abc"[..], b"Bearer", b"", b"Bearertok"] {
            assert_eq!(bearer(none), None);
        }
    }

    #[test]
    fn a_body_says_that_it_is_json() {
        assert!(is_json(&fields(&[])) && is_json(&fields(&[("content-length", "0")])));
        let json = ("content-type", "application/JSON; charset=utf-8");
        assert!(is_json(&fields(&[("content-length", "2"), json])));
        assert!(!is_json(&fields(&[("content-length", "2")])));
        assert!(!is_json(&fields(&[("transfer-encoding", "chunked")])));
        assert!(!is_json(&fields(&[("content-length", "2"), ("content-type", "text/plain")])));
    }

    #[test]
    fn on_loopback_only_our_own_names_are_answered() {
        let access = |listen: &str| Access {
            listen: listen.parse().unwrap(),
            token: ArcSwapOption::empty(),
            read_only_token: ArcSwapOption::empty(),
        };
        let named = |access: &Access, host: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(HOST, host.parse().unwrap());
            access.is_our_name(&fields)
        };
        let local = access("127.0.0.1:9464");
        for good in ["127.0.0.1:9464", "localhost", "LOCALHOST:1", "[::1]:9464", "127.0.0.9"] {
            assert!(named(&local, good), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example:9464", "10.0.0.1", "", "[::2]"] {
            assert!(!named(&local, bad), "{bad}");
        }
        assert!(!local.is_our_name(&HeaderMap::new()));
        assert!(named(&access("10.0.0.1:9464"), "ops.example"));
    }
}
