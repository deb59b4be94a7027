//! What is sent to targets: header fields, bodies, and templates tried on what the providers send.

use std::collections::HashSet;

use super::noted;
use super::target::Checked;
use crate::config::mistake::Findings;
use crate::config::policy::HeaderFields;
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::model::{Event, EventId, Headers, Name, Secret};
use crate::rules::intake::Interest;
use crate::rules::outbound::{sendable, settable};
use crate::rules::payload::FieldSet;
use crate::rules::provider::{Preset, Sample};
use crate::template::Body;
use crate::time::Timestamp;

/// What can be done about a template.
const REMEDY: &str = "docs/configuration.md, \"What is sent\", says what a template can use";

/// Compiles what a target is sent. `None` only after a mistake was noted.
pub(super) fn body(raw: &raw::Target, at: &KeyPath, findings: &mut Findings) -> Option<Body> {
    let preset = raw.preset?.0;
    let verbatim = Body::new(preset, raw.body.clone(), None).is_ok_and(|body| body.is_verbatim());
    if let Some(content_type) = &raw.content_type {
        if verbatim && !findings.is_wrong_below(&at.key("body")) {
            let problem = "the event's own body goes out with its own content type";
            findings.mistake(&at.key("content_type"), problem, "leave it out, or write a `body`");
        }
        noted(sendable(content_type), &at.key("content_type"), "write a media type", findings)?;
    }
    let body = Body::new(preset, raw.body.clone(), raw.content_type.clone());
    noted(body.map_err(|error| error.to_string()), &at.key("body"), REMEDY, findings)
}

/// Checks what is to be set on each request. `None` only after a mistake was noted.
pub(super) fn headers(
    raw: Option<HeaderFields>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<Vec<(String, Secret)>> {
    let check = |(name, value): (String, Secret)| {
        let at = at.key(&name);
        let settable = noted(settable(&name), &at, "write the name of another field", findings);
        let text = std::str::from_utf8(value.expose()).unwrap_or("\0");
        noted(sendable(text), &at, "write visible ASCII on one line", findings)?;
        settable.map(|name| (name, value))
    };
    let all: Vec<_> =
        raw.map(|fields| fields.0).unwrap_or_default().into_iter().map(check).collect();
    let mut names = HashSet::new();
    for (name, _) in all.iter().flatten() {
        if !names.insert(name) {
            let problem = "upper and lower case make no other field, and this one is here twice";
            findings.mistake(&at.key(name), problem, "write it once");
        }
    }
    if findings.is_wrong_below(at) { None } else { all.into_iter().collect() }
}

/// Renders every target's body for each sample of its sources' providers that would be routed to it.
pub(super) fn try_samples(
    targets: &[Checked],
    sources: &[(Name, &'static Preset)],
    findings: &mut Findings,
) {
    for checked in targets {
        let Some((target, interest)) = checked.tried() else { continue };
        if target.body.is_verbatim() {
            continue;
        }
        let at = KeyPath::of(&["target", target.name.as_str(), "body"]);
        for (source, provider) in sources.iter().filter(|(name, _)| checked.listens_to(name)) {
            // What comes from a source of the author's own making, only the author knows.
            if provider.name == "custom" {
                continue;
            }
            let fails = provider.samples.iter().find_map(|sample| {
                let event = event(source, sample);
                let error =
                    wants(interest, &event).then(|| target.body.render(&event, 1))?.err()?;
                Some((sample.event, error))
            });
            if let Some((name, error)) = fails {
                let of = provider.name;
                findings.mistake(&at, format!("on {of}'s sample of {name}: {error}"), REMEDY);
                break;
            }
        }
    }
}

fn event(source: &Name, sample: &Sample) -> Event {
    let json = ("content-type", "application/json");
    let headers = std::iter::once(json).chain(sample.headers.iter().copied());
    Event {
        id: EventId::new(Timestamp::EPOCH, [0; 10]),
        source: source.clone(),
        name: sample.event.to_owned(),
        order_key: None,
        received_at: Timestamp::EPOCH,
        headers: Headers::from_pairs(headers.map(|(name, value)| (name, value.as_bytes()))),
        body: sample.body.as_bytes().to_vec().into(),
    }
}

/// Whether the target's filters let the event through.
fn wants(interest: &Interest, event: &Event) -> bool {
    let mut set = FieldSet::default();
    let ids: Vec<_> = interest.conditions.iter().map(|c| set.add(&c.field)).collect();
    let Ok(fields) = set.extract(&event.headers, &event.body) else { return false };
    let mut checks = interest.conditions.iter().zip(ids);
    interest.events.as_ref().is_none_or(|events| events.matches(&event.name))
        && checks.all(|(check, id)| check.patterns.matches_value(&fields.get(id)))
}
