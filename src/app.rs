//! Wiring and stop order: the only file that knows every part, and the only one that names a journal engine.
//!
//! Starting: sockets, admin side, journal (which recovers), relay, ingress. Connections wait in the kernel from
//! the first moment and are never refused while the journal recovers. Stopping goes the other way round:
//! refuse new work, finish what is in flight, make settlements durable.

mod export;
mod reload;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::export::export;
use self::reload::{Reloader, Targets, clients};
pub use self::reload::{Reloading, SetLevel};
use crate::admin::{Admin, Readiness, Setup, Surroundings};
use crate::config::{self, Config, Live};
use crate::control::{Commands, control};
use crate::ingress::Ingress;
use crate::journal::sled::{OpenError, Opened, Options, SledJournal};
use crate::journal::{Health, Journal};
use crate::lifecycle::{self, Tasks};
use crate::metrics::Metrics;
use crate::model::Name;
use crate::relay::{Relay, RelayStop, RelayTarget, replacements};
use crate::reload::{ReloadControl, reload_control};
use crate::rules::dispatch::TargetPolicy;
use crate::target::{SystemTls, TargetClient};
use crate::time::Clock;
use crate::trace::Spans;

/// How long attempts in flight may take to finish when the daemon stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How long interrupted attempts may take to say that they were: nothing is sent any more.
const INTERRUPT_DEADLINE: Duration = Duration::from_millis(500);
/// How long an answer of the admin side may take to be read when the daemon stops.
const ADMIN_DEADLINE: Duration = Duration::from_millis(500);
/// How long spans may take to be exported when the daemon stops.
const EXPORT_DEADLINE: Duration = Duration::from_secs(3);
/// The commit this binary was built from: a release build in a checkout knows it, or `EVERHOOK_REVISION` says it.
pub const REVISION: Option<&str> = option_env!("EVERHOOK_REVISION");

/// The sockets the daemon serves on.
#[derive(Debug)]
pub struct Sockets {
    ingress: Vec<TcpListener>,
    admin: TcpListener,
}

impl Sockets {
    /// Takes over the sockets systemd holds, or binds the configured addresses.
    ///
    /// When another daemon has both an address and the journal, it is the journal's owner that is named: this is
    /// the same daemon started twice.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        Self::bind(config).map_err(|error| {
            let in_use = |e: &std::io::Error| e.kind() == std::io::ErrorKind::AddrInUse;
            let path = &config.journal.path;
            match SledJournal::owner(path) {
                Some(pid) if error.root_cause().downcast_ref().is_some_and(in_use) => {
                    OpenError::Locked { path: path.clone(), pid: Some(pid) }.into()
                }
                Some(_) | None => error.into(),
            }
        })
    }

    fn bind(config: &Config) -> anyhow::Result<Self> {
        let adopted = lifecycle::adopted_sockets().context("taking over systemd's sockets")?;
        let ingress = if adopted.is_empty() {
            let bind = |address: &SocketAddr| {
                lifecycle::bind(*address)
                    .with_context(|| format!("listening on {address} (ingress.listen)"))
            };
            config.ingress.listen.iter().map(bind).collect::<Result<_, _>>()?
        } else {
            adopted
        };
        let admin = config.admin.listen;
        let admin = lifecycle::bind(admin)
            .with_context(|| format!("listening on {admin} (admin.listen)"))?;
        Ok(Self { ingress, admin })
    }

    /// Where webhooks come in.
    pub fn ingress_addresses(&self) -> Vec<SocketAddr> {
        self.ingress.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Where metrics and health are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.local_addr().ok()
    }
}

/// A running daemon.
pub struct Daemon {
    journal: Arc<dyn Journal>,
    engine: Arc<SledJournal>,
    readiness: Readiness,
    ingress: Tasks,
    relay: Tasks,
    admin: Tasks,
    reload: Tasks,
    export: Tasks,
    reload_control: ReloadControl,
    interrupt: CancellationToken,
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal is damaged, in use, or of a newer format: exit code 74.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// Anything else: exit code 1.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Daemon {
    /// Starts every part; connections that came while the journal recovered are served then.
    pub async fn start(config: Config, sockets: Sockets) -> Result<Self, StartError> {
        Self::start_with(config, sockets, None).await
    }

    /// The same, and the configuration can be replaced by another one from where it was read.
    pub async fn start_reloadable(
        config: Config,
        sockets: Sockets,
        reloading: Reloading,
    ) -> Result<Self, StartError> {
        Self::start_with(config, sockets, Some(reloading)).await
    }

