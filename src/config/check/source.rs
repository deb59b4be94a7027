//! Sources: their paths, their secrets, and the compiled intake of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::target::Checked;
use super::{FIELD_REMEDY, conditions, noted, secrets, url, verify};
use crate::config::mistake::Findings;
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::config::{OnUnverified, Source};
use crate::model::{Name, Secret};
use crate::rules::intake::{DedupSpec, Intake, IntakeSpec};
use crate::rules::payload::Field;
use crate::rules::provider::{Handshake, Preset, Verification};
use crate::rules::stages::Patience;
use crate::rules::verify::Kind;

/// Shorter tokens are refused: eight characters can still be tried one by one.
const MIN_TOKEN: usize = 8;
/// Shorter tokens are warned about.
const GOOD_TOKEN: usize = 16;
/// Longest token.
const MAX_TOKEN: usize = 256;

/// What a source is checked against.
pub(super) struct Surroundings<'a> {
    pub(super) targets: &'a [Checked],
    /// Whether other machines can reach the ingress.
    pub(super) exposed: bool,
    /// `None` after a mistake.
    pub(super) dedup_window: Option<Duration>,
}

/// Checks every source; `None` only after a mistake was noted.
pub(super) fn sources(
    raw: Vec<(Name, raw::Source)>,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Option<Vec<Source>> {
    let mut owners: BTreeMap<String, Name> = BTreeMap::new();
    let mut sources = Some(Vec::with_capacity(raw.len()));
    for (name, raw) in raw {
        let at = KeyPath::of(&["source", name.as_str()]);
        let path = raw.path.clone().unwrap_or_else(|| format!("/in/{name}"));
        if let Some(owner) = owners.get(&path) {
            let problem = format!("the source {owner} has the same path");
            findings.mistake(&at.key("path"), problem, "give each source a path of its own");
        } else {
            owners.insert(path.clone(), name.clone());
        }
        let built = source(name, path, raw, &at, around, findings);
        sources = sources.zip(built).map(|(mut sources, source)| {
            sources.push(source);
            sources
        });
    }
    sources
}

fn source(
    name: Name,
    path: String,
    raw: raw::Source,
    at: &KeyPath,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Option<Source> {
    if let Some(problem) = path_fault(&path) {
        let remedy =
            r#"write a path such as "/in/github": segments of printable ASCII, no trailing slash"#;
        findings.mistake(&at.key("path"), problem, remedy);
    }
    check_token(raw.path_token.as_ref(), at, findings);
    warn_if_open(&raw, at, around.exposed, findings);
    check_holding(&raw, at, around.exposed, findings);
    let path_token = raw.path_token.clone();
    let allow_ips = raw.allow_ips.clone().unwrap_or_default();
    let (rate, client_rate) = (raw.rate, raw.client_rate);
    let (on_unverified, expect_every) = (raw.on_unverified, raw.expect_every);
    let watched = raw.provider.zip(raw.stages.as_ref());
    let stages =
        watched.and_then(|(preset, table)| patience(preset, table, &at.key("stages"), findings));
    let spec = spec(&name, raw, at, around, findings);
    if findings.is_wrong_below(at) {
        // The intake would only repeat what has been said already.
        return None;
    }
    let spec = spec?;
    let (provider, secrets) = (spec.provider.name, spec.secrets.clone());
    let public_url = spec.public_url.clone();
    let remedy = "see the keys of a source in docs/configuration.md";
    let intake = Arc::new(noted(Intake::new(spec), at, remedy, findings)?);
    Some(Source {
        name,
        path,
        path_token,
        public_url,
        intake,
        allow_ips,
        rate,
        client_rate,
        on_unverified: on_unverified?,
        stages,
        expect_every,
        provider,
        secrets,
    })
}

/// How patiently the builds of a source are watched.
fn patience(
    preset: &Preset,
    raw: &raw::Stages,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<Patience> {
    if preset.steps.is_empty() {
        let problem = "the order of this provider's events is not known, so none can be missed";
        findings.mistake(at, problem, "remove `stages`");
    }
    let skip = raw.skip.clone().unwrap_or_default();
    let known: Vec<_> = preset.steps.iter().map(|step| step.event).collect();
    for (index, event) in skip.iter().enumerate() {
        if !known.is_empty() && !known.contains(&event.as_str()) {
            let remedy = format!("the steps are {}", known.join(", "));
            findings.mistake(&at.key("skip").index(index), "this is no step of a build", remedy);
        }
    }
    Some(Patience { gap_after: raw.gap_after?, stall_after: raw.stall_after?, skip })
}

/// Everything a source's intake is compiled from. What is wrong is noted and left out.
fn spec(
    name: &Name,
    raw: raw::Source,
    at: &KeyPath,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Option<IntakeSpec> {
    let field = |text: &String, at: &KeyPath, findings: &mut Findings| {
        noted(Field::parse(text), at, FIELD_REMEDY, findings)
    };
    let fields = |texts: Vec<String>, at: &KeyPath, findings: &mut Findings| {
        let read = |(index, text)| field(text, &at.index(index), findings);
        let read: Vec<_> = texts.iter().enumerate().map(read).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    };
    let public_url = raw.public_url.map(|url| url.0);
    if let Some(problem) = public_url.as_deref().and_then(url::fault) {
        findings.mistake(&at.key("public_url"), problem, url::REMEDY);
    }
    let listening = around.targets.iter().filter(|target| target.listens_to(name));
    let targets: Vec<_> = listening.filter_map(|target| target.interest.clone()).collect();
    if targets.is_empty() && around.targets.iter().all(|target| target.interest.is_some()) {
        findings
            .warning(at, "no target listens to this source: its events are stored and go nowhere");
    }
    let (dedup, own_window) = match raw.dedup {
        Some(raw::Dedup::Off) => (Some(DedupSpec::Off), None),
        Some(raw::Dedup::Key(table)) => {
            let key = table
                .key
                .and_then(|key| fields(key, &at.key("dedup").key("key"), findings))
                .map(DedupSpec::Key);
            (key, table.window)
        }
        None => (None, None),
    };
    let event = raw.event.as_ref().and_then(|text| field(text, &at.key("event"), findings));
    let order_key = raw.order_key.and_then(|texts| fields(texts, &at.key("order_key"), findings));
    let admit = conditions(raw.r#where, &at.key("where"), findings);
    let written = verify::Written {
        verify: raw.verify,
        several: raw.secrets.is_some(),
        secrets: secrets(raw.secret, raw.secrets, at, findings),
        public_url: public_url.as_deref(),
    };
    let (verify, secrets) = verify::proof(written, raw.provider, at, findings);
    Some(IntakeSpec {
        source: name.clone(),
        provider: raw.provider?,
        verify,
        secrets,
        handshake_token: raw.handshake_token,
        public_url,
        admit: admit?,
        event,
        dedup,
        on_conflict: raw.on_conflict?,
        own_window,
        order_key,
        dedup_window: around.dedup_window?,
        targets,
    })
}

/// What is wrong with a path, without showing it: it may hold a token.
fn path_fault(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        Some("the path does not start with a slash")
    } else if path.ends_with('/') || path.contains("//") {
        Some("the path has an empty segment")
    } else if path.split('/').any(|segment| segment == "." || segment == "..") {
        Some("the path has a segment . or .., which clients resolve before they send it")
    } else if path.bytes().any(|b| !b.is_ascii_graphic() || br#"?#{}*\"<>"#.contains(&b)) {
        Some("the path has a character that a path cannot have")
    } else {
        None
    }
}

fn check_token(token: Option<&Secret>, at: &KeyPath, findings: &mut Findings) {
    let Some(token) = token.map(Secret::expose) else { return };
    let at = at.key("path_token");
    let remedy = "make one with: head -c 24 /dev/urandom | base64 | tr '+/' '-_'";
    let word = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if !token.iter().copied().all(word) {
        let problem =
            "the token has a character that a URL would encode; it takes A-Z a-z 0-9 - . _ ~";
        findings.mistake(&at, problem, remedy);
    } else if !(MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) {
        let problem = format!("the token must have {MIN_TOKEN} to {MAX_TOKEN} characters");
        findings.mistake(&at, problem, remedy);
    } else if token.len() < GOOD_TOKEN {
        findings.warning(&at, format!("the token has fewer than {GOOD_TOKEN} characters"));
    }
}

fn warn_if_open(raw: &raw::Source, at: &KeyPath, exposed: bool, findings: &mut Findings) {
    if exposed && is_unsigned(raw) && raw.path_token.is_none() && raw.allow_ips.is_none() {
        let sentence = "anyone who can reach the listener can post events here: \
                        nothing is verified and there is neither path_token nor allow_ips";
        findings.warning(at, sentence);
    }
}

fn is_unsigned(raw: &raw::Source) -> bool {
    match raw.verify.as_ref().map(|verify| verify.kind) {
        Some(kind) => kind == Some(Kind::None),
        None => {
            raw.provider.is_some_and(|preset| matches!(preset.verification, Verification::Unsigned))
        }
    }
}

/// Where holding what cannot be verified makes no sense, and where it is a risk.
fn check_holding(raw: &raw::Source, at: &KeyPath, exposed: bool, findings: &mut Findings) {
    if raw.on_unverified != Some(OnUnverified::Hold) {
        return;
    }
    let at = at.key("on_unverified");
    if raw.provider.is_some_and(|preset| preset.handshake == Handshake::Ping) {
        let problem = "this provider sends bad signatures to see them refused, and takes no address that accepts them";
        findings.mistake(&at, problem, r#"write on_unverified = "reject""#);
    } else if is_unsigned(raw) {
        findings.warning(&at, "nothing is verified here, so nothing is ever held");
    } else if exposed && raw.path_token.is_none() && raw.allow_ips.is_none() {
        let sentence = "anyone who can reach the listener can fill the quarantine with requests that are never given up: \
                        there is neither path_token nor allow_ips";
        findings.warning(&at, sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_their_grammar() {
        for good in ["/in/github", "/a", "/a.b/c-d_e~f", "/in/%20x", "/in/a:b@c"] {
            assert_eq!(path_fault(good), None, "{good}");
        }
        for bad in [
            "", "in", "/", "/in/", "//in", "/a//b", "/a?b", "/a#b", "/{x}", "/*", "/a b", "/ä",
            "/../x",
        ] {
            assert!(path_fault(bad).is_some(), "{bad}");
        }
    }
}
