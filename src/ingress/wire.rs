//! One connection's bytes: strict about framing, short with slow clients, and polite when it closes early.
//!
//! The HTTP library reads through this. A request that breaks the framing is cut off and replaced by bytes that
//! no parser takes, so that the library itself answers 400 and closes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Sleep;

use super::framing::{Framing, Phase, Violation};
use crate::time::deadline;

/// How long a keep-alive connection may be idle. Far longer than a head may take: a provider that sends a
/// webhook on a connection we are just closing would lose it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may leave our answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// After an early answer: how long and how much we go on reading, so that the client reads the answer before
/// it learns that the connection is closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// No HTTP parser takes this inside a head or a chunk's size, and it ends both.
const POISON: &[u8] = b"\0\r\n\r\n";

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
    /// What is left to give of the poison; then the connection seems to have ended.
    poison: Option<&'static [u8]>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A connection that speaks HTTP/1; its first head must be complete within `header_timeout`.
    pub(super) fn http_1(io: S, header_timeout: Duration) -> Self {
        Self {
            io,
            framing: Some(Framing::new()),
            header_timeout,
            phase: Phase::Head,
            timer: Box::pin(tokio::time::sleep(header_timeout)),
            write_timer: None,
            poison: None,
        }
    }

    /// A connection that speaks HTTP/2.
    pub(super) fn http_2(io: S) -> Self {
        let timer = Box::pin(tokio::time::sleep(IDLE_TIMEOUT));
        let header_timeout = IDLE_TIMEOUT;
        Self {
            io,
            framing: None,
            header_timeout,
            phase: Phase::Body,
            timer,
            write_timer: None,
            poison: None,
        }
    }

    /// Closes so that a client that is still sending reads our answer, not a reset.
    pub(super) async fn close(mut self) {
        let polite = async {
            self.io.shutdown().await?;
            let unread = self.poison.is_some()
                || self.framing.as_ref().is_none_or(|f| f.phase() != Phase::Between);
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

    /// Looks at the bytes just read; gives how many may be passed on.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let Some(framing) = &mut self.framing else { return bytes.len() };
        let passed = match framing.feed(bytes) {
            Ok(()) => bytes.len(),
            Err(Violation { sound }) => {
                self.poison = Some(POISON);
                sound
            }
        };
        let phase = framing.phase();
        if phase != self.phase {
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
        if let Some(poison) = &mut this.poison {
            let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
            buf.put_slice(now);
            *poison = later;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Pending => {
                // A body has its own limit, on the whole of it, where it is read.
                let waiting = this.framing.is_some() && this.phase != Phase::Body;
                if waiting && this.timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                let read = buf.filled().get(before..).unwrap_or_default();
                let (ended, passed) = (read.is_empty(), this.follow(read));
                buf.set_filled(before.saturating_add(passed));
                if passed == 0 && !ended {
                    return Pin::new(this).poll_read(cx, buf);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
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
