//! Providers as data: verification, event name, dedup key, order key, samples.
//!
//! A preset states what its provider documents, in the terms of the other rules, and nothing else: a new
//! provider is one more `static` beside its kin and a line in [`presets`].

use std::borrow::Cow;
use std::time::Duration;

use super::verify::Scheme;
use crate::time::Timestamp;

mod atlassian;
mod buildkite;
mod buildpixel;
mod builds;
mod commerce;
mod custom;
mod describe;
mod forges;
mod messaging;
mod platforms;
mod standards;
mod streampixel;
mod tracking;
#[cfg(test)]
mod proof_tests;
#[cfg(test)]
mod tests;

/// What the relay knows of one provider.
#[derive(Debug)]
pub struct Preset {
    /// The name in `provider = "..."`.
    pub name: &'static str,
    /// The provider as it calls itself.
    pub title: &'static str,
    /// The page of the provider that the facts come from; empty for `custom`.
    pub docs: &'static str,
    /// What to do at the provider, one sentence or two.
    pub setup: &'static str,
    /// What the secret is that verifies, as the provider calls it; empty when there is none.
    pub secret: &'static str,
    /// What is not covered, or must be known; empty for nothing.
    pub note: &'static str,
    /// How its requests are verified.
    pub verification: Verification,
    /// What it asks before it sends events.
    pub handshake: Handshake,
    /// Where its events are named.
    pub event: EventName,
    /// What groups its events; the first entry whose events match and whose fields are all there counts.
    pub order: &'static [PerEvent],
    /// Which of its requests are the same one.
    pub repeats: Repeats,
    /// How long a repeat is recognised; `None` for as long as the configuration says.
    pub window: Option<Duration>,
    /// The order of one build's events, earlier steps first; empty when it is not known.
    pub steps: &'static [Step],
    /// Pointers and the constant values by which the provider's own test event is known. All must be
    /// equal; a source's `where` then lets it pass. Empty when there is none.
    pub test_event: &'static [(&'static str, &'static str)],
    /// Fields worth a `where`, for documentation and hints.
    pub filter_fields: &'static [&'static str],
    /// Requests as the provider sends them, for `everhook send` and `everhook demo`.
    pub samples: &'static [Sample],
}

/// What a preset says when it says nothing.
const BASE: Preset = Preset {
    name: "",
    title: "",
    docs: "",
    setup: "",
    secret: "",
    note: "",
    verification: Verification::Configured,
    handshake: Handshake::None,
    event: EventName { fields: &[], unnamed: Unnamed::Called("webhook") },
    order: &[],
    repeats: Repeats::Off,
    window: None,
    steps: &[],
    test_event: &[],
    filter_fields: &[],
    samples: &[],
};

/// How a provider's requests are verified.
#[derive(Clone, Copy, Debug)]
pub enum Verification {
    /// It does not sign; only a secret path can protect.
    Unsigned,
    /// By one of these, each with the secrets that are of its form. Which one is decided by whose header a request
    /// carries; a request with the headers of several is refused. The first one signs samples.
    Schemes(fn() -> Vec<Scheme>),
    /// The same for a provider that may send the headers of several: the first of them that is there decides.
    FirstOf(fn() -> Vec<Scheme>),
    /// The configuration has to say.
    Configured,
}

/// What a provider asks before it sends events. It is answered and is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Nothing.
    None,
    /// A signed body of type `url_verification`, answered with its `challenge` (Slack).
    UrlVerification,
    /// A signed PING, answered 204 or with a PONG; and bad signatures, which must be refused (Discord).
    Ping,
    /// A signed request whose message type is `webhook_callback_verification`, answered with its `challenge`
    /// (Twitch).
    CallbackVerification,
    /// GET with `hub.verify_token` and `hub.challenge`, answered with the challenge (Meta).
    HubChallenge,
    /// POST with the parameter `validationToken`, answered with it (Microsoft Graph).
    ValidationToken,
    /// A signed `endpoint.url_validation`, answered with an HMAC of its `plainToken` (Zoom).
    UrlValidation,
    /// `X-Hook-Secret`, answered with the same header: always while the source has no secret, and afterwards only
    /// for a secret it has (Asana).
    HookSecret,
}

/// Where a provider's events are named.
#[derive(Clone, Copy, Debug)]
pub struct EventName {
    /// The first of these fields that holds a name.
    pub fields: &'static [&'static str],
    /// What becomes of a request without a name.
    pub unnamed: Unnamed,
}

/// What becomes of a request without an event name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// It cannot be from this provider, and nothing else proves that it is: refused. The name must be a
    /// JSON string.
    Malformed,
    /// It is accepted under this name.
    Called(&'static str),
}

