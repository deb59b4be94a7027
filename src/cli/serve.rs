//! `everhook serve`: the daemon, from its configuration to its exit code.

use anyhow::Context as _;
use everhook::app::{Daemon, Sockets, StartError};
use everhook::config::Config;
use everhook::lifecycle::{self, Signals};

use super::{Common, EXIT_JOURNAL, Failure, complain, counted, logs};

/// Descriptors for the journal, the admin side and the runtime.
const RESERVED_FILES: usize = 128;

pub(super) fn run(common: &Common) -> Result<(), Failure> {
    let config = Config::load(&common.load_options())?;
    logs::start(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(serve(config))
}

/// As many connections as leave descriptors for the targets, the journal and the admin side.
fn fit_connections(config: &mut Config, files: u64) {
    let attempts: usize = config.targets.iter().map(|target| target.concurrency).sum();
    let attempts = attempts.min(config.delivery.concurrency.max(config.targets.len()));
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let reserve = attempts.saturating_mul(2).saturating_add(RESERVED_FILES).min(files / 2);
    let room = files.saturating_sub(reserve);
    if config.ingress.max_connections > room {
        tracing::warn!(
            files,
            max_connections = room,
            "the limit on open files allows fewer connections than ingress.max_connections; raise LimitNOFILE"
        );
        config.ingress.max_connections = room;
    }
}

async fn serve(mut config: Config) -> Result<(), Failure> {
    // Before anything takes time: a signal that comes while we start is a signal to stop, not a crash.
    let mut signals = Signals::install().context("listening to signals")?;
    let files = lifecycle::raise_file_limit().unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files could not be raised");
        1024
    });
    fit_connections(&mut config, files);
    let sockets = Sockets::open(&config).map_err(refused)?;
    let (ingress, admin) = (sockets.ingress_addresses(), sockets.admin_address());
    let (sources, targets) = (config.sources.len(), config.targets.len());
    lifecycle::notify_status("recovering the journal");

    let daemon = tokio::select! {
        started = Daemon::start(config, sockets) => started.map_err(refused)?,
        signal = signals.stop_asked() => {
            tracing::info!(signal, "asked to stop while starting");
            return Ok(());
        }
    };
    for address in &ingress {
        tracing::info!(ingress = %address, "webhooks are accepted here");
    }
    if let Some(address) = admin {
        tracing::info!(admin = %address, "metrics and health are here");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), sources, targets, files, "ready");
    let (sources, targets) = (counted(sources, "source"), counted(targets, "target"));
    lifecycle::notify_ready(&format!("relaying {sources} to {targets}"));

    let failure = tokio::select! {
        signal = signals.stop_asked() => {
            tracing::info!(signal, "stopping: finishing what is in flight");
            None
        }
        detail = daemon.failed() => Some(detail),
        () = feed_watchdog(&daemon) => None,
    };
    lifecycle::notify_stopping();
    daemon.stop().await;
    match failure {
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some(detail) => Err(anyhow::anyhow!(
            "the journal failed and nothing more could be acknowledged: {detail}; a restart recovers \
             everything that was"
        )
        .into()),
    }
}

/// Tells the service manager's watchdog that the daemon lives, as long as its journal does.
async fn feed_watchdog(daemon: &Daemon) {
    let Some(interval) = lifecycle::watchdog_interval() else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval(interval);
    loop {
        tick.tick().await;
        if daemon.is_alive() {
            lifecycle::notify_alive();
        }
    }
}

fn refused(error: StartError) -> Failure {
    match error {
        StartError::Journal(error) => {
            complain(&error);
            Failure::Told(EXIT_JOURNAL)
        }
        StartError::Other(error) => Failure::Other(error),
    }
}
