//! One connection to a target: name, socket, TLS, all within `connect_timeout`, each failure named by class.
//!
//! Written here rather than taken from the HTTP library because its connectors tell their failures apart only
//! by message, and an operator must see whether it was the name, the network or the certificate.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::{ErrorClass, Timing};
use crate::time::{Stopwatch, deadline};

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
#[error("no connection: {}", .class.as_str())]
pub(super) struct ConnectFailed {
    pub(super) class: ErrorClass,
    /// How far it got.
    pub(super) way: Way,
    /// The last step's own words; they name hosts and certificates, never a path.
    pub(super) cause: io::Error,
}

/// How a connection came about: with whom, and where the time went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    pub(super) remote: Option<SocketAddr>,
    pub(super) timing: Timing,
}

/// What a connection tells each request that it carries.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    way: Way,
    /// Whether no request has asked yet.
    new: Arc<AtomicBool>,
}

impl Carried {
    /// The way, with its times for the first that asks: a kept connection has spared the others the steps.
    pub(super) fn way(&self) -> Way {
        let timing = if self.new.swap(false, Ordering::Relaxed) {
            self.way.timing
        } else {
            Timing::default()
        };
        Way { timing, ..self.way }
    }
}

/// Most lookups of one target's name at once. A lookup that stalls holds a thread that the journal may need, and cannot
/// be cut off.
const LOOKUPS: usize = 2;
/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;

/// Opens connections for one target.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    timeout: Duration,
    lookups: Arc<Semaphore>,
}

impl Connector {
    pub(super) fn new(tls: Arc<rustls::ClientConfig>, timeout: Duration) -> Self {
        Self { tls: TlsConnector::from(tls), timeout, lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Wire;
    type Error = ConnectFailed;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, ConnectFailed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFailed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (tls, by) = (self.tls.clone(), deadline(self.timeout));
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move { open(&uri, tls, lookups, by).await })
    }
}

async fn open(
    uri: &Uri,
    tls: TlsConnector,
    lookups: Arc<Semaphore>,
    by: Instant,
) -> Result<Wire, ConnectFailed> {
    let mut way = Way::default();
    let opened = steps(uri, tls, lookups, by, &mut way).await;
    opened.map_err(|(class, cause)| ConnectFailed { class, way, cause })
}

/// Three steps with one deadline; whichever step it ends names the failure.
async fn steps(
    uri: &Uri,
    tls: TlsConnector,
    lookups: Arc<Semaphore>,
    by: Instant,
    way: &mut Way,
) -> Result<Wire, (ErrorClass, io::Error)> {
    let secure = uri.scheme_str() == Some("https");
    // A literal IPv6 address stands in brackets in a URL and without them everywhere else.
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let found = if let Ok(ip) = host.parse::<IpAddr>() {
        vec![SocketAddr::new(ip, port)]
    } else {
        let found = look_up(host.to_owned(), port, lookups);
        step(by, &mut way.timing.dns, found).await.map_err(|cause| (ErrorClass::Dns, cause))?
    };
    let reached = first_reachable(found, &mut way.remote);
    let reached = step(by, &mut way.timing.connect, reached).await;
    let socket = reached.map_err(|cause| (ErrorClass::Connect, cause))?;
    socket.set_nodelay(true).map_err(|cause| (ErrorClass::Connect, cause))?;
    if !secure {
        return Ok(Wire::new(Stream::Plain(TokioIo::new(socket)), *way));
    }
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|cause| (ErrorClass::Dns, io::Error::other(cause)))?;
    let shaken = step(by, &mut way.timing.tls, tls.connect(name, socket)).await;
    let stream = shaken.map_err(|cause| (ErrorClass::Tls, cause))?;
    Ok(Wire::new(Stream::Tls(Box::new(TokioIo::new(stream))), *way))
}

async fn step<T>(
    by: Instant,
    took: &mut Option<Duration>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let watch = Stopwatch::start();
    let late =
        |_elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, "not within connect_timeout"));
    let done = tokio::time::timeout_at(by, work).await.unwrap_or_else(late);
    *took = Some(watch.elapsed());
    done
}

/// The addresses of a name, the families taking turns so that neither has to fail as a whole first.
async fn look_up(host: String, port: u16, lookups: Arc<Semaphore>) -> io::Result<Vec<SocketAddr>> {
    let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
    let found = tokio::task::spawn_blocking(move || {
        // Held until the lookup has ended, which may be long after nobody waits for it any more.
        let _permit = permit;
        (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
    });
    let found = found.await.map_err(io::Error::other)??;
    Ok(in_turns(found))
}

/// The first address's family begins, as the system prefers it.
fn in_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    while turns.len() < ADDRESSES {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            break;
        }
        turns.extend(pair.into_iter().flatten());
    }
    turns
}

/// The first address that accepts; the last failure when none does. Each has a head start before the next one.
/// `remote` is the address that was reached, or else one that was tried.
async fn first_reachable(
    found: Vec<SocketAddr>,
    remote: &mut Option<SocketAddr>,
) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut waiting = found.into_iter();
    let mut trying = JoinSet::new();
    loop {
        let more = waiting.next();
        let exhausted = more.is_none();
        if let Some(address) = more {
            *remote = Some(address);
            trying.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let head_start = tokio::time::sleep(HEAD_START);
        tokio::select! {
            ended = trying.join_next() => match ended {
                Some(Ok((address, Ok(socket)))) => {
                    *remote = Some(address);
                    return Ok(socket);
                }
                Some(Ok((_, Err(error)))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None => return Err(last),
            },
            () = head_start, if !exhausted => {}
        }
    }
}

/// An open connection.
pub(super) struct Wire {
    stream: Stream,
    carried: Carried,
}

enum Stream {
    /// `http`
    Plain(TokioIo<TcpStream>),
    /// `https`
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Wire {
    fn new(stream: Stream, way: Way) -> Self {
        Self { stream, carried: Carried { way, new: Arc::new(AtomicBool::new(true)) } }
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.carried.clone());
        match &self.stream {
            Stream::Plain(_) => connected,
            Stream::Tls(stream) => match stream.inner().get_ref().1.alpn_protocol() {
                Some(b"h2") => connected.negotiated_h2(),
                Some(_) | None => connected,
            },
        }
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Stream::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Stream::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_flush(cx),
            Stream::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Stream::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns_and_the_systems_first_choice_begins() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_turns(found), expected);
        assert_eq!(in_turns(addresses(&["1.1.1.1:1"; 50])).len(), ADDRESSES);
        assert!(in_turns(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn an_address_that_answers_nothing_does_not_hold_up_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // TEST-NET-1 (RFC 5737) answers nothing, or is refused at once where there is no way to it.
        let silent: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let (there, mut remote) = (listener.local_addr().unwrap(), None);
        let reached = first_reachable(vec![silent, there], &mut remote);
        let reached = tokio::time::timeout(Duration::from_secs(5), reached).await.unwrap().unwrap();
        assert_eq!((reached.peer_addr().unwrap(), remote), (there, Some(there)));
        assert!(first_reachable(Vec::new(), &mut remote).await.is_err());
    }
}
