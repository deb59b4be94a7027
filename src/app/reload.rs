//! Puts another configuration into effect while the daemon runs: all of it, or nothing.
//!
//! Everything that can fail is done first: reading, checking, making the targets' clients. Then each part takes its new
//! settings as a whole. What is in flight ends by the ones it began with.

use std::collections::HashMap;
use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use super::{declare, journal_options, relay_targets, report_orphans, status};
use crate::admin::Admin;
use crate::config::{self, Change, Config, Live, LoadOptions, Outline, Source};
use crate::ingress::Ingress;
use crate::journal::sled::SledJournal;
use crate::journal::{Append, Journal as _};
use crate::lifecycle::{self, Tasks};
use crate::metrics::Metrics;
use crate::model::{EventId, Name};
use crate::relay::{RelayReload, RelayTarget};
use crate::reload::{Outcome, ReloadError, Reloaded, Requests};
use crate::rules::notice::Told;
use crate::target::{SystemTls, TargetClient};
use crate::time::Clock;

/// Most changes that are logged one by one.
const MAX_LOGGED: usize = 200;

/// Sets the level of the log, or says why not.
pub type SetLevel = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What a reload needs of whoever started the daemon.
pub struct Reloading {
    /// Where the configuration was read from.
    pub options: LoadOptions,
    /// Sets the level of the log.
    pub set_level: SetLevel,
}

/// The relay, and what its targets are made of.
pub(super) struct Targets {
    pub(super) relay: RelayReload,
    /// Of the targets in effect.
    pub(super) clients: Clients,
    pub(super) tls: SystemTls,
    /// Owns the connections to targets.
    pub(super) tasks: Tasks,
}

type Clients = HashMap<Name, Arc<TargetClient>>;

/// The clients by name.
pub(super) fn clients(targets: &[RelayTarget]) -> Clients {
    let client = |target: &RelayTarget| (target.policy.name.clone(), Arc::clone(&target.client));
    targets.iter().map(client).collect()
}

/// The one task that reloads, and what it has to change.
pub(super) struct Reloader {
    pub(super) reloading: Reloading,
    pub(super) live: Live,
    /// What the daemon was started with: some of it counts until the next start.
    pub(super) started_with: Outline,
    pub(super) engine: Arc<SledJournal>,
    pub(super) admin: Admin,
    pub(super) ingress: Ingress,
    pub(super) targets: Targets,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    /// For the ids of events of our own.
    pub(super) rng: StdRng,
}

/// A configuration that can take effect.
struct Prepared {
    config: Config,
    targets: Vec<RelayTarget>,
    reloaded: Reloaded,
}

impl Reloader {
    /// Reloads whenever it is asked to, until it is told to stop.
    pub(super) async fn run(mut self, mut requests: Requests, stop: CancellationToken) {
        while let Some(Some(request)) = stop.run_until_cancelled(requests.next()).await {
            request.answer(self.reload().await);
        }
    }

    async fn reload(&mut self) -> Outcome {
        lifecycle::notify_reloading();
        let outcome = match self.prepare().await {
            Ok(prepared) => self.apply(prepared).await,
            Err(error) => Err(error),
        };
        let now = status(&self.live.now());
        match &outcome {
            Ok(reloaded) => {
                self.metrics.config.loaded(self.clock.wall());
                told(reloaded);
                lifecycle::notify_ready(&now);
            }
            Err(error) => {
                self.metrics.config.refused();
                tracing::error!(%error, "the configuration was not reloaded; the one before stays in effect");
                let refused = format!("{now}; a new configuration was refused: {}", shortly(error));
                lifecycle::notify_ready(&refused);
            }
        }
        outcome
    }

