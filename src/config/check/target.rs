//! Targets: their URLs, what they want, their retries and signatures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::proxy::proxy;
use super::tls::tls;
use super::{PATTERN_REMEDY, body, conditions, noted, secrets, url};
use crate::config::Target;
use crate::config::mistake::Findings;
use crate::config::policy::Frequency;
use crate::config::raw::{self, OnDeadWord, OrderWord, Style};
use crate::config::table::did_you_mean;
use crate::config::tree::KeyPath;
use crate::model::{Name, OnDead, Order, Secret};
use crate::rules::breaker::BreakerPolicy;
use crate::rules::filter::Patterns;
use crate::rules::intake::Interest;
use crate::rules::rate::Rate;
use crate::rules::retry::{Exponential, RetryPolicy};
use crate::rules::sign::{self, Signer};
use crate::template::Preset;

/// How targets are named.
const NAME_REMEDY: &str = "names are lower-case letters, digits and dashes, at most 63";

/// What a Slack channel takes for long; a short burst is let through.
const SLACK_RATE: Rate = Rate { interval: Duration::from_secs(1), burst: 1 };
/// Teams throttles more.
const TEAMS_RATE: Rate = Rate { interval: Duration::from_millis(250), burst: 1 };

/// A target with the side that its sources see. Each half is `None` only after a mistake was noted.
pub(super) struct Checked {
    pub(super) built: Option<Target>,
    pub(super) interest: Option<Interest>,
    /// The sources it listens to; `None` is every source.
    from: Option<Vec<String>>,
}

impl Checked {
    /// The target's body, when both halves are right.
    pub(super) fn tried(&self) -> Option<(&Target, &Interest)> {
        self.built.as_ref().zip(self.interest.as_ref())
    }
}

impl Checked {
    /// Whether events of a source may go here.
    pub(super) fn listens_to(&self, source: &Name) -> bool {
        let is_active = self.built.as_ref().is_none_or(|target| target.active);
        let hears = |from: &Vec<String>| from.iter().any(|name| name == source.as_str());
        is_active && self.from.as_ref().is_none_or(hears)
    }
}

/// Checks every target against the names of the sources.
pub(super) fn targets(
    raw: Vec<(Name, raw::Target)>,
    sources: &[Name],
    findings: &mut Findings,
) -> Vec<Checked> {
    heirs(&raw, findings);
    raw.into_iter().map(|(name, raw)| target(name, raw, sources, findings)).collect()
}

/// A name that a target had before can be no other's, neither now nor before.
fn heirs(raw: &[(Name, raw::Target)], findings: &mut Findings) {
    let mut heirs: BTreeMap<&str, &Name> = BTreeMap::new();
    for (name, target) in raw {
        for (index, was) in target.was.iter().flatten().enumerate() {
            let at = KeyPath::of(&["target", name.as_str(), "was"]).index(index);
            if Name::parse(was).is_none() {
                findings.mistake(&at, "this is not the name of a target", NAME_REMEDY);
            } else if raw.iter().any(|(other, _)| other.as_str() == was) {
                let problem = "a target of this name is configured, and keeps its deliveries";
                findings.mistake(&at, problem, "write a name that no target has any more");
            } else if let Some(heir) = heirs.insert(was, name) {
                let problem = format!("the target {heir} has had this name, too");
                findings.mistake(
                    &at,
                    problem,
                    "leave one of them out: one target takes its deliveries",
                );
            }
        }
    }
}

fn target(name: Name, raw: raw::Target, sources: &[Name], findings: &mut Findings) -> Checked {
    let at = KeyPath::of(&["target", name.as_str()]);
    if let Some(problem) = raw.url.as_ref().and_then(|url| url::fault(&url.0)) {
        findings.mistake(&at.key("url"), problem, url::REMEDY);
    }
    let body = body::body(&raw, &at, findings);
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
    let headers = body::headers(raw.headers, &at.key("headers"), findings);
    let usual = raw.preset.as_ref().and_then(|preset| usual_rate(preset.0));
    let rate = rate(raw.rate, raw.burst, &at, findings).or(usual);
    let signer = signer_beside(raw.sign, headers.as_deref(), &at, findings);
    let order = order(raw.order, raw.on_dead, &at, findings);
    let url = raw.url.as_ref().map(|url| &*url.0);
    let tls = raw.tls.as_ref().map(|keys| tls(keys, url, &at.key("tls"), findings));
    if raw.proxy.is_some() && raw.deny_private == Some(true) {
        let problem = "the proxy looks the name up, so no address can be refused here";
        findings.mistake(&at.key("deny_private"), problem, "leave it out, or the proxy");
    }
    let proxy = raw.proxy.map(|keys| proxy(keys, &at.key("proxy"), findings));
    let build = || {
        Some(Target {
            name,
            url: raw.url?.0,
            body: body?,
            method: raw.method?.0,
            headers: headers?,
            timeout: raw.timeout?,
            connect_timeout: raw.connect_timeout?,
            concurrency: raw.concurrency?,
            order: order?,
            active: raw.active?,
            retry: retry?,
            rate,
            breaker: match raw.breaker? {
                raw::Breaker::Off => None,
                raw::Breaker::On(keys) => Some(breaker(&keys)?),
            },
            signer,
            tls: match tls {
                Some(read) => Some(read?),
                None => None,
            },
            proxy: match proxy {
                Some(read) => Some(read?),
                None => None,
            },
            deny_private: raw.deny_private?,
            forward_tokens: raw.forward_tokens?,
            ping: raw.ping?,
            was: raw.was.iter().flatten().filter_map(|name| Name::parse(name)).collect(),
        })
    };
    Checked { built: build(), interest, from: raw.from }
}

