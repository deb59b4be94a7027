//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::caller::Caller;
use super::framing::{MAX_FIELDS, MAX_HEAD};
use super::handler::handle;
use super::wire::{IDLE_TIMEOUT, Wire, refusal};
use crate::lifecycle::Tasks;
use crate::metrics::NO_SOURCE;

/// What the HTTP library may hold of HTTP/1 bytes: more than a head, whose bound is the wire's.
const MAX_BUFFER: usize = 2 * MAX_HEAD;
/// HTTP/2: most requests at once on one connection.
const MAX_STREAMS: u32 = 128;
/// HTTP/2: most streams a client may reset before it is cut off.
const MAX_RESETS: usize = 32;
/// HTTP/2: how often a quiet client is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connections that are idle when the ingress stops may still begin a request.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// HTTP/2: how many bytes of one body, and of all bodies of a connection, may be on their way unread.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How long the goodbye of an HTTP/2 connection that was idle too long may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// When the first bytes are looked at again if too few have come to tell the protocol; each pause is twice the one before.
const PEEK_AGAIN: Duration = Duration::from_millis(5);
const PEEK_SELDOM: Duration = Duration::from_millis(500);

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Serves a connection until it closes, idles too long, or the ingress stops.
pub(super) async fn serve(
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    socket: TcpStream,
    peer: IpAddr,
    tasks: Tasks,
) {
    let patience = shared.settings.load().header_timeout;
    let Some(tls) = tls else {
        let grace = grace_over(tasks.stop_token());
        let first = tokio::select! {
            first = tokio::time::timeout(patience, spoken(&socket)) => first,
            () = grace => return,
        };
        if let Ok(Ok(version)) = first {
            serve_version(version, shared, socket, peer, tasks).await;
        }
        return;
    };
    match tokio::time::timeout(patience, Box::pin(tls.accept(socket))).await {
        Ok(Ok(stream)) => {
            let version = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Version::Http2,
                Some(_) | None => Version::Http1,
            };
            serve_version(version, shared, stream, peer, tasks).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_elapsed) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Resolves a moment after the ingress was asked to stop: a client whose connection was accepted before may just be
/// sending.
async fn grace_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

/// Tells HTTP/2 by its preface, the whole of it: a method of HTTP/1 may begin like it.
async fn spoken(socket: &TcpStream) -> std::io::Result<Version> {
    let mut first = [0; PREFACE.len()];
    let mut pause = PEEK_AGAIN;
    loop {
        let ends = socket.ready(Interest::READABLE).await?.is_read_closed();
        let seen = socket.peek(&mut first).await?;
        let seen = first.get(..seen).unwrap_or_default();
        if seen.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        } else if seen == PREFACE {
            return Ok(Version::Http2);
        } else if ends || !PREFACE.starts_with(seen) {
            return Ok(Version::Http1);
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PEEK_SELDOM);
    }
}

/// Each in memory of its own: a connection of one kind does not take the room of the others.
async fn serve_version<S>(version: Version, shared: Arc<Shared>, io: S, peer: IpAddr, tasks: Tasks)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match version {
        Version::Http1 => Box::pin(serve_http1(shared, io, peer, tasks)).await,
        Version::Http2 => Box::pin(serve_http2(shared, io, peer, tasks)).await,
    }
}

async fn serve_http1<S>(shared: Arc<Shared>, io: S, peer: IpAddr, tasks: Tasks)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wire = Wire::http_1(io, shared.settings.load().header_timeout);
    let caller = Caller::new(shared, peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let caller = Arc::clone(&caller);
        Box::pin(async move {
            Ok::<_, Infallible>(match refusal(&request) {
                Some(cause) => caller.shared.refuse(NO_SOURCE, cause),
                None => handle(&caller, request).await,
            })
        })
    });
    // The header timeout is the wire's: the library's own would also close idle connections after it.
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_BUFFER)
        // A client that says it will send nothing more still waits for its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(wire), service);
    // Until the grace is over, requests are served and their answers say that the connection closes; then a
    // connection that is idle is closed. All connections wait for the same word, so none asks for it each time that it
    // is woken for something else: this one is polled only when it was woken itself.
    let mut grace = FuturesUnordered::from_iter([grace_over(tasks.stop_token())]);
    let served = loop {
        tokio::select! {
            biased;
            served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break served,
            Some(()) = grace.next() => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
    connection.into_parts().io.into_inner().close().await;
}

async fn serve_http2<S>(shared: Arc<Shared>, io: S, peer: IpAddr, tasks: Tasks)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = tasks.stop_token().clone();
    let wire = Wire::http_2(io, shared.settings.load().header_timeout);
    let (open, streams) = watch::channel(0);
    let caller = Caller::new(shared, peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let (caller, stream) = (Arc::clone(&caller), Stream::open(&open));
        async move {
            let answer = handle(&caller, request).await;
            drop(stream);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http2::Builder::new(Streams(tasks))
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(wire), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = idle(streams) => {
            connection.as_mut().graceful_shutdown();
            let goodbye = tokio::time::timeout(GOODBYE, connection).await;
            goodbye.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts a request of an HTTP/2 connection while it is served.
struct Stream(watch::Sender<usize>);

impl Stream {
    fn open(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|open| *open = open.saturating_add(1));
        Self(count.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// Resolves when no request has been served for as long as a connection may be idle: answering pings is no reason to
/// hold one.
async fn idle(mut open: watch::Receiver<usize>) {
    loop {
        // An error is a connection that has ended.
        if open.wait_for(|open| *open == 0).await.is_err() {
            return std::future::pending().await;
        }
        if tokio::time::timeout(IDLE_TIMEOUT, open.changed()).await.is_err() {
            return;
        }
    }
}

/// Lets the streams of an HTTP/2 connection belong to the ingress.
#[derive(Clone)]
struct Streams(Tasks);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        drop(self.0.spawn(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_when_no_request_was_served_for_long() {
        let (open, streams) = watch::channel(0);
        let mut idle = std::pin::pin!(idle(streams));
        let second = Duration::from_secs(1);
        let stream = Stream::open(&open);
        assert!(tokio::time::timeout(IDLE_TIMEOUT * 3, &mut idle).await.is_err(), "it is served");
        drop(stream);
        assert!(
            tokio::time::timeout(IDLE_TIMEOUT.saturating_sub(second), &mut idle).await.is_err()
        );
        let stream = Stream::open(&open);
        drop(stream);
        assert!(
            tokio::time::timeout(IDLE_TIMEOUT.saturating_sub(second), &mut idle).await.is_err()
        );
        assert!(tokio::time::timeout(second * 2, &mut idle).await.is_ok());
    }
}
