//! One event again: as it is to targets, or as a new one that an operator has changed.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use hyper::StatusCode;
use rand::RngExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::events::unreadable;
use crate::journal::{Append, AppendError, Appended, OperateError, Scope};
use crate::model::{Event, EventId, Headers, Name};
use crate::rules::likeness::instead;
use crate::rules::moment::moment;
use crate::time::Timestamp;

/// Most bytes of a body that is resent, and of an event's name.
const MAX_BODY: usize = 1024 * 1024;
const MAX_NAME: usize = 256;
/// Most header fields, and bytes of them.
const MAX_FIELDS: usize = 64;
const MAX_FIELD_BYTES: usize = 32 * 1024;
/// Most targets in one request.
const MAX_TARGETS: usize = 1_000;

/// What `replay` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    targets: Option<Vec<String>>,
}

/// What `resend` is told; what is left out is as it was.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResendRequest {
    event: Option<String>,
    body: Option<GivenBody>,
    headers: Option<Vec<(String, String)>>,
    targets: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenBody {
    encoding: Encoding,
    data: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Encoding {
    #[serde(rename = "utf-8")]
    Text,
    #[serde(rename = "base64")]
    Base64,
}

impl Shared {
    /// Makes deliveries of an event due again.
    pub(super) async fn replay(
        &self,
        id: EventId,
        body: &Bytes,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let request: ReplayRequest = read(body)?;
        let scope = match request.targets {
            Some(names) => Scope::Targets(self.configured(names)?),
            None => Scope::All,
        };
        let changed = self.journal()?.replay(id, scope).await.map_err(|error| refused(&error))?;
        let deliveries = changed.deliveries;
        tracing::info!(event = %id, deliveries, %peer, "an operator replayed an event");
        let body = json!({ "id": id.to_string(), "deliveries": deliveries });
        Ok(answer_json(StatusCode::OK, &body))
    }

    /// Makes a new event of an old one.
    pub(super) async fn resend(
        &self,
        id: EventId,
        body: &Bytes,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let request: ResendRequest = read(body)?;
        let found = self.found(id).await?;
        let targets = match request.targets {
            Some(names) => self.configured(names)?,
            None => found.deliveries.into_iter().map(|delivery| delivery.target).collect(),
        };
        let old = found.event;
        let name = request.event.unwrap_or(old.name);
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let detail = format!("event takes 1 to {MAX_NAME} bytes without control characters");
            return Err(Problem::malformed(detail));
        }
        let event = Event {
            id: self.new_event_id(),
            name,
            received_at: self.clock.now(),
            headers: request.headers.map_or(Ok(old.headers), |given| headers(&given))?,
            body: request.body.map_or(Ok(old.body), bytes)?,
            ..old
        };
        let names: Vec<_> = targets.iter().map(ToString::to_string).collect();
        let made = self.append(Append { event, targets, dedup: Vec::new() }).await?;
        tracing::info!(event = %id, %made, %peer, "an operator made a new event of an old one");
        let body = json!({ "id": made.to_string(), "targets": names });
        Ok(answer_json(StatusCode::CREATED, &body))
    }

    /// Targets by name, which must be configured: a delivery to any other would wait for ever.
    pub(super) fn configured(&self, names: Vec<String>) -> Result<Vec<Name>, Problem> {
        if names.len() > MAX_TARGETS {
            return Err(Problem::malformed(format!("targets takes at most {MAX_TARGETS} names")));
        }
        let setup = self.setup();
        let known = |name: String| {
            let parsed = Name::parse(&name).filter(|parsed| setup.has_target(parsed));
            parsed.ok_or_else(|| {
                let hint = instead(&name, setup.targets.iter().map(|target| target.name.as_str()));
                let detail = format!("there is no target {name:?} in the configuration; {hint}");
                Problem::malformed(detail)
            })
        };
        names.into_iter().map(known).collect()
    }

    /// Targets by name, of which something may be kept: those that are configured, and those that left.
    pub(super) fn kept(&self, names: &[String]) -> Result<(), Problem> {
        let (setup, depths) = (self.setup(), self.journal()?.depth());
        let configured = setup.targets.iter().map(|target| target.name.as_str());
        let known: BTreeSet<_> =
            configured.chain(depths.iter().map(|depth| depth.target.as_str())).collect();
        match names.iter().find(|name| !known.contains(name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let hint = instead(name, known.iter().copied());
                Err(Problem::malformed(format!("there is no target {name:?}; {hint}")))
            }
        }
    }

    /// An id that no event has.
    pub(super) fn new_event_id(&self) -> EventId {
        EventId::new(self.clock.now(), self.random())
    }

    /// Random bytes for an id.
    pub(super) fn random(&self) -> [u8; 10] {
        self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner).random()
    }

    /// Stores an event and says its id, when that is durable.
    pub(super) async fn append(&self, append: Append) -> Result<EventId, Problem> {
        match self.journal()?.append(append).await {
            Ok(Appended::New(id) | Appended::Duplicate(id)) => Ok(id),
            Err(AppendError::TooLarge) => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Err(Problem::new(status, "too-large", AppendError::TooLarge.to_string()))
            }
            Err(
                error @ (AppendError::Full
                | AppendError::Closed
                | AppendError::NotKept
                | AppendError::Failed),
            ) => Err(Problem::unavailable(error.to_string())),
        }
    }
}

