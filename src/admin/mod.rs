//! What the operator's side offers: the page, the API, metrics and health, on a listener of its own.
//!
//! It shares no router with the ingress. It answers from the first moment on, also while the journal recovers.
//! The way of a request: `access` lets it in, `route` reads its path, one file answers it. Everything is looked up in
//! the journal or asked of the relay; this side keeps nothing of its own.

mod access;
mod answer;
mod assets;
mod health;
mod route;
mod targets;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::access::Access;
use self::answer::{Answer, Problem, with_type};
pub use self::health::Readiness;
use self::route::Route;
use crate::config;
use crate::control::RelayControl;
use crate::journal::Journal;
use crate::lifecycle::Tasks;
use crate::metrics::Metrics;
use crate::model::Name;
use crate::time::Clock;

/// Most connections at once.
const MAX_CONNECTIONS: usize = 64;
/// For a complete request head; also how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes and fields of a request head.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What programs rely on.
const OPENAPI: &[u8] = include_bytes!("openapi.json");

/// The admin side. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Shared>);

struct Shared {
    access: Access,
    targets: Vec<Name>,
    metrics: Metrics,
    clock: Clock,
    readiness: Readiness,
    control: RelayControl,
}

impl Admin {
    /// Prepares the page; `targets` are the configured ones.
    pub fn new(
        config: &config::Admin,
        targets: Vec<Name>,
        metrics: Metrics,
        clock: &Clock,
        readiness: &Readiness,
        control: RelayControl,
    ) -> Self {
        Self(Arc::new(Shared {
            access: Access::new(config),
            targets,
            metrics,
            clock: clock.clone(),
            readiness: readiness.clone(),
            control,
        }))
    }

    /// Serves until `tasks` is asked to stop.
    pub async fn run(self, listener: TcpListener, tasks: Tasks) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let stop = tasks.stop_token().clone();
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
        match route {
            Route::Asset(asset) => Ok(asset.answer(request.headers())),
            Route::Metrics => Ok(self.metrics()),
            Route::Alive => Ok(answer::text(StatusCode::OK, "ok\n")),
            Route::Ready => Ok(self.health(request.uri().query() == Some("verbose"))),
            Route::Openapi => {
                Ok(with_type(StatusCode::OK, "application/json", Bytes::from_static(OPENAPI)))
            }
            Route::Targets => self.list_targets().await,
            Route::Pause(name) => self.pause(&name, peer).await,
            Route::Resume(name) => self.resume(&name, peer).await,
            Route::Events
            | Route::Event(_)
            | Route::EventBody(_)
            | Route::Replay(_)
            | Route::Resend(_)
            | Route::Deliveries
            | Route::DeadLetters
            | Route::DeadGroups
            | Route::Bulk(_)
            | Route::Jobs
            | Route::Job(_)
            | Route::Test(_)
            | Route::Sources
            | Route::Stats
            | Route::Rejections
            | Route::Rejection(_)
            | Route::DiscardRejections
            | Route::Live => {
                Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "not-built", "not built yet"))
            }
        }
    }

    /// The journal, once it is open.
    #[expect(dead_code, reason = "what is looked up in it follows")]
    fn journal(&self) -> Result<&Arc<dyn Journal>, Problem> {
        self.readiness.journal().ok_or_else(|| Problem::unavailable("the journal recovers"))
    }
}
