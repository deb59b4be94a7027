//! One connection to a target: name, socket, TLS, all within `connect_timeout`, each failure named by class.
//!
//! Written here rather than taken from the HTTP library because its connectors tell their failures apart only
//! by message, and an operator must see whether it was the name, the network or the certificate.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::lookup::Resolver;
use super::proxy::through;
use crate::config::Proxy;
use crate::model::{ErrorClass, Timing};
use crate::rules::reach::is_public;
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
    /// What ended the TLS of an open connection. A server says only after the handshake, as we see it, that it does not
    /// take our certificate, and the HTTP library does not pass its words on.
    broken: Arc<OnceLock<String>>,
    /// Whether the socket had no room for what the HTTP library has for it.
    unsent: Arc<AtomicBool>,
    /// From then on no further request should go here.
    pub(super) old_at: Instant,
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

    /// Whoever had it opened has had another: its times belong to no request.
    pub(super) fn is_no_news(&self) {
        self.new.store(false, Ordering::Relaxed);
    }

    /// Whether something of a request is still to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }

    /// The words of TLS, when they ended the connection.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }
}

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// A connection that has carried requests for so long carries no further one, so that a name that has moved is looked up
/// again within a minute by a busy target as well.
const OLDEST: Duration = Duration::from_secs(45);

/// Opens connections for one target.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    timeout: Duration,
    resolver: Resolver,
    route: Arc<Route>,
}

/// Where connections of a target go.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// Through whom.
    pub(super) proxy: Option<Proxy>,
    /// Only to addresses of the public internet.
    pub(super) public_only: bool,
}

impl Connector {
    pub(super) fn new(tls: Arc<rustls::ClientConfig>, timeout: Duration, route: Route) -> Self {
        Self {
            tls: TlsConnector::from(tls),
            timeout,
            resolver: Resolver::system(),
            route: Arc::new(route),
        }
    }
}

impl Connector {
    /// A connection to the host of `uri`.
    pub(super) async fn open(&self, uri: &Uri) -> Result<Wire, ConnectFailed> {
        let (mut way, by) = (Way::default(), deadline(self.timeout));
        let opened = self.walk(uri, by, &mut way).await;
        opened.map_err(|(class, cause)| ConnectFailed { class, way, cause })
    }

    /// Three steps with one deadline; whichever step it ends names the failure.
    async fn walk(&self, uri: &Uri, by: Instant, way: &mut Way) -> Result<Wire, Failure> {
        let secure = uri.scheme_str() == Some("https");
        // A literal IPv6 address stands in brackets in a URL and without them everywhere else.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let socket = self.reach(host, port, by, way).await?;
        socket.set_nodelay(true).map_err(|cause| (ErrorClass::Connect, cause))?;
        if !secure {
            return Ok(Wire::new(Stream::Plain(TokioIo::new(socket)), *way));
        }
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|cause| (ErrorClass::Dns, io::Error::other(cause)))?;
        let shaken = step(by, &mut way.timing.tls, self.tls.connect(name, socket)).await;
        let stream = shaken.map_err(|cause| (ErrorClass::Tls, cause))?;
        Ok(Wire::new(Stream::Tls(Box::new(TokioIo::new(stream))), *way))
    }

    /// A socket whose other end is the target, maybe at the far end of a proxy.
    async fn reach(
        &self,
        host: &str,
        port: u16,
        by: Instant,
        way: &mut Way,
    ) -> Result<TcpStream, Failure> {
        let proxy = self.route.proxy.as_ref();
        let (next, at) = proxy.map_or((host, port), |proxy| (&proxy.host, proxy.port));
        let mut found = if let Ok(ip) = next.parse::<IpAddr>() {
            vec![SocketAddr::new(ip, at)]
        } else {
            let found = self.resolver.look_up(next.to_owned(), at);
            step(by, &mut way.timing.dns, found).await.map_err(|cause| (ErrorClass::Dns, cause))?
        };
        if self.route.public_only {
            // What is checked is what is connected to: nothing looks the name up again in between.
            found.retain(|address| is_public(address.ip()));
            if found.is_empty() {
                let cause = io::Error::other("deny_private: the host has no public address");
                return Err((ErrorClass::Connect, cause));
            }
        }
        let remote = &mut way.remote;
        let connected = async {
            let socket = first_reachable(found, remote).await?;
            match proxy {
                Some(proxy) => through(proxy, socket, host, port).await,
                None => Ok(socket),
            }
        };
        let connected = step(by, &mut way.timing.connect, connected).await;
        connected.map_err(|cause| (ErrorClass::Connect, cause))
    }
}

