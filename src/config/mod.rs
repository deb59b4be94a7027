//! The configuration, valid by construction: nothing below this floor checks a setting again.
//!
//! The way of a setting: `merge` collects what was written, each value with its origin (`tree`); `raw`
//! declares every table once and reads it key by key; `check` builds the types of this file; `locate` finds
//! the line of a mistake; `describe` and `show` print from the same declarations. This is the only file that
//! knows figment.

mod tree;
mod mistake;
mod locate;
mod units;
mod secret;
mod table;
mod setting;
mod origin;
mod policy;
mod connection;
mod pem;
mod either;
mod raw;
mod check;
mod describe;
mod reference;
mod show;
mod outline;
mod live;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use figment::providers::{Env, Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source as Written};
use ipnet::IpNet;

pub use self::connection::{ClientCertificate, Proxy, ProxyKind, TargetTls};
pub use self::describe::schema;
pub use self::live::Live;
use self::locate::Document;
use self::mistake::Findings;
pub use self::mistake::{ConfigError, Mistake, Place};
pub use self::outline::{Change, Outline, What};
pub use self::pem::{Unusable, certificates};
pub use self::reference::reference;
pub use self::show::toml_text;
use self::tree::{Datum, KeyPath, Node, Origin};
use crate::model::{Name, Order, Secret};
use crate::rules::breaker::BreakerPolicy;
use crate::rules::intake::Intake;
use crate::rules::limiter::RequestRate;
use crate::rules::rate::Rate;
use crate::rules::retry::RetryPolicy;
use crate::rules::sign::Signer;
use crate::rules::stages::Patience;
use crate::template::Body;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/everhook/everhook.toml";
/// What the name of a variable that sets a key starts with.
const ENV_PREFIX: &str = "EVERHOOK_";
/// What separates section and key in the name of a variable.
const ENV_SEPARATOR: &str = "__";
/// Largest configuration file in bytes; a thousand sources and targets need a tenth of it.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Where the configuration is read from, apart from the environment.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--config FILE`; [`DEFAULT_FILE`] when it is not given.
    pub file: Option<PathBuf>,
    /// Flags that set a key; they win over everything else.
    pub flags: Vec<Flag>,
}

/// A flag of the command line that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag, `--log-level`.
    pub name: &'static str,
    /// The key it sets, `log.level`.
    pub key: &'static str,
    /// The value, a text.
    pub value: String,
}

