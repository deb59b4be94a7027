//! Keys: from a secret's text to what verifies a request.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::signature::KeyPair as _;
use ring::{digest, hmac, signature};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::template::{Request, Template};
use super::{Algorithm, Encoding, Kind, Proof, Scheme};
use crate::model::Secret;

const READ_ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, READ_ANY_PADDING);
const BASE64_URL: GeneralPurpose =
    GeneralPurpose::new(&alphabet::URL_SAFE, READ_ANY_PADDING.with_encode_padding(false));

/// The longest signature: HMAC-SHA512 and ed25519 have 64 bytes.
const MAX_SIGNATURE: usize = 64;
/// Room for what the base64 decoder may write before it knows the exact length.
const DECODE_ROOM: usize = MAX_SIGNATURE + 4;
/// An ed25519 public key.
const PUBLIC_KEY_LEN: usize = 32;

/// The bytes of a signature; shorter ones are followed by zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mac([u8; DECODE_ROOM]);

impl Mac {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What one secret verifies with.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kind: KeyKind,
    encoding: Encoding,
}

/// An ed25519 key that signs samples; the daemon itself never has one.
#[derive(Debug)]
pub struct PrivateKey(signature::Ed25519KeyPair);

impl PrivateKey {
    /// Reads `whsk_` and base64, plain base64 or hexadecimal, of a seed of 32 bytes or of seed and public key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text.strip_prefix("whsk_").unwrap_or(text);
        let bytes = hex::decode(text).ok().or_else(|| BASE64.decode(text).ok()).map(Zeroizing::new);
        let seed = bytes.as_ref().filter(|bytes| [32, 64].contains(&bytes.len()));
        seed.and_then(|bytes| bytes.get(..32))
            .and_then(|seed| signature::Ed25519KeyPair::from_seed_unchecked(seed).ok())
            .map(Self)
            .ok_or_else(|| {
                "this is no ed25519 private key: it has 32 bytes (or 64, with the public key behind \
                 it), written as whsk_ and base64, as base64 or as hexadecimal"
                    .into()
            })
    }
}

#[derive(Clone, Debug)]
enum KeyKind {
    Hmac(hmac::Key),
    Ed25519([u8; PUBLIC_KEY_LEN]),
    /// The token, and its digest: digests are of one length, so comparing them tells nothing of the token's.
    Token {
        text: Secret,
        digest: digest::Digest,
    },
}

impl Key {
    /// Whether the scheme can have keys at all; otherwise the key of `verify` to blame, and a sentence.
    pub(super) fn check(scheme: &Scheme) -> Result<(), (&'static str, String)> {
        let token = matches!(scheme.kind, Kind::Token | Kind::None);
        if token && scheme.key_encoding != Encoding::Utf8 {
            let sentence = "a token is compared as text; remove `key_encoding`";
            return Err(("key_encoding", sentence.into()));
        }
        if scheme.encoding == Encoding::Utf8 && scheme.kind != Kind::Token {
            let sentence = "`encoding` of a signature is hex, base64 or base64url";
            return Err(("encoding", sentence.into()));
        }
        Ok(())
    }

    pub(super) fn derive(scheme: &Scheme, secret: &Secret) -> Result<Self, String> {
        Self::check(scheme).map_err(|(_, sentence)| sentence)?;
        let secret = secret.expose();
        let text = secret.strip_prefix(scheme.key_prefix.as_bytes()).unwrap_or(secret);
        let bytes = key_bytes(text, scheme.key_encoding)?;
        if bytes.is_empty() {
            return Err("the secret is empty: anyone could sign with it".into());
        }
        let kind = match scheme.kind {
            Kind::Hmac => KeyKind::Hmac(hmac::Key::new(scheme.algorithm.of_ring(), &bytes)),
            Kind::Ed25519 => {
                let key = <[u8; PUBLIC_KEY_LEN]>::try_from(&**bytes).map_err(|_wrong_len| {
                    format!("an ed25519 public key has 32 bytes, this one has {}", bytes.len())
                })?;
                KeyKind::Ed25519(key)
            }
            Kind::Token | Kind::None => KeyKind::Token {
                digest: digest::digest(&digest::SHA256, &bytes),
                text: Secret::new(bytes.to_vec()),
            },
        };
        Ok(Self { kind, encoding: scheme.encoding })
    }

    /// Whether it is what the sender shows, rather than what it signs with.
    pub(super) fn is_token(&self) -> bool {
        matches!(self.kind, KeyKind::Token { .. })
    }

