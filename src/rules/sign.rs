//! Outbound signatures: what a target can check.
//!
//! | style | field | what is signed |
//! |---|---|---|
//! | Standard Webhooks (<https://www.standardwebhooks.com>) | `webhook-signature: v1,<base64>` or `v1a,<base64>` | `{webhook-id}.{webhook-timestamp}.{body}` |
//! | HMAC-SHA256 | any, `<prefix><hex>` | the body |
//! | Buildkite | any, `timestamp=<seconds>,signature=<hex>` | `{timestamp}.{body}` |
//! | token | any, `<prefix><secret>` | nothing |
//!
//! The id is the event's and stays; timestamp and signature are made anew for each attempt.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::outbound::{sendable, settable};
use crate::model::{EventId, Secret};
use crate::time::Timestamp;

/// The smallest and the largest HMAC key that Standard Webhooks allows, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Random bytes of a new key; also the length of an ed25519 seed.
pub const NEW_KEY_BYTES: usize = 32;

/// How attempts are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Style {
    /// `v1` with `whsec_` keys and `v1a` with `whsk_` keys, side by side during a rotation.
    StandardWebhooks,
    /// The same with `whsk_` keys only: the receiver needs no secret.
    Ed25519,
    /// `<prefix><hex of HMAC-SHA256 over the body>`
    HmacSha256 {
        /// The field.
        header: String,
        /// Before the digits.
        prefix: String,
    },
    /// As Buildkite signs.
    Buildkite {
        /// The field.
        header: String,
    },
    /// The secret itself.
    Token {
        /// The field.
        header: String,
        /// Before the secret, such as `Bearer `.
        prefix: String,
    },
}

/// A target's signing keys, ready to use: the first signs, the others sign beside it.
#[derive(Clone, Debug)]
pub struct Signer {
    header: String,
    means: Means,
}

#[derive(Clone, Debug)]
enum Means {
    Standard(Vec<Key>),
    Hmac { prefix: String, key: hmac::Key },
    Buildkite(hmac::Key),
    Token(Secret),
}

#[derive(Clone, Debug)]
enum Key {
    V1(hmac::Key),
    V1a(Arc<Ed25519KeyPair>),
}

impl Signer {
    /// Makes the keys ready. The error is a sentence for the configuration's author and shows no secret.
    pub fn new(style: Style, secrets: &[Secret]) -> Result<Self, String> {
        let Some(first) = secrets.first() else {
            return Err("signing needs a secret; set `secret` or `secrets`".into());
        };
        let (header, means) = match style {
            Style::StandardWebhooks | Style::Ed25519 => {
                let only_v1a = style == Style::Ed25519;
                let key = |secret| standard_key(secret, only_v1a);
                let keys = secrets.iter().map(key).collect::<Result<_, _>>()?;
                return Ok(Self {
                    header: "webhook-signature".into(),
                    means: Means::Standard(keys),
                });
            }
            Style::HmacSha256 { header, prefix } => {
                sendable(prefix.trim_end())?;
                (header, Means::Hmac { prefix, key: text_key(first) })
            }
            Style::Buildkite { header } => (header, Means::Buildkite(text_key(first))),
            Style::Token { header, prefix } => (header, Means::Token(token(&prefix, first)?)),
        };
        if secrets.len() > 1 {
            return Err("this style has room for one signature; write one `secret`".into());
        }
        Ok(Self { header: settable(&header)?, means })
    }

    /// The name of the field that [`Signer::sign`] gives the value of, in lower case.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The value of the field for one attempt.
    pub fn sign(&self, id: EventId, at: Timestamp, body: &[u8]) -> Vec<u8> {
        self.sign_parts(&id.to_string(), at.as_secs(), body)
    }

    fn sign_parts(&self, id: &str, seconds: i64, body: &[u8]) -> Vec<u8> {
        match &self.means {
            Means::Standard(keys) => standard(keys, id, seconds, body).into_bytes(),
            Means::Hmac { prefix, key } => {
                format!("{prefix}{}", hex::encode(hmac::sign(key, body))).into_bytes()
            }
            Means::Buildkite(key) => {
                let mut signed = hmac::Context::with_key(key);
                signed.update(format!("{seconds}.").as_bytes());
                signed.update(body);
                let digits = hex::encode(signed.sign());
                format!("timestamp={seconds},signature={digits}").into_bytes()
            }
            Means::Token(value) => value.expose().to_vec(),
        }
    }
}

