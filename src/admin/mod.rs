//! What the operator's side offers: the page, the API, metrics and health, on a listener of its own.
//!
//! It shares no router with the ingress. It answers from the first moment on, also while the journal recovers.
//! The way of a request: `access` lets it in, `route` reads its path, one file answers it. Everything is looked up in
//! the journal or asked of the relay; this side keeps nothing of its own.

mod access;
mod answer;
mod asked;
mod assets;
mod bulk;
mod chosen;
mod deliveries;
mod events;
mod health;
mod jobs;
mod live;
mod rates;
mod rejections;
mod reload;
mod resend;
mod retry;
mod route;
mod setup;
mod shown;
mod stages;
mod stats;
mod targets;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::access::Access;
use self::answer::{Answer, Problem, with_type};
use self::deliveries::Which;
pub use self::health::Readiness;
use self::jobs::Jobs;
use self::live::Readers;
use self::rates::Rates;
use self::route::Route;
pub use self::setup::Setup;
use crate::config::{self, Config};
use crate::control::{Builds, RelayControl, Release};
use crate::journal::Journal;
use crate::lifecycle::Tasks;
use crate::metrics::Metrics;
use crate::reload::ReloadControl;
use crate::time::{Clock, Timestamp};

/// Most connections at once.
const MAX_CONNECTIONS: usize = 64;
/// For a complete request head; also how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes and fields of a request head.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;
/// Most bytes of a request's body, and of one that holds an event's.
const MAX_BODY: usize = 64 * 1024;
const MAX_EVENT_BODY: usize = 2 * 1024 * 1024;
/// For a complete body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What programs rely on.
const OPENAPI: &[u8] = include_bytes!("openapi.json");

/// The admin side. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Shared>);

/// What the admin side works with.
pub struct Surroundings {
    /// What it shows of the configuration.
    pub setup: Setup,
    /// What it serves, and reads the figures from.
    pub metrics: Metrics,
    /// Now.
    pub clock: Clock,
    /// How far the daemon is, and its journal once that is open.
    pub readiness: Readiness,
    /// The relay.
    pub control: RelayControl,
    /// Whoever reads the configuration again.
    pub reload: ReloadControl,
    /// The revision this binary was built from.
    pub revision: &'static str,
    /// Makes the ids of new events.
    pub seed: u64,
    /// Owns what outlives an answer.
    pub tasks: Tasks,
}

struct Shared {
    access: Access,
    setup: Mutex<Arc<Setup>>,
    metrics: Metrics,
    clock: Clock,
    started_at: Timestamp,
    readiness: Readiness,
    control: RelayControl,
    reload: ReloadControl,
    revision: &'static str,
    rng: Mutex<StdRng>,
    rates: Mutex<Rates>,
    readers: Readers,
    jobs: Jobs,
    reception: OnceLock<Reception>,
}

/// What is asked of the ingress.
struct Reception {
    release: Arc<dyn Release>,
    builds: Arc<dyn Builds>,
}

impl Admin {
    /// Prepares the page.
    pub fn new(config: &config::Admin, surroundings: Surroundings) -> Self {
        let Surroundings {
            setup,
            metrics,
            clock,
            readiness,
            control,
            reload,
            revision,
            seed,
            tasks,
        } = surroundings;
        Self(Arc::new(Shared {
            access: Access::new(config),
            setup: Mutex::new(Arc::new(setup)),
            metrics,
            started_at: clock.now(),
            clock,
            readiness,
            control,
            reload,
            revision,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            rates: Mutex::default(),
            readers: Readers::new(tasks),
            jobs: Jobs::default(),
            reception: OnceLock::new(),
        }))
    }

    /// Shows another configuration from now on.
    pub fn configure(&self, config: &Config) {
        self.0.access.renew(&config.admin);
        let mut setup = self.0.setup.lock().unwrap_or_else(PoisonError::into_inner);
        *setup = Arc::new(Setup::of(config).after(&setup));
    }

    /// Who makes events of rejections, and who knows of builds, once the ingress is there.
    pub fn receives(&self, release: Arc<dyn Release>, builds: Arc<dyn Builds>) {
        // Only the first call counts; there is one ingress.
        drop(self.0.reception.set(Reception { release, builds }));
    }

