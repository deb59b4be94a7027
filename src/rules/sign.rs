//! Outbound signatures: what a target can check.

use crate::model::{EventId, Secret};
use crate::time::Timestamp;

/// A target's signing keys, ready to use.
#[derive(Clone, Debug)]
pub struct Signer {}

impl Signer {
    /// Standard Webhooks v1: the first secret signs, the others sign beside it. The error is a sentence for the configuration's author.
    pub fn standard_webhooks(secrets: &[Secret]) -> Result<Self, String> {
        unimplemented!("{secrets:?}")
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: EventId, at: Timestamp, body: &[u8]) -> String {
        unimplemented!("{id:?} {at:?} {body:?}")
    }
}
