//! Targets: their URLs, what they want, their retries and signatures.

use std::sync::Arc;
use std::time::Duration;

use super::{PATTERN_REMEDY, conditions, noted, secrets, url};
use crate::config::Target;
use crate::config::mistake::Findings;
use crate::config::raw::{self, Style};
use crate::config::table::did_you_mean;
use crate::config::tree::KeyPath;
use crate::model::Name;
use crate::rules::filter::Patterns;
use crate::rules::intake::Interest;
use crate::rules::retry::{Exponential, RetryPolicy};
use crate::rules::sign::Signer;

/// A target with the side that its sources see. Each half is `None` only after a mistake was noted.
pub(super) struct Checked {
    pub(super) built: Option<Target>,
    pub(super) interest: Option<Interest>,
    /// The sources it listens to; `None` is every source.
    from: Option<Vec<String>>,
}

impl Checked {
    /// Whether events of a source may go here.
    pub(super) fn listens_to(&self, source: &Name) -> bool {
        self.from.as_ref().is_none_or(|from| from.iter().any(|name| name == source.as_str()))
    }
}

/// Checks every target against the names of the sources.
pub(super) fn targets(
    raw: Vec<(Name, raw::Target)>,
    sources: &[Name],
    findings: &mut Findings,
) -> Vec<Checked> {
    raw.into_iter().map(|(name, raw)| target(name, raw, sources, findings)).collect()
}

fn target(name: Name, raw: raw::Target, sources: &[Name], findings: &mut Findings) -> Checked {
    let at = KeyPath::of(&["target", name.as_str()]);
    if let Some(problem) = raw.url.as_ref().and_then(|url| url::fault(&url.0)) {
        findings.mistake(&at.key("url"), problem, url::REMEDY);
    }
    for (index, from) in raw.from.iter().flatten().enumerate() {
        if !sources.iter().any(|source| source.as_str() == from) {
            let known: Vec<_> = sources.iter().map(Name::as_str).collect();
            let remedy = did_you_mean(from, &known)
                .unwrap_or_else(|| format!("the sources are {}", known.join(", ")));
            findings.mistake(&at.key("from").index(index), "there is no such source", remedy);
        }
    }
    let events = raw
        .events
        .map(|events| noted(Patterns::parse(&events), &at.key("events"), PATTERN_REMEDY, findings));
    let conditions = conditions(raw.r#where, &at.key("where"), findings);
    let interest = match (events, conditions) {
        (Some(None), _) | (_, None) => None,
        (events, Some(conditions)) => {
            Some(Interest { target: name.clone(), events: events.flatten(), conditions })
        }
    };
    let retry = raw.retry.and_then(|retry| policy(retry, raw.expire, &at.key("retry"), findings));
    let signer = raw.sign.and_then(|sign| signer(sign, &at.key("sign"), findings));
    let build = || {
        Some(Target {
            name,
            url: raw.url?.0,
            timeout: raw.timeout?,
            connect_timeout: raw.connect_timeout?,
            concurrency: raw.concurrency?,
            retry: retry?,
            signer,
        })
    };
    Checked { built: build(), interest, from: raw.from }
}

fn policy(
    raw: raw::Retry,
    expire: Option<Duration>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<RetryPolicy> {
    let grows = raw.initial.is_some()
        || raw.factor.is_some()
        || raw.max.is_some()
        || raw.attempts.is_some();
    // A schedule with a mistake in it was written all the same.
    let scheduled = raw.schedule.is_some() || findings.is_wrong_below(&at.key("schedule"));
    if grows && scheduled {
        let problem = "a schedule and growing delays exclude each other";
        let remedy = "write `schedule`, or `initial`, `factor`, `max` and `attempts`";
        findings.mistake(at, problem, remedy);
    }
    let delays = match raw.schedule {
        Some(schedule) => schedule.into(),
        None if grows => growing(&raw, at, findings),
        // Nothing was written, or what was written is a mistake already.
        None => default_schedule(),
    };
    Some(RetryPolicy { delays, jitter: raw.jitter?, expire: expire? })
}

fn growing(raw: &raw::Retry, at: &KeyPath, findings: &mut Findings) -> Arc<[Duration]> {
    let growth = Exponential {
        initial: raw.initial.unwrap_or(raw::DEFAULT_INITIAL),
        factor: raw.factor.unwrap_or(raw::DEFAULT_FACTOR),
        max: raw.max.unwrap_or(raw::DEFAULT_MAX),
        attempts: raw.attempts.unwrap_or(raw::DEFAULT_ATTEMPTS),
    };
    if growth.initial > growth.max {
        let remedy = "write a `max` that is not below `initial`";
        findings.mistake(&at.key("initial"), "the first delay is longer than `max`", remedy);
    }
    growth.delays()
}

/// Built in, so it needs no bounds.
fn default_schedule() -> Arc<[Duration]> {
    raw::DEFAULT_SCHEDULE.into()
}

/// `None` is a target that does not sign, or a mistake that was noted.
fn signer(raw: raw::Sign, at: &KeyPath, findings: &mut Findings) -> Option<Signer> {
    let secrets = secrets(raw.secret, raw.secrets, at, findings);
    if findings.is_wrong_below(at) {
        return None;
    }
    match raw.style? {
        Style::None if secrets.is_empty() => None,
        Style::None => {
            let problem = "a secret is set and nothing is signed with it";
            let remedy = r#"write style = "standard-webhooks", or leave the secret out"#;
            findings.mistake(&at.key("style"), problem, remedy);
            None
        }
        Style::StandardWebhooks => {
            let remedy = "make a secret with: echo whsec_$(head -c 32 /dev/urandom | base64)";
            noted(Signer::standard_webhooks(&secrets), at, remedy, findings)
        }
    }
}
