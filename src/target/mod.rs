//! One HTTP attempt at a target, and nothing else: no retry, no decision, no record.
//!
//! Each target has a client, a connection pool and limits of its own, so that nothing a receiver does
//! reaches another. Redirects are never followed; the answer is judged by its head, and the beginning of its body is
//! read for the record.

mod answer;
mod connect;
mod headers;
mod lookup;
mod pool;
mod post;
mod proxy;
mod seen;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, Uri};
use tokio::time::Instant;

use self::connect::{Carried, Connector, Route};
use self::pool::{Lent, Letter, Pool, SendError};
pub use self::post::{Asking, Line, PostError, Posted, ask, follow, post};
pub use self::seen::MAX_ANSWER_BODY;
use self::seen::Outgoing;
pub use self::tls::SystemTls;
use self::tls::{no_tls, own_tls};
use crate::config::Target;
use crate::lifecycle::Tasks;
use crate::model::{Answer, Event, Seen, Timing};
use crate::rules::sign::Signer;
use crate::rules::trace::{SpanId, Trace};
use crate::template::{Body, Preset};
use crate::time::{Stopwatch, Timestamp, deadline};

/// Longest wait for the body of an answer whose head has decided already: long enough for a page from the other side of
/// the world, and short against a timeout, since the attempt's place is taken as long.
const ANSWER_BODY_TIMEOUT: Duration = Duration::from_secs(1);
/// The client of one target.
pub struct TargetClient {
    pool: Pool,
    method: Method,
    body: Body,
    fields: headers::Fields,
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
    /// The trace it belongs to.
    pub trace: Trace,
    /// Its span in that trace.
    pub span: SpanId,
}

/// What one attempt brought.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What decides.
    pub answer: Answer,
    /// What is recorded beside it.
    pub seen: Seen,
}

/// How far a request came.
struct Sent {
    /// The answer's head.
    came: Result<Response<Incoming>, SendError>,
    /// The connection, if there was one.
    lent: Option<Lent>,
    /// Whether the request's body was taken as a whole.
    taken: Arc<AtomicBool>,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The system has no certificate store that can be used.
    #[error(
        "the system has no authorities to check certificates by; install ca-certificates, or name a tls.ca_file ({0})"
    )]
    Authorities(#[source] rustls::Error),
    /// The target's own certificates cannot be used.
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
    /// A client with an empty pool; its connections run as `tasks`. `shared` is the TLS of targets without their own,
    /// `provider_tokens` the header fields in which sources are shown a token.
    pub fn new(
        target: &Target,
        provider_tokens: &[&str],
        shared: &SystemTls,
        tasks: &Tasks,
    ) -> Result<Self, ClientError> {
        let url = url(target)?;
        let tls = match &target.tls {
            _ if url.scheme_str() != Some("https") => no_tls()?,
            Some(own) => own_tls(own)?,
            None => shared.get()?,
        };
        let route = Route { proxy: target.proxy.clone(), public_only: target.deny_private };
        let connector = Connector::new(tls, target.connect_timeout, route);
        let name = |name: &&str| HeaderName::from_bytes(name.as_bytes());
        let known_tokens = provider_tokens.iter().filter_map(|it| name(it).ok()).collect();
        Ok(Self {
            pool: Pool::new(connector, url, target.concurrency, tasks),
            method: Method::from_bytes(target.method.as_bytes()).unwrap_or(Method::POST),
            body: target.body.clone(),
            fields: headers::Fields {
                set: header_map(target.headers.iter().map(|(name, value)| (name, value.expose())))?,
                tokens: target.forward_tokens,
                known_tokens,
            },
            signer: target.signer.clone(),
            timeout: target.timeout,
        })
    }

    /// Whether it was made with these `provider_tokens`.
    pub fn knows(&self, provider_tokens: &[&str]) -> bool {
        self.fields.known_tokens.iter().eq(provider_tokens)
    }

    /// What is sent here.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Sends the event once. Ends within the target's `timeout`.
    pub async fn attempt(&self, call: Call<'_>) -> Exchange {
        let mut exchange = self.exchange(&call).await;
        if seen::is_worth_recording(&exchange.answer) {
            exchange.seen.request = seen::sent_fields(&self.fields(&call), &call.event.headers);
        }
        exchange
    }

    async fn exchange(&self, call: &Call<'_>) -> Exchange {
        let (by, watch) = (deadline(self.timeout), Stopwatch::start());
        let fields = self.fields(call);
        let secrets = seen::secrets_in(&fields);
        let mut sent = self.send(&call.body, fields, by).await;
        if matches!(&sent.came, Err(error) if seen::is_untouched(error)) {
            // Nobody has looked at it, so this is the same attempt. Once: a server that always says so is no server.
            sent = self.send(&call.body, self.fields(call), by).await;
        }
        let Sent { came, lent, taken } = sent;
        let way = lent.as_ref().map(|lent| lent.carried().way());
        let (response, mut lent) = match (came, lent) {
            (Ok(response), Some(lent)) => (response, lent),
            // An answer has a connection.
            (Err(SendError::Late) | Ok(_), lent) => {
                lent.into_iter().for_each(Lent::give_up);
                return Exchange::timed_out(way, taken.load(Ordering::Relaxed));
            }
            (Err(error), lent) => {
                let broken = lent.as_ref().map(Lent::carried).and_then(Carried::broken);
                return Exchange::failed(&error, way, broken);
            }
        };
        let mut seen = way.unwrap_or_default().seen();
        let Timing { dns, connect, tls, first_byte } = &mut seen.timing;
        let before: Duration = [*dns, *connect, *tls].into_iter().flatten().sum();
        *first_byte = Some(watch.elapsed().saturating_sub(before));
        // The head has decided. What follows is for whoever reads the record, and for the next use of the connection.
        let (head, body) = response.into_parts();
        let within = self.timeout.saturating_sub(watch.elapsed()).min(ANSWER_BODY_TIMEOUT);
        let beginning = lent.carry(seen::beginning(body, within, &secrets)).await;
        self.pool.take_back(lent, by);
        (seen.body, seen.body_cut) = (beginning.bytes, beginning.cut);
        seen.headers = seen::recorded_fields(&head.headers, &secrets);
        let status = head.status.as_u16();
        let retry_after = answer::wish(self.body.preset(), status, &head.headers, &seen.body);
        Exchange { answer: Answer::Status { status, retry_after }, seen }
    }

    /// Sends the request, and waits for the head of the answer.
    async fn send(&self, body: &Bytes, fields: HeaderMap, by: Instant) -> Sent {
        let (body, taken) = Outgoing::new(body.clone());
        let letter = Letter { method: self.method.clone(), fields, body };
        let mut lent = None;
        let came = self.pool.send(letter, by, &mut lent).await;
        Sent { came, lent, taken }
    }

    /// The header fields of an attempt, signed anew.
    fn fields(&self, call: &Call<'_>) -> HeaderMap {
        let signed = self
            .signer
            .as_ref()
            .map(|signer| (signer.header(), signer.sign(call.event.id, call.wall, &call.body)));
        let signed = signed.as_ref().map(|(name, value)| (*name, value.as_slice()));
        headers::outbound(call, &self.body, &self.fields, signed)
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
