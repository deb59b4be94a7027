//! Where log lines go. Logs are for stderr or the system's journal; stdout belongs to data.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use everhook::app::SetLevel;
use everhook::config::{Log, LogFormat};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging for the whole process, and gives what sets the level later.
pub(super) fn start(config: &Log) -> anyhow::Result<SetLevel> {
    let filter = EnvFilter::try_new(&config.level)
        .with_context(|| format!("log.level = {:?} is not a filter", config.level))?;
    let journald = match config.format {
        // systemd names the stream it connected our stderr to: then structured lines reach its journal. Where it
        // cannot be reached, stderr does.
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => {
            tracing_journald::layer().ok()
        }
        LogFormat::Journald => {
            let layer = tracing_journald::layer();
            Some(layer.context("connecting to the system's journal (log.format = \"journald\")")?)
        }
        LogFormat::Auto | LogFormat::Text | LogFormat::Json => None,
    };
    let (filter, level) = reload::Layer::new(filter);
    let set_level: SetLevel = Box::new(move |text| {
        let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        level.reload(filter).map_err(|error| error.to_string())
    });
    let registry = registry().with(filter);
    if let Some(layer) = journald {
        registry.with(layer).try_init().context("starting the log")?;
        return Ok(set_level);
    }
    let colours = std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    match config.format {
        LogFormat::Json => registry.with(lines.json()).try_init(),
        LogFormat::Auto | LogFormat::Text | LogFormat::Journald => registry.with(lines).try_init(),
    }
    .context("starting the log")?;
    Ok(set_level)
}
