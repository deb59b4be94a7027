//! Where one HTTP/1 request ends and the next begins, decided strictly on the raw bytes before the HTTP library
//! sees them.
//!
//! Libraries and proxies differ in what they forgive (a bare line feed, two lengths, a folded field), and a
//! sender who knows the difference can make one request look like two. Whatever could be read in two ways
//! is a violation here (RFC 9112, sections 2.2, 5, 6 and 7.1): it is answered 400 and the connection closed.

mod head;

use self::head::{Head, field_name};
pub(super) use self::head::{MAX_FIELDS, MAX_HEAD, REFUSED};

/// Most empty lines before a request.
const MAX_BLANKS: usize = 4;
/// Most bytes of chunk frames (sizes, extensions, trailers) in one body.
const MAX_CHUNK_FRAMES: usize = 64 * 1024;

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be read in exactly one way.
    Malformed,
    /// Its head has too many bytes or fields.
    TooLarge,
}

/// A request that is not taken, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// How many of the bytes just fed still belong to requests that are in order.
    pub(super) sound: usize,
    /// Whether its head was complete before: then it is its body that is broken.
    pub(super) amid_body: bool,
    pub(super) refusal: Refusal,
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
    /// Empty lines since the last request.
    blanks: usize,
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

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            state: State::RequestLine,
            line: Vec::new(),
            head: Head::default(),
            frames: 0,
            blanks: 0,
        }
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

    /// Follows the next bytes of the connection. Gives how many of them belong to complete heads and to their bodies;
    /// the rest is the beginning of a head.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut rest = bytes;
        // Where the request that is being read began, if it began in these bytes.
        let (mut sound, mut begun_here) = (0, false);
        while !rest.is_empty() {
            let phase = self.phase();
            if phase == Phase::Between {
                (sound, begun_here) = (bytes.len().saturating_sub(rest.len()), true);
            }
            let amid_body = phase == Phase::Body && !begun_here;
            rest = self.step(rest).map_err(|refusal| Violation { sound, amid_body, refusal })?;
        }
        Ok(if self.phase() == Phase::Head { sound } else { bytes.len() })
    }

    /// Takes a line or a stretch of data off `bytes`.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
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
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
            self.line.extend_from_slice(bytes);
            return if self.has_room() { Ok(&[]) } else { Err(Refusal::TooLarge) };
        };
        let (until, rest) = bytes.split_at(end);
        let rest = rest.get(1..).unwrap_or_default();
        if self.line.is_empty() {
            self.whole_line(until)?;
        } else {
            // Lines seldom come in pieces: the room they took is given back.
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(until);
            self.whole_line(&line)?;
        }
        Ok(rest)
    }

    /// Whether the line that has begun can still become one.
    fn has_room(&self) -> bool {
        match self.state {
            State::RequestLine => Head::default().has_room(&self.line),
            State::Fields => self.head.has_room(&self.line),
            State::ChunkSize | State::ChunkEnd | State::Trailers => {
                self.line.len() <= MAX_CHUNK_FRAMES
            }
            State::Fixed(_) | State::ChunkData(_) => true,
        }
    }

    /// A line without its line feed.
    fn whole_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some((b'\r', line)) = line.split_last() else { return Err(Refusal::Malformed) };
        if line.iter().any(|b| matches!(b, b'\r' | 0)) {
            return Err(Refusal::Malformed);
        }
        self.state = match self.state {
            // Before a request: an old client's habit that leaves no doubt (RFC 9112, section 2.2).
            State::RequestLine if line.is_empty() => {
                self.blanks = self.blanks.saturating_add(1);
                if self.blanks > MAX_BLANKS {
                    return Err(Refusal::Malformed);
                }
                State::RequestLine
            }
            State::Trailers if line.is_empty() => State::RequestLine,
            State::RequestLine => {
                self.head = Head::begin(line)?;
                (self.frames, self.blanks) = (0, 0);
                State::Fields
            }
            State::Fields => {
                self.head.count(line)?;
                if line.is_empty() {
                    self.head.body()?
                } else {
                    self.head.field(line)?;
                    State::Fields
                }
            }
            State::ChunkSize => {
                self.count(line)?;
                match chunk_size(line)? {
                    0 => State::Trailers,
                    size => State::ChunkData(size),
                }
            }
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err(Refusal::Malformed),
            State::Trailers => {
                self.count(line)?;
                field_name(line)?;
                State::Trailers
            }
            data @ (State::Fixed(_) | State::ChunkData(_)) => data,
        };
        Ok(())
    }

    fn count(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.frames = self.frames.saturating_add(line.len()).saturating_add(2);
        if self.frames > MAX_CHUNK_FRAMES { Err(Refusal::Malformed) } else { Ok(()) }
    }
}

/// `size [;extension]`, the size in hexadecimal.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let size = line.split(|b| *b == b';').next().unwrap_or_default();
    let digits = !size.is_empty() && size.len() <= 15 && size.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(size).ok().filter(|_| digits).ok_or(Refusal::Malformed)?;
    u64::from_str_radix(text, 16).map_err(|_checked_above| Refusal::Malformed)
}

/// What is left of a stretch of data, and of the bytes.
fn skip(left: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    let taken = u64::try_from(here).unwrap_or(u64::MAX);
    (left.saturating_sub(taken), bytes.get(here..).unwrap_or_default())
}

#[cfg(test)]
mod tests;
