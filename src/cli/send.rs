//! `everhook send`: one webhook as its provider would send it, correctly signed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use everhook::config::{Config, Ingress, Source, certificates};
use everhook::model::Headers;
use everhook::rules::likeness::instead;
use everhook::rules::verify::PrivateKey;
use everhook::target::{Posted, post};
use everhook::time::Clock;

use super::{Common, EXIT_FAILURE, Failure, complain, print};

/// For one request, its connection included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What to send and where.
#[derive(Args)]
pub(super) struct Arguments {
    /// The source, by its name in the configuration.
    source: String,
    /// The provider's sample of this event; its first sample when not given.
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// Send these bytes instead of a sample's body.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The ed25519 private key that signs, for a source that knows only the public one (whsk_..., base64 or hex).
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// Send it here instead of to the configured address and path.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Trust the certificates in this PEM file instead of the system's authorities: a self-signed one, or one's own.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A request ready to be posted.
pub(super) struct Webhook {
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<(), Failure> {
    let config = Config::load(&common.load_options())?;
    let source = find(&config.sources, &arguments.source)?;
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let file = arguments.file.as_ref().map(read).transpose()?;
    let key = arguments.signing_key.as_ref().map(read).transpose()?;
    let key = key.map(|bytes| PrivateKey::parse(&String::from_utf8_lossy(&bytes)));
    let key = key.transpose().map_err(|why| anyhow!("--signing-key: {why}"))?;
    let mut webhook = webhook(source, arguments.event.as_deref(), file, key.as_ref())?;
    webhook.url = arguments.url.clone().unwrap_or_else(|| url(&config.ingress, source));
    let roots = arguments.ca_file.as_deref().map(certificates).transpose();
    let roots = roots.context("--ca-file")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let posted = runtime
        .block_on(post(&webhook.url, &webhook.headers, webhook.body, roots, TIMEOUT))
        .with_context(|| format!("posting to {}", without_token(&webhook.url, source)))?;
    report(&posted, common)
}

fn find<'a>(sources: &'a [Source], name: &str) -> Result<&'a Source, Failure> {
    let found = sources.iter().find(|source| source.name.as_str() == name);
    found.ok_or_else(|| {
        let hint = instead(name, sources.iter().map(|source| source.name.as_str()));
        anyhow!("there is no source {name:?}; {hint}").into()
    })
}

/// The sample of an event, or the given bytes, signed as the source expects it.
pub(super) fn webhook(
    source: &Source,
    event: Option<&str>,
    file: Option<Vec<u8>>,
    key: Option<&PrivateKey>,
) -> anyhow::Result<Webhook> {
    let now = Clock::system().wall();
    let preset = source.intake.provider();
    let sample = preset.sample(event);
    let body = match (file, sample) {
        (Some(bytes), _) => Bytes::from(bytes),
        (None, Some(sample)) => Bytes::from(sample.body_at(now).into_owned()),
        (None, None) if preset.samples.is_empty() => {
            anyhow::bail!("{} has no samples; say what to send with --file", preset.name)
        }
        (None, None) => {
            let known: Vec<_> = preset.samples.iter().map(|sample| sample.event).collect();
            anyhow::bail!(
                "{} has no sample of this event; it has: {}",
                preset.name,
                known.join(", ")
            )
        }
    };
    let json = ("content-type", "application/json");
    let own = sample.map_or_else(|| vec![json], |sample| sample.all_headers().collect());
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut headers: Vec<_> = own.collect();
    let packed = Headers::from_pairs(headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())));
    let signed = source.intake.sign_sample_with(key, &packed, &body, now);
    headers.extend(signed.map_err(|why| anyhow!("this source's sample cannot be signed: {why}"))?);
    Ok(Webhook { url: String::new(), headers, body })
}

/// Where the source listens, as seen from this machine.
pub(super) fn url(ingress: &Ingress, source: &Source) -> String {
    let scheme = if ingress.tls.is_some() { "https" } else { "http" };
    let mut url = match ingress.listen.first() {
        Some(address) => {
            format!("{scheme}://{}{}", reachable(*address), source.path)
        }
        None => format!("{scheme}://localhost{}", source.path),
    };
    if let Some(token) = &source.path_token {
        url.push('/');
        url.push_str(&String::from_utf8_lossy(token.expose()));
    }
    url
}

/// An address that is listened on, as it is reached from this machine.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// What another machine answered, as it may be shown: it must not steer the terminal.
pub(super) fn plain(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.trim_end().chars().filter(|c| !c.is_control()).collect()
}

/// The URL as it may be shown.
fn without_token(url: &str, source: &Source) -> String {
    match &source.path_token {
        Some(token) => url.replace(&*String::from_utf8_lossy(token.expose()), "[path token]"),
        None => url.to_owned(),
    }
}

fn report(posted: &Posted, common: &Common) -> Result<(), Failure> {
    if common.json {
        let json: Option<serde_json::Value> = serde_json::from_slice(&posted.body).ok();
        let answer = json.unwrap_or_else(|| String::from_utf8_lossy(&posted.body).into());
        print(&serde_json::json!({ "status": posted.status, "answer": answer }))?;
    } else {
        print(&format!("{} {}", posted.status, plain(&posted.body)))?;
    }
    if (200..300).contains(&posted.status) {
        return Ok(());
    }
    complain(&format!("the webhook was not accepted (status {})", posted.status));
    Err(Failure::Told(EXIT_FAILURE))
}
