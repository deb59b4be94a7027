//! A provider of any scheme, by an implementation independent of the product's: it makes keys, signs requests, and
//! knows how to spoil them.

use ed25519_dalek::{Signer as _, SigningKey};
use ring::digest;
use serde::Deserialize;

use super::sign::{base64, hex, hmac};

/// How a provider proves itself, in the words of the configuration's `verify`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Scheme {
    pub kind: String,
    pub header: Option<String>,
    pub prefix: Option<String>,
    pub list: Option<String>,
    pub kv: Option<String>,
    pub pick: Option<String>,
    pub algorithm: Option<String>,
    pub encoding: Option<String>,
    pub key_encoding: Option<String>,
    pub key_prefix: Option<String>,
    pub signed: Option<String>,
    pub timestamp: Option<String>,
    pub unit: Option<String>,
    pub tolerance: Option<i64>,
}

/// What sender and receiver share.
#[derive(Clone, Debug)]
pub struct Secret {
    /// As the receiver's configuration has it.
    pub text: String,
    /// What the sender signs with: the bytes of a key, the seed of a pair, or the token.
    key: Vec<u8>,
}

/// What is sent beside the body.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Seconds since the epoch.
    pub at: i64,
    /// For header fields that are signed.
    pub id: &'a str,
    pub url: &'a str,
}

pub type Fields = Vec<(String, String)>;

impl Scheme {
    /// The table `verify`, as TOML.
    pub fn to_toml(&self) -> String {
        let text = |name: &str, value: &Option<String>| {
            let value = value.as_ref().filter(|value| !value.is_empty())?;
            Some(format!("{name} = {value:?}"))
        };
        let kind = Some(self.kind.clone());
        let mut pairs: Vec<_> = [
            text("kind", &kind),
            text("header", &self.header),
            text("prefix", &self.prefix),
            text("list", &self.list),
            text("kv", &self.kv),
            text("pick", &self.pick),
            text("algorithm", &self.algorithm),
            text("encoding", &self.encoding),
            text("key_encoding", &self.key_encoding),
            text("key_prefix", &self.key_prefix),
            text("signed", &self.signed),
            text("timestamp", &self.timestamp),
            text("unit", &self.unit),
        ]
        .into_iter()
        .flatten()
        .collect();
        pairs.extend(self.tolerance.map(|seconds| format!("tolerance = {seconds}")));
        format!("{{ {} }}", pairs.join(", "))
    }

    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    pub fn header(&self) -> &str {
        self.header.as_deref().unwrap_or_default()
    }

    fn signed(&self) -> &str {
        self.signed.as_deref().filter(|_| !self.is("token")).unwrap_or_default()
    }

    /// Whether the timestamp stands in the body.
    pub fn is_stamped_inside(&self) -> bool {
        self.stamp().starts_with("json:")
    }

    pub fn stamp(&self) -> &str {
        self.timestamp.as_deref().unwrap_or_default()
    }

    pub fn takes_a_form(&self) -> bool {
        self.signed().contains("{form_sorted}")
    }

    /// The header fields that are signed.
    pub fn signed_fields(&self) -> impl Iterator<Item = &str> {
        self.signed().split("{header:").skip(1).filter_map(|rest| rest.split('}').next())
    }

    /// A secret of the scheme's form; `text` is used where the secret is text.
    pub fn secret(&self, random: [u8; 32], text: &str) -> Secret {
        let mut shown = random.to_vec();
        if self.is("ed25519") {
            shown = SigningKey::from_bytes(&random).verifying_key().to_bytes().to_vec();
        }
        let (written, key) = match self.key_encoding.as_deref() {
            Some("base64") => (base64(&shown, false), random.to_vec()),
            Some("hex") => (hex(&shown), random.to_vec()),
            _ => (text.to_owned(), text.as_bytes().to_vec()),
        };
        let prefix = self.key_prefix.as_deref().unwrap_or_default();
        Secret { text: format!("{prefix}{written}"), key }
    }

    /// The timestamp as it is written.
    pub fn written(&self, at: i64) -> String {
        match self.unit.as_deref() {
            Some("ms") => (at * 1000).to_string(),
            Some("rfc3339") => jiff::Timestamp::from_second(at).expect("a year").to_string(),
            _ => at.to_string(),
        }
    }