/// Fields that hold for some events.
#[derive(Clone, Copy, Debug)]
pub struct PerEvent {
    /// Patterns on the event's name.
    pub events: &'static [&'static str],
    /// The fields; nothing holds when one of them is missing or null.
    pub fields: &'static [&'static str],
}

/// Which requests are the same one.
#[derive(Clone, Copy, Debug)]
pub enum Repeats {
    /// Every request is a new event.
    Off,
    /// Those with equal values of all fields of a key.
    Fields {
        /// Pointers, `header:NAME` or `body`. The first key whose fields are all there counts; without one the
        /// request is new.
        keys: &'static [&'static [&'static str]],
        /// Patterns of events that are always new; empty for none.
        exempt: &'static [&'static str],
    },
    /// For a provider without ids of events, whose bodies may recur: those that use a signature with a timestamp
    /// again, and those whose body equals the latest one accepted of the same subject.
    Latest {
        /// The subject of an event; an event without one can only repeat by its signature.
        subjects: &'static [PerEvent],
    },
}

/// A step of a build, as far as the provider's pages promise one.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The event that says it was reached.
    pub event: &'static str,
    /// Steps that have always been reached before; each stands earlier in the list.
    pub after: &'static [&'static str],
    /// Whether nothing needs to follow.
    pub last: bool,
}

impl Step {
    const fn new(event: &'static str, after: &'static [&'static str]) -> Self {
        Self { event, after, last: false }
    }

    const fn last(event: &'static str, after: &'static [&'static str]) -> Self {
        Self { event, after, last: true }
    }
}

/// A request as the provider sends it, without its signature.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The event's name.
    pub event: &'static str,
    /// Header fields, lower-case; `content-type: application/json` unless another is among them.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body; `{now_ms}` in it stands for the moment of sending, for providers that sign it there.
    pub body: &'static str,
}

/// The placeholder in a sample's body.
const NOW_MS: &str = "{now_ms}";

impl Sample {
    /// A sample with nothing but a JSON body.
    const fn json(event: &'static str, body: &'static str) -> Self {
        Self { event, headers: &[], body }
    }

    /// The body as it is sent at `now`.
    pub fn body_at(&self, now: Timestamp) -> Cow<'static, str> {
        if self.body.contains(NOW_MS) {
            Cow::Owned(self.body.replace(NOW_MS, &now.as_millis().to_string()))
        } else {
            Cow::Borrowed(self.body)
        }
    }

    /// All header fields before the signature.
    pub fn all_headers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = self.headers.iter().copied();
        let typed = self.headers.iter().any(|(name, _)| *name == "content-type");
        let json = (!typed).then_some(("content-type", "application/json"));
        json.into_iter().chain(own)
    }
}

impl Preset {
    /// The sample of an event; the first one when none is named.
    pub fn sample(&self, event: Option<&str>) -> Option<&'static Sample> {
        self.samples.iter().find(|sample| event.is_none_or(|event| sample.event == event))
    }

    /// How its requests are verified; the first scheme signs samples.
    pub fn schemes(&self) -> Vec<Scheme> {
        match self.verification {
            Verification::Schemes(schemes) | Verification::FirstOf(schemes) => schemes(),
            Verification::Unsigned | Verification::Configured => Vec::new(),
        }
    }

    /// Whether a source needs a secret unless its configuration overrides `verify`.
    pub fn needs_secret(&self) -> bool {
        // Before its handshake, Asana has not said the secret yet.
        !self.schemes().is_empty() && self.handshake != Handshake::HookSecret
    }
}

/// The preset of that name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    presets().iter().find(|preset| preset.name == name).copied()
}

/// Every preset, sorted by name.
pub fn presets() -> &'static [&'static Preset] {
    &PRESETS
}

static PRESETS: [&Preset; 34] = [
    &platforms::ASANA,
    &atlassian::BITBUCKET,
    &atlassian::BITBUCKET_DATA_CENTER,
    &buildkite::PRESET,
    &buildpixel::PRESET,
    &builds::CIRCLECI,
    &standards::CLOUDEVENTS,
    &custom::PRESET,
    &messaging::DISCORD,
    &builds::DOCKERHUB,
    &forges::FORGEJO,
    &forges::GITEA,
    &forges::GITHUB,
    &forges::GITLAB,
    &forges::GOGS,
    &atlassian::JIRA,
    &tracking::LINEAR,
    &platforms::META,
    &platforms::MICROSOFT_GRAPH,
    &commerce::PADDLE,
    &tracking::PAGERDUTY,
    &tracking::SANITY,
    &commerce::SHOPIFY,
    &messaging::SLACK,
    &commerce::SQUARE,
    &standards::STANDARD_WEBHOOKS,
    &streampixel::PRESET,
    &commerce::STRIPE,
    &standards::SVIX,
    &messaging::TWILIO,
    &messaging::TWITCH,
    &builds::UNITY,
    &builds::VERCEL,
    &messaging::ZOOM,
];