    async fn start_with(
        config: Config,
        sockets: Sockets,
        reloading: Option<Reloading>,
    ) -> Result<Self, StartError> {
        let clock = Clock::system();
        let mut rng =
            StdRng::try_from_rng(&mut SysRng).context("asking the system for randomness")?;
        let revision = REVISION.unwrap_or("unknown");
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), revision).context("metrics")?;
        metrics.config.loaded(clock.wall());
        declare(&metrics, &config);

        let readiness = Readiness::default();
        let root = Tasks::new();
        let (ingress, relay, admin, exporting) =
            (root.child(), root.child(), root.child(), root.child());
        let spans = export(&config, &metrics, &exporting)?;
        let (control, commands) = control();
        let (reload_control, requests) = reload_control();
        let live = Live::new(config);
        let config = live.now();
        let surroundings = Surroundings {
            setup: Setup::of(&config),
            metrics: metrics.clone(),
            clock: clock.clone(),
            readiness: readiness.clone(),
            control,
            reload: reload_control.clone(),
            revision,
            seed: rng.random(),
            tasks: admin.clone(),
        };
        let page = Admin::new(&config.admin, surroundings);
        admin.spawn(page.clone().run(sockets.admin, admin.clone()));

        let engine = open_journal(&config.journal, &clock, &metrics).await?;
        let journal: Arc<dyn Journal> = Arc::<SledJournal>::clone(&engine);
        report_orphans(&*journal, &config.targets);

        let around = Around { journal: Arc::clone(&journal), clock, metrics, spans };
        let interrupt = CancellationToken::new();
        let stop = RelayStop { drain: relay.stop_token().clone(), interrupt: interrupt.clone() };
        let targets = around.deliver(&config, (&relay, stop), commands, rng.random())?;
        let receive = around.receive(&config, sockets.ingress, &ingress, rng.random());

        page.receives(Arc::new(receive.releaser()), Arc::new(receive.watched()));
        let reload = root.child();
        if let Some(reloading) = reloading {
            let reloader = Reloader {
                reloading,
                started_with: config.outline.clone(),
                live,
                admin: page,
                engine: Arc::clone(&engine),
                ingress: receive,
                targets,
                metrics: around.metrics,
                clock: around.clock,
                rng,
            };
            reload.spawn(reloader.run(requests, reload.stop_token().clone()));
        }
        readiness.ready(Arc::clone(&journal));
        Ok(Self {
            journal,
            engine,
            readiness,
            ingress,
            relay,
            admin,
            reload,
            export: exporting,
            reload_control,
            interrupt,
        })
    }

    /// Has the configuration read again soon; the log, the metrics and the service manager say how that ended.
    pub fn reload(&self) {
        self.reload_control.ask();
    }

    /// Resolves with the reason when the daemon must end: only a new start can tell what is on the disk.
    pub async fn failed(&self) -> String {
        self.journal.failed().await
    }

    /// Whether the watchdog may be told that all is well.
    pub fn is_alive(&self) -> bool {
        !matches!(self.journal.health(), Health::Failed { .. })
    }

    /// Stops in order: refuses new work, finishes what is in flight or interrupts it after five seconds, makes
    /// every settlement durable. A sender that is still amid a request then is left: nothing was promised to it.
    pub async fn stop(self) {
        self.readiness.draining();
        self.reload.stop();
        self.ingress.stop();
        self.relay.stop();
        let delivered = async {
            if tokio::time::timeout(DRAIN_DEADLINE, self.relay.ended()).await.is_err() {
                tracing::info!("attempts in flight are interrupted; they will be made again");
                self.interrupt.cancel();
                drop(tokio::time::timeout(INTERRUPT_DEADLINE, self.relay.ended()).await);
            }
        };
        let reloaded = tokio::time::timeout(DRAIN_DEADLINE, self.reload.ended());
        let received = tokio::time::timeout(DRAIN_DEADLINE, self.ingress.ended());
        let ((), received, reloaded) = tokio::join!(delivered, received, reloaded);
        if reloaded.is_err() {
            tracing::debug!("a reload was under way and is left");
        }
        if received.is_err() {
            tracing::info!("connections amid a request are closed without an answer");
        }
        // Whoever makes spans has ended.
        self.export.stop();
        let exported = tokio::time::timeout(EXPORT_DEADLINE, self.export.ended());
        let ((), _bounded) = tokio::join!(self.journal.close(), exported);
        self.admin.stop();
        drop(tokio::time::timeout(ADMIN_DEADLINE, self.admin.ended()).await);
    }

    /// Ends as a crash would: nothing is finished, nothing is written any more.
    pub async fn crash(self) {
        self.interrupt.cancel();
        let engine = Arc::clone(&self.engine);
        let abandoned = tokio::task::spawn_blocking(move || engine.abandon()).await;
        if let Err(error) = abandoned {
            tracing::error!(%error, "the journal could not be abandoned");
        }
        for tasks in [&self.reload, &self.ingress, &self.relay, &self.export, &self.admin] {
            tasks.stop();
        }
        let ended =
            async { tokio::join!(self.ingress.ended(), self.relay.ended(), self.admin.ended()) };
        drop(tokio::time::timeout(DRAIN_DEADLINE, ended).await);
    }
}

