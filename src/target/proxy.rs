//! The way through a proxy: a tunnel to the target over a connection to the proxy, which looks up the target's name.

use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::{Proxy, ProxyKind};

/// Asks the proxy at the other end of `socket` for a tunnel. The proxy's words name neither user nor password.
pub(super) async fn through(
    proxy: &Proxy,
    socket: TcpStream,
    host: &str,
    port: u16,
) -> io::Result<TcpStream> {
    let to = authority(host, port)?;
    let by = authority(&proxy.host, proxy.port)?;
    let connected = Connected(Some(TokioIo::new(socket)));
    let tunnel = match proxy.kind {
        ProxyKind::Http => {
            let mut way = Tunnel::new(by, connected);
            if let Some((user, password)) = &proxy.credentials {
                let pair = [user.as_bytes(), b":", password.expose()].concat();
                let value = format!("Basic {}", BASE64.encode(pair));
                way = way.with_auth(HeaderValue::try_from(value).map_err(io::Error::other)?);
            }
            way.call(to).await.map_err(|error| io::Error::other(error.to_string()))
        }
        ProxyKind::Socks5 => {
            let mut way = SocksV5::new(by, connected);
            if let Some((user, password)) = &proxy.credentials {
                let password = String::from_utf8_lossy(password.expose()).into_owned();
                way = way.with_auth(user.clone(), password);
            }
            way.call(to).await.map_err(|error| io::Error::other(error.to_string()))
        }
    };
    tunnel.map(TokioIo::into_inner).map_err(|error| io::Error::other(format!("the proxy: {error}")))
}

fn authority(host: &str, port: u16) -> io::Result<Uri> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("http://{host}:{port}").parse().map_err(io::Error::other)
}

/// Hands over a connection that is open already, once.
struct Connected(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