/// Everything the daemon was told.
#[derive(Debug)]
pub struct Config {
    /// `[ingress]`
    pub ingress: Ingress,
    /// `[admin]`
    pub admin: Admin,
    /// `[journal]`
    pub journal: Journal,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[log]`
    pub log: Log,
    /// `[otel]`, when there is an endpoint.
    pub otel: Option<Otel>,
    /// `[source.NAME]`, sorted by name.
    pub sources: Vec<Source>,
    /// `[target.NAME]`, sorted by name.
    pub targets: Vec<Target>,
    /// What is allowed but unwise, one sentence each.
    pub warnings: Vec<String>,
    /// What can be compared with another configuration.
    pub outline: Outline,
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
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Present when the listener speaks TLS.
    pub tls: Option<IngressTls>,
}

/// `ingress.tls`
#[derive(Clone, Debug)]
pub struct IngressTls {
    /// Certificate, key and protocols, ready to serve with.
    pub server: Arc<rustls::ServerConfig>,
}

/// `[admin]`: metrics and health.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its own listener.
    pub listen: SocketAddr,
    /// Bearer token; always there when `listen` is not loopback.
    pub token: Option<Secret>,
    /// Bearer token of those who may only look.
    pub read_only_token: Option<Secret>,
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
    /// Most bytes of refused requests that are kept.
    pub quarantine_max_bytes: u64,
    /// Least bytes free on its file system.
    pub min_free: u64,
}

/// `[delivery]`: what all targets share.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Most attempts at once over all targets.
    pub concurrency: usize,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// A tracing filter, `info` or `everhook=debug,info`.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// `[otel]`: where spans are exported to.
#[derive(Clone, Debug)]
pub struct Otel {
    /// The URL that spans are posted to.
    pub endpoint: String,
    /// Header fields to send with them, lower-case.
    pub headers: Vec<(String, Secret)>,
    /// How many of the traces that begin here are recorded, from 0 to 1.
    pub sample: f64,
    /// Most spans that wait to be exported.
    pub queue: usize,
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
#[derive(Clone, Debug)]
pub struct Source {
    /// NAME
    pub name: Name,
    /// The URL path, starting with `/`, without the token.
    pub path: String,
    /// The secret last segment of the path.
    pub path_token: Option<Secret>,
    /// The URL by which the provider reaches it, if that is said.
    pub public_url: Option<String>,
    /// Verification, dedup and routing, compiled.
    pub intake: Arc<Intake>,
    /// The networks it takes requests from; every one when empty.
    pub allow_ips: Vec<IpNet>,
    /// Most requests in all.
    pub rate: Option<RequestRate>,
    /// Most requests of one client.
    pub client_rate: Option<RequestRate>,
    /// What a request gets that cannot be verified.
    pub on_unverified: OnUnverified,
    /// Present when its builds are watched for steps that never come.
    pub stages: Option<Patience>,
    /// Something is expected at least so often.
    pub expect_every: Option<Duration>,
    /// The provider preset's name.
    pub provider: &'static str,
    /// What `send` signs with: the first secret.
    pub secrets: Vec<Secret>,
}

/// `source.NAME.on_unverified`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnverified {
    /// 401, and it is kept.
    Reject,
    /// 200, once it is held on stable storage.
    Hold,
}

/// `[target.NAME]`
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
pub struct Target {
    /// NAME
    pub name: Name,
    /// Absolute `http` or `https` URL.
    pub url: String,
    /// What is sent.
    pub body: Body,
    /// The method it is sent with.
    pub method: &'static str,
    /// Header fields to set, lower-case.
    pub headers: Vec<(String, Secret)>,
    /// For one attempt, from its start to the complete response head.
    pub timeout: Duration,
    /// For the connection, TLS included.
    pub connect_timeout: Duration,
    /// Most attempts at once.
    pub concurrency: usize,
    /// The order its deliveries keep.
    pub order: Order,
    /// Whether new events go there.
    pub active: bool,
    /// When to try again and when to give up.
    pub retry: RetryPolicy,
    /// How often attempts begin, if that is bounded.
    pub rate: Option<Rate>,
    /// When to leave it alone, unless that is turned off.
    pub breaker: Option<BreakerPolicy>,
    /// Signs each attempt, if configured.
    pub signer: Option<Signer>,
    /// TLS of its own, if configured.
    pub tls: Option<TargetTls>,
    /// Through whom it is reached, if not directly.
    pub proxy: Option<Proxy>,
    /// Refuses addresses that are not of the public internet.
    pub deny_private: bool,
    /// Passes the provider's tokens on.
    pub forward_tokens: bool,
    /// Is told when a reload changed something in its settings.
    pub ping: bool,
    /// The names it had before.
    pub was: Vec<Name>,
}

impl Config {
    /// Reads, merges and checks everything. The error holds every mistake.
    pub fn load(options: &LoadOptions) -> Result<Self, ConfigError> {
        let written = merge(options)?;
        // Before the secrets are read: one that is replaced meanwhile is then at worst a change too many, never one too few.
        let outline = Outline::of(&written.root);
        let mut findings = Findings::default();
        let table = raw::Root::read_table(&written.root, &KeyPath::default(), &mut findings);
        let built = table.and_then(|table| check::check(table, &mut findings));
        misspelt_variables(&mut findings);
        match built {
            Some(mut config) if findings.is_clean() => {
                config.warnings = findings.warnings(&written.root, &written.documents);
                config.outline = outline;
                Ok(config)
            }
            _ => Err(findings.located(&written.root, &written.documents)),
        }
    }

    /// The configuration in effect, defaults included, as it would be written. Secrets are references.
    pub fn effective(options: &LoadOptions) -> Result<serde_json::Value, ConfigError> {
        let config = Self::load(options)?;
        Ok(show::effective(&merge(options)?.root, &config))
    }
}

/// What was written, everywhere.
struct WrittenConfig {
    root: Node,
    /// In the order of precedence.
    documents: Vec<Document>,
}

/// Defaults are not merged here: each is next to its key in `raw`.
fn merge(options: &LoadOptions) -> Result<WrittenConfig, ConfigError> {
    let mut figment = Figment::new();
    let documents = documents(options)?;
    for document in &documents {
        figment = figment.merge(Toml::file_exact(document.path()));
    }
    // Other programs set EVERHOOK_ variables too (Kubernetes does for a service of that name); a setting
    // always has a section and a key.
    let environment = Env::prefixed(ENV_PREFIX)
        .filter(|key| key.as_str().contains(ENV_SEPARATOR))
        .split(ENV_SEPARATOR);
    figment = figment.merge(environment);
    for flag in &options.flags {
        figment = figment.merge(flag);
    }
    let dict = Provider::data(&figment).map(|mut data| data.remove(&Profile::Default));
    match dict {
        Ok(dict) => {
            let entries = dict.unwrap_or_default();
            let datum = Datum::Table(nodes(entries, &figment));
            Ok(WrittenConfig { root: Node { datum, origin: Origin::Default }, documents })
        }
        // The files were TOML a moment ago, so one of them has been changed meanwhile.
        Err(error) => Err(ConfigError::one(Mistake {
            place: documents.last().map_or(Place::Nowhere, |last| Place::file(last.path())),
            key: String::new(),
            problem: format!("the files cannot be merged: {}", error.kind),
            remedy: "run the command again".into(),
        })),
    }
}

/// Every file, parsed: the main one, then those of `conf.d` beside it by name.
fn documents(options: &LoadOptions) -> Result<Vec<Document>, ConfigError> {
    let main = options.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let mut paths = Vec::new();
    // Nobody has to have the default file: the environment may say everything.
    if options.file.is_some() || main.try_exists().unwrap_or(true) {
        paths.push(main.clone());
    }
    let mut mistakes = Vec::new();
    let beside = main.parent().unwrap_or(Path::new("")).join("conf.d");
    match toml_files(&beside) {
        Ok(files) => paths.extend(files),
        Err(error) => mistakes.push(unreadable(&beside, &error)),
    }
    let mut documents = Vec::with_capacity(paths.len());
    for path in paths {
        match read(&path) {
            Ok(text) => match Document::parse(&path, &text) {
                Ok(document) => documents.push(document),
                Err(error) => mistakes.extend(error.mistakes),
            },
            Err(error) => mistakes.push(unreadable(&path, &error)),
        }
    }
    if mistakes.is_empty() { Ok(documents) } else { Err(ConfigError { mistakes }) }
}

fn toml_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> std::io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    std::fs::read_to_string(path)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Mistake {
    Mistake {
        place: Place::file(path),
        key: String::new(),
        problem: format!("cannot read it: {error}"),
        remedy: "name a readable file with --config FILE".into(),
    }
}

fn nodes(entries: Dict, figment: &Figment) -> std::collections::BTreeMap<String, Node> {
    entries.into_iter().map(|(key, value)| (key, node(value, figment))).collect()
}

/// Takes a value out of figment's hands.
fn node(value: Value, figment: &Figment) -> Node {
    let origin = origin(figment.get_metadata(value.tag()));
    let datum = match value {
        Value::String(_, text) => Datum::Text(text),
        Value::Char(_, character) => Datum::Text(character.into()),
        Value::Bool(_, value) => Datum::Boolean(value),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(integer), _, _) => Datum::Integer(integer),
            (None, Some(large), _) => Datum::Integer(i128::try_from(large).unwrap_or(i128::MAX)),
            (None, None, float) => Datum::Float(float.unwrap_or(f64::NAN)),
        },
        Value::Empty(..) => Datum::Text(String::new()),
        Value::Dict(_, entries) => Datum::Table(nodes(entries, figment)),
        Value::Array(_, items) => {
            Datum::List(items.into_iter().map(|item| node(item, figment)).collect())
        }
    };
    Node { datum, origin }
}

fn origin(metadata: Option<&Metadata>) -> Origin {
    match metadata.and_then(|metadata| metadata.source.as_ref()) {
        Some(Written::File(path)) => Origin::File(path.clone()),
        Some(Written::Custom(flag)) => Origin::Flag(flag.clone()),
        // The environment is the one provider without a source.
        _ => Origin::Environment,
    }
}

impl Provider for &Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named("flag").source(Written::Custom(self.name.to_owned()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(self.key, Value::from(self.value.as_str()));
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

/// Notes variables that set nothing because they have one underscore where two belong.
fn misspelt_variables(findings: &mut Findings) {
    for (name, _) in std::env::vars_os() {
        let Some((section, key)) = name.to_str().and_then(raw::misspelt_variable) else { continue };
        let path = KeyPath::of(&[section, key]);
        findings.placed(Mistake {
            place: Place::Variable(name.to_string_lossy().into_owned()),
            key: String::new(),
            problem: "this variable sets nothing".into(),
            remedy: format!("did you mean {}?", path.variable()),
        });
    }
}
