//! Outbound signatures: what a target can check.
//!
//! The style is Standard Webhooks (<https://www.standardwebhooks.com>), version `v1`: HMAC-SHA256 over
//! `{webhook-id}.{webhook-timestamp}.{body}`, base64, with the key that follows `whsec_` in base64. The id
//! is the event's and stays; timestamp and signature are made anew for each attempt.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;

use crate::model::{EventId, Secret};
use crate::time::Timestamp;

/// The smallest and the largest key the style allows, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A target's signing keys, ready to use: the first signs, the others sign beside it.
#[derive(Clone, Debug)]
pub struct Signer {
    keys: Vec<hmac::Key>,
}

impl Signer {
    /// Standard Webhooks v1. The error is a sentence for the configuration's author and shows no secret.
    pub fn standard_webhooks(secrets: &[Secret]) -> Result<Self, String> {
        if secrets.is_empty() {
            return Err("signing needs a secret; set `secret` or `secrets`".into());
        }
        let keys = secrets.iter().map(signing_key).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// The value of `webhook-signature`: one signature per key, separated by spaces.
    pub fn sign(&self, id: EventId, at: Timestamp, body: &[u8]) -> String {
        self.sign_parts(&id.to_string(), at.as_secs(), body)
    }

    fn sign_parts(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut value = String::with_capacity(self.keys.len().saturating_mul(48));
        for key in &self.keys {
            let mut signed = hmac::Context::with_key(key);
            signed.update(id.as_bytes());
            signed.update(format!(".{seconds}.").as_bytes());
            signed.update(body);
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str("v1,");
            BASE64.encode_string(signed.sign(), &mut value);
        }
        value
    }
}

fn signing_key(secret: &Secret) -> Result<hmac::Key, String> {
    let shape = "a Standard Webhooks secret is `whsec_` and the base64 of 24 to 64 random bytes; \
                 make one with: echo whsec_$(head -c 32 /dev/urandom | base64)";
    let text = secret.expose();
    let text = text.strip_prefix(b"whsec_").unwrap_or(text);
    let Ok(key) = BASE64.decode(text) else {
        return Err(format!("the secret is not base64; {shape}"));
    };
    if !KEY_BYTES.contains(&key.len()) {
        return Err(format!("the secret holds a key of {} bytes; {shape}", key.len()));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn signer(secrets: &[&str]) -> Signer {
        let secrets: Vec<_> = secrets.iter().map(|s| Secret::new(*s)).collect();
        Signer::standard_webhooks(&secrets).unwrap()
    }

    #[test]
    fn agrees_with_the_vector_the_standard_publishes() {
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let value = signer(&[PUBLISHED]).sign_parts(id, 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(value, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn during_a_rotation_both_secrets_sign_the_first_one_first() {
        let both = signer(&[OTHER, PUBLISHED]).sign_parts("evt_1", 5, b"x");
        let old = signer(&[PUBLISHED]).sign_parts("evt_1", 5, b"x");
        let new = signer(&[OTHER]).sign_parts("evt_1", 5, b"x");
        assert_eq!(both, format!("{new} {old}"));
    }

    #[test]
    fn every_signed_part_changes_the_signature() {
        let signer = signer(&[PUBLISHED]);
        let base = signer.sign_parts("evt_1", 5, b"x");
        for other in [("evt_2", 5, b"x"), ("evt_1", 6, b"x"), ("evt_1", 5, b"y")] {
            assert_ne!(signer.sign_parts(other.0, other.1, other.2), base);
        }
    }

    #[test]
    fn weak_or_broken_secrets_are_refused_without_showing_them() {
        for bad in ["whsec_", "whsec_canary!", "whsec_Y2FuYXJ5", ""] {
            let error = Signer::standard_webhooks(&[Secret::new(bad)]).unwrap_err();
            assert!(!error.contains("canary") && !error.contains("Y2FuYXJ5"), "{error}");
        }
        assert!(Signer::standard_webhooks(&[]).is_err());
    }
}
