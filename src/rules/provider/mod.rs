//! Providers as data: verification, event name, dedup key, order key, samples.
//!
//! A preset states what its provider documents, in the terms of the other rules, and nothing else: a new
//! provider is a new file with one `static` and a line in [`presets`].

use super::verify::Scheme;

mod buildkite;
mod buildpixel;
mod custom;
mod streampixel;
#[cfg(test)]
mod tests;

/// What the relay knows of one provider.
#[derive(Debug)]
pub struct Preset {
    /// The name in `provider = "..."`.
    pub name: &'static str,
    /// Where the facts come from; empty for `custom`.
    pub docs: &'static str,
    /// How its requests are verified.
    pub verification: Verification,
    /// Where its events are named.
    pub event: EventName,
    /// What groups its events; the first entry whose events match counts.
    pub order: &'static [PerEvent],
    /// Which of its requests are the same one.
    pub repeats: Repeats,
    /// Pointers and the constant values by which the provider's own test event is known. All must be
    /// equal; a source's `where` then lets it pass. Empty when there is none.
    pub test_event: &'static [(&'static str, &'static str)],
    /// Fields worth a `where`, for documentation and hints.
    pub filter_fields: &'static [&'static str],
    /// Requests as the provider sends them, for `everhook send` and `everhook demo`.
    pub samples: &'static [Sample],
}

/// How a provider's requests are verified.
#[derive(Clone, Copy, Debug)]
pub enum Verification {
    /// It does not sign; only a secret path can protect.
    Unsigned,
    /// By one of these, each with the source's secrets. Which one is decided by whose header a request
    /// carries; a request with the headers of several is refused. The first one signs samples.
    Schemes(fn() -> Vec<Scheme>),
    /// The configuration has to say.
    Configured,
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
    /// Those with equal values of all these fields; `exempt` are patterns of events that are always new.
    Fields {
        /// Pointers, `header:NAME` or `body`.
        fields: &'static [&'static str],
        /// Events that are always new; empty for none.
        exempt: &'static [&'static str],
    },
    /// For a provider without ids of events, whose bodies may recur: those that use a signature again,
    /// and those whose body equals the latest one accepted of the same subject.
    Latest {
        /// The subject of an event; an event without one can only repeat by its signature.
        subjects: &'static [PerEvent],
    },
}

/// A request as the provider sends it, without its signature.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The event's name.
    pub event: &'static str,
    /// Header fields beside `content-type: application/json`, lower-case.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: &'static str,
}

impl Preset {
    /// The sample of an event; the first one when none is named.
    pub fn sample(&self, event: Option<&str>) -> Option<&'static Sample> {
        self.samples.iter().find(|sample| event.is_none_or(|event| sample.event == event))
    }

    /// Whether a source needs a secret unless its configuration overrides `verify`.
    pub fn needs_secret(&self) -> bool {
        matches!(self.verification, Verification::Schemes(_))
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

static PRESETS: [&Preset; 4] =
    [&buildkite::PRESET, &buildpixel::PRESET, &custom::PRESET, &streampixel::PRESET];
