//! Does this request come from who it says? `(scheme, secrets, headers, body, now) -> proof or refusal`.
//!
//! One declarative [`Scheme`] covers what providers do. Compiled into a [`Verifier`], it keeps these rules:
//!
//! - The raw bytes are verified; nothing is parsed before, unless the scheme signs a value inside.
//! - Decoded bytes are compared, in constant time.
//! - Entries of unknown version are skipped; no known entry is a refusal, never a success.
//! - A repeated signature, timestamp or signed header field is a refusal: two readers could disagree.
//! - The signature is checked before freshness, so that a refusal does not tell which of them failed.
//! - The timestamp's text is signed as it came, never re-formatted.

use std::time::Duration;

use crate::model::{Headers, Secret};
use crate::rules::payload::{Field, header_name, only};
use crate::time::Timestamp;

mod key;
mod signature;
mod stamp;
mod template;
mod imitate;
mod faults;
#[cfg(test)]
mod tests;

pub use faults::{Fault, Place};
pub use key::PrivateKey;
use key::{Key, Mac};
use signature::Layout;
use stamp::Stamp;
use template::{Request, Template};

/// How a provider proves itself, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// What kind of proof.
    pub kind: Kind,
    /// The header that carries it, lower-case; empty for `Kind::None`.
    pub header: String,
    /// Literal required before the signature and removed; only without `list`.
    pub prefix: String,
    /// Separator of a list of elements, if the header holds one.
    pub list: Option<char>,
    /// Separator of key and value in an element.
    pub kv: Option<char>,
    /// The key whose values are signatures.
    pub pick: Option<String>,
    /// The digest.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// How the secret becomes key bytes.
    pub key_encoding: Encoding,
    /// Removed from the secret if it is there (`whsec_`).
    pub key_prefix: String,
    /// What is signed, `"{timestamp}.{body}"`.
    pub signed: String,
    /// Where the timestamp stands: `"header:NAME"`, `"sig:KEY"`, `"json:/POINTER"`.
    pub timestamp: Option<String>,
    /// How the timestamp is written.
    pub unit: Unit,
    /// How old or how far ahead a timestamp may be; `None` checks no freshness.
    pub tolerance: Option<Duration>,
}

impl Scheme {
    /// No proof.
    pub fn none() -> Self {
        Self {
            kind: Kind::None,
            header: String::new(),
            prefix: String::new(),
            list: None,
            kv: None,
            pick: None,
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Hex,
            key_encoding: Encoding::Utf8,
            key_prefix: String::new(),
            signed: String::new(),
            timestamp: None,
            unit: Unit::Seconds,
            tolerance: None,
        }
    }

    /// The hexadecimal HMAC-SHA256 of the body in a header; other kinds of HMAC differ in single fields.
    pub fn hmac(header: &str) -> Self {
        let (header, signed) = (header.to_owned(), "{body}".to_owned());
        Self { kind: Kind::Hmac, header, signed, ..Self::none() }
    }

    /// The secret itself in a header.
    pub fn token(header: &str) -> Self {
        Self { kind: Kind::Token, header: header.to_owned(), ..Self::none() }
    }
}

/// The kind of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyed digest of the request.
    Hmac,
    /// An ed25519 signature of the request.
    Ed25519,
    /// A shared token in a header.
    Token,
    /// No proof.
    None,
}

/// The digest of an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA256.
    Sha256,
    /// HMAC-SHA1, for providers that still use it.
    Sha1,
    /// HMAC-SHA512.
    Sha512,
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are; for keys only.
    Utf8,
    /// Hexadecimal; either case is read.
    Hex,
    /// Standard base64; padding is optional when read.
    Base64,
    /// URL-safe base64; padding is optional when read.
    Base64Url,
}

/// How a timestamp is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds since the epoch.
    Seconds,
    /// Milliseconds since the epoch.
    Millis,
    /// RFC 3339 text.
    Rfc3339,
}

/// A scheme with its keys, compiled: templates parsed, keys derived.
#[derive(Clone, Debug)]
pub struct Verifier(Option<Checks>);

/// What is checked; absent for `Kind::None`.
#[derive(Clone, Debug)]
struct Checks {
    header: String,
    layout: Layout,
    keys: Vec<Key>,
    template: Template,
    stamp: Option<Stamp>,
    tolerance: Option<Duration>,
    url: String,
}

/// What a verified request proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Only that the sender knows the token, or nothing at all.
    Sender,
    /// Sender and content: the one signature that this content, timestamp included, has under its key.
    Content(Mac),
}

