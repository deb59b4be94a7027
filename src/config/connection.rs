//! How a target is reached: through whom, and which certificates count.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::model::Secret;

/// `[target.NAME.proxy]`
#[derive(Clone, Debug)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its host, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password.
    pub credentials: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP with CONNECT.
    Http,
    /// SOCKS version 5.
    Socks5,
}

/// `[target.NAME.tls]`, its files read.
#[derive(Clone, Debug)]
pub struct TargetTls {
    /// Whether the target's certificate is checked.
    pub verify: bool,
    /// The authorities that are trusted instead of the system's.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// What we show of ourselves.
    pub client: Option<ClientCertificate>,
}

/// A certificate of our own.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Its chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key; prints nothing of itself.
    pub key: Arc<PrivateKeyDer<'static>>,
}
