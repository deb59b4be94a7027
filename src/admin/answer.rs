//! What the admin side answers with: JSON, text, bytes, a stream, or a problem. Every answer has the fields that keep a
//! browser from doing anything with it but show it.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde_json::Value;

/// All at once, or as it happens.
pub(super) type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;
pub(super) type Answer = Response<Body>;

/// When to come again, in seconds.
const RETRY_LATER: HeaderValue = HeaderValue::from_static("1");
/// What a page of ours may load and do: its own scripts, styles and images, and requests to us.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Why a request is refused: the status, a stable word, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) cause: &'static str,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, cause: &'static str, detail: impl Into<String>) -> Self {
        Self { status, cause, detail: detail.into() }
    }

    /// The request cannot be read.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// There is no such thing, or no longer.
    pub(super) fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// Not now.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// Who asks has not said that they may, or with a token that is none of ours.
    pub(super) fn unauthorized(was_given: bool) -> Self {
        let detail = if was_given {
            "this bearer token is not accepted"
        } else {
            "a bearer token is needed"
        };
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// Who asks may not.
    pub(super) fn forbidden(detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Another method is asked for than `allowed`.
    pub(super) fn method(allowed: &'static str) -> Answer {
        let detail = format!("this path takes {allowed}");
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        let mut answer = Answer::from(refusal);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        answer
    }
}

impl From<Problem> for Answer {
    fn from(Problem { status, cause, detail }: Problem) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        let body = serde_json::json!({
            "type": "about:blank", "title": title, "status": status.as_u16(),
            "cause": cause, "detail": detail,
        });
        let mut answer = with_type(status, "application/problem+json", format!("{body}\n").into());
        match status {
            StatusCode::UNAUTHORIZED => {
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                answer.headers_mut().insert(RETRY_AFTER, RETRY_LATER);
            }
            _ => {}
        }
        answer
    }
}

/// JSON with this status.
pub(super) fn json(status: StatusCode, body: &Value) -> Answer {
    with_type(status, "application/json", format!("{body}\n").into())
}

/// Plain text with this status.
pub(super) fn text(status: StatusCode, body: &'static str) -> Answer {
    with_type(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

/// Bytes of a type with this status.
pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    of_body(status, content_type, Either::Left(Full::new(body)))
}

/// The same for any body.
pub(super) fn of_body(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let fields: [(HeaderName, HeaderValue); 6] = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    answer.headers_mut().extend(fields);
    answer
}
