//! Where one HTTP/1 request ends and the next begins, decided strictly on the raw bytes before the HTTP library
//! sees them.
//!
//! Libraries and proxies differ in what they forgive (a bare line feed, two lengths, a folded field), and a
//! sender who knows the difference can make one request look like two. Whatever could be read in two ways
//! is a violation here (RFC 9112, sections 2.2, 5, 6 and 7.1): it is answered 400 and the connection closed.

/// Longest line of a head or of a chunk's frame; the HTTP library answers 431 long before.
const MAX_LINE: usize = 64 * 1024;
/// Most bytes of chunk frames (sizes, extensions, trailers) in one body.
const MAX_CHUNK_FRAMES: usize = 64 * 1024;

/// The request cannot be read in exactly one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// How many of the bytes just fed still belong to requests that are in order.
    pub(super) sound: usize,
}

/// What the next byte belongs to, as far as timeouts care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two requests.
    Between,
    /// Inside a head.
    Head,
    /// Inside a body.
    Body,
}

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    head: Head,
    /// Bytes of chunk frames in this body.
    frames: usize,
}

/// `RequestLine -> Fields -> RequestLine | Fixed | ChunkSize`, `ChunkSize -> ChunkData -> ChunkEnd -> ChunkSize`,
/// `ChunkSize -> Trailers -> RequestLine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    RequestLine,
    Fields,
    Fixed(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
}

/// What the head of the current request says about its body.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    http_1_0: bool,
    length: Option<u64>,
    chunked: bool,
}

/// A line, a length or a framing that is not as it must be.
struct Bad;

impl Framing {
    pub(super) fn new() -> Self {
        Self { state: State::RequestLine, line: Vec::new(), head: Head::default(), frames: 0 }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::RequestLine if self.line.is_empty() => Phase::Between,
            State::RequestLine | State::Fields => Phase::Head,
            State::Fixed(_)
            | State::ChunkSize
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailers => Phase::Body,
        }
    }

    /// Follows the next bytes of the connection.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut rest = bytes;
        // Where the request that is being read began, if it began in these bytes.
        let mut sound = 0;
        while !rest.is_empty() {
            if self.phase() == Phase::Between {
                sound = bytes.len().saturating_sub(rest.len());
            }
            rest = self.step(rest).map_err(|Bad| Violation { sound })?;
        }
        Ok(())
    }

    /// Takes a line or a stretch of data off `bytes`.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Bad> {
        match self.state {
            State::Fixed(left) => {
                let (left, rest) = skip(left, bytes);
                self.state = if left == 0 { State::RequestLine } else { State::Fixed(left) };
                Ok(rest)
            }
            State::ChunkData(left) => {
                let (left, rest) = skip(left, bytes);
                self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                Ok(rest)
            }
            State::RequestLine
            | State::Fields
            | State::ChunkSize
            | State::ChunkEnd
            | State::Trailers => self.line(bytes),
        }
    }

    /// Completes a line, or keeps what there is of it.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Bad> {
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
            self.line.extend_from_slice(bytes);
            return if self.line.len() > MAX_LINE { Err(Bad) } else { Ok(&[]) };
        };
        let (until, rest) = bytes.split_at(end);
        let rest = rest.get(1..).unwrap_or_default();
        if self.line.is_empty() {
            self.whole_line(until)?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(until);
            self.whole_line(&line)?;
            line.clear();
            self.line = line;
        }
        Ok(rest)
    }

    /// A line without its line feed.
    fn whole_line(&mut self, line: &[u8]) -> Result<(), Bad> {
        let Some((b'\r', line)) = line.split_last() else { return Err(Bad) };
        if line.len() > MAX_LINE || line.iter().any(|b| matches!(b, b'\r' | 0)) {
            return Err(Bad);
        }
        self.state = match self.state {
            // The end of a body's trailers; or, before a request, an old client's habit that leaves no doubt
            // (RFC 9112, section 2.2).
            State::RequestLine | State::Trailers if line.is_empty() => State::RequestLine,
            State::RequestLine => {
                self.head = request_line(line)?;
                self.frames = 0;
                State::Fields
            }
            State::Fields if line.is_empty() => self.head.body()?,
            State::Fields => {
                self.head.field(line)?;
                State::Fields
            }
            State::ChunkSize => {
                self.count(line)?;
                match chunk_size(line)? {
                    0 => State::Trailers,
                    size => State::ChunkData(size),
                }
            }
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err(Bad),
            State::Trailers => {
                self.count(line)?;
                field_name(line)?;
                State::Trailers
            }
            data @ (State::Fixed(_) | State::ChunkData(_)) => data,
        };
        Ok(())
    }

    fn count(&mut self, line: &[u8]) -> Result<(), Bad> {
        self.frames = self.frames.saturating_add(line.len()).saturating_add(2);
        if self.frames > MAX_CHUNK_FRAMES { Err(Bad) } else { Ok(()) }
    }
}

impl Head {
    /// Notes what a field says about the body.
    fn field(&mut self, line: &[u8]) -> Result<(), Bad> {
        let (name, value) = field_name(line)?;
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            // Even two equal ones: what is behind us and what is before us might take one each.
            if self.length.is_some() {
                return Err(Bad);
            }
            let digits =
                !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(value).ok().filter(|_| digits);
            self.length = Some(text.and_then(|text| text.parse().ok()).ok_or(Bad)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || self.http_1_0 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Bad);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// The head is complete: what follows it.
    fn body(self) -> Result<State, Bad> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Bad),
            (None, true) => Ok(State::ChunkSize),
            (None | Some(0), false) => Ok(State::RequestLine),
            (Some(length), false) => Ok(State::Fixed(length)),
        }
    }
}