/// The step that failed, and its words.
type Failure = (ErrorClass, io::Error);

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
        Self {
            stream,
            carried: Carried {
                way,
                new: Arc::new(AtomicBool::new(true)),
                broken: Arc::default(),
                unsent: Arc::default(),
                old_at: deadline(OLDEST),
            },
        }
    }

    /// What it tells each request.
    pub(super) fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Whether both sides have agreed on HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.inner().get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = match &mut this.stream {
            Stream::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Stream::Tls(io) => Pin::new(io).poll_read(cx, buf),
        };
        if let Poll::Ready(Err(error)) = &read
            && error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>)
        {
            this.carried.broken.get_or_init(|| error.to_string());
        }
        read
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Stream::Tls(io) => Pin::new(io).poll_write(cx, buf),
        };
        if written.is_pending() {
            this.carried.unsent.store(true, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.stream {
            Stream::Plain(io) => Pin::new(io).poll_flush(cx),
            Stream::Tls(io) => Pin::new(io).poll_flush(cx),
        };
        this.carried.unsent.store(flushed.is_pending(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Stream::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
impl Connector {
    /// One that asks another resolver.
    pub(super) fn asking(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn connector(resolver: Resolver, route: Route) -> Connector {
        let tls = super::super::tls::no_tls().unwrap();
        let connector = Connector::new(tls, Duration::from_millis(200), route);
        connector.asking(resolver)
    }

    async fn opened(connector: &Connector, url: &str) -> Result<Wire, ConnectFailed> {
        connector.open(&url.parse().unwrap()).await
    }

    #[tokio::test]
    async fn a_stalled_lookup_ends_in_time_and_takes_only_its_own_targets_places() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let (go_on, stalled) = std::sync::mpsc::sync_channel::<()>(1);
        let stalled = std::sync::Mutex::new(stalled);
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let stalling = connector(
            Resolver::asking(move |_, _| {
                count.fetch_add(1, Ordering::SeqCst);
                drop(stalled.lock().map(|stalled| stalled.recv()));
                Err(io::ErrorKind::NotFound.into())
            }),
            Route::default(),
        );
        let waiting = (0..5).map(|_| opened(&stalling, "http://stalled.example/"));
        for failed in waiting {
            let failed = failed.await.err().unwrap();
            assert_eq!(failed.class, ErrorClass::Dns);
            assert_eq!(failed.cause.to_string(), "not within connect_timeout");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2, "a third finds no place");
        let other = connector(Resolver::asking(move |_, _| Ok(vec![there])), Route::default());
        assert!(opened(&other, "http://other.example/").await.is_ok());
        drop(go_on);
    }

    #[tokio::test]
    async fn only_the_public_addresses_of_a_name_are_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let rebound = Resolver::asking(move |_, _| Ok(vec![there]));
        let public_only = Route { public_only: true, ..Route::default() };
        for url in ["http://rebound.example/".to_owned(), format!("http://{there}/")] {
            let denied = connector(rebound.clone(), public_only.clone());
            let failed = opened(&denied, &url).await.err().unwrap();
            assert_eq!((failed.class, failed.way.remote), (ErrorClass::Connect, None));
            assert!(failed.cause.to_string().contains("deny_private"));
            assert!(opened(&connector(rebound.clone(), Route::default()), &url).await.is_ok());
        }
    }
}
