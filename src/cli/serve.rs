//! `everhook serve`: the daemon, from its configuration to its exit code.

use std::time::Duration;

use anyhow::Context as _;
use everhook::app::{self, Daemon, Reloading, Sockets, StartError};
use everhook::config::Config;
use everhook::lifecycle::{self, Asked, Signals};

use super::{Common, EXIT_JOURNAL, Failure, allocator, complain, logs};

/// Descriptors for the journal, the admin side and the runtime.
const RESERVED_FILES: usize = 128;
/// How long the process waits at its end for reads that hang.
const HANGING_READS: Duration = Duration::from_secs(5);

pub(super) fn run(common: &Common) -> Result<(), Failure> {
    allocator::settle();
    let options = common.load_options();
    let config = Config::load(&options)?;
    let set_level = logs::start(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(serve(config, Reloading { options, set_level }));
    // A read that hangs with its disk must not keep the process: everything that can be made durable is.
    runtime.shutdown_timeout(HANGING_READS);
    ended
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

async fn serve(mut config: Config, reloading: Reloading) -> Result<(), Failure> {
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
    let status = app::status(&config);
    lifecycle::notify_status("recovering the journal");

    let starting = Daemon::start_reloadable(config, sockets, reloading);
    let Some(daemon) = started(starting, &mut signals).await? else { return Ok(()) };
    for address in &ingress {
        tracing::info!(ingress = %address, "webhooks are accepted here");
    }
    if let Some(address) = admin {
        tracing::info!(admin = %address, "metrics and health are here");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), sources, targets, files, "ready");
    lifecycle::notify_ready(&status);

    let failure = tokio::select! {
        signal = stop_asked(&daemon, &mut signals) => {
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

/// The daemon once it takes requests; `None` when it was asked to stop before.
async fn started(
    starting: impl Future<Output = Result<Daemon, StartError>>,
    signals: &mut Signals,
) -> Result<Option<Daemon>, Failure> {
    let mut starting = std::pin::pin!(starting);
    let mut changed = false;
    let daemon = loop {
        tokio::select! {
            daemon = &mut starting => break daemon.map_err(refused)?,
            asked = signals.next() => match asked {
                Asked::Reload => changed = true,
                Asked::Stop(signal) => {
                    tracing::info!(signal, "asked to stop while starting");
                    return Ok(None);
                }
            },
        }
    };
    if changed {
        daemon.reload();
    }
    Ok(Some(daemon))
}

/// Resolves with the name of the signal that asks the daemon to stop. Others are done meanwhile.
async fn stop_asked(daemon: &Daemon, signals: &mut Signals) -> &'static str {
    loop {
        match signals.next().await {
            Asked::Stop(signal) => return signal,
            Asked::Reload => daemon.reload(),
        }
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
