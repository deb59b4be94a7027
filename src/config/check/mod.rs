//! From what was written to what is meant: every mistake at once, and a [`Config`] when there is none.

mod body;
mod ingress_tls;
mod otel;
mod proxy;
mod source;
mod target;
mod tls;
mod url;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;

use super::mistake::Findings;
use super::raw;
use super::setting::{Conditions, Wanted};
use super::table::did_you_mean;
use super::tree::KeyPath;
use super::{Admin, Config, Delivery, Ingress, Journal, Log, Outline};
use crate::model::Secret;
use crate::rules::filter::{Condition, Patterns};
use crate::rules::payload::Field;

/// Builds the configuration. `None` only after a mistake was noted; warnings are filled in by the caller.
pub(super) fn check(root: raw::Root, findings: &mut Findings) -> Option<Config> {
    let exposed = exposed(&root);
    let admin = root.admin.and_then(|raw| admin(raw, findings));
    let ingress = root.ingress.and_then(|raw| ingress(raw, findings));
    if let (Some(ingress), Some(admin)) = (&ingress, &admin) {
        distinct_listeners(ingress, admin, findings);
    }
    let dedup_window = root.journal.as_ref().and_then(|raw| raw.dedup_window);
    let journal = root.journal.and_then(journal);
    let delivery = root.delivery.and_then(|raw| raw.concurrency);
    let log = root.log.and_then(|raw| log(raw, findings));
    let otel = root.otel.and_then(|raw| otel::otel(raw, findings));
    let raw_sources = root.source.map(|named| named.0).unwrap_or_default();
    let raw_targets = root.target.map(|named| named.0).unwrap_or_default();
    let names: Vec<_> = raw_sources.iter().map(|(name, _)| name.clone()).collect();
    let targets = target::targets(raw_targets, &names, findings);
    let provided = raw_sources.iter().filter_map(|(name, raw)| Some((name.clone(), raw.provider?)));
    body::try_samples(&targets, &provided.collect::<Vec<_>>(), findings);
    let surroundings = source::Surroundings { targets: &targets, exposed, dedup_window };
    let sources = source::sources(raw_sources, &surroundings, findings);
    if !findings.is_clean() {
        return None;
    }
    Some(Config {
        ingress: ingress?,
        admin: admin?,
        journal: journal?,
        delivery: Delivery { concurrency: delivery? },
        log: log?,
        otel,
        sources: sources?,
        targets: targets.into_iter().map(|target| target.built).collect::<Option<_>>()?,
        warnings: Vec::new(),
        outline: Outline::default(),
    })
}

/// Whether others than this machine can reach the ingress.
fn exposed(root: &raw::Root) -> bool {
    let listen = root.ingress.as_ref().and_then(|ingress| ingress.listen.as_ref());
    listen.is_some_and(|all| all.iter().any(|address| !address.ip().is_loopback()))
}

fn ingress(raw: raw::Ingress, findings: &mut Findings) -> Option<Ingress> {
    let at = KeyPath::of(&["ingress"]);
    let tls = raw.tls.map(|tls| ingress_tls::tls(tls, &at.key("tls"), findings));
    let listen = raw.listen?;
    for (index, address) in listen.iter().enumerate() {
        if listen.iter().take(index).any(|earlier| overlap(*earlier, *address)) {
            let problem = format!("{address} is listened on twice");
            findings.mistake(&at.key("listen").index(index), problem, "leave one of them out");
        }
    }
    Some(Ingress {
        listen,
        ack_timeout: raw.ack_timeout?,
        max_body: usize::try_from(raw.max_body?.0).ok()?,
        max_connections: raw.max_connections?,
        header_timeout: raw.header_timeout?,
        body_timeout: raw.body_timeout?,
        // A key that is there and wrong has been noted, and `None` is read as not set.
        trusted_proxies: raw.trusted_proxies.unwrap_or_default(),
        tls: match tls {
            Some(files) => Some(files?),
            None => None,
        },
    })
}

