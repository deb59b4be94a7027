//! One connection to a target: name, socket, TLS, all within `connect_timeout`, each failure named by class.
//!
//! Written here rather than taken from the HTTP library because its connectors tell their failures apart only
//! by message, and an operator must see whether it was the name, the network or the certificate.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
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

use crate::model::ErrorClass;
use crate::time::deadline;

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no connection: {}", .0.as_str())]
pub(super) struct ConnectFailed(pub(super) ErrorClass);

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

/// Three steps with one deadline; whichever step it ends names the failure.
async fn open(
    uri: &Uri,
    tls: TlsConnector,
    lookups: Arc<Semaphore>,
    by: Instant,
) -> Result<Wire, ConnectFailed> {
    let secure = uri.scheme_str() == Some("https");
    // A literal IPv6 address stands in brackets in a URL and without them everywhere else.
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let found = step(ErrorClass::Dns, by, look_up(host.to_owned(), port, lookups)).await?;
    let socket = step(ErrorClass::Connect, by, first_reachable(found)).await?;
    socket.set_nodelay(true).map_err(|_no_longer_open| ConnectFailed(ErrorClass::Connect))?;
    if !secure {
        return Ok(Wire::Plain(TokioIo::new(socket)));
    }
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Err(ConnectFailed(ErrorClass::Dns));
    };
    let stream = step(ErrorClass::Tls, by, tls.connect(name, socket)).await?;
    Ok(Wire::Tls(Box::new(TokioIo::new(stream))))
}

async fn step<T>(
    class: ErrorClass,
    by: Instant,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, ConnectFailed> {
    match tokio::time::timeout_at(by, work).await {
        Ok(Ok(done)) => Ok(done),
        // The class is what an operator acts on; the system's own words differ between machines.
        Ok(Err(_)) | Err(_) => Err(ConnectFailed(class)),
    }
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
async fn first_reachable(found: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut waiting = found.into_iter();
    let mut trying = JoinSet::new();
    loop {
        let more = waiting.next();
        let exhausted = more.is_none();
        if let Some(address) = more {
            trying.spawn(TcpStream::connect(address));
        }
        let head_start = tokio::time::sleep(HEAD_START);
        tokio::select! {
            ended = trying.join_next() => match ended {
                Some(Ok(Ok(socket))) => return Ok(socket),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None => return Err(last),
            },
            () = head_start, if !exhausted => {}
        }
    }
}

/// An open connection.
pub(super) enum Wire {
    /// `http`
    Plain(TokioIo<TcpStream>),
    /// `https`
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            Self::Tls(stream) => match stream.inner().get_ref().1.alpn_protocol() {
                Some(b"h2") => Connected::new().negotiated_h2(),
                Some(_) | None => Connected::new(),
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
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
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
        let reached = first_reachable(vec![silent, listener.local_addr().unwrap()]);
        let reached = tokio::time::timeout(Duration::from_secs(5), reached).await.unwrap().unwrap();
        assert_eq!(reached.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert!(first_reachable(Vec::new()).await.is_err());
    }
}