/// A JSON body; an empty one is an empty object.
pub(super) fn read<T: for<'de> Deserialize<'de> + Default>(body: &Bytes) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Problem::malformed(format!("the body: {error}")))
}

/// The same for a body whose `filter` may say moments as ages before `now`.
pub(super) fn read_dated<T>(body: &Bytes, now: Timestamp) -> Result<T, Problem>
where
    T: for<'de> Deserialize<'de> + Default,
{
    let mut value: Value = read(body)?;
    if value.is_null() {
        return Ok(T::default());
    }
    for name in ["since", "until"] {
        let Some(slot) = value.pointer_mut(&format!("/filter/{name}")) else { continue };
        if let Some(text) = slot.as_str() {
            let at = moment(text, now);
            *slot = json!(at.map_err(|why| Problem::malformed(format!("{name}: {why}")))?);
        }
    }
    serde_json::from_value(value).map_err(|error| Problem::malformed(format!("the body: {error}")))
}

/// Why the journal did not do as it was told.
pub(super) fn refused(error: &OperateError) -> Problem {
    match error {
        OperateError::Unknown => Problem::unknown(error.to_string()),
        OperateError::Unreadable(error) => unreadable(error),
        OperateError::Refused(_) => Problem::unavailable(error.to_string()),
    }
}

fn bytes(given: GivenBody) -> Result<Bytes, Problem> {
    use base64::Engine as _;
    let bytes = match given.encoding {
        Encoding::Text => given.data.into_bytes(),
        Encoding::Base64 => base64::engine::general_purpose::STANDARD
            .decode(given.data)
            .map_err(|_not| Problem::malformed("body.data is no base64"))?,
    };
    if bytes.len() > MAX_BODY {
        let detail = format!("body takes at most {MAX_BODY} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail));
    }
    Ok(bytes.into())
}

fn headers(given: &[(String, String)]) -> Result<Headers, Problem> {
    let size: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > MAX_FIELDS || size > MAX_FIELD_BYTES {
        let detail =
            format!("headers takes at most {MAX_FIELDS} fields of {MAX_FIELD_BYTES} bytes");
        return Err(Problem::malformed(detail));
    }
    let mut fields = Vec::with_capacity(given.len());
    for (name, value) in given {
        let parsed = hyper::header::HeaderName::try_from(name.as_str());
        let is_value = hyper::header::HeaderValue::try_from(value.as_str()).is_ok();
        let Some(name) = parsed.ok().filter(|_| is_value) else {
            return Err(Problem::malformed(format!("{name:?} is no header field")));
        };
        fields.push((name, value));
    }
    Ok(Headers::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resent_is_checked() {
        let body = |encoding, data: &str| bytes(GivenBody { encoding, data: data.into() });
        assert_eq!(body(Encoding::Base64, "/wA=").unwrap(), &b"\xff\x00"[..]);
        assert!(body(Encoding::Base64, "!").is_err());
        let long = "x".repeat(MAX_BODY + 1);
        assert_eq!(body(Encoding::Text, &long).unwrap_err().status.as_u16(), 413);
        let field = |name: &str, value: &str| headers(&[(name.into(), value.into())]);
        assert_eq!(field("X-A", "b").unwrap().get_str("x-a"), Some("b"));
        assert!(field("x a", "b").is_err() && field("x", "a\r\nb: c").is_err());
        assert!(headers(&vec![("a".into(), "b".into()); MAX_FIELDS + 1]).is_err());
        assert!(read::<ReplayRequest>(&Bytes::new()).is_ok());
        assert!(read::<ReplayRequest>(&Bytes::from_static(br#"{"target":[]}"#)).is_err());
    }
}
