//! `everhook targets`: pauses a target of the running daemon, or resumes it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::{Args, Subcommand};
use everhook::config::Config;
use everhook::target::{Posted, post};

use super::send::{plain, reachable};
use super::{Common, EXIT_FAILURE, Failure, complain, print};

/// For one request, its connection included.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Begin nothing more at a target until it is resumed. Its deliveries are kept, also over a restart.
    Pause(Arguments),
    /// Attempt a target again: one that was paused, or that answered 410.
    Resume(Arguments),
}

/// Which target, and where the daemon is.
#[derive(Args)]
pub(super) struct Arguments {
    /// The target, by its name in the configuration.
    target: String,
    /// The daemon's admin listener; the configured one when not given.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// A file with the admin token; the configured one when not given.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    let (Arguments { target, admin, token_file }, what) = match command {
        Command::Pause(arguments) => (arguments, "pause"),
        Command::Resume(arguments) => (arguments, "resume"),
    };
    let config = Config::load(&common.load_options())?;
    let known: Vec<_> = config.targets.iter().map(|target| target.name.as_str()).collect();
    if !known.contains(&target.as_str()) {
        let known = known.join(", ");
        return Err(anyhow!("there is no target {target:?}; configured are: {known}").into());
    }
    let base =
        admin.clone().unwrap_or_else(|| format!("http://{}", reachable(config.admin.listen)));
    let url = format!("{}/api/v1/targets/{target}/{what}", base.trim_end_matches('/'));
    let mut headers = Vec::new();
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    };
    let token = token_file.as_ref().map(read).transpose()?;
    let configured = config.admin.token.as_ref();
    let token = token.or(configured.map(|it| String::from_utf8_lossy(it.expose()).into_owned()));
    if let Some(token) = token {
        headers.push(("authorization".to_owned(), format!("Bearer {}", token.trim_end())));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let posted = runtime
        .block_on(post(&url, &headers, Bytes::new(), None, TIMEOUT))
        .with_context(|| format!("asking the daemon at {base}; is it running?"))?;
    report(&posted, common)
}

fn report(posted: &Posted, common: &Common) -> Result<(), Failure> {
    let shown = plain(&posted.body);
    if (200..300).contains(&posted.status) {
        let json: serde_json::Value =
            serde_json::from_str(&shown).unwrap_or(serde_json::Value::Null);
        if common.json {
            return print(&json);
        }
        let paused = json.get("paused").and_then(serde_json::Value::as_bool).unwrap_or_default();
        return print(&if paused { "paused" } else { "resumed" });
    }
    complain(&format!("the daemon refused (status {}): {shown}", posted.status));
    Err(Failure::Told(EXIT_FAILURE))
}
