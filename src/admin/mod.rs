//! What the operator's side offers: metrics, health and the targets, on a listener of its own.
//!
//! It shares no router with the ingress. It answers from the first moment on, also while the journal recovers.
//! A browser on the same machine is no operator: a request must name the listener by its own address or as
//! localhost, so that a web page cannot reach it through a name it controls.

mod reload;
mod targets;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::targets::Asked;
use crate::config::Live;
use crate::control::RelayControl;
use crate::journal::{Depth, Health, Journal};
use crate::lifecycle::Tasks;
use crate::metrics::{Metrics, QueueSample};
use crate::model::Name;
use crate::reload::ReloadControl;
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

type Answer = Response<Full<Bytes>>;

/// How far the daemon is: `recovering -> ready -> draining`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Readiness {
    journal: Arc<OnceLock<Arc<dyn Journal>>>,
    draining: CancellationToken,
}

impl Readiness {
    /// The journal is open and the ingress accepts.
    pub fn ready(&self, journal: Arc<dyn Journal>) {
        // Only the first call counts; there is one journal.
        drop(self.journal.set(journal));
    }

    /// The daemon is stopping.
    pub fn draining(&self) {
        self.draining.cancel();
    }

    /// The journal, once it is open.
    fn journal(&self) -> Option<&Arc<dyn Journal>> {
        self.journal.get()
    }

    /// The checks by name, each with what is wrong, if something is.
    fn checks(&self) -> [(&'static str, Result<(), String>); 2] {
        let journal = match self.journal.get().map(|journal| journal.health()) {
            None => Err("recovering".to_owned()),
            Some(Health::Healthy) => Ok(()),
            Some(Health::Full { detail } | Health::Failed { detail }) => Err(detail),
        };
        let ingress = match (self.draining.is_cancelled(), self.journal.get()) {
            (true, _) => Err("draining".to_owned()),
            (false, None) => Err("starting".to_owned()),
            (false, Some(_)) => Ok(()),
        };
        [("journal", journal), ("ingress", ingress)]
    }
}

/// The admin side. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Shared>);

struct Shared {
    listen: SocketAddr,
    live: Live,
    metrics: Metrics,
    clock: Clock,
    readiness: Readiness,
    control: RelayControl,
    reload: ReloadControl,
}

impl Admin {
    /// Prepares the page.
    pub fn new(
        live: Live,
        metrics: Metrics,
        clock: &Clock,
        readiness: &Readiness,
        control: RelayControl,
        reload: ReloadControl,
    ) -> Self {
        Self(Arc::new(Shared {
            listen: live.now().admin.listen,
            live,
            metrics,
            clock: clock.clone(),
            readiness: readiness.clone(),
            control,
            reload,
        }))
    }

    /// Serves until `tasks` is asked to stop.
    pub async fn run(self, listener: TcpListener, tasks: Tasks) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let stop = tasks.stop_token().clone();
        let accept = async {
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
                match listener.accept().await {
                    Ok((socket, _)) => {
                        let (shared, stop) = (Arc::clone(&self.0), stop.clone());
                        tasks.spawn(async move {
                            serve(shared, socket, stop).await;
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

async fn serve(shared: Arc<Shared>, socket: TcpStream, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(&request).await) }
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
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let names_us = request.headers().get(HOST).is_some_and(|host| self.is_our_name(host));
        if !names_us {
            return problem(StatusCode::FORBIDDEN, "the Host field does not name this listener");
        }
        let path = request.uri().path();
        if let Some(asked) = Asked::parse(path) {
            return if self.is_authorized(request) {
                self.targets(asked, request).await
            } else {
                unauthorized()
            };
        }
        if path == reload::PATH {
            return if self.is_authorized(request) {
                self.reload(request).await
            } else {
                unauthorized()
            };
        }
        let known = matches!(path, "/metrics" | "/livez" | "/readyz" | "/healthz");
        if !known {
            return problem(StatusCode::NOT_FOUND, "there is nothing at this path");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "this path is only read");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/metrics" if !self.is_authorized(request) => unauthorized(),
            "/metrics" => self.metrics(),
            "/livez" => text(StatusCode::OK, "ok\n".into()),
            _ => self.readiness(request.uri().query() == Some("verbose")),
        }
    }

    /// On loopback, any name but ours is somebody else's name for this machine (DNS rebinding).
    fn is_our_name(&self, host: &HeaderValue) -> bool {
        if !self.listen.ip().is_loopback() {
            return true;
        }
        let host = host.to_str().unwrap_or_default();
        let host = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            Some(_) | None => host,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
    }

    fn is_authorized(&self, request: &Request<Incoming>) -> bool {
        let config = self.live.now();
        let Some(token) = &config.admin.token else { return true };
        let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
        given.is_some_and(|given| given.ct_eq(token.expose()).into())
    }

    fn metrics(&self) -> Answer {
        let journal = self.readiness.journal.get();
        let depth = journal.map(|journal| journal.depth());
        let quarantined = journal.map(|journal| journal.quarantined());
        self.metrics.quarantine.set(&quarantined.unwrap_or_default());
        let (now, config) = (self.clock.now(), self.live.now());
        let is_configured =
            |name: &Name| config.targets.iter().any(|it| it.name == *name || it.was.contains(name));
        let sample = |depth: Depth| QueueSample {
            configured: is_configured(&depth.target),
            ready: depth.ready,
            waiting: depth.waiting,
            in_flight: depth.in_flight,
            dead: depth.dead,
            oldest_seconds: depth.oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64()),
            target: depth.target,
        };
        let mut queue: Vec<_> = depth.unwrap_or_default().into_iter().map(sample).collect();
        for target in &config.targets {
            if !queue.iter().any(|sample| sample.target == target.name) {
                queue.push(QueueSample::idle(target.name.clone()));
            }
        }
        match self.metrics.render(&queue) {
            Ok(page) => with_type(StatusCode::OK, "text/plain; version=0.0.4", page.into()),
            Err(error) => {
                tracing::error!(%error, "the metrics could not be rendered");
                problem(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be rendered")
            }
        }
    }

    fn readiness(&self, verbose: bool) -> Answer {
        let checks = self.readiness.checks();
        let ready = checks.iter().all(|(_, check)| check.is_ok());
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if !verbose {
            return text(status, if ready { "ok\n" } else { "not ready\n" }.into());
        }
        let check = |(name, check): &(&str, Result<(), String>)| {
            let state = check.as_ref().map_or_else(String::as_str, |()| "ok");
            ((*name).to_owned(), serde_json::Value::from(state))
        };
        let checks: serde_json::Map<_, _> = checks.iter().map(check).collect();
        let page = serde_json::json!({ "ready": ready, "checks": checks });
        with_type(status, "application/json", format!("{page}\n").into())
    }
}

fn unauthorized() -> Answer {
    let mut answer = problem(StatusCode::UNAUTHORIZED, "a bearer token is needed");
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

fn text(status: StatusCode, body: String) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

fn problem(status: StatusCode, detail: &'static str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
    });
    with_type(status, "application/problem+json", format!("{body}\n").into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