/// What every part of the daemon is given.
struct Around {
    journal: Arc<dyn Journal>,
    clock: Clock,
    metrics: Metrics,
    spans: Spans,
}

impl Around {
    /// Starts the relay.
    fn deliver(
        &self,
        config: &Config,
        (tasks, stop): (&Tasks, RelayStop),
        commands: Commands,
        seed: u64,
    ) -> anyhow::Result<Targets> {
        let (relay, replacements) = replacements();
        let tls = SystemTls::default();
        let targets = relay_targets(config, &tls, tasks, |_name, _tokens| None)?;
        let clients = clients(&targets);
        let deliver = Relay::new(
            targets,
            config.delivery.concurrency,
            Arc::clone(&self.journal),
            self.clock.clone(),
            (&self.metrics, self.spans.clone()),
            (commands, replacements),
            seed,
        );
        tasks.spawn(deliver.run(stop));
        Ok(Targets { relay, clients, tls, tasks: tasks.clone() })
    }

    /// Starts the ingress.
    fn receive(
        &self,
        config: &Config,
        sockets: Vec<TcpListener>,
        tasks: &Tasks,
        seed: u64,
    ) -> Ingress {
        let ingress = Ingress::new(
            &config.ingress,
            &config.sources,
            Arc::clone(&self.journal),
            self.clock.clone(),
            (&self.metrics, self.spans.clone()),
            seed,
            tasks,
        );
        for socket in sockets {
            tasks.spawn(ingress.clone().run(socket, tasks.clone()));
        }
        tasks.spawn(ingress.clone().watch(tasks.clone()));
        ingress
    }
}

async fn open_journal(
    config: &config::Journal,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Arc<SledJournal>, StartError> {
    let options = journal_options(config);
    let (clock, metrics) = (clock.clone(), metrics.journal.clone());
    let opening = move || SledJournal::open(&options, &clock, metrics);
    let opened = tokio::task::spawn_blocking(opening).await.context("opening the journal")?;
    let (journal, Opened { pending, dead, took }) = opened?;
    tracing::info!(pending, dead, ?took, "the journal is open");
    Ok(Arc::new(journal))
}

fn journal_options(config: &config::Journal) -> Options {
    Options {
        path: config.path.clone(),
        retention: config.retention,
        max_bytes: config.max_bytes,
        min_free: config.min_free,
        quarantine_max_bytes: config.quarantine_max_bytes,
    }
}

/// Creates the series of everything that is configured.
fn declare(metrics: &Metrics, config: &Config) {
    let sources: Vec<Name> = config.sources.iter().map(|s| s.name.clone()).collect();
    let targets: Vec<Name> = config.targets.iter().map(|t| t.name.clone()).collect();
    metrics.declare(&sources, &targets);
    for target in &config.targets {
        let verified = target.tls.as_ref().is_none_or(|tls| tls.verify);
        metrics.target(&target.name).verified(verified);
    }
}

/// What the daemon does, in a line for the service manager.
pub fn status(config: &Config) -> String {
    let counted =
        |count: usize, noun| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let sources = counted(config.sources.len(), "source");
    format!("relaying {sources} to {}", counted(config.targets.len(), "target"))
}

/// Deliveries whose target left the configuration are kept; the operator should know of them.
fn report_orphans(journal: &dyn Journal, targets: &[config::Target]) {
    let is_known = |name: &Name| targets.iter().any(|it| it.name == *name || it.was.contains(name));
    for depth in journal.depth() {
        let pending = depth.ready.saturating_add(depth.waiting);
        if pending > 0 && !is_known(&depth.target) {
            tracing::warn!(target_name = %depth.target, pending,
                "the journal holds deliveries for a target that is not configured; they are kept until it is");
        }
    }
}

/// What the relay is told of the targets; `kept` gives the clients that go on, if they know of the same tokens.
fn relay_targets(
    config: &Config,
    tls: &SystemTls,
    tasks: &Tasks,
    kept: impl Fn(&Name, &[&str]) -> Option<Arc<TargetClient>>,
) -> anyhow::Result<Vec<RelayTarget>> {
    let tokens = config.sources.iter().flat_map(|source| source.intake.token_fields());
    let tokens: Vec<_> = tokens.collect::<BTreeSet<_>>().into_iter().collect();
    let target = |target: &config::Target| {
        let client = match kept(&target.name, &tokens) {
            Some(client) => client,
            None => TargetClient::new(target, &tokens, tls, tasks)
                .map(Arc::new)
                .with_context(|| format!("target.{}", target.name))?,
        };
        let policy = TargetPolicy {
            name: target.name.clone(),
            concurrency: target.concurrency,
            order: target.order,
            retry: target.retry.clone(),
            rate: target.rate,
            breaker: target.breaker,
            was: target.was.clone(),
        };
        Ok(RelayTarget { policy, client, address: target.url.clone() })
    };
    config.targets.iter().map(target).collect()
}
