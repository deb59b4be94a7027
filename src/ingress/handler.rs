//! One request, from its head to its answer: limits, source, body, decision, commit, acknowledgement.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Version};

use super::answer::{Answer, Cause, acknowledged, handshake, handshaken, refused};
use super::gate::client;
use super::routes::Route;
use super::{Shared, SourceState};
use crate::journal::{Append, AppendError, Appended};
use crate::metrics::NO_SOURCE;
use crate::model::{Event, EventId, Headers};
use crate::rules::intake::{self, Admission, Decision, Inbound};

/// Most header fields of a request; HTTP/1 is cut off at the same number by the HTTP library.
pub(super) const MAX_FIELDS: usize = 64;

/// A request that was refused, and whose it was, if that is known.
struct Refused<'a> {
    source: Option<&'a SourceState>,
    cause: Cause,
}

/// Answers one request.
pub(super) async fn handle(shared: &Shared, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let http_1 = request.version() < Version::HTTP_2;
    let (label, mut answer) = match answered(shared, peer, &path, request).await {
        Ok((source, answer)) => (source.name.as_str(), answer),
        Err(Refused { source, cause }) => {
            let label = source.map_or(NO_SOURCE, |source| source.name.as_str());
            let metrics = &shared.metrics;
            metrics.ingress_rejected.with_label_values(&[label, cause.as_str()]).inc();
            tracing::debug!(source = label, cause = cause.as_str(), "a request was refused");
            (label, refused(cause))
        }
    };
    shared.metrics.ingress_requests.with_label_values(&[label, answer.status().as_str()]).inc();
    // While we stop, a request is still served: its sender may never try again. Its next one needs a new connection.
    if http_1 && shared.is_draining() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn answered<'a>(
    shared: &'a Shared,
    peer: IpAddr,
    path: &str,
    request: Request<Incoming>,
) -> Result<(&'a SourceState, Answer), Refused<'a>> {
    let (source, open) = match shared.routes.find(path) {
        Route::Source(source) => (source, true),
        Route::Locked(source) => (source, false),
        Route::Unknown => return Err(Refused { source: None, cause: Cause::UnknownSource }),
    };
    let refuse = |cause| Refused { source: Some(source), cause };
    let (head, body) = request.into_parts();
    let client = client(peer, &head.headers, &shared.trusted_proxies);
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
    let body = read(body, shared.max_body, shared.body_timeout).await.map_err(refuse)?;
    let answer = decided(shared, source, method, &head, body).await.map_err(refuse)?;
    Ok((source, answer))
}

/// The whole body within its bounds. What claims to be larger is refused before it is read.
async fn read(body: Incoming, most: usize, within: Duration) -> Result<Bytes, Cause> {
    let claimed = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if claimed > most {
        return Err(Cause::TooLarge);
    }
    match tokio::time::timeout(within, Limited::new(body, most).collect()).await {
        Err(_elapsed) => Err(Cause::BodyTimeout),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Cause::TooLarge),
        Ok(Err(_broken)) => Err(Cause::Malformed),
    }
}

/// Decides about a complete request, and answers it when what is to be stored is stored.
async fn decided(
    shared: &Shared,
    source: &SourceState,
    method: intake::Method,
    head: &Parts,
    body: Bytes,
) -> Result<Answer, Cause> {
    let begun = shared.clock.now();
    let fields = head.headers.iter().map(|(n, v)| (HeaderName::as_str(n), v.as_bytes()));
    let headers = Headers::from_pairs(fields);
    let request = Inbound { method, query: head.uri.query(), headers: &headers, body: &body };
    let admission = match source.intake.receive(&request, shared.clock.wall())? {
        Decision::Answer(reply) => return Ok(handshaken(reply)),
        Decision::Store(admission) => admission,
    };
    let Admission { event: name, order_key, dedup, targets } = admission;
    let watched =
        source.watch.as_ref().and_then(|watch| Some((watch, order_key.clone()?, name.clone())));
    let event = Event {
        id: EventId::new(begun, shared.entropy()),
        source: source.name.clone(),
        name,
        order_key,
        received_at: begun,
        headers,
        body,
    };
    let appended = stored(shared, Append { event, targets, dedup }).await?;
    match appended {
        Appended::New(_) => {
            source.accepted.inc();
            if let Some((watch, build, name)) = watched {
                watch.stored(&build, &name, begun);
            }
        }
        Appended::Duplicate(_) => source.duplicate.inc(),
    }
    source.ack_duration.observe(shared.clock.now().since(begun).as_secs_f64());
    Ok(acknowledged(appended))
}

/// Resolves when the event is on stable storage.
async fn stored(shared: &Shared, append: Append) -> Result<Appended, Cause> {
    let append = shared.journal.append(append);
    match tokio::time::timeout(shared.ack_timeout, append).await {
        Err(_elapsed) => Err(Cause::AckTimeout),
        Ok(Err(AppendError::Full)) => Err(Cause::JournalFull),
        Ok(Err(AppendError::TooLarge)) => Err(Cause::TooLarge),
        Ok(Err(AppendError::Closed)) => Err(Cause::Draining),
        Ok(Err(AppendError::Failed)) => Err(Cause::JournalFailed),
        Ok(Ok(appended)) => Ok(appended),
    }
}
