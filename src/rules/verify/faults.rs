//! Everything that is wrong with a scheme, each with the key it is written under: what [`Verifier::new`] refuses,
//! but all of it at once.
//!
//! [`Verifier::new`]: super::Verifier::new

use super::key::Key;
use super::signature::Layout;
use super::stamp::Stamp;
use super::template::Template;
use super::{Kind, Scheme};
use crate::model::Secret;

/// One thing that is wrong with a scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it is written.
    pub at: Place,
    /// A sentence for the configuration's author; shows no secret.
    pub sentence: String,
}

/// Where a part of a source's verification is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A key of `verify`.
    Verify(&'static str),
    /// The source's secrets as a whole.
    Secrets,
    /// One of the source's secrets, counted from 0.
    Secret(usize),
    /// The source's `public_url`.
    PublicUrl,
}

impl Scheme {
    /// What keeps these secrets from verifying with this scheme; nothing when a verifier can be made.
    pub fn faults(&self, secrets: &[Secret], public_url: Option<&str>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut note = |at, sentence: String| faults.push(Fault { at, sentence });
        if self.kind == Kind::None {
            if !secrets.is_empty() {
                let sentence = "there is a secret, but nothing is verified with it; \
                                remove the secret, or set `verify` to how the sender signs";
                note(Place::Secrets, sentence.into());
            }
            return faults;
        }
        if let Some(Err(sentence)) = self.timestamp.as_deref().map(|at| Stamp::parse(at, self)) {
            note(Place::Verify("timestamp"), sentence);
        }
        if self.tolerance.is_some() && self.timestamp.is_none() {
            let sentence = "`tolerance` needs a `timestamp` to compare with";
            note(Place::Verify("tolerance"), sentence.into());
        }
        if matches!(self.kind, Kind::Hmac | Kind::Ed25519) {
            if let Err(sentence) = Template::parse(&self.signed) {
                note(Place::Verify("signed"), sentence);
            }
            // Looked for by themselves, so that a placeholder that is unknown does not hide them.
            let known = ["{timestamp}", "{url}"].into_iter().filter(|p| self.signed.contains(p));
            if let Ok(template) = Template::parse(&known.chain(["{body}"]).collect::<String>()) {
                if let Err(sentence) = template.check(self.timestamp.is_some(), true) {
                    note(Place::Verify("signed"), sentence);
                }
                if let Err(sentence) = template.check(true, public_url.is_some()) {
                    note(Place::PublicUrl, sentence);
                }
            }
        }
        if let Err((key, sentence)) = Layout::check(self) {
            note(Place::Verify(key), sentence);
        }
        if secrets.is_empty() {
            let sentence = "verification needs a secret; set `secret` or `secrets`";
            note(Place::Secrets, sentence.into());
        }
        if let Err((key, sentence)) = Key::check(self) {
            note(Place::Verify(key), sentence);
            return faults;
        }
        for (index, secret) in secrets.iter().enumerate() {
            if let Err(sentence) = Key::derive(self, secret) {
                note(Place::Secret(index), sentence);
            }
        }
        faults
    }
}