    /// The header fields of a request; the one with the proof is the last.
    pub fn sign(&self, secret: &Secret, body: &[u8], moment: Moment<'_>) -> Fields {
        self.fields(&self.proof(secret, body, moment), moment)
    }

    /// The same with a proof that may be another request's.
    pub fn fields(&self, proof: &str, moment: Moment<'_>) -> Fields {
        let mut fields: Fields =
            self.signed_fields().map(|name| (name.to_owned(), moment.id.to_owned())).collect();
        let stamp = self.written(moment.at);
        if let Some(name) = self.stamp().strip_prefix("header:") {
            fields.push((name.to_owned(), stamp.clone()));
        }
        let value = match (self.list.as_deref(), self.kv.as_deref(), self.pick.as_deref()) {
            (Some(list), Some(kv), Some(pick)) => match self.stamp().strip_prefix("sig:") {
                Some(key) => format!("{key}{kv}{stamp}{list}{pick}{kv}{proof}"),
                None => format!("{pick}{kv}{proof}"),
            },
            _ => format!("{}{proof}", self.prefix.as_deref().unwrap_or_default()),
        };
        fields.push((self.header().to_owned(), value));
        fields
    }

    /// The signature or the token alone.
    pub fn proof(&self, secret: &Secret, body: &[u8], moment: Moment<'_>) -> String {
        let message = self.message(body, moment);
        let bytes = match (&*self.kind, self.algorithm.as_deref()) {
            ("token", _) => return String::from_utf8(secret.key.clone()).expect("text"),
            ("ed25519", _) => {
                let seed: [u8; 32] = secret.key.clone().try_into().expect("32 bytes");
                SigningKey::from_bytes(&seed).sign(&message).to_bytes().to_vec()
            }
            (_, Some("sha1")) => hmac(&digest::SHA1_FOR_LEGACY_USE_ONLY, 64, &secret.key, &message),
            (_, Some("sha512")) => hmac(&digest::SHA512, 128, &secret.key, &message),
            _ => hmac(&digest::SHA256, 64, &secret.key, &message),
        };
        match self.encoding.as_deref() {
            Some("base64") => base64(&bytes, false),
            Some("base64url") => base64(&bytes, true),
            _ => hex(&bytes),
        }
    }

    /// What is signed.
    fn message(&self, body: &[u8], moment: Moment<'_>) -> Vec<u8> {
        let mut message = Vec::new();
        for (position, part) in self.signed().split('{').enumerate() {
            let (name, literal) = part.split_once('}').unwrap_or(("", part));
            match name {
                "" => assert_eq!(position, 0, "every other part is a placeholder"),
                "body" => message.extend_from_slice(body),
                "timestamp" => message.extend_from_slice(self.written(moment.at).as_bytes()),
                "url" => message.extend_from_slice(moment.url.as_bytes()),
                "method" => message.extend_from_slice(b"POST"),
                "form_sorted" => {
                    let mut pairs: Vec<_> = body.split(|&b| b == b'&').map(pair).collect();
                    pairs.sort_unstable();
                    pairs.dedup();
                    message
                        .extend(pairs.into_iter().flat_map(|(key, value)| [key, value].concat()));
                }
                name => {
                    assert!(name.starts_with("header:"), "{name}");
                    message.extend_from_slice(moment.id.as_bytes());
                }
            }
            message.extend_from_slice(literal.as_bytes());
        }
        message
    }
}

/// One field of a form, unescaped.
fn pair(field: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let plain = |part: &[u8]| {
        let (mut bytes, mut rest) = (Vec::new(), part);
        while let Some((first, after)) = rest.split_first() {
            let byte = match first {
                b'%' => {
                    let digits = std::str::from_utf8(&after[..2]).expect("digits");
                    rest = &after[2..];
                    bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
                    continue;
                }
                b'+' => b' ',
                other => *other,
            };
            bytes.push(byte);
            rest = after;
        }
        bytes
    };
    let mut halves = field.splitn(2, |&b| b == b'=');
    let mut half = || plain(halves.next().unwrap_or_default());
    (half(), half())
}
