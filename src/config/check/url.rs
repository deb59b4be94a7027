//! Whether a text is an absolute http URL that a request can be sent to.

/// What would be right instead.
pub(super) const REMEDY: &str =
    r#"write an absolute URL such as "https://deploy.example.com/hooks""#;

/// What is wrong with a URL, as a sentence that does not show it: its path or its user may be a secret.
pub(super) fn fault(url: &str) -> Option<&'static str> {
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Some("a URL has only visible ASCII characters; percent-encode the others");
    }
    if url.bytes().any(|b| br#""<>\^`{|}"#.contains(&b)) {
        return Some("the URL has a character that must be percent-encoded");
    }
    let lower = url.to_ascii_lowercase();
    let after_scheme = ["http://", "https://"].iter().find(|scheme| lower.starts_with(**scheme));
    let Some(rest) = after_scheme.and_then(|scheme| url.get(scheme.len()..)) else {
        return Some("the URL does not start with http:// or https://");
    };
    if rest.contains('#') {
        return Some("the URL has a fragment (#...), which is never sent");
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    if authority.contains('@') {
        return Some("the URL holds a user or a password, and a URL is not a place for secrets");
    }
    (!is_host_and_port(authority)).then_some("the URL has no valid host and port")
}

fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (address, port)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        let word = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if !host.bytes().all(word) || host.starts_with(['.', '-']) {
            return false;
        }
        (host, port)
    };
    let port_is_valid = port.is_empty()
        || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
    !host.is_empty() && port_is_valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_posted_to_pass() {
        for url in [
            "http://localhost",
            "https://deploy.example.com/hooks/build?x=%20y&z=a@b",
            "HTTPS://example.com:8443/",
            "http://127.0.0.1:9",
            "http://[::1]:80/x",
            "http://my_service.internal?x",
        ] {
            assert_eq!(fault(url), None, "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "/hooks",
            "ftp://example.com",
            "http://",
            "http:///x",
            "http://user:pw@example.com/",
            "http://example.com/#x",
            "http://example.com:0",
            "http://example.com:99999",
            "http://example.com:8a",
            "http://[::1",
            "http://[zz]/",
            "http://exa mple.com",
            "http://exämple.com",
            "http://example.com/{id}",
            "http://-x.com",
        ] {
            assert!(fault(url).is_some(), "{url}");
        }
    }
}
