//! The proxy of a target: an authority that can be connected to, and credentials that it can be told.

use super::url;
use crate::config::mistake::Findings;
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::config::{Proxy, ProxyKind};

const REMEDY: &str = r#"write "http://HOST:PORT" or "socks5://HOST:PORT""#;
/// SOCKS has one byte for a length.
const MAX_PASSWORD: usize = 255;

/// `None` only after a mistake was noted.
pub(super) fn proxy(raw: raw::Proxy, at: &KeyPath, findings: &mut Findings) -> Option<Proxy> {
    let credentials = match (raw.user, raw.password) {
        (Some(user), Some(password)) => {
            // In HTTP a colon ends the user, and control characters end nothing well anywhere.
            if user.contains(':') || user.contains(char::is_control) {
                let problem = "a user's name has no colon and no control characters";
                findings.mistake(&at.key("user"), problem, "write the name alone");
            }
            if password.expose().len() > MAX_PASSWORD {
                let problem = "the password is longer than 255 bytes";
                findings.mistake(&at.key("password"), problem, "use a shorter one");
            }
            Some((user, password))
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            if !findings.is_wrong_below(at) {
                let problem = "a user and a password belong together";
                findings.mistake(at, problem, "write both `user` and `password`, or neither");
            }
            None
        }
    };
    let at = at.key("url");
    let read = read(&raw.url?.0);
    let (kind, host, port) = read.map_err(|problem| findings.mistake(&at, problem, REMEDY)).ok()?;
    Some(Proxy { kind, host, port, credentials })
}

fn read(text: &str) -> Result<(ProxyKind, String, u16), &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("a proxy's URL begins with a scheme")?;
    let kind = match scheme.to_ascii_lowercase().as_str() {
        "http" => ProxyKind::Http,
        "socks5" | "socks5h" => ProxyKind::Socks5,
        _ => return Err("the proxy's scheme is neither http nor socks5"),
    };
    if let Some(fault) = url::fault(&format!("http://{rest}")) {
        return Err(fault);
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?']) {
        return Err("a proxy's URL has no path");
    }
    let (host, port) = authority.rsplit_once(':').ok_or("the proxy's URL has no port")?;
    let port = port.parse().map_err(|_not_one| "the proxy's URL has no port")?;
    Ok((kind, host.trim_matches(['[', ']']).to_owned(), port))
}
