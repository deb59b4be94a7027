//! One HTTP attempt at a target, and nothing else: no retry, no decision, no record.
//!
//! Each target has a client, a connection pool and limits of its own, so that nothing a receiver does
//! reaches another. Redirects are never followed; the answer is judged by its head, and at most
//! [`MAX_ANSWER_BODY`] bytes of its body are read so that the connection can be used again.

mod answer;
mod connect;
mod headers;
mod tls;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioTimer;

use self::connect::{ConnectFailed, Connector};
pub use self::tls::shared_tls;
use self::tls::{no_tls, own_tls};
use crate::config::Target;
use crate::lifecycle::Tasks;
use crate::model::{Answer, ErrorClass, Event};
use crate::rules::sign::Signer;
use crate::template::{Body, Preset};
use crate::time::Timestamp;

/// Most bytes of an answer's body that are read.
pub const MAX_ANSWER_BODY: usize = 64 * 1024;
/// Most bytes of an answer's head.
const MAX_ANSWER_HEAD: usize = 64 * 1024;
/// Most header fields of an answer.
const MAX_ANSWER_FIELDS: usize = 128;
/// Longest wait for the rest of an answer whose head has decided already.
const ANSWER_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection is kept: short enough that a moved name is looked up again within a minute.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The client of one target.
pub struct TargetClient {
    client: Client<Connector, Full<Bytes>>,
    url: Uri,
    method: Method,
    body: Body,
    headers: HeaderMap,
    signer: Option<Signer>,
    timeout: Duration,
}

/// What one attempt sends.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The event.
    pub event: &'a Event,
    /// What [`TargetClient::body`] made of it.
    pub body: Bytes,
    /// From 1; the `everhook-attempt` field.
    pub number: u32,
    /// The moment of this attempt by the system clock: `webhook-timestamp`.
    pub wall: Timestamp,
    /// Random bytes for a trace id (16) and a span id (8).
    pub trace_entropy: [u8; 24],
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The system's certificate store, or the target's own certificates, cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The URL is not one.
    #[error("not a URL")]
    Url(#[from] hyper::http::uri::InvalidUri),
    /// A header field that cannot be sent.
    #[error("not a header field: {0}")]
    Header(String),
}

impl TargetClient {
    /// A client with an empty pool; its connections run as `tasks`. `shared` is the TLS of a target without its own.
    pub fn new(
        target: &Target,
        shared: Arc<rustls::ClientConfig>,
        tasks: &Tasks,
    ) -> Result<Self, ClientError> {
        let tls = target.tls.as_ref().map_or(Ok(shared), own_tls)?;
        let connector = Connector::new(tls, target.connect_timeout);
        Ok(Self {
            client: client(connector, target.concurrency, tasks),
            url: url(target)?,
            method: Method::from_bytes(target.method.as_bytes()).unwrap_or(Method::POST),
            body: target.body.clone(),
            headers: header_map(target.headers.iter().map(|(name, value)| (name, value.expose())))?,
            signer: target.signer.clone(),
            timeout: target.timeout,
        })
    }

    /// What is sent here.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Sends the event once. Ends within the target's `timeout` plus two seconds for the rest of the answer.
    pub async fn attempt(&self, call: Call<'_>) -> Answer {
        let signed = self
            .signer
            .as_ref()
            .map(|signer| (signer.header(), signer.sign(call.event.id, call.wall, &call.body)));
        let signed = signed.as_ref().map(|(name, value)| (*name, value.as_slice()));
        let fields = headers::outbound(&call, &self.body, &self.headers, signed);
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = fields;
        let response = match tokio::time::timeout(self.timeout, self.client.request(request)).await
        {
            Err(_elapsed) => return Answer::Failed(ErrorClass::Timeout),
            Ok(Err(error)) => return Answer::Failed(classify(&error)),
            Ok(Ok(response)) => response,
        };
        let status = response.status().as_u16();
        let retry_after = answer::wish(self.body.preset(), status, response.headers());
        // The head has decided. What follows only matters for the reuse of the connection.
        read_rest(response).await;
        Answer::Status { status, retry_after }
    }
}

/// Discord answers before it has stored a message unless it is asked to wait, and then loses it silently.
fn url(target: &Target) -> Result<Uri, ClientError> {
    let url: Uri = target.url.parse()?;
    let asked =
        url.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("wait=")));
    if target.body.preset() != Preset::Discord || asked {
        return Ok(url);
    }
    let separator = if url.query().is_some() { '&' } else { '?' };
    Ok(format!("{}{separator}wait=true", target.url).parse()?)
}

fn client(
    connector: Connector,
    concurrency: usize,
    tasks: &Tasks,
) -> Client<Connector, Full<Bytes>> {
    Client::builder(Spawner(tasks.clone()))
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(concurrency)
        .http1_max_buf_size(MAX_ANSWER_HEAD)
        .http1_max_headers(MAX_ANSWER_FIELDS)
        .http2_max_header_list_size(u32::try_from(MAX_ANSWER_HEAD).unwrap_or(u32::MAX))
        .build(connector)
}

/// Reads and drops the body up to its bounds; a connection whose answer goes on longer is closed.
async fn read_rest(response: Response<Incoming>) {
    let limited = http_body_util::Limited::new(response.into_body(), MAX_ANSWER_BODY);
    // Whatever happens here says nothing about the delivery any more.
    drop(tokio::time::timeout(ANSWER_BODY_TIMEOUT, limited.collect()).await);
}

/// How far an attempt got, by the types in its chain of causes.
fn classify(error: &hyper_util::client::legacy::Error) -> ErrorClass {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(ConnectFailed(class)) = current.downcast_ref() {
            return *class;
        }
        if let Some(http) = current.downcast_ref::<hyper::Error>() {
            if http.is_parse_too_large() {
                return ErrorClass::TooLarge;
            }
            if http.is_parse() {
                return ErrorClass::Protocol;
            }
            if http.is_timeout() {
                return ErrorClass::Timeout;
            }
        }
        cause = current.source();
    }
    if error.is_connect() { ErrorClass::Connect } else { ErrorClass::Reset }
}

/// Lets the HTTP client's background tasks belong to the relay.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        drop(self.0.spawn(task));
    }
}

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
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url;
    *request.headers_mut() =
        header_map(fields.iter().map(|(name, value)| (name, value.as_bytes())))?;
    let exchange = async {
        let answer = client(connector, 1, &tasks).request(request).await;
        let answer = answer.map_err(|error| PostError::Failed(classify(&error)))?;
        let status = answer.status().as_u16();
        let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER_BODY);
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        Ok(Posted { status, body: body.unwrap_or_default() })
    };
    let timed_out = Err(PostError::Failed(ErrorClass::Timeout));
    tokio::time::timeout(timeout, exchange).await.unwrap_or(timed_out)
}

fn header_map<'a>(
    fields: impl Iterator<Item = (&'a String, &'a [u8])>,
) -> Result<HeaderMap, ClientError> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let field = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
        let (Ok(name), Ok(mut value)) = field else {
            return Err(ClientError::Header(name.clone()));
        };
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}
