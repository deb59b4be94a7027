//! Where webhooks come in: sockets, limits, and the path from a request to its durable acknowledgement.
//!
//! Per connection: permit, accept, TLS if configured, the guarded `wire`, HTTP/1.1 or HTTP/2. Per request
//! (`handler`): limits, source, raw body, the decision of `rules::intake`, the commit, the answer. Nothing
//! here knows of targets being up or down: the only thing a sender ever waits for is stable storage.

mod answer;
mod append;
mod afterwards;
mod body;
mod conflict;
mod connection;
mod framing;
mod gate;
mod handler;
mod quarantine;
mod release;
mod routes;
mod watch;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::append::Outcomes;
use self::body::Room;
use self::conflict::Conflicts;
use self::gate::Gate;
use self::quarantine::Holding;
pub use self::release::Releaser;
use self::routes::Routes;
use self::watch::Watch;
use crate::config::{self, OnUnverified};
use crate::journal::Journal;
use crate::lifecycle::Tasks;
use crate::metrics::{Metrics, Timing};
use crate::model::{Name, Secret};
use crate::rules::intake::Intake;
use crate::rules::stages::Stages;
use crate::time::Clock;

/// First and longest pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The ingress. Cheap to clone: one clone serves each listening socket.
#[derive(Clone)]
pub struct Ingress {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    tls: Option<TlsAcceptor>,
}

/// What every connection and request needs.
struct Shared {
    routes: Routes,
    journal: Arc<dyn Journal>,
    clock: Clock,
    metrics: Metrics,
    rng: Mutex<StdRng>,
    ack_timeout: Duration,
    max_body: usize,
    bodies: Room,
    header_timeout: Duration,
    body_timeout: Duration,
    trusted_proxies: Vec<IpNet>,
    draining: CancellationToken,
    /// Owns what outlives a connection.
    tasks: Tasks,
}

/// One source with the handles of its metrics.
struct SourceState {
    name: Name,
    path: String,
    path_token: Option<Secret>,
    gate: Gate,
    intake: Intake,
    /// Present when the builds of this source are watched.
    watch: Option<Arc<Watch>>,
    /// Present when what cannot be verified is held.
    holding: Option<Arc<Holding>>,
    conflicts: Arc<Conflicts>,
    outcomes: Arc<Outcomes>,
    ack_duration: Timing,
}

impl Ingress {
    /// Prepares the sources; `seed` makes event ids. What outlives a connection runs in `tasks`.
    pub fn new(
        config: &config::Ingress,
        sources: Vec<config::Source>,
        journal: Arc<dyn Journal>,
        clock: Clock,
        metrics: &Metrics,
        seed: u64,
        tasks: &Tasks,
    ) -> Self {
        let state = |source: config::Source| {
            Arc::new(SourceState {
                outcomes: Arc::new(Outcomes::of(metrics, &source.name)),
                conflicts: Arc::new(Conflicts::new(&source.name, metrics)),
                ack_duration: metrics
                    .ingress_ack_duration
                    .with_label_values(&[source.name.as_str()]),
                gate: Gate::new(&source),
                holding: (source.on_unverified == OnUnverified::Hold)
                    .then(|| Arc::new(Holding::new(&source.name, metrics))),
                watch: source.stages.map(|patience| {
                    let steps = source.intake.provider().steps;
                    let stages = Stages::new(steps, patience, clock.now());
                    Arc::new(Watch::new(&source.name, stages, metrics))
                }),
                name: source.name,
                path: source.path,
                path_token: source.path_token,
                intake: source.intake,
            })
        };
        let shared = Shared {
            routes: Routes::new(sources.into_iter().map(state)),
            journal,
            clock,
            metrics: metrics.clone(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            ack_timeout: config.ack_timeout,
            max_body: config.max_body,
            bodies: Room::new(config.max_body),
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            trusted_proxies: config.trusted_proxies.clone(),
            draining: CancellationToken::new(),
            tasks: tasks.clone(),
        };
        Self {
            shared: Arc::new(shared),
            permits: Arc::new(Semaphore::new(config.max_connections)),
            tls: config.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.server))),
        }
    }

    /// Accepts until `tasks` is asked to stop; connections run in `tasks` and finish what they have begun.
    pub async fn run(self, listener: TcpListener, tasks: Tasks) {
        let stop = tasks.stop_token().clone();
        let mut pause = None;
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&listener) => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((socket, peer, permit)) => {
                    if pause.take().is_some() {
                        tracing::info!("connections are accepted again");
                    }
                    let serve = connection::serve(
                        Arc::clone(&self.shared),
                        self.tls.clone(),
                        socket,
                        peer.ip(),
                        tasks.clone(),
                    );
                    tasks.spawn(async move {
                        serve.await;
                        drop(permit);
                    });
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    let wait: Duration = pause.map_or(ACCEPT_PAUSE, |last: Duration| {
                        last.saturating_mul(2).min(MAX_ACCEPT_PAUSE)
                    });
                    if pause.replace(wait).is_none() {
                        tracing::error!(%error, "connections cannot be accepted; they wait");
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
        self.shared.draining.cancel();
    }

    /// The next connection, once there is room for it: until then it waits in the kernel.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        let (socket, peer) = listener.accept().await?;
        socket.set_nodelay(true)?;
        Ok((socket, peer, permit))
    }
}

/// The peer went away before we took its connection: nothing to wait for.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}

impl Shared {
    fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Random bytes for an event's id.
    fn entropy(&self) -> [u8; 10] {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
