//! What a provider asks before it sends events, and what it is told. No handshake is an event.
//!
//! Where the provider signs its question, the signature is verified first: an answer to anyone would tell whoever
//! asks that this source exists, and for Zoom it would even sign for them.

use subtle::ConstantTimeEq as _;

use super::{Inbound, Method, Refusal};
use crate::model::{Headers, Secret};
use crate::rules::payload::form::parameter;
use crate::rules::payload::{Field, FieldId, FieldSet, Fields, Value, only};
use crate::rules::provider::Handshake;
use crate::rules::verify::Verifier;
use crate::time::Timestamp;

/// Longest challenge that is sent back.
const MAX_CHALLENGE: usize = 4096;

/// The answer to a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// A further header field.
    pub header: Option<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    fn text(body: String) -> Self {
        Self { status: 200, content_type: "text/plain", header: None, body }
    }

    fn json(body: String) -> Self {
        Self { status: 200, content_type: "application/json", header: None, body }
    }
}

/// A source's handshake, compiled.
#[derive(Debug)]
pub(super) struct Handshaker {
    kind: Handshake,
    /// What says that a request is a handshake, and what is to be sent back.
    asks: Option<FieldId>,
    challenge: Option<FieldId>,
    /// A member that only events have.
    event: Option<FieldId>,
    /// `handshake_token`.
    token: Option<Secret>,
    /// The source's secrets, for the one provider that says them in its handshake.
    secrets: Vec<Secret>,
}

impl Handshaker {
    /// The error is a sentence for the configuration's author.
    pub(super) fn new(
        kind: Handshake,
        token: Option<Secret>,
        secrets: &[Secret],
        set: &mut FieldSet,
    ) -> Result<Self, String> {
        if token.is_some() && kind != Handshake::HubChallenge {
            return Err(
                "this provider's handshake asks for no token; remove `handshake_token`".into()
            );
        }
        let (asks, challenge, event) = match kind {
            Handshake::UrlVerification => (Some("/type"), Some("/challenge"), None),
            Handshake::Ping => (Some("/type"), None, Some("/event")),
            Handshake::CallbackVerification => {
                (Some("header:twitch-eventsub-message-type"), Some("/challenge"), None)
            }
            Handshake::UrlValidation => (Some("/event"), Some("/payload/plainToken"), None),
            Handshake::None
            | Handshake::HubChallenge
            | Handshake::ValidationToken
            | Handshake::HookSecret => (None, None, None),
        };
        let mut field = |written: Option<&str>| {
            written.map(|written| Field::parse(written).map(|field| set.add(&field))).transpose()
        };
        let (asks, challenge, event) = (field(asks)?, field(challenge)?, field(event)?);
        Ok(Self { kind, asks, challenge, event, token, secrets: secrets.to_vec() })
    }

    /// Whether the provider asks with GET.
    pub(super) fn uses_get(&self) -> bool {
        self.kind == Handshake::HubChallenge
    }

    /// The answer to a handshake that carries no proof of its own; `None` when the request is none.
    pub(super) fn before_proof(&self, request: &Inbound<'_>) -> Option<Result<Reply, Refusal>> {
        let query = request.query.unwrap_or_default();
        match (self.kind, request.method) {
            (Handshake::HubChallenge, Method::Get) => Some(self.hub(query)),
            (_, Method::Get) => Some(Err(Refusal::Malformed)),
            (Handshake::ValidationToken, Method::Post) => {
                let token = parameter(query, "validationToken")?;
                Some(bounded(token).map(Reply::text).ok_or(Refusal::Malformed))
            }
            (Handshake::HookSecret, Method::Post) => {
                request.headers.get("x-hook-secret")?;
                Some(self.hook(request.headers))
            }
            (
                Handshake::None
                | Handshake::UrlVerification
                | Handshake::Ping
                | Handshake::CallbackVerification
                | Handshake::HubChallenge
                | Handshake::UrlValidation,
                Method::Post,
            ) => None,
        }
    }

    fn hub(&self, query: &str) -> Result<Reply, Refusal> {
        let (Some("subscribe"), Some(challenge)) =
            (parameter(query, "hub.mode").as_deref(), parameter(query, "hub.challenge"))
        else {
            return Err(Refusal::Malformed);
        };
        let shown = parameter(query, "hub.verify_token").unwrap_or_default();
        let known = |token: &Secret| bool::from(token.expose().ct_eq(shown.as_bytes()));
        if !self.token.as_ref().is_some_and(known) {
            return Err(Refusal::Unverified);
        }
        bounded(challenge).map(Reply::text).ok_or(Refusal::Malformed)
    }

    fn hook(&self, headers: &Headers) -> Result<Reply, Refusal> {
        let shown = only(headers, "x-hook-secret").ok_or(Refusal::Malformed)?;
        let known = |secret: &Secret| bool::from(secret.expose().ct_eq(shown));
        if !self.secrets.is_empty() && !self.secrets.iter().any(known) {
            return Err(Refusal::Unverified);
        }
        let word = |text: &&str| {
            !text.is_empty()
                && text.len() <= MAX_CHALLENGE
                && text.bytes().all(|b| b.is_ascii_graphic())
        };
        let text = std::str::from_utf8(shown).ok().filter(word).ok_or(Refusal::Malformed)?;
        let header = Some(("x-hook-secret", text.to_owned()));
        Ok(Reply { header, ..Reply::text(String::new()) })
    }

    /// The answer to a handshake whose proof has been verified; `None` when the request is none.
    pub(super) fn after_proof(
        &self,
        fields: &Fields<'_>,
        request: &Inbound<'_>,
        verifier: &Verifier,
        now: Timestamp,
    ) -> Option<Result<Reply, Refusal>> {
        let value = |id: Option<FieldId>| id.map_or(Value::Missing, |id| fields.get(id));
        let (asks, challenge) = (value(self.asks), value(self.challenge));
        let asks = asks.as_text()?;
        let challenge = || challenge.as_text().map(str::to_owned).and_then(bounded);
        let reply = match self.kind {
            Handshake::UrlVerification if asks == "url_verification" => {
                challenge().map(Reply::text)
            }
            Handshake::CallbackVerification if asks == "webhook_callback_verification" => {
                challenge().map(Reply::text)
            }
            // The endpoint of webhook events is pinged with type 0, that of interactions with type 1; an event has
            // type 1 too, and says what it is.
            Handshake::Ping if asks == "0" => {
                Some(Reply { status: 204, ..Reply::json(String::new()) })
            }
            Handshake::Ping if asks == "1" && value(self.event) == Value::Missing => {
                Some(Reply::json(r#"{"type":1}"#.into()))
            }
            Handshake::UrlValidation if asks == "endpoint.url_validation" => challenge()
                // Anything else could be a message that Zoom would sign.
                .filter(|token| {
                    token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                })
                .and_then(|token| {
                    let mac = verifier.respond(request.headers, request.body, now, &token)?;
                    Some(Reply::json(format!(
                        r#"{{"plainToken":"{token}","encryptedToken":"{mac}"}}"#
                    )))
                }),
            Handshake::None
            | Handshake::UrlVerification
            | Handshake::Ping
            | Handshake::CallbackVerification
            | Handshake::HubChallenge
            | Handshake::ValidationToken
            | Handshake::UrlValidation
            | Handshake::HookSecret => return None,
        };
        Some(reply.ok_or(Refusal::Malformed))
    }
}

fn bounded(text: String) -> Option<String> {
    (!text.is_empty() && text.len() <= MAX_CHALLENGE).then_some(text)
}
