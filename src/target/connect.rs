//! One connection to a target: name, socket, TLS, all within `connect_timeout`, each failure named by class.
//!
//! Written here rather than taken from the HTTP library because its connectors tell their failures apart only
//! by message, and an operator must see whether it was the name, the network or the certificate.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
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
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::ErrorClass;
use crate::time::deadline;

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no connection: {}", .0.as_str())]
pub(super) struct ConnectFailed(pub(super) ErrorClass);

/// Opens connections for one target.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(tls: Arc<rustls::ClientConfig>, timeout: Duration) -> Self {
        Self { tls: TlsConnector::from(tls), timeout }
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
        let (tls, timeout) = (self.tls.clone(), self.timeout);
        Box::pin(async move { open(&uri, tls, deadline(timeout)).await })
    }
}

/// Three steps with one deadline; whichever step it ends names the failure.
async fn open(uri: &Uri, tls: TlsConnector, by: Instant) -> Result<Wire, ConnectFailed> {
    let secure = uri.scheme_str() == Some("https");
    // A literal IPv6 address stands in brackets in a URL and without them everywhere else.
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let found = step(ErrorClass::Dns, by, tokio::net::lookup_host((host, port))).await?;
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

/// The first address that accepts; the last failure when none does.
async fn first_reachable(found: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in found {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
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