    /// Does everything that may fail, and changes nothing.
    async fn prepare(&self) -> Result<Prepared, ReloadError> {
        let options = self.reloading.options.clone();
        // It reads files.
        let loaded = tokio::task::spawn_blocking(move || Config::load(&options)).await;
        let config = loaded.map_err(|error| ReloadError::Unusable(error.to_string()))??;
        let before = self.live.now();
        let is_same =
            |name: &Name| before.outline.is_same(&config.outline, "target", name.as_str());
        let Targets { clients, tls, tasks, .. } = &self.targets;
        let kept = |name: &Name, tokens: &[&str]| {
            let client = clients.get(name).filter(|_| is_same(name));
            client.filter(|client| client.knows(tokens)).map(Arc::clone)
        };
        let targets = relay_targets(&config, tls, tasks, kept)
            .map_err(|error| ReloadError::Unusable(format!("{error:#}")))?;
        let reloaded = Reloaded {
            changes: before.outline.changes(&config.outline),
            needs_restart: self.started_with.at_start(&config.outline),
            warnings: config.warnings.clone(),
        };
        Ok(Prepared { config, targets, reloaded })
    }

    /// Lets every part take its new settings: those that deliver before those that accept, so that whatever is accepted
    /// for a new target finds it there.
    async fn apply(&mut self, prepared: Prepared) -> Outcome {
        let Prepared { config, targets, reloaded } = prepared;
        let before = self.live.now();
        if config.log.level != before.log.level
            && let Err(error) = (self.reloading.set_level)(&config.log.level)
        {
            tracing::warn!(error, "the level of the log could not be set");
        }
        declare(&self.metrics, &config);
        self.engine.adjust(&journal_options(&config.journal));
        self.targets.clients = clients(&targets);
        let replaced = self.targets.relay.replace(targets, config.delivery.concurrency).await;
        replaced.map_err(|_stopped| ReloadError::Stopped)?;
        self.ingress.reload(&config.ingress, &config.sources);
        let config = Arc::new(config);
        self.admin.configure(&config);
        self.live.replace(Arc::clone(&config));
        for target in &before.targets {
            if !config.targets.iter().any(|it| it.name == target.name) {
                self.metrics.forget(&target.name);
            }
        }
        for source in &before.sources {
            let expects = |it: &Source| it.name == source.name && it.expect_every.is_some();
            if !config.sources.iter().any(expects) {
                self.metrics.forget_source(&source.name);
            }
        }
        report_orphans(&*self.engine, &config.targets);
        self.ping(&config.targets, &reloaded.changes).await;
        Ok(reloaded)
    }

    /// Tells the targets that want to know it what changed for them. A ping that the journal does not take is left out:
    /// the configuration is in effect all the same.
    async fn ping(&mut self, targets: &[config::Target], changes: &[Change]) {
        for target in targets.iter().filter(|target| target.ping && target.active) {
            let keys = keys_of(&target.name, changes);
            if keys.is_empty() {
                continue;
            }
            let now = self.clock.now();
            let id = EventId::new(now, self.rng.random());
            let Some(event) = Told::Ping(&keys).event(&target.name, id, now) else { continue };
            let append = Append { event, targets: vec![target.name.clone()], dedup: Vec::new() };
            if let Err(error) = self.engine.append(append).await {
                tracing::warn!(%error, target_name = %target.name, "the target could not be sent a ping");
            }
        }
    }
}

/// The keys of one target that changed.
fn keys_of(target: &Name, changes: &[Change]) -> Vec<String> {
    let own = format!("target.{target}");
    let is_own = |key: &str| {
        key.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    changes.iter().filter(|it| is_own(&it.key)).map(|it| it.key.clone()).collect()
}

/// Logs what changed, key by key and without values: they may be secrets.
fn told(reloaded: &Reloaded) {
    let Reloaded { changes, needs_restart, warnings } = reloaded;
    for change in changes.iter().take(MAX_LOGGED) {
        tracing::info!(key = change.key, what = change.what.as_str(), "the configuration changed");
    }
    for key in needs_restart {
        tracing::warn!(key, "this key was changed and takes effect at the next start");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(changes = changes.len(), "the configuration was reloaded");
}

/// A refusal in a few words, for a line of status.
fn shortly(error: &ReloadError) -> String {
    match error {
        ReloadError::Invalid(error) => match error.mistakes.as_slice() {
            [one] => format!("{}: {}", one.place, one.problem),
            several => format!("{} mistakes", several.len()),
        },
        ReloadError::Unusable(_) | ReloadError::Stopped => error.to_string(),
    }
}