/// One signature per key, separated by spaces.
fn standard(keys: &[Key], id: &str, seconds: i64, body: &[u8]) -> String {
    let mut value = String::with_capacity(keys.len().saturating_mul(96));
    for key in keys {
        if !value.is_empty() {
            value.push(' ');
        }
        match key {
            Key::V1(key) => {
                let mut signed = hmac::Context::with_key(key);
                signed.update(id.as_bytes());
                signed.update(format!(".{seconds}.").as_bytes());
                signed.update(body);
                value.push_str("v1,");
                BASE64.encode_string(signed.sign(), &mut value);
            }
            Key::V1a(pair) => {
                // ed25519 reads its message twice, so it has to be in one piece.
                let message = [id.as_bytes(), format!(".{seconds}.").as_bytes(), body].concat();
                value.push_str("v1a,");
                BASE64.encode_string(pair.sign(&message), &mut value);
            }
        }
    }
    value
}

fn text_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose())
}

fn token(prefix: &str, secret: &Secret) -> Result<Secret, String> {
    let value = [prefix.as_bytes(), secret.expose()].concat();
    sendable(std::str::from_utf8(&value).unwrap_or("\0"))?;
    Ok(Secret::new(value))
}

fn standard_key(secret: &Secret, only_v1a: bool) -> Result<Key, String> {
    if let Some(text) = secret.expose().strip_prefix(b"whsk_") {
        return private_key(text).map(|pair| Key::V1a(Arc::new(pair)));
    }
    if only_v1a {
        return Err("the secret is not an ed25519 key: it does not begin with `whsk_`".into());
    }
    let shape = "a Standard Webhooks secret is `whsec_` and the base64 of 24 to 64 random bytes";
    let text = secret.expose();
    let Ok(key) = BASE64.decode(text.strip_prefix(b"whsec_").unwrap_or(text)) else {
        return Err(format!("the secret is not base64; {shape}"));
    };
    if !KEY_BYTES.contains(&key.len()) {
        return Err(format!("the secret holds a key of {} bytes; {shape}", key.len()));
    }
    Ok(Key::V1(hmac::Key::new(hmac::HMAC_SHA256, &key)))
}

/// `whsk_` is followed by the base64 of seed and public key, or of the seed alone.
fn private_key(text: &[u8]) -> Result<Ed25519KeyPair, String> {
    let wrong = || {
        "the secret is not a signing key: `whsk_` is followed by the base64 of a seed of 32 bytes \
         and its public key of 32 bytes"
            .to_owned()
    };
    let bytes = BASE64.decode(text).map_err(|_not_base64| wrong())?;
    let pair = match bytes.split_at_checked(NEW_KEY_BYTES) {
        Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
        Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
        None => return Err(wrong()),
    };
    pair.map_err(|_the_halves_do_not_fit| wrong())
}

/// A new key, and for ed25519 the half that the receiver is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What `secret` is to refer to.
    pub secret: String,
    /// What the receiver verifies with, if that is something else.
    pub public: Option<String>,
}

/// Writes random bytes as a key for Standard Webhooks.
pub fn new_standard_key(random: [u8; NEW_KEY_BYTES]) -> NewKey {
    NewKey { secret: format!("whsec_{}", BASE64.encode(random)), public: None }
}

/// Writes random bytes as a secret that is used as text: for HMAC-SHA256, Buildkite and tokens.
pub fn new_text_key(random: [u8; NEW_KEY_BYTES]) -> NewKey {
    NewKey { secret: hex::encode(random), public: None }
}

/// Writes random bytes as an ed25519 key pair; `None` does not happen for a seed of this length.
pub fn new_ed25519_key(random: [u8; NEW_KEY_BYTES]) -> Option<NewKey> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&random).ok()?;
    let public = pair.public_key().as_ref();
    let secret = format!("whsk_{}", BASE64.encode([&random, public].concat()));
    Some(NewKey { secret, public: Some(format!("whpk_{}", BASE64.encode(public))) })
}

#[cfg(test)]
mod tests;
