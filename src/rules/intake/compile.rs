//! From a source's configuration and its preset to an [`Intake`].

use super::handshake::Handshaker;
use super::routes::{Route, Routes};
use super::{Check, Choice, DedupSpec, Grouping, Intake, IntakeSpec, Naming, UNKNOWN};
use crate::model::Secret;
use crate::rules::dedup;
use crate::rules::filter::{Condition, Patterns};
use crate::rules::payload::{Field, FieldId, FieldSet};
use crate::rules::provider::{Handshake, PerEvent, Repeats, Unnamed, Verification};
use crate::rules::verify::{Fault, Place, Scheme, Verifier};

impl Intake {
    /// Compiles a source. The error is a sentence for the configuration's author.
    pub fn new(spec: IntakeSpec) -> Result<Self, String> {
        let facts = spec.facts();
        let (verifiers, choice) = verifiers(&spec)?;
        let signed = verifiers.iter().all(Verifier::proves);
        let mut set = FieldSet::default();
        let event = naming(&spec, signed, &mut set)?;
        let order = order(&spec, &mut set)?;
        let dedup = dedup_rule(&spec, &mut set)?;
        let test_event = test_event(&spec, &mut set)?;
        let (handshake, token) = (spec.provider.handshake, spec.handshake_token);
        let handshaker = Handshaker::new(handshake, token, &spec.secrets, &mut set)?;
        let admit = checks(spec.admit, &mut set);
        let routes = spec.targets.into_iter().map(|interest| Route {
            target: interest.target,
            events: interest.events,
            conditions: checks(interest.conditions, &mut set),
        });
        let routes = Routes::new(routes.collect());
        let (source, provider) = (spec.source, spec.provider);
        Ok(Self {
            source,
            provider,
            verifiers,
            choice,
            handshaker,
            fields: set,
            admit,
            test_event,
            event,
            order,
            dedup,
            routes,
            facts,
        })
    }
}

fn verifiers(spec: &IntakeSpec) -> Result<(Vec<Verifier>, Choice), String> {
    let name = spec.provider.name;
    let (schemes, choice) = match (&spec.verify, spec.provider.verification) {
        (Some(scheme), _) => (vec![scheme.clone()], Choice::One),
        (None, Verification::Unsigned) if !spec.secrets.is_empty() => {
            return Err(format!(
                "{name} does not sign its webhooks, so a secret has nothing to verify; \
                 remove it, and protect the source with `path_token`"
            ));
        }
        (None, Verification::Unsigned) => (vec![Scheme::none()], Choice::One),
        (None, Verification::Schemes(_) | Verification::FirstOf(_)) if spec.secrets.is_empty() => {
            if spec.provider.handshake == Handshake::HookSecret {
                return Ok((Vec::new(), Choice::One));
            }
            return Err(format!(
                "{name} signs its webhooks; set `secret` to the one it signs with"
            ));
        }
        (None, Verification::Schemes(schemes)) => (schemes(), Choice::One),
        (None, Verification::FirstOf(schemes)) => (schemes(), Choice::First),
        (None, Verification::Configured) => {
            return Err(format!(
                "provider \"{name}\" needs `verify`; write verify = {{ kind = \"none\" }} to accept anything"
            ));
        }
    };
    let url = spec.public_url.as_deref();
    if let [scheme] = schemes.as_slice() {
        return Ok((vec![Verifier::new(scheme, &spec.secrets, url)?], choice));
    }
    let verifiers = shares(&schemes, &spec.secrets)
        .into_iter()
        .map(|share| Verifier::new(share.scheme, &share.secrets, url));
    Ok((verifiers.collect::<Result<_, _>>()?, choice))
}

/// What keeps these secrets from verifying with a preset's schemes; secrets are counted from the first of all.
pub fn faults(schemes: &[Scheme], secrets: &[Secret], public_url: Option<&str>) -> Vec<Fault> {
    if let [scheme] = schemes {
        return scheme.faults(secrets, public_url);
    }
    let mut faults: Vec<Fault> = Vec::new();
    for share in shares(schemes, secrets) {
        for fault in share.scheme.faults(&share.secrets, public_url) {
            let at = match fault.at {
                Place::Secret(own) => {
                    share.indices.get(own).map_or(Place::Secrets, |index| Place::Secret(*index))
                }
                Place::Verify(_) | Place::Secrets | Place::PublicUrl => fault.at,
            };
            // Schemes that differ in their headers only find the same wrong.
            if faults.iter().all(|known| known.at != at) {
                faults.push(Fault { at, ..fault });
            }
        }
    }
    faults
}

/// A scheme and the secrets that are for it.
struct Share<'a> {
    scheme: &'a Scheme,
    secrets: Vec<Secret>,
    /// Which of all the secrets these are.
    indices: Vec<usize>,
}

