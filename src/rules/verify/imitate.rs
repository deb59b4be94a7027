//! Signing a sample as its provider would, so that a set-up can be tried without the provider.

use super::key::PrivateKey;
use super::template::Request;
use super::{Checks, Verifier};
use crate::model::Headers;
use crate::time::Timestamp;

impl Verifier {
    /// The header fields that make `body` verify at `now`: the inverse of [`Verifier::verifies`].
    ///
    /// `headers` are the other fields of the sample; a signed field that is not among them is made up and
    /// returned. The first secret signs. The error is a sentence.
    pub fn imitate(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        self.imitate_with(None, headers, body, now)
    }

    /// The same for a scheme with public keys: `private` signs, if its public key is one of them.
    pub fn imitate_with(
        &self,
        private: Option<&PrivateKey>,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        let Some(checks) = &self.0 else { return Ok(Vec::new()) };
        checks.imitate(private, headers, body, now)
    }
}

impl Checks {
    fn imitate(
        &self,
        private: Option<&PrivateKey>,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        let mut made: Vec<(String, String)> = Vec::new();
        let mut timestamp = String::new();
        if let Some(stamp) = &self.stamp {
            timestamp = if stamp.is_in_body() {
                let text = stamp.read(headers, body, "", &self.layout);
                text.ok_or("the sample's body holds no timestamp to sign")?.into_owned()
            } else {
                stamp.write(now)
            };
            made.extend(stamp.header().map(|name| (name.to_owned(), timestamp.clone())));
        }
        for name in self.template.headers() {
            if headers.get(name).is_none() && made.iter().all(|(known, _)| known != name) {
                made.push((name.to_owned(), format!("sample_{}", now.as_micros())));
            }
        }
        let fields = || made.iter().map(|(name, value)| (&**name, value.as_bytes()));
        let all = Headers::from_pairs(headers.iter().chain(fields()));
        let request = Request { headers: &all, body, timestamp: &timestamp, url: &self.url };
        let signature = match private {
            Some(private) => self
                .keys
                .iter()
                .find_map(|key| key.sign_with(private, &self.template, &request))
                .ok_or("this private key does not belong to a public key of the source")?,
            None => self.keys.first().and_then(|key| key.sign(&self.template, &request)).ok_or(
                "this source checks signatures with a public key, so only who has the private key can sign for it",
            )?,
        };
        let stamp = self.stamp.as_ref().and_then(|stamp| stamp.signature_key());
        let value = self.layout.compose(stamp.map(|key| (key, &*timestamp)), &signature);
        made.push((self.header.clone(), value));
        Ok(made)
    }
}
