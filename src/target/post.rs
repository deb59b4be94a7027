//! One request of the command line's own: no delivery, no record.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, Uri};
use rustls::pki_types::CertificateDer;

use super::connect::{Connector, Route};
use super::pool::{Lent, Letter, Pool};
use super::seen::{MAX_ANSWER_BODY, Outgoing, class_of};
use super::tls::{SystemTls, no_tls, own_tls};
use super::{ClientError, header_map};
use crate::config::TargetTls;
use crate::lifecycle::Tasks;
use crate::model::ErrorClass;
use crate::time::deadline;

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

/// A request of the command line's own.
#[derive(Clone, Debug)]
pub struct Asking<'a> {
    /// GET, POST, DELETE.
    pub method: &'static str,
    /// Where.
    pub url: &'a str,
    /// Header fields.
    pub fields: &'a [(String, String)],
    /// What is sent.
    pub body: Bytes,
    /// Authorities that are trusted instead of the system's.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// For the whole exchange.
    pub timeout: Duration,
    /// Most bytes of the answer.
    pub most: usize,
}

/// Posts once and reads the answer: for the command line's own requests, not for deliveries. `roots` are trusted instead
/// of the system's authorities.
pub async fn post(
    url: &str,
    fields: &[(String, String)],
    body: Bytes,
    roots: Option<Vec<CertificateDer<'static>>>,
    timeout: Duration,
) -> Result<Posted, PostError> {
    let most = MAX_ANSWER_BODY;
    ask(Asking { method: "POST", url, fields, body, roots, timeout, most }).await
}

/// Asks once and reads the answer.
pub async fn ask(asking: Asking<'_>) -> Result<Posted, PostError> {
    let (timeout, most, tasks) = (asking.timeout, asking.most, Tasks::new());
    let exchange = async {
        let (mut lent, answer) = answered(asking, &tasks).await?;
        let status = answer.status().as_u16();
        let body = http_body_util::Limited::new(answer.into_body(), most);
        let body = lent.carry(body.collect()).await.map(http_body_util::Collected::to_bytes);
        Ok(Posted { status, body: body.unwrap_or_default() })
    };
    let timed_out = Err(PostError::Failed(ErrorClass::Timeout));
    tokio::time::timeout(timeout, exchange).await.unwrap_or(timed_out)
}

/// Asks once and shows the answer's body as it comes, until it ends, `visit` has seen enough, or nothing comes for as long
/// as the exchange may take. Answers the status; the body of one that is no success is not shown.
pub async fn follow(
    asking: Asking<'_>,
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<u16, PostError> {
    let (timeout, tasks) = (asking.timeout, Tasks::new());
    let timed_out = |_elapsed| PostError::Failed(ErrorClass::Timeout);
    let answer = tokio::time::timeout(timeout, answered(asking, &tasks)).await;
    let (mut lent, answer) = answer.map_err(timed_out)??;
    let status = answer.status().as_u16();
    if !answer.status().is_success() {
        return Ok(status);
    }
    let mut body = answer.into_body();
    loop {
        let frame = tokio::time::timeout(timeout, lent.carry(body.frame())).await;
        let frame = frame.map_err(timed_out)?;
        let Some(Ok(frame)) = frame else { return Ok(status) };
        if frame.data_ref().is_some_and(|data| visit(data).is_break()) {
            return Ok(status);
        }
    }
}

/// A way to one receiver that is kept from request to request, for what is sent there again and again.
#[derive(Debug)]
pub struct Line {
    pool: Pool,
    timeout: Duration,
    most: usize,
}

impl Line {
    /// To a receiver of such a URL. An exchange may take `timeout` and an answer have `most` bytes; connections run as
    /// `tasks`.
    pub fn new(
        url: &str,
        timeout: Duration,
        most: usize,
        tasks: &Tasks,
    ) -> Result<Self, ClientError> {
        let url: Uri = url.parse()?;
        let secure = url.scheme_str() == Some("https");
        let tls = if secure { SystemTls::default().get()? } else { no_tls()? };
        let connector = Connector::new(tls, timeout, Route::default());
        Ok(Self { pool: Pool::new(connector, url, 1, tasks), timeout, most })
    }

    /// Sends a request there, whatever its own URL, and reads the answer.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, PostError> {
        let exchange = async {
            let (head, body) = request.into_parts();
            let body = Outgoing::new(body).0;
            let letter = Letter { method: head.method, fields: head.headers, body };
            let (mut lent, answer) = sent(&self.pool, letter, self.timeout).await?;
            let (head, body) = answer.into_parts();
            let body = http_body_util::Limited::new(body, self.most);
            let body = lent.carry(body.collect()).await;
            self.pool.take_back(lent, deadline(self.timeout));
            let body = body.map_err(|_error| PostError::Failed(ErrorClass::TooLarge))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let timed_out = Err(PostError::Failed(ErrorClass::Timeout));
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(timed_out)
    }
}

async fn answered(
    asking: Asking<'_>,
    tasks: &Tasks,
) -> Result<(Lent, Response<Incoming>), PostError> {
    let Asking { method, url, fields, body, roots, timeout, most: _ } = asking;
    let url: Uri = url.parse().map_err(ClientError::from)?;
    let secure = url.scheme_str() == Some("https");
    // Loading the system's certificates takes longer than the whole exchange does without them.
    let tls = match roots {
        _ if !secure => no_tls()?,
        None => SystemTls::default().get()?,
        Some(_) => own_tls(&TargetTls { verify: true, roots, client: None })?,
    };
    let connector = Connector::new(tls, timeout, Route::default());
    let letter = Letter {
        method: Method::from_bytes(method.as_bytes()).unwrap_or(Method::POST),
        fields: header_map(fields.iter().map(|(name, value)| (name, value.as_bytes())))?,
        body: Outgoing::new(body).0,
    };
    sent(&Pool::new(connector, url, 1, tasks), letter, timeout).await
}

async fn sent(
    pool: &Pool,
    letter: Letter,
    timeout: Duration,
) -> Result<(Lent, Response<Incoming>), PostError> {
    let mut lent = None;
    let answer = pool.send(letter, deadline(timeout), &mut lent).await;
    let answer = answer.map_err(|error| PostError::Failed(class_of(&error)))?;
    // An answer has a connection.
    let lent = lent.ok_or(PostError::Failed(ErrorClass::Connect))?;
    Ok((lent, answer))
}