fn admin(raw: raw::Admin, findings: &mut Findings) -> Option<Admin> {
    let at = KeyPath::of(&["admin"]);
    let listen = raw.listen?;
    let token_is_wrong = findings.is_wrong_below(&at.key("token"));
    if raw.token.is_none() && !token_is_wrong && !listen.ip().is_loopback() {
        let problem = "the admin listener can be reached from other machines and has no token";
        let remedy = r#"write token = "file:/path", or listen on 127.0.0.1"#;
        findings.mistake(&at.key("token"), problem, remedy);
    }
    for (key, token) in [("token", &raw.token), ("read_only_token", &raw.read_only_token)] {
        if token.as_ref().is_some_and(|it| !it.expose().iter().all(u8::is_ascii_graphic)) {
            let problem = "the token has a character that no header field can carry";
            findings.mistake(&at.key(key), problem, "write visible ASCII characters only");
        }
    }
    let read_only = at.key("read_only_token");
    if raw.read_only_token.is_some() && raw.token.is_none() && !token_is_wrong {
        let problem = "without a token everybody may do everything";
        findings.mistake(&read_only, problem, "write token, too");
    }
    if raw.read_only_token.is_some() && raw.read_only_token == raw.token {
        findings.mistake(&read_only, "it is the token itself", "make another one");
    }
    Some(Admin { listen, token: raw.token, read_only_token: raw.read_only_token })
}

fn distinct_listeners(ingress: &Ingress, admin: &Admin, findings: &mut Findings) {
    if ingress.listen.iter().any(|address| overlap(*address, admin.listen)) {
        let problem = "the ingress listens on the same address";
        findings.mistake(&KeyPath::of(&["admin", "listen"]), problem, "give them different ports");
    }
}

/// Whether both cannot be bound at once. Port 0 asks the system for a free port.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same_host = one.ip() == other.ip() || same_family && any;
    one.port() != 0 && one.port() == other.port() && same_host
}

fn journal(raw: raw::Journal) -> Option<Journal> {
    let path = PathBuf::from(raw.path?);
    // systemd may name several directories; the first is the unit's own.
    let state = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    let base = state.split(':').next().unwrap_or_default();
    Some(Journal {
        path: PathBuf::from(base).join(path),
        retention: raw.retention?,
        max_bytes: raw.max_bytes?.0,
        quarantine_max_bytes: raw.quarantine_max_bytes?.0,
        min_free: raw.min_free?.0,
    })
}

fn log(raw: raw::Log, findings: &mut Findings) -> Option<Log> {
    let level = raw.level?;
    let at = KeyPath::of(&["log", "level"]);
    let remedy =
        r#"write error, warn, info, debug or trace, or a filter such as "everhook=debug,info""#;
    if let Some(word) = level.split(',').map(str::trim).find(|part| !is_directive(part)) {
        let guess = did_you_mean(word, &LEVELS).map(|guess| format!("{guess} "));
        let remedy = format!("{}{remedy}", guess.unwrap_or_default());
        findings.mistake(&at, "this is not a log level", remedy);
    } else if tracing_subscriber::EnvFilter::try_new(&level).is_err() {
        findings.mistake(&at, "this is not a log filter", remedy);
    }
    Some(Log { level, format: raw.format? })
}

/// The levels of a log line.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether a part of a filter says a level. The filter's parser takes any other word for the name of a module, all
/// of which is then logged, and nothing else: a misspelt level would silence the daemon.
fn is_directive(part: &str) -> bool {
    part.contains('=') || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part))
}

/// The one secret or the several.
fn secrets(
    one: Option<Secret>,
    several: Option<Vec<Secret>>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Vec<Secret> {
    if one.is_some() && several.is_some() {
        let remedy = "write `secrets` alone; the first one signs";
        findings.mistake(&at.key("secret"), "both `secret` and `secrets` are set", remedy);
    }
    several.unwrap_or_default().into_iter().chain(one).collect()
}

/// Notes what a rule's constructor has to say.
fn noted<T>(
    result: Result<T, String>,
    at: &KeyPath,
    remedy: &str,
    findings: &mut Findings,
) -> Option<T> {
    result.map_err(|sentence| findings.mistake(at, sentence, remedy)).ok()
}

/// What a field of a request looks like.
const FIELD_REMEDY: &str =
    "fields are described in docs/configuration.md, \"How values are written\"";

/// Compiles a `where`.
fn conditions(
    raw: Option<Conditions>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<Vec<Condition>> {
    let raw = raw.map(|conditions| conditions.0).unwrap_or_default();
    let compile = |(field, wanted): (String, Wanted)| {
        let at = at.key(&field);
        let patterns = match wanted {
            Wanted::Exists(true) => Some(Patterns::there()),
            Wanted::Exists(false) => Some(Patterns::absent()),
            Wanted::Patterns(list) => noted(Patterns::parse(&list), &at, PATTERN_REMEDY, findings),
        };
        let field = noted(Field::parse(&field), &at, FIELD_REMEDY, findings);
        field.zip(patterns).map(|(field, patterns)| Condition { field, patterns })
    };
    let compiled: Vec<_> = raw.into_iter().map(compile).collect();
    compiled.into_iter().collect()
}

/// What a pattern looks like.
const PATTERN_REMEDY: &str = r#"write globs such as "main", "release/*" or "!wip*""#;