/// `METHOD SP TARGET SP HTTP/1.x`, single spaces.
fn request_line(line: &[u8]) -> Result<Head, Bad> {
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Bad);
    };
    let method = !method.is_empty() && method.iter().copied().all(is_token);
    let target = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
    let http_1_0 = version == b"HTTP/1.0";
    if !method || !target || !(http_1_0 || version == b"HTTP/1.1") {
        return Err(Bad);
    }
    Ok(Head { http_1_0, ..Head::default() })
}

/// `name: value`; no folding, no space before the colon.
fn field_name(line: &[u8]) -> Result<(&[u8], &[u8]), Bad> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Bad)?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Bad);
    }
    Ok((name, value.get(1..).unwrap_or_default()))
}

/// `size [;extension]`, the size in hexadecimal.
fn chunk_size(line: &[u8]) -> Result<u64, Bad> {
    let size = line.split(|b| *b == b';').next().unwrap_or_default();
    let digits = !size.is_empty() && size.len() <= 15 && size.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(size).ok().filter(|_| digits).ok_or(Bad)?;
    u64::from_str_radix(text, 16).map_err(|_checked_above| Bad)
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What is left of a stretch of data, and of the bytes.
fn skip(left: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    let taken = u64::try_from(here).unwrap_or(u64::MAX);
    (left.saturating_sub(taken), bytes.get(here..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the bytes whole and then one by one: both must agree.
    fn verdict(bytes: &[u8]) -> Result<Phase, usize> {
        let mut whole = Framing::new();
        let at_once = whole.feed(bytes).map(|()| whole.phase());
        let mut piecewise = Framing::new();
        let pieces = bytes.iter().try_for_each(|b| piecewise.feed(&[*b]));
        assert_eq!(at_once.is_ok(), pieces.is_ok(), "{:?}", String::from_utf8_lossy(bytes));
        at_once.map_err(|violation| violation.sound)
    }

    fn with_fields(fields: &str) -> Vec<u8> {
        format!("POST /in HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
    }

    #[test]
    fn requests_in_order_pass() {
        for (bytes, phase) in [
            (&b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Phase::Between),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", Phase::Between),
            (b"POST / HTTP/1.1\r\ncontent-length:5 \r\n\r\nhell", Phase::Body),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Phase::Between),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\nA\r\n0123", Phase::Body),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\nPOST", Phase::Head),
            (b"GET /a?b=c HTTP/1.0\r\n\r\nPOST http://a/ HTTP/1.1\r\nHos", Phase::Head),
            (b"\r\nPOST / HTTP/1.1\r\n\r\n", Phase::Between),
            (b"", Phase::Between),
        ] {
            assert_eq!(verdict(bytes), Ok(phase), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn whatever_can_be_read_in_two_ways_is_a_violation() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length : 5\r\n",
            " folded: yes\r\n",
            "A: b\r\n c\r\n",
            "A: b\nC: d\r\n",
            "A: b\rC: d\r\n",
            "A: b\0\r\n",
            "no colon\r\n",
            ": no name\r\n",
        ] {
            assert_eq!(verdict(&with_fields(fields)), Err(0), "{fields:?}");
        }
        for bytes in [
            &b"POST / HTTP/1.1\nHost: a\n\n"[..],
            b"POST  / HTTP/1.1\r\n",
            b"POST / HTTP/1.1 \r\n",
            b"POST / HTTP/2.0\r\n",
            b"POST /\r\n",
            b"PO(ST / HTTP/1.1\r\n",
            b"\nPOST / HTTP/1.1\r\n",
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(verdict(bytes), Err(0), "{}", String::from_utf8_lossy(bytes));
        }
        for body in [
            "5\nhello",
            "5 \r\nhello",
            "0x5\r\nhello",
            "-5\r\n",
            "\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n",
            "FFFFFFFFFFFFFFFFF\r\n",
            "0\r\nbad trailer\r\n",
        ] {
            let bytes =
                [&with_fields("Transfer-Encoding: chunked\r\n")[..], body.as_bytes()].concat();
            assert_eq!(verdict(&bytes), Err(0), "{body:?}");
        }
    }

    #[test]
    fn what_came_before_a_violation_is_still_sound() {
        let good = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
        let bytes = [&good[..], b"POST / HTTP/1.1\nX: y\r\n\r\n"].concat();
        assert_eq!(verdict(&bytes), Err(good.len()));
    }

    #[test]
    fn endless_lines_and_chunk_frames_end() {
        let mut framing = Framing::new();
        let line = vec![b'a'; MAX_LINE + 1];
        assert!(framing.feed(&line).is_err());
        let mut framing = Framing::new();
        framing.feed(&with_fields("Transfer-Encoding: chunked\r\n")).unwrap();
        let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1000));
        assert!((0..100).any(|_| framing.feed(chunk.as_bytes()).is_err()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_pieces_agree_with_the_whole(bytes in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'5'), any::<u8>()], 0..200)) {
            // The comparison is inside `verdict`.
            let first = verdict(&bytes);
            let after = [&with_fields("Transfer-Encoding: chunked\r\n")[..], &bytes].concat();
            prop_assert!(first.is_err() || verdict(&after) == verdict(&after));
        }
    }
}
