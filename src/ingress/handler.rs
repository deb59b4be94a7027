//! One request, from its head to its answer: limits, source, body, decision, commit, acknowledgement.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Version};

use super::answer::{Answer, Cause, acknowledged, handshake, refused};
use super::append::Counted;
use super::body::Whole;
use super::framing::MAX_FIELDS;
use super::routes::Route;
use super::{Shared, SourceState};
use crate::journal::{Append, AppendError, Appended};
use crate::metrics::NO_SOURCE;
use crate::model::{Event, EventId, Headers};
use crate::rules::intake::Admission;

/// A request that was refused, and whose it was, if that is known.
struct Refused<'a> {
    source: Option<&'a SourceState>,
    cause: Cause,
}

/// Answers one request.
pub(super) async fn handle(shared: &Shared, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let http_1 = request.version() < Version::HTTP_2;
    let mut answer = match answered(shared, &path, request).await {
        Ok((source, answer)) => {
            shared.count(source.name.as_str(), &answer);
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
    shared: &'a Shared,
    path: &str,
    request: Request<Incoming>,
) -> Result<(&'a SourceState, Answer), Refused<'a>> {
    let source = match shared.routes.find(path) {
        Route::Source(source) => source,
        Route::Locked(source) => {
            return Err(Refused { source: Some(source), cause: Cause::Unverified });
        }
        Route::Unknown => return Err(Refused { source: None, cause: Cause::UnknownSource }),
    };
    let refuse = |cause| Refused { source: Some(source), cause };
    let (head, body) = request.into_parts();
    if head.method == Method::OPTIONS
        && let Some(origin) = head.headers.get("webhook-request-origin")
    {
        return Ok((source, handshake(origin, head.headers.get("webhook-request-rate"))));
    }
    if head.method != Method::POST {
        return Err(refuse(Cause::Method));
    }
    if head.headers.len() > MAX_FIELDS {
        return Err(refuse(Cause::TooManyHeaders));
    }
    let read = shared.bodies.read(body, shared.max_body, shared.body_timeout).await;
    let Whole { bytes: body, room } = read.map_err(refuse)?;
    let appended = stored(shared, source, &head.headers, body).await.map_err(refuse)?;
    drop(room);
    Ok((source, acknowledged(appended)))
}

/// Decides about a complete request and, if it is to be stored, stores it.
async fn stored(
    shared: &Shared,
    source: &SourceState,
    fields: &HeaderMap,
    body: Bytes,
) -> Result<Appended, Cause> {
    let begun = shared.clock.now();
    let headers =
        Headers::from_pairs(fields.iter().map(|(n, v)| (HeaderName::as_str(n), v.as_bytes())));
    let admitted = source.intake.decide(&headers, &body, shared.clock.wall());
    let Admission { event: name, order_key, dedup, targets } = admitted?;
    let event = Event {
        id: EventId::new(begun, shared.entropy()),
        source: source.name.clone(),
        name,
        order_key,
        received_at: begun,
        headers,
        body,
    };
    let journal = Arc::clone(&shared.journal);
    let append = async move { journal.append(Append { event, targets, dedup }).await };
    let mut append = Counted::new(append, &source.outcomes, &shared.tasks);
    let appended = match tokio::time::timeout(shared.ack_timeout, append.wait()).await {
        Err(_elapsed) => {
            append.give_up();
            return Err(Cause::AckTimeout);
        }
        Ok(Err(AppendError::Full)) => return Err(Cause::JournalFull),
        Ok(Err(AppendError::TooLarge)) => return Err(Cause::TooLarge),
        Ok(Err(AppendError::Closed)) => return Err(Cause::Draining),
        Ok(Err(AppendError::Failed)) => return Err(Cause::JournalFailed),
        Ok(Ok(appended)) => appended,
    };
    source.ack_duration.observe(shared.clock.now().since(begun).as_secs_f64());
    Ok(appended)
}