/// The schemes that have secrets. One that begins with the key prefix of a scheme is for the schemes with that
/// prefix. Any other is for those without a prefix, or, when there are none, for the first scheme and those that
/// share its prefix: a public key must never serve as a symmetric one, which everybody would know.
fn shares<'a>(schemes: &'a [Scheme], secrets: &[Secret]) -> Vec<Share<'a>> {
    let begins = |secret: &Secret, scheme: &Scheme| {
        !scheme.key_prefix.is_empty() && secret.expose().starts_with(scheme.key_prefix.as_bytes())
    };
    let plain = schemes.iter().any(|scheme| scheme.key_prefix.is_empty());
    let first = schemes.first().map_or("", |scheme| &*scheme.key_prefix);
    let share = |scheme: &'a Scheme| {
        let fits = |secret: &Secret| {
            let prefixed = schemes.iter().any(|scheme| begins(secret, scheme));
            match (prefixed, plain) {
                (true, _) => begins(secret, scheme),
                (false, true) => scheme.key_prefix.is_empty(),
                (false, false) => scheme.key_prefix == first,
            }
        };
        let own = secrets.iter().enumerate().filter(|(_, secret)| fits(secret));
        let (indices, secrets) = own.map(|(index, secret)| (index, secret.clone())).unzip();
        Share { scheme, secrets, indices }
    };
    schemes.iter().map(share).filter(|share: &Share<'_>| !share.secrets.is_empty()).collect()
}

fn naming(spec: &IntakeSpec, signed: bool, set: &mut FieldSet) -> Result<Naming, String> {
    let preset = spec.provider.event;
    Ok(match &spec.event {
        // What proved its origin is kept whatever it is called.
        Some(field) if signed => {
            Naming { fields: vec![set.add(field)], unnamed: Unnamed::Called(UNKNOWN) }
        }
        Some(field) => Naming { fields: vec![set.add(field)], unnamed: Unnamed::Malformed },
        None => Naming { fields: preset_fields(preset.fields, set)?, unnamed: preset.unnamed },
    })
}

fn order(spec: &IntakeSpec, set: &mut FieldSet) -> Result<Vec<Grouping>, String> {
    match &spec.order_key {
        Some(fields) if fields.is_empty() => Ok(Vec::new()),
        Some(fields) => {
            let fields = fields.iter().map(|field| set.add(field)).collect();
            Ok(vec![Grouping { events: Patterns::parse::<&str>(&[])?, fields }])
        }
        None => {
            let grouping = |per: &PerEvent| {
                let fields = preset_fields(per.fields, set)?;
                Ok(Grouping { events: Patterns::parse(per.events)?, fields })
            };
            spec.provider.order.iter().map(grouping).collect()
        }
    }
}

fn dedup_rule(spec: &IntakeSpec, set: &mut FieldSet) -> Result<dedup::Rule, String> {
    let window = spec.own_window.or(spec.provider.window).unwrap_or(spec.dedup_window);
    let source = &spec.source;
    match &spec.dedup {
        Some(DedupSpec::Off) => dedup::Rule::off(spec.on_conflict),
        Some(DedupSpec::Key(fields)) if fields.is_empty() => {
            Err("`dedup.key` is empty: every request would repeat the first one".into())
        }
        Some(DedupSpec::Key(fields)) => {
            let rule = dedup::Rule::equal(std::slice::from_ref(fields), None, source, set, window);
            Ok(rule.on_conflict(spec.on_conflict))
        }
        None if spec.own_window.is_some() && matches!(spec.provider.repeats, Repeats::Off) => {
            Err(format!("{} has no dedup key of its own; set `dedup.key`", spec.provider.name))
        }
        None => {
            let (repeats, conflict) = (&spec.provider.repeats, spec.on_conflict);
            dedup::Rule::preset(repeats, source, set, window, conflict)
        }
    }
}

/// What the provider's test event is known by; nothing without a `where` that it would have to pass.
fn test_event(
    spec: &IntakeSpec,
    set: &mut FieldSet,
) -> Result<Vec<(FieldId, &'static str)>, String> {
    if spec.admit.is_empty() {
        return Ok(Vec::new());
    }
    let known = |(pointer, constant): &(&str, &'static str)| {
        Field::parse(pointer).map(|field| (set.add(&field), *constant))
    };
    spec.provider.test_event.iter().map(known).collect()
}

fn preset_fields(fields: &[&str], set: &mut FieldSet) -> Result<Vec<FieldId>, String> {
    fields.iter().map(|field| Field::parse(field).map(|field| set.add(&field))).collect()
}

fn checks(conditions: Vec<Condition>, set: &mut FieldSet) -> Vec<Check> {
    let compile = |condition: Condition| Check {
        field: set.add(&condition.field),
        patterns: condition.patterns,
    };
    conditions.into_iter().map(compile).collect()
}