    /// What the request proves, if any candidate is this key's signature of it.
    pub(super) fn verify(
        &self,
        template: &Template,
        request: &Request<'_>,
        candidates: &[&str],
    ) -> Option<Proof> {
        match &self.kind {
            KeyKind::Hmac(key) => {
                let tag = tag(key, template, request)?;
                let tag = tag.as_ref();
                let equal = |text: &&str| self.decode(text, tag.len());
                let mac = candidates.iter().filter_map(equal).find(|mac| {
                    mac.0.get(..tag.len()).is_some_and(|mac| bool::from(mac.ct_eq(tag)))
                });
                mac.map(Proof::Content)
            }
            KeyKind::Ed25519(key) => {
                let mut message = Vec::with_capacity(request.body.len() + 128);
                template.render(request, &mut |piece| message.extend_from_slice(piece))?;
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
                let decoded = |text: &&str| self.decode(text, MAX_SIGNATURE);
                let mac = candidates.iter().filter_map(decoded).find(|mac| {
                    mac.0.get(..MAX_SIGNATURE).is_some_and(|sig| key.verify(&message, sig).is_ok())
                });
                mac.map(Proof::Content)
            }
            KeyKind::Token { digest, .. } => {
                let equal = |text: &&str| {
                    let presented = digest::digest(&digest::SHA256, text.as_bytes());
                    bool::from(presented.as_ref().ct_eq(digest.as_ref()))
                };
                candidates.iter().any(equal).then_some(Proof::Sender)
            }
        }
    }

    /// The text this key would write; `None` for a public key, which cannot sign.
    pub(super) fn sign(&self, template: &Template, request: &Request<'_>) -> Option<String> {
        match &self.kind {
            KeyKind::Hmac(key) => tag(key, template, request).map(|tag| self.encode(tag.as_ref())),
            KeyKind::Token { text, .. } => String::from_utf8(text.expose().to_vec()).ok(),
            KeyKind::Ed25519(_) => None,
        }
    }

    /// The hexadecimal HMAC of a text; `None` for other kinds of keys.
    pub(super) fn mac(&self, text: &str) -> Option<String> {
        match &self.kind {
            KeyKind::Hmac(key) => Some(hex::encode(hmac::sign(key, text.as_bytes()))),
            KeyKind::Ed25519(_) | KeyKind::Token { .. } => None,
        }
    }

    /// The text that a private key writes, for trying out a source that knows only the public one.
    pub(super) fn sign_with(
        &self,
        private: &PrivateKey,
        template: &Template,
        request: &Request<'_>,
    ) -> Option<String> {
        let KeyKind::Ed25519(public) = &self.kind else { return None };
        if private.0.public_key().as_ref() != public {
            return None;
        }
        let mut message = Vec::with_capacity(request.body.len() + 128);
        template.render(request, &mut |piece| message.extend_from_slice(piece))?;
        Some(self.encode(private.0.sign(&message).as_ref()))
    }

    fn encode(&self, signature: &[u8]) -> String {
        match self.encoding {
            Encoding::Utf8 | Encoding::Hex => hex::encode(signature),
            Encoding::Base64 => BASE64.encode(signature),
            Encoding::Base64Url => BASE64_URL.encode(signature),
        }
    }

    /// The bytes of a signature's text, if there are exactly `len`.
    fn decode(&self, text: &str, len: usize) -> Option<Mac> {
        // Longer than any writing of `len` bytes: not worth decoding, and no room for it.
        if text.len() > len.saturating_mul(2) {
            return None;
        }
        let mut mac = Mac([0; DECODE_ROOM]);
        let written = match self.encoding {
            Encoding::Utf8 => return None,
            Encoding::Hex => {
                hex::decode_to_slice(text, mac.0.get_mut(..len)?).ok()?;
                len
            }
            Encoding::Base64 => BASE64.decode_slice(text, &mut mac.0).ok()?,
            Encoding::Base64Url => BASE64_URL.decode_slice(text, &mut mac.0).ok()?,
        };
        (written == len).then_some(mac)
    }
}

impl Algorithm {
    fn of_ring(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

fn tag(key: &hmac::Key, template: &Template, request: &Request<'_>) -> Option<hmac::Tag> {
    let mut context = hmac::Context::with_key(key);
    template.render(request, &mut |piece| context.update(piece))?;
    Some(context.sign())
}

fn key_bytes(text: &[u8], encoding: Encoding) -> Result<Zeroizing<Vec<u8>>, String> {
    let (decoded, name) = match encoding {
        Encoding::Utf8 => (Some(text.to_vec()), "text"),
        Encoding::Hex => (hex::decode(text).ok(), "hexadecimal"),
        Encoding::Base64 => (BASE64.decode(text).ok(), "base64"),
        Encoding::Base64Url => (BASE64_URL.decode(text).ok(), "base64url"),
    };
    decoded.map(Zeroizing::new).ok_or_else(|| format!("the secret is not {name}"))
}
