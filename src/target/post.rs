//! One request of the command line's own: no delivery, no record.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, Request, Uri};

use super::connect::Connector;
use super::seen::{MAX_ANSWER_BODY, Outgoing, class_of};
use super::tls::{no_tls, shared_tls};
use super::{ClientError, client, header_map};
use crate::lifecycle::Tasks;
use crate::model::ErrorClass;

/// What came back from [`post`].
#[derive(Clone, Debug)]
pub struct Posted {
    /// The HTTP status code.
    pub status: u16,
    /// The body, at most [`MAX_ANSWER_BODY`] bytes.
    pub body: Bytes,
}

/// Why [`post`] brought nothing back.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No client for this URL.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No answer.
    #[error("no answer ({})", .0.as_str())]
    Failed(ErrorClass),
}

/// Posts once and reads the answer: for the command line's own requests, not for deliveries.
pub async fn post(
    url: &str,
    fields: &[(String, String)],
    body: Bytes,
    timeout: Duration,
) -> Result<Posted, PostError> {
    let tasks = Tasks::new();
    let url: Uri = url.parse().map_err(ClientError::from)?;
    let secure = url.scheme_str() == Some("https");
    // Loading the system's certificates takes longer than the whole exchange does without them.
    let connector = Connector::new(if secure { shared_tls()? } else { no_tls()? }, timeout);
    let mut request = Request::new(Outgoing::new(body).0);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url;
    *request.headers_mut() =
        header_map(fields.iter().map(|(name, value)| (name, value.as_bytes())))?;
    let exchange = async {
        let answer = client(connector, 1, &tasks).request(request).await;
        let answer = answer.map_err(|error| PostError::Failed(class_of(&error)))?;
        let status = answer.status().as_u16();
        let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER_BODY);
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        Ok(Posted { status, body: body.unwrap_or_default() })
    };
    let timed_out = Err(PostError::Failed(ErrorClass::Timeout));
    tokio::time::timeout(timeout, exchange).await.unwrap_or(timed_out)
}
