//! Does this request come from who it says? `(scheme, secrets, headers, body, now) -> Verified | Refused`.

use std::time::Duration;

use crate::model::{Headers, Secret};
use crate::time::Timestamp;

/// How a provider proves itself, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// What kind of proof.
    pub kind: Kind,
    /// The header that carries it, lower-case; empty for `Kind::None`.
    pub header: String,
    /// Literal required before the signature and removed.
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
    /// Hexadecimal.
    Hex,
    /// Standard base64 with padding.
    Base64,
    /// URL-safe base64 without padding.
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
pub struct Verifier {}

impl Verifier {
    /// Compiles a scheme; the error is a sentence for the configuration's author (empty secret, bad key encoding, bad template).
    pub fn new(
        scheme: &Scheme,
        secrets: &[Secret],
        public_url: Option<&str>,
    ) -> Result<Self, String> {
        unimplemented!("{scheme:?} {secrets:?} {public_url:?}")
    }

    /// Whether any secret verifies the request. Says nothing about why not.
    pub fn verifies(&self, headers: &Headers, body: &[u8], now: Timestamp) -> bool {
        unimplemented!("{headers:?} {body:?} {now:?}")
    }
}