impl Verifier {
    /// Compiles a scheme; the error is a sentence for the configuration's author (empty secret, bad key encoding, bad template).
    pub fn new(
        scheme: &Scheme,
        secrets: &[Secret],
        public_url: Option<&str>,
    ) -> Result<Self, String> {
        if scheme.kind == Kind::None {
            return if secrets.is_empty() {
                Ok(Self(None))
            } else {
                Err("there is a secret, but nothing is verified with it; \
                     remove the secret, or set `verify` to how the sender signs"
                    .into())
            };
        }
        let stamp = scheme.timestamp.as_deref().map(|at| Stamp::parse(at, scheme)).transpose()?;
        if scheme.tolerance.is_some() && stamp.is_none() {
            return Err("`tolerance` needs a `timestamp` to compare with".into());
        }
        let template = match scheme.kind {
            Kind::Hmac | Kind::Ed25519 => Template::parse(&scheme.signed)?,
            Kind::Token | Kind::None => Template::default(),
        };
        template.check(stamp.is_some(), public_url.is_some())?;
        if secrets.is_empty() {
            return Err("verification needs a secret; set `secret` or `secrets`".into());
        }
        let derive = |secret| Key::derive(scheme, secret);
        Ok(Self(Some(Checks {
            header: header_name(&scheme.header)?,
            layout: Layout::new(scheme)?,
            keys: secrets.iter().map(derive).collect::<Result<_, _>>()?,
            template,
            stamp,
            tolerance: scheme.tolerance,
            url: public_url.unwrap_or_default().to_owned(),
        })))
    }

    /// Whether any secret verifies the request. Says nothing about why not.
    pub fn verifies(&self, headers: &Headers, body: &[u8], now: Timestamp) -> bool {
        self.prove(headers, body, now).is_some()
    }

    /// The same, with what was proved.
    pub(super) fn prove(&self, headers: &Headers, body: &[u8], now: Timestamp) -> Option<Proof> {
        self.0.as_ref().map_or(Some(Proof::Sender), |checks| checks.prove(headers, body, now))
    }

    /// Whether the request carries the header this scheme reads.
    pub(super) fn is_addressed(&self, headers: &Headers) -> bool {
        self.0.as_ref().is_none_or(|checks| headers.get(&checks.header).is_some())
    }

    /// Whether a request has to prove anything.
    pub(super) fn proves(&self) -> bool {
        self.0.is_some()
    }

    /// How long one signature can be used: from as far ahead as `tolerance` allows to as long ago, or `otherwise`
    /// when it never gets stale. `None` when no timestamp is signed: then two events may rightly have one signature.
    pub(super) fn replay_window(&self, otherwise: Duration) -> Option<Duration> {
        let checks = self.0.as_ref().filter(|checks| checks.template.signs_timestamp())?;
        // Both ends are inclusive, and timestamps are whole seconds.
        let window = |tolerance: Duration| {
            tolerance.saturating_mul(2).saturating_add(Duration::from_secs(1))
        };
        Some(checks.tolerance.map_or(otherwise, window))
    }

    /// The header this scheme reads; `None` when nothing is verified.
    pub(super) fn header(&self) -> Option<&str> {
        self.0.as_ref().map(|checks| &*checks.header)
    }

    /// Whether the proof is the secret itself.
    pub(super) fn is_token(&self) -> bool {
        self.0.as_ref().is_some_and(|checks| checks.keys.iter().any(Key::is_token))
    }

    /// The hexadecimal HMAC of `text` under the key that verifies the request: proof, for a provider that asks for
    /// one, that this side holds the secret.
    pub(super) fn respond(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
        text: &str,
    ) -> Option<String> {
        let checks = self.0.as_ref()?;
        let with = |key: &&Key| {
            let alone = Checks { keys: vec![(*key).clone()], ..checks.clone() };
            alone.prove(headers, body, now).is_some()
        };
        checks.keys.iter().find(with)?.mac(text)
    }
}

impl Checks {
    fn prove(&self, headers: &Headers, body: &[u8], now: Timestamp) -> Option<Proof> {
        let value = std::str::from_utf8(only(headers, &self.header)?).ok()?;
        let (candidates, count) = self.layout.candidates(value)?;
        let candidates = candidates.get(..count)?;
        let stamp = match &self.stamp {
            // A timestamp in the body that is not signed apart from it: verify first, parse after.
            Some(stamp) if stamp.is_in_body() && !self.template.signs_timestamp() => None,
            Some(stamp) => Some(stamp.read(headers, body, value, &self.layout)?),
            None => None,
        };
        let timestamp = stamp.as_deref().unwrap_or_default();
        let request = Request { headers, body, timestamp, url: &self.url };
        let proof =
            self.keys.iter().find_map(|key| key.verify(&self.template, &request, candidates))?;
        let (Some(tolerance), Some(at)) = (self.tolerance, &self.stamp) else {
            return Some(proof);
        };
        let text = match stamp {
            Some(text) => text,
            None => at.read(headers, body, value, &self.layout)?,
        };
        let fresh = at.moment(&text)?.distance(now) <= tolerance;
        fresh.then_some(proof)
    }
}
