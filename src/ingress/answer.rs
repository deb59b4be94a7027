//! What a sender is told: an acknowledgement, or a refusal with a stable cause and no hint.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use crate::journal::{AppendError, Appended};
use crate::model::RejectionId;
use crate::rules::intake::{Refusal, Reply};

/// An answer as the HTTP library sends it.
pub(super) type Answer = Response<Full<Bytes>>;

/// What the path of a source allows.
const ALLOWED: &str = "POST";

/// Why a request was refused: the `cause` of the answer and of the metric. A closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    Malformed,
    Unverified,
    NotAllowed,
    UnknownSource,
    Method,
    BodyTimeout,
    TooLarge,
    MediaType,
    TooManyHeaders,
    /// Too many requests; the seconds after which the next may come.
    RateLimited(u32),
    Busy,
    JournalFull,
    JournalFailed,
    AckTimeout,
    Draining,
}

impl From<Refusal> for Cause {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed => Self::Malformed,
            Refusal::Unverified => Self::Unverified,
            // Nobody is refused for a conflict: a repeat is answered as one.
            Refusal::NotAllowed | Refusal::Conflict => Self::NotAllowed,
            Refusal::MediaType => Self::MediaType,
        }
    }
}

impl Cause {
    /// Why the journal does not store what it was given.
    pub(super) fn of_journal(error: AppendError) -> Self {
        match error {
            AppendError::Full => Self::JournalFull,
            AppendError::TooLarge => Self::TooLarge,
            AppendError::Closed => Self::Draining,
            // Nothing is released here.
            AppendError::Failed | AppendError::NotKept => Self::JournalFailed,
        }
    }

    /// The stable word.
    pub(super) fn as_str(self) -> &'static str {
        self.parts().1
    }

    /// The status code of the answer.
    pub(super) fn status(self) -> u16 {
        self.parts().0.as_u16()
    }

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "malformed",
                "the request is not what this source's provider sends",
            ),
            Self::Unverified => {
                (StatusCode::UNAUTHORIZED, "unverified", "the request could not be verified")
            }
            Self::NotAllowed => {
                (StatusCode::FORBIDDEN, "not-allowed", "this source does not admit the request")
            }
            Self::UnknownSource => {
                (StatusCode::NOT_FOUND, "unknown-source", "no source listens at this path")
            }
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "webhooks are sent with POST",
            ),
            Self::BodyTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "request-timeout", "the body did not arrive in time")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is larger than max_body")
            }
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media-type",
                "the body must come without a content coding",
            ),
            Self::TooManyHeaders => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers-too-large",
                "the request has too many header fields",
            ),
            Self::RateLimited(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "more requests than this source takes; send it again later",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "too many bodies are being read at once; send it again",
            ),
            Self::JournalFull => (
                StatusCode::SERVICE_UNAVAILABLE,
                "journal-full",
                "the event cannot be stored now; send it again later",
            ),
            Self::JournalFailed => (
                StatusCode::SERVICE_UNAVAILABLE,
                "journal-failed",
                "the event could not be stored; send it again later",
            ),
            Self::AckTimeout => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ack-timeout",
                "the event was not stored in time; send it again, a repeat is recognised",
            ),
            Self::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                "draining",
                "the relay is stopping; send it again",
            ),
        }
    }

    /// Seconds after which sending it again makes sense.
    fn retry_after(self) -> Option<u32> {
        match self {
            Self::JournalFull | Self::JournalFailed => Some(10),
            Self::AckTimeout | Self::Busy | Self::Draining => Some(2),
            Self::RateLimited(seconds) => Some(seconds),
            Self::Malformed
            | Self::Unverified
            | Self::NotAllowed
            | Self::UnknownSource
            | Self::Method
            | Self::BodyTimeout
            | Self::TooLarge
            | Self::MediaType
            | Self::TooManyHeaders => None,
        }
    }

    /// Whether unread bytes of the request may still be on their way, so that the connection ends here.
    fn closes(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::BodyTimeout
                | Self::TooLarge
                | Self::TooManyHeaders
                | Self::Busy
                | Self::Draining
        )
    }
}

/// The refusal as `application/problem+json` (RFC 9457).
pub(super) fn refused(cause: Cause) -> Answer {
    let (status, word, detail) = cause.parts();
    let title = status.canonical_reason().unwrap_or_default();
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"cause\":\"{word}\",\"detail\":\"{detail}\"}}\n",
        status.as_u16()
    );
    let mut answer = with_body(status, "application/problem+json", body);
    let headers = answer.headers_mut();
    if let Some(seconds) = cause.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if cause == Cause::Method {
        headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
    }
    if cause.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// The event is on stable storage.
pub(super) fn acknowledged(appended: Appended) -> Answer {
    let (id, status) = match appended {
        Appended::New(id) => (id, "accepted"),
        Appended::Duplicate(id) => (id, "duplicate"),
    };
    told(id, status)
}

/// The request could not be verified, and is kept on stable storage until it is released.
pub(super) fn held(id: RejectionId) -> Answer {
    told(id, "held")
}

/// What became of a request: its id, and in a word how it stands.
fn told(id: impl fmt::Display, status: &str) -> Answer {
    let mut body = String::with_capacity(96);
    let written = writeln!(body, "{{\"id\":\"{id}\",\"status\":\"{status}\"}}");
    debug_assert!(written.is_ok(), "a string takes whatever is written to it");
    with_body(StatusCode::OK, "application/json", body)
}

/// The CloudEvents handshake (HTTP WebHooks for Event Delivery 1.0, section 4): this origin may send.
///
/// `most` is what the source takes in a minute; the sender gets what it asked for, if that is less.
pub(super) fn handshake(
    origin: &HeaderValue,
    rate: Option<&HeaderValue>,
    most: Option<u64>,
) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
    headers.insert("webhook-allowed-origin", origin.clone());
    let asked = rate.and_then(|rate| rate.to_str().ok()?.parse::<u64>().ok());
    let allowed = match (asked, most) {
        (Some(asked), Some(most)) => HeaderValue::from(asked.min(most)),
        (None, Some(most)) => HeaderValue::from(most),
        (Some(asked), None) => HeaderValue::from(asked),
        (None, None) => HeaderValue::from_static("*"),
    };
    headers.insert("webhook-allowed-rate", allowed);
    answer
}

/// The answer to a provider's own handshake. It repeats what the caller sent, so no browser may take it for a page.
pub(super) fn handshaken(reply: Reply) -> Answer {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let mut answer = with_body(status, reply.content_type, reply.body);
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some((name, value)) = reply.header
        && let Ok(value) = HeaderValue::from_str(&value)
    {
        headers.insert(name, value);
    }
    answer
}

fn with_body(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
