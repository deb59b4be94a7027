//! Where webhooks come in: sockets, limits, and the path from a request to its durable acknowledgement.
//!
//! Per connection: permit, accept, TLS if configured, the guarded `wire`, HTTP/1.1 or HTTP/2. Per request
//! (`handler`): limits, source, raw body, the decision of `rules::intake`, the commit, the answer. Nothing
//! here knows of targets being up or down: the only thing a sender ever waits for is stable storage.

mod answer;
mod append;
mod afterwards;
mod body;
mod builds;
mod caller;
mod clean;
mod conflict;
mod connection;
mod framing;
mod gate;
mod handler;
mod herald;
mod quarantine;
mod quiet;
mod release;
mod routes;
mod settings;
mod traced;
mod watch;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

pub use self::builds::Watched;
pub use self::release::Releaser;
use self::settings::{Around, Settings, SourceState};
use crate::config;
use crate::journal::Journal;
use crate::lifecycle::Tasks;
use crate::metrics::Metrics;
use crate::time::Clock;
use crate::trace::Spans;

/// First and longest pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The ingress. Cheap to clone: one clone serves each listening socket.
#[derive(Clone)]
pub struct Ingress {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

/// What every connection and request needs.
struct Shared {
    settings: ArcSwap<Settings>,
    /// Other settings are there.
    reloaded: Notify,
    journal: Arc<dyn Journal>,
    clock: Clock,
    metrics: Metrics,
    spans: Spans,
    rng: Mutex<StdRng>,
    draining: AtomicBool,
    /// Owns what outlives a connection.
    tasks: Tasks,
}

impl Ingress {
    /// Prepares the sources; `seed` makes event ids. What outlives a connection runs in `tasks`.
    pub fn new(
        config: &config::Ingress,
        sources: &[config::Source],
        journal: Arc<dyn Journal>,
        clock: Clock,
        (metrics, spans): (&Metrics, Spans),
        seed: u64,
        tasks: &Tasks,
    ) -> Self {
        let around = Around { journal: &*journal, metrics, now: clock.now() };
        let settings = Settings::new(config, sources, around, None);
        let shared = Shared {
            settings: ArcSwap::from_pointee(settings),
            reloaded: Notify::new(),
            journal,
            clock,
            metrics: metrics.clone(),
            spans,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            draining: AtomicBool::new(false),
            tasks: tasks.clone(),
        };
        Self { shared: Arc::new(shared), permits: Arc::new(Semaphore::new(config.max_connections)) }
    }

    /// Serves by these settings from now on. Requests that are being served end by the ones they began with; how many
    /// connections there may be stays as it is.
    pub fn reload(&self, config: &config::Ingress, sources: &[config::Source]) {
        let Shared { settings, reloaded, journal, metrics, clock, .. } = &*self.shared;
        let around = Around { journal: &**journal, metrics, now: clock.now() };
        let after = Settings::new(config, sources, around, Some(&settings.load_full()));
        settings.store(Arc::new(after));
        reloaded.notify_one();
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
                    let (shared, own) = (Arc::clone(&self.shared), tasks.clone());
                    let tls = shared.settings.load().tls.clone();
                    tasks.spawn(async move {
                        connection::serve(shared, tls, socket, peer.ip(), own).await;
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
        self.shared.draining.store(true, Ordering::Relaxed);
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
        self.draining.load(Ordering::Relaxed)
    }

    /// Random bytes for an event's id.
    fn entropy(&self) -> [u8; 10] {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
