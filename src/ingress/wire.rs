//! One connection's bytes: strict about framing, short with slow clients, and polite when it closes early.
//!
//! The HTTP library reads through this, and sees each head whole. A request that breaks the framing is cut off; in its
//! place the library reads one of our own that says why, so that it is answered and counted in its turn, after
//! the requests before it, like any other refusal. When a body breaks, its request is there already: it ends in bytes
//! that no parser takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::Request;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Sleep;

use super::answer::Cause;
use super::framing::{Framing, Phase, REFUSED, Refusal, Violation};
use crate::time::deadline;

/// How long a keep-alive connection may be idle. Far longer than a head may take: a provider that sends a
/// webhook on a connection we are just closing would lose it.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may leave our answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// After an early answer: how long and how much we go on reading, so that the client reads the answer before
/// it learns that the connection is closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// No HTTP parser takes this as a chunk's size, and it ends one.
const POISON: &[u8] = b"\0\r\n\r\n";
/// What stands for a request that is refused. The method is one that no client gets through.
const MALFORMED: &[u8] = b"REFUSED /malformed HTTP/1.1\r\nhost: x\r\n\r\n";
const TOO_LARGE: &[u8] = b"REFUSED /too-large HTTP/1.1\r\nhost: x\r\n\r\n";
/// The first bytes of an HTTP/2 connection: the preface and the head of the client's settings (RFC 9113, section 3.4).
const HTTP_2_OPENING: usize = 24 + 9;

/// Why the wire put this request in the place of another, if it did.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<Cause> {
    (request.method().as_str() == REFUSED).then(|| match request.uri().path() {
        "/too-large" => Cause::TooManyHeaders,
        _ => Cause::Malformed,
    })
}

/// A guarded connection.
#[derive(Debug)]
pub(super) struct Wire<S> {
    io: S,
    /// `None` for HTTP/2, whose frames leave no doubt.
    framing: Option<Framing>,
    header_timeout: Duration,
    phase: Phase,
    timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    /// The beginning of a head that is not complete yet.
    held: Vec<u8>,
    /// What the library reads next.
    ready: Bytes,
    /// Whether nothing more is read: the connection seems to have ended.
    cut: bool,
    /// How many bytes of an HTTP/2 connection's opening are still to come.
    opening: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A connection that speaks HTTP/1; its first head must be complete within `header_timeout`.
    pub(super) fn http_1(io: S, header_timeout: Duration) -> Self {
        Self { framing: Some(Framing::new()), opening: 0, ..Self::http_2(io, header_timeout) }
    }

    /// A connection that speaks HTTP/2; its opening must be complete within `header_timeout`.
    pub(super) fn http_2(io: S, header_timeout: Duration) -> Self {
        Self {
            io,
            framing: None,
            header_timeout,
            phase: Phase::Head,
            timer: Box::pin(tokio::time::sleep(header_timeout)),
            write_timer: None,
            held: Vec::new(),
            ready: Bytes::new(),
            cut: false,
            opening: HTTP_2_OPENING,
        }
    }

    /// Closes so that a client that is still sending reads our answer, not a reset.
    pub(super) async fn close(mut self) {
        let polite = async {
            self.io.shutdown().await?;
            let unread =
                self.cut || self.framing.as_ref().is_none_or(|f| f.phase() != Phase::Between);
            let mut scratch = vec![0; 16 * 1024];
            let mut left = if unread { LINGER_BYTES } else { 0 };
            while left > 0 {
                match self.io.read(&mut scratch).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        // Politeness has a bound, and an error ends it.
        drop(tokio::time::timeout(LINGER_TIMEOUT, polite).await);
    }

    /// Whether the timer counts now. A body has its own limit, on the whole of it, where it is read.
    fn is_timed(&self) -> bool {
        match self.framing {
            Some(_) => self.phase != Phase::Body,
            None => self.opening > 0,
        }
    }

    /// Looks at the bytes just read; gives how many of them may be passed on at once.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let Some(framing) = &mut self.framing else {
            self.opening = self.opening.saturating_sub(bytes.len());
            return bytes.len();
        };
        let fed = framing.feed(bytes);
        let whole = match fed {
            Ok(whole) => whole,
            Err(Violation { sound, .. }) => sound,
        };
        let (now, later) = bytes.split_at(whole.min(bytes.len()));
        let mut passed = now.len();
        if fed.is_ok() && (self.held.is_empty() || now.is_empty()) {
            self.held.extend_from_slice(later);
        } else if !self.held.is_empty() && !now.is_empty() {
            self.held.extend_from_slice(now);
            self.ready = std::mem::replace(&mut self.held, later.to_vec()).into();
            passed = 0;
        }
        if let Err(Violation { amid_body, refusal, .. }) = fed {
            let last = match refusal {
                Refusal::Malformed | Refusal::TooLarge if amid_body => POISON,
                Refusal::Malformed => MALFORMED,
                Refusal::TooLarge => TOO_LARGE,
            };
            self.ready = [&*self.ready, last].concat().into();
            self.held = Vec::new();
            self.cut = true;
        }
        let phase = framing.phase();
        // A whole request in one read leaves the phase as it was, and the connection has not been idle.
        if phase != self.phase || phase == Phase::Between {
            let patience = match phase {
                Phase::Between => IDLE_TIMEOUT,
                Phase::Head | Phase::Body => self.header_timeout,
            };
            self.timer.as_mut().reset(deadline(patience));
            self.phase = phase;
        }
        passed
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.ready.has_remaining() {
                let now = this.ready.split_to(this.ready.len().min(buf.remaining()));
                buf.put_slice(&now);
                return Poll::Ready(Ok(()));
            }
            if this.cut {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            match Pin::new(&mut this.io).poll_read(cx, buf) {
                Poll::Pending => {
                    if this.is_timed() && this.timer.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {
                    let read = buf.filled().get(before..).unwrap_or_default();
                    let (ended, passed) = (read.is_empty(), this.follow(read));
                    buf.set_filled(before.saturating_add(passed));
                    if ended || passed > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        if written.is_ready() {
            this.write_timer = None;
            return written;
        }
        let timer =
            this.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"POST /in/a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";

    /// Reads what has come; an error when the wire has given the connection up.
    async fn read(wire: &mut Wire<tokio::io::DuplexStream>) -> io::Result<usize> {
        wire.read(&mut [0; 1024]).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_use_is_never_idle_and_one_that_is_not_ends() {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut wire = Wire::http_1(server, Duration::from_secs(5));
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            client.write_all(REQUEST).await.unwrap();
            assert_eq!(read(&mut wire).await.unwrap(), REQUEST.len());
        }
        for pause in [60, 70, 74] {
            let waiting = tokio::time::timeout(Duration::from_secs(pause), read(&mut wire)).await;
            assert!(waiting.is_err(), "it ended within {pause} seconds");
            client.write_all(REQUEST).await.unwrap();
            assert_eq!(read(&mut wire).await.unwrap(), REQUEST.len());
        }
        let ended = tokio::time::timeout(IDLE_TIMEOUT, read(&mut wire)).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
