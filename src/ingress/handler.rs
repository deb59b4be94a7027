//! One request, from its head to its answer: limits, source, body, decision, commit, acknowledgement.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Version};

use super::afterwards::{Afterwards, Said};
use super::answer::{Answer, Cause, acknowledged, handshake, handshaken, refused};
use super::append::Counted;
use super::body::Whole;
use super::caller::Caller;
use super::framing::MAX_FIELDS;
use super::gate::client;
use super::routes::Route;
use super::settings::Settings;
use super::traced::Traced;
use super::{Shared, SourceState, quarantine};
use crate::journal::{Append, AppendError, Appended};
use crate::metrics::NO_SOURCE;
use crate::model::{Event, EventId, Headers, Refusal};
use crate::rules::intake::{self, Admission, Decision, Inbound};
use crate::time::Timestamp;

/// A request that was refused, and whose it was, if that is known.
struct Refused<'a> {
    source: Option<&'a SourceState>,
    cause: Cause,
}

/// A request that was read to its end.
struct Complete<'a> {
    client: IpAddr,
    method: intake::Method,
    head: &'a Parts,
    body: Bytes,
    /// When it came, if that is told.
    arrived: Option<Timestamp>,
}

/// Answers one request.
pub(super) async fn handle(caller: &Arc<Caller>, request: Request<Incoming>) -> Answer {
    let shared = &*caller.shared;
    let uri = request.uri().clone();
    let http_1 = request.version() < Version::HTTP_2;
    let settings = shared.settings.load_full();
    let arrived = shared.spans.are_kept().then(|| shared.clock.now());
    let mut answer = match answered(caller, &settings, arrived, uri.path(), request).await {
        Ok((source, answer)) => {
            if answer.status() == StatusCode::OK {
                source.outcomes.answered();
            } else {
                shared.count(source.name.as_str(), &answer);
            }
            answer
        }
        Err(Refused { source, cause }) => {
            let label = source.map_or(NO_SOURCE, |source| source.name.as_str());
            shared.refuse(label, cause)
        }
    };
    // While we stop, a request is still served: its sender may never try again. Its next one needs a new connection.
    if http_1 && shared.is_draining() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

impl Shared {
    /// Refuses a request, whoever found out that it must be, and counts it.
    pub(super) fn refuse(&self, label: &str, cause: Cause) -> Answer {
        self.metrics.ingress_rejected.with_label_values(&[label, cause.as_str()]).inc();
        tracing::debug!(source = label, cause = cause.as_str(), "a request was refused");
        let answer = refused(cause);
        self.count(label, &answer);
        answer
    }

    fn count(&self, label: &str, answer: &Answer) {
        let code = answer.status();
        self.metrics.ingress_requests.with_label_values(&[label, code.as_str()]).inc();
    }
}

async fn answered<'a>(
    caller: &Arc<Caller>,
    settings: &'a Settings,
    arrived: Option<Timestamp>,
    path: &str,
    request: Request<Incoming>,
) -> Result<(&'a SourceState, Answer), Refused<'a>> {
    let shared = &*caller.shared;
    let (source, open) = match settings.routes.find(path) {
        Route::Source(source) => (source, true),
        Route::Locked(source) => (source, false),
        Route::Unknown => return Err(Refused { source: None, cause: Cause::UnknownSource }),
    };
    let refuse = |cause| Refused { source: Some(source), cause };
    let (head, body) = request.into_parts();
    let client = client(caller.peer, &head.headers, &settings.trusted_proxies);
    if !source.gate.admits(client) {
        if open {
            stranger(shared, settings, (source, client), &head, body).await;
        }
        return Err(refuse(Cause::NotAllowed));
    }
    // Whoever guesses at a path token is bounded like everybody else.
    source.gate.pass(client, shared.clock.now()).map_err(refuse)?;
    if !open {
        return Err(refuse(Cause::Unverified));
    }
    if head.method == Method::OPTIONS
        && let Some(origin) = head.headers.get("webhook-request-origin")
    {
        let rate = head.headers.get("webhook-request-rate");
        return Ok((source, handshake(origin, rate, source.gate.per_minute())));
    }
    let method = match head.method {
        Method::POST => intake::Method::Post,
        Method::GET if source.intake.answers_get() => intake::Method::Get,
        _ => return Err(refuse(Cause::Method)),
    };
    if head.headers.len() > MAX_FIELDS {
        return Err(refuse(Cause::TooManyHeaders));
    }
    let read = settings.bodies.read(body, settings.max_body, settings.body_timeout).await;
    let Whole { bytes: body, room } = read.map_err(refuse)?;
    let request = Complete { client, method, head: &head, body, arrived };
    let answer = decided(caller, source, request).await.map_err(refuse)?;
    drop(room);
    Ok((source, answer))
}

/// Keeps a request from an address that is not allowed, if it may be an event and comes whole: the provider may send
/// from another address than it did, or a proxy is not trusted that should be.
async fn stranger(
    shared: &Shared,
    settings: &Settings,
    (source, client): (&SourceState, IpAddr),
    head: &Parts,
    body: Incoming,
) {
    let received_at = shared.clock.now();
    let is_bounded = head.headers.len() <= MAX_FIELDS;
    if head.method != Method::POST || !is_bounded || !source.gate.hears_stranger(received_at) {
        return;
    }
    let read = settings.strangers.read(body, settings.max_body, settings.body_timeout).await;
    let Ok(Whole { bytes: body, room }) = read else { return };
    let (headers, query) = (fields(head), head.uri.query());
    let request = Inbound { method: intake::Method::Post, query, headers: &headers, body: &body };
    if source.intake.is_handshake(&request) {
        return;
    }
    let cause = Refusal::NotAllowed;
    let refused = quarantine::Whole { cause, received_at, client, query, headers, body };
    // The answer is the same whether it is kept or not.
    drop(quarantine::keep(shared, source, refused).await);
    drop(room);
}

fn fields(head: &Parts) -> Headers {
    let fields = head.headers.iter().map(|(n, v)| (HeaderName::as_str(n), v.as_bytes()));
    Headers::from_pairs(fields)
}

/// Decides about a complete request, and answers it when what is to be stored is stored.
async fn decided(
    caller: &Arc<Caller>,
    source: &Arc<SourceState>,
    Complete { client, method, head, body, arrived }: Complete<'_>,
) -> Result<Answer, Cause> {
    let shared = &*caller.shared;
    let begun = shared.clock.now();
    let headers = fields(head);
    let query = head.uri.query();
    let request = Inbound { method, query, headers: &headers, body: &body };
    let admission = match source.intake.receive(&request, shared.clock.wall()) {
        Ok(Decision::Store(admission)) => admission,
        Ok(Decision::Answer(reply)) => return Ok(handshaken(reply)),
        // There is nothing to release of a handshake.
        Err(cause) if source.intake.is_handshake(&request) => return Err(cause.into()),
        Err(cause) => {
            let received_at = begun;
            let refused = quarantine::Whole { cause, received_at, client, query, headers, body };
            return quarantine::keep(shared, source, refused).await;
        }
    };
    let id = EventId::new(begun, shared.entropy());
    let said =
        || Said { query: query.map(str::to_owned), headers: headers.clone(), body: body.clone() };
    let step = || Some((admission.order_key.clone()?, admission.event.clone()));
    let afterwards = Afterwards {
        caller: Arc::clone(caller),
        source: Arc::clone(source),
        step: source.watch.as_ref().and_then(|_watched| step()),
        id,
        received_at: begun,
        client,
        said: admission.may_conflict.then(said),
    };
    let Admission { event: name, order_key, dedup, targets, .. } = admission;
    let traced = arrived.map(|arrived| {
        let trace = shared.spans.trace(id, &headers);
        Traced { trace, event: id, source: source.name.clone(), name: name.clone(), arrived, begun }
    });
    let (source_name, received_at) = (source.name.clone(), begun);
    let event = Event { id, source: source_name, name, order_key, received_at, headers, body };
    let append = async move {
        let append = Append { event, targets, dedup };
        let appended = afterwards.caller.shared.journal.append(append).await;
        if let Ok(appended) = &appended {
            afterwards.follow(appended);
        }
        appended
    };
    let appended = stored(caller, source, append).await;
    if let Some(traced) = traced {
        traced.ended(&shared.spans, &appended, shared.clock.now());
    }
    let appended = appended?;
    source.ack_duration.observe(shared.clock.now().since(begun).as_secs_f64());
    Ok(acknowledged(appended))
}

/// Resolves when the event is on stable storage.
async fn stored(
    caller: &Caller,
    source: &SourceState,
    append: impl Future<Output = Result<Appended, AppendError>> + Send + 'static,
) -> Result<Appended, Cause> {
    let shared = &*caller.shared;
    let mut append = Counted::new(append, &source.outcomes, &shared.tasks);
    let limit = shared.settings.load().ack_timeout;
    match caller.patience.within(limit, append.wait()).await {
        None => {
            append.give_up();
            Err(Cause::AckTimeout)
        }
        Some(appended) => appended.map_err(Cause::of_journal),
    }
}
