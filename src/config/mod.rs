//! The configuration, valid by construction: nothing below this floor checks a setting again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Name, Secret};
use crate::rules::intake::Intake;
use crate::rules::retry::RetryPolicy;
use crate::rules::sign::Signer;

/// Everything the daemon was told.
#[derive(Debug)]
pub struct Config {
    /// `[ingress]`
    pub ingress: Ingress,
    /// `[admin]`
    pub admin: Admin,
    /// `[journal]`
    pub journal: Journal,
    /// `[log]`
    pub log: Log,
    /// `[source.NAME]`, sorted by name.
    pub sources: Vec<Source>,
    /// `[target.NAME]`, sorted by name.
    pub targets: Vec<Target>,
    /// What is allowed but unwise, one sentence each.
    pub warnings: Vec<String>,
}

/// `[ingress]`: where webhooks come in, and its bounds.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// Addresses to bind when systemd hands over no socket.
    pub listen: Vec<SocketAddr>,
    /// A commit that takes longer is answered 503.
    pub ack_timeout: Duration,
    /// Largest body in bytes.
    pub max_body: usize,
    /// Most connections at once.
    pub max_connections: usize,
    /// For a complete request head.
    pub header_timeout: Duration,
    /// For a complete body.
    pub body_timeout: Duration,
    /// Present when the listener speaks TLS.
    pub tls: Option<IngressTls>,
}

/// `ingress.tls`
#[derive(Clone, Debug)]
pub struct IngressTls {
    /// PEM certificate chain.
    pub cert_file: PathBuf,
    /// PEM private key.
    pub key_file: PathBuf,
}

/// `[admin]`: metrics and health.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its own listener.
    pub listen: SocketAddr,
    /// Bearer token; always there when `listen` is not loopback.
    pub token: Option<Secret>,
}

/// `[journal]`
#[derive(Clone, Debug)]
pub struct Journal {
    /// The directory.
    pub path: PathBuf,
    /// How long settled events are kept.
    pub retention: Duration,
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// Least bytes free on its file system.
    pub min_free: u64,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// A tracing filter, `info` or `everhook=debug,info`.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// journald when systemd listens, text otherwise.
    Auto,
    /// Human-readable lines.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal's native protocol.
    Journald,
}

/// `[source.NAME]`
#[derive(Debug)]
pub struct Source {
    /// NAME
    pub name: Name,
    /// The URL path, starting with `/`, without the token.
    pub path: String,
    /// The secret last segment of the path.
    pub path_token: Option<Secret>,
    /// Verification, dedup and routing, compiled.
    pub intake: Intake,
    /// The provider preset's name.
    pub provider: &'static str,
    /// What `send` signs with: the first secret.
    pub secrets: Vec<Secret>,
}

/// `[target.NAME]`
#[derive(Clone, Debug)]
pub struct Target {
    /// NAME
    pub name: Name,
    /// Absolute `http` or `https` URL.
    pub url: String,
    /// For one attempt, from its start to the complete response head.
    pub timeout: Duration,
    /// For the connection, TLS included.
    pub connect_timeout: Duration,
    /// Most attempts at once.
    pub concurrency: usize,
    /// When to try again and when to give up.
    pub retry: RetryPolicy,
    /// Signs each attempt, if configured.
    pub signer: Option<Signer>,
}
