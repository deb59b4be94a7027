//! The head of one HTTP/1 request: what it says about its body, and whether it may be said at all.

use hyper::Uri;

use super::{Refusal, State};

/// Most bytes of a head, its request line and the line that ends it included.
pub(in crate::ingress) const MAX_HEAD: usize = 32 * 1024;
/// Most header fields of a request.
pub(in crate::ingress) const MAX_FIELDS: usize = 64;
/// The method by which the wire hands a refusal on; no client may use it.
pub(in crate::ingress) const REFUSED: &str = "REFUSED";

/// What the head of the current request says so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    http_1_0: bool,
    length: Option<u64>,
    chunked: bool,
    host: bool,
    fields: usize,
    bytes: usize,
}

impl Head {
    /// The head after its request line: `METHOD SP TARGET SP HTTP/1.x`, single spaces.
    pub(super) fn begin(line: &[u8]) -> Result<Self, Refusal> {
        let mut words = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::Malformed);
        };
        let method = !method.is_empty()
            && method.iter().copied().all(is_token)
            && method != REFUSED.as_bytes();
        let target = target.iter().all(u8::is_ascii_graphic) && Uri::try_from(target).is_ok();
        let http_1_0 = version == b"HTTP/1.0";
        if !method || !target || !(http_1_0 || version == b"HTTP/1.1") {
            return Err(Refusal::Malformed);
        }
        let mut head = Self { http_1_0, ..Self::default() };
        head.count(line)?;
        Ok(head)
    }

    /// Counts a line, without its end, against the limit of a head.
    pub(super) fn count(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.bytes = self.bytes.saturating_add(line.len()).saturating_add(2);
        if self.bytes > MAX_HEAD { Err(Refusal::TooLarge) } else { Ok(()) }
    }

    /// Whether a line of which this is the beginning can still fit.
    pub(super) fn has_room(&self, begun: &[u8]) -> bool {
        self.bytes.saturating_add(begun.len()) <= MAX_HEAD
    }

    /// Notes what a field says.
    pub(super) fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.fields = self.fields.saturating_add(1);
        if self.fields > MAX_FIELDS {
            return Err(Refusal::TooLarge);
        }
        let (name, value) = field_name(line)?;
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            // Even two equal ones: what is behind us and what is before us might take one each.
            if self.length.is_some() {
                return Err(Refusal::Malformed);
            }
            let digits =
                !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(value).ok().filter(|_| digits);
            let length = text.and_then(|text| text.parse().ok());
            self.length = Some(length.ok_or(Refusal::Malformed)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || self.http_1_0 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Malformed);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            if self.host || !is_host(value) {
                return Err(Refusal::Malformed);
            }
            self.host = true;
        }
        Ok(())
    }

    /// The head is complete: what follows it. HTTP/1.1 names the host (RFC 9112, section 3.2).
    pub(super) fn body(self) -> Result<State, Refusal> {
        if !self.host && !self.http_1_0 {
            return Err(Refusal::Malformed);
        }
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Refusal::Malformed),
            (None, true) => Ok(State::ChunkSize),
            (None | Some(0), false) => Ok(State::RequestLine),
            (Some(length), false) => Ok(State::Fixed(length)),
        }
    }
}

/// `name: value`; no folding, no space before the colon, no control characters in the value.
pub(super) fn field_name(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Refusal::Malformed)?;
    let (name, value) = line.split_at(colon);
    let control = |b: &u8| b.is_ascii_control() && *b != b'\t';
    if name.is_empty() || !name.iter().copied().all(is_token) || value.iter().any(control) {
        return Err(Refusal::Malformed);
    }
    Ok((name, value.get(1..).unwrap_or_default()))
}

/// `host [:port]` (RFC 3986, section 3.2.2); empty where the target has no authority.
fn is_host(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let port = if let Some(rest) = value.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        port
    } else {
        let (name, port) = value.split_at(value.find(':').unwrap_or(value.len()));
        let word = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b);
        let mut encoded = name.split('%');
        let first = encoded.next().unwrap_or_default();
        let rest_is_encoded = encoded.all(|part| {
            part.get(..2).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                && part.bytes().all(word)
        });
        if !first.bytes().all(word) || !rest_is_encoded {
            return false;
        }
        port
    };
    port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