/// How often a preset's target can be asked, where that is published.
fn usual_rate(preset: Preset) -> Option<Rate> {
    match preset {
        Preset::Slack => Some(SLACK_RATE),
        Preset::Teams => Some(TEAMS_RATE),
        Preset::Raw | Preset::Discord | Preset::GithubDispatch | Preset::BuildkiteTrigger => None,
    }
}

/// `None` only after a mistake was noted.
fn order(
    order: Option<OrderWord>,
    on_dead: Option<OnDeadWord>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<Order> {
    let on_dead = on_dead?.0;
    match order? {
        OrderWord::Key => Some(Order::Key(on_dead)),
        OrderWord::None if on_dead == OnDead::Hold => {
            let remedy = r#"write order = "key" beside it, or leave it out"#;
            let problem = "without an order a dead letter holds nobody up";
            findings.mistake(&at.key("on_dead"), problem, remedy);
            None
        }
        OrderWord::None => Some(Order::None),
    }
}

/// `None` is a target without a rate, or a mistake that was noted.
fn rate(
    raw: Option<Frequency>,
    burst: Option<u32>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<Rate> {
    if burst.is_some() && raw.is_none() && !findings.is_wrong_below(&at.key("rate")) {
        let remedy = r#"write rate = "50/s" beside it, or leave it out"#;
        findings.mistake(&at.key("burst"), "a burst means nothing without a rate", remedy);
    }
    let Frequency { interval, in_a_second } = raw?;
    Some(Rate { interval, burst: burst.unwrap_or(in_a_second) })
}

/// `None` only after a mistake was noted.
fn breaker(keys: &raw::BreakerKeys) -> Option<BreakerPolicy> {
    Some(BreakerPolicy {
        failures: keys.failures?,
        failure_rate: keys.failure_rate?,
        probe_every: keys.probe_every?,
    })
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
    let give_up = raw.give_up.unwrap_or_default();
    let give_up = give_up.into_iter().filter_map(|status| u16::try_from(status).ok()).collect();
    Some(RetryPolicy { delays, jitter: raw.jitter?.0, expire: expire?, give_up })
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

/// What signs, in a field that is not set anyway. `None` when nothing does, or after a mistake was noted.
fn signer_beside(
    sign: Option<raw::Sign>,
    headers: Option<&[(String, Secret)]>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<Signer> {
    let signer = signer(sign?, &at.key("sign"), findings)?;
    if headers.unwrap_or_default().iter().any(|(name, _)| name == signer.header()) {
        let problem = format!("`{}` is what `sign` sets on each attempt", signer.header());
        let remedy = "leave it out here, or give `sign` another header";
        findings.mistake(&at.key("headers"), problem, remedy);
    }
    Some(signer)
}

/// `None` is a target that does not sign, or a mistake that was noted.
fn signer(raw: raw::Sign, at: &KeyPath, findings: &mut Findings) -> Option<Signer> {
    let secrets = secrets(raw.secret, raw.secrets, at, findings);
    let style = raw.style?;
    let (has_header, has_prefix) = match style {
        Style::StandardWebhooks | Style::Ed25519 | Style::None => (false, false),
        Style::Buildkite => (true, false),
        Style::HmacSha256 | Style::Token => (true, true),
    };
    let odd = [("header", &raw.header, has_header), ("prefix", &raw.prefix, has_prefix)];
    for (key, value, has) in odd {
        if value.is_some() && !has {
            findings.mistake(&at.key(key), "this style has no such choice", "leave it out");
        }
    }
    if findings.is_wrong_below(at) {
        return None;
    }
    let header = |usual: &str| raw.header.clone().unwrap_or_else(|| usual.to_owned());
    let prefix = |usual: &str| raw.prefix.clone().unwrap_or_else(|| usual.to_owned());
    let style = match style {
        Style::None if secrets.is_empty() => return None,
        Style::None => {
            let problem = "a secret is set and nothing is signed with it";
            let remedy = r#"write style = "standard-webhooks", or leave the secret out"#;
            findings.mistake(&at.key("style"), problem, remedy);
            return None;
        }
        Style::StandardWebhooks => sign::Style::StandardWebhooks,
        Style::Ed25519 => sign::Style::Ed25519,
        Style::HmacSha256 => sign::Style::HmacSha256 {
            header: header("x-webhook-signature"),
            prefix: prefix("sha256="),
        },
        Style::Buildkite => sign::Style::Buildkite { header: header("x-buildkite-signature") },
        Style::Token => {
            sign::Style::Token { header: header("x-webhook-token"), prefix: prefix("") }
        }
    };
    let remedy =
        "`everhook secret new --style STYLE` makes a secret; docs/configuration.md has the styles";
    noted(Signer::new(style, &secrets), at, remedy, findings)
}