    /// Serves until `tasks` is asked to stop.
    pub async fn run(self, listener: TcpListener, tasks: Tasks) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let stop = tasks.stop_token().clone();
        let (shared, until) = (Arc::clone(&self.0), stop.clone());
        tasks.spawn(async move { shared.remember(&until).await });
        let (shared, until) = (Arc::clone(&self.0), stop.clone());
        tasks.spawn(async move { shared.work(&until).await });
        let accept = async {
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
                match listener.accept().await {
                    Ok((socket, peer)) => {
                        let (shared, stop) = (Arc::clone(&self.0), stop.clone());
                        tasks.spawn(async move {
                            serve(shared, socket, peer, stop).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection to the admin side was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accept).await;
    }
}

async fn serve(shared: Arc<Shared>, socket: TcpStream, peer: SocketAddr, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin side ended early");
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        if !self.access.is_our_name(request.headers()) {
            return Problem::forbidden("the Host field does not name this listener").into();
        }
        let Some(route) = Route::parse(request.uri().path()) else {
            return Problem::unknown("there is nothing at this path").into();
        };
        if !route.takes(request.method()) {
            return Problem::method(route.methods());
        }
        if let Err(refused) = self.access.check(&request, route.rights(request.method())) {
            return refused.into();
        }
        if request.method() == Method::POST && !access::is_json(request.headers()) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Problem::new(status, "media-type", "a body must be application/json").into();
        }
        self.route(route, request, peer).await.unwrap_or_else(Answer::from)
    }

    async fn route(
        &self,
        route: Route,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let query = request.uri().query().map(str::to_owned);
        let query = query.as_deref();
        match route {
            Route::Asset(asset) => Ok(asset.answer(request.headers())),
            Route::Metrics => Ok(self.metrics()),
            Route::Alive => Ok(answer::text(StatusCode::OK, "ok\n")),
            Route::Ready => Ok(self.health(query == Some("verbose"))),
            Route::Openapi => {
                Ok(with_type(StatusCode::OK, "application/json", Bytes::from_static(OPENAPI)))
            }
            Route::Events => self.list_events(query).await,
            Route::Event(id) => self.event(id).await,
            Route::EventBody(id) => self.event_body(id).await,
            Route::Replay(id) => self.replay(id, &body(request, MAX_BODY).await?, peer).await,
            Route::Resend(id) => self.resend(id, &body(request, MAX_EVENT_BODY).await?, peer).await,
            Route::Retry(id) => self.retry(id, &body(request, MAX_BODY).await?, peer).await,
            Route::Deliveries => self.list_deliveries(Which::All, query).await,
            Route::DeadLetters => self.list_deliveries(Which::Dead, query).await,
            Route::DeadGroups => self.dead_groups(query).await,
            Route::Targets => self.list_targets(query).await,
            Route::Pause(name) => self.pause(&name, peer).await,
            Route::Resume(name) => self.resume(&name, peer).await,
            Route::Test(name) => self.test(&name, peer).await,
            Route::Sources => self.list_sources(),
            Route::Stages => self.list_stages(query),
            Route::Stats => Ok(self.stats()),
            Route::Rejections => self.list_rejections(query),
            Route::Rejection(id) => self.rejection(id).await,
            Route::DiscardRejections => {
                self.discard_rejections(&body(request, MAX_BODY).await?, peer).await
            }
            Route::ReleaseRejections => {
                self.release_rejections(&body(request, MAX_BODY).await?, peer).await
            }
            Route::Live => self.live(),
            Route::Reload => self.reload(peer).await,
            Route::Bulk(kind) => self.bulk(kind, &body(request, MAX_BODY).await?, peer).await,
            Route::Jobs => Ok(self.list_jobs()),
            Route::Job(id) if request.method() == Method::DELETE => self.cancel(id, peer).await,
            Route::Job(id) => self.job(id),
        }
    }

    /// The journal, once it is open.
    fn journal(&self) -> Result<&Arc<dyn Journal>, Problem> {
        self.readiness.journal().ok_or_else(|| Problem::unavailable("the journal recovers"))
    }

    /// The ingress, once it runs.
    fn reception(&self) -> Result<&Reception, Problem> {
        let reception = self.reception.get();
        reception.ok_or_else(|| Problem::unavailable("the ingress does not run yet"))
    }

    fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The whole body of a request, at most so many bytes.
async fn body(request: Request<Incoming>, most: usize) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("the body is larger than {most} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail))
        }
        Ok(Err(_broken)) => Err(Problem::malformed("the body ended early")),
        Err(_late) => {
            let detail = "the body did not come in time";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail))
        }
    }
}
