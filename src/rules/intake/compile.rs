//! From a source's configuration and its preset to an [`Intake`].

use super::{Check, DedupSpec, Grouping, Intake, IntakeSpec, Naming, Route, UNKNOWN};
use crate::rules::dedup;
use crate::rules::filter::{Condition, Patterns};
use crate::rules::payload::{Field, FieldId, FieldSet};
use crate::rules::provider::{PerEvent, Unnamed, Verification};
use crate::rules::verify::{Scheme, Verifier};

impl Intake {
    /// Compiles a source. The error is a sentence for the configuration's author.
    pub fn new(spec: IntakeSpec) -> Result<Self, String> {
        let verifiers = verifiers(&spec)?;
        let signed = verifiers.iter().all(Verifier::proves);
        let mut set = FieldSet::default();
        let event = naming(&spec, signed, &mut set)?;
        let order = order(&spec, &mut set)?;
        let dedup = dedup_rule(&spec, &mut set)?;
        let test_event = test_event(&spec, &mut set)?;
        let admit = checks(spec.admit, &mut set);
        let routes = spec.targets.into_iter().map(|interest| Route {
            target: interest.target,
            events: interest.events,
            conditions: checks(interest.conditions, &mut set),
        });
        let routes = routes.collect();
        let (source, provider) = (spec.source, spec.provider);
        Ok(Self {
            source,
            provider,
            verifiers,
            fields: set,
            admit,
            test_event,
            event,
            order,
            dedup,
            routes,
        })
    }
}

fn verifiers(spec: &IntakeSpec) -> Result<Vec<Verifier>, String> {
    let name = spec.provider.name;
    let schemes = match (&spec.verify, spec.provider.verification) {
        (Some(scheme), _) => vec![scheme.clone()],
        (None, Verification::Unsigned) if !spec.secrets.is_empty() => {
            return Err(format!(
                "{name} does not sign its webhooks, so a secret has nothing to verify; \
                 remove it, and protect the source with `path_token`"
            ));
        }
        (None, Verification::Unsigned) => vec![Scheme::none()],
        (None, Verification::Schemes(_)) if spec.secrets.is_empty() => {
            return Err(format!(
                "{name} signs its webhooks; set `secret` to the one it signs with"
            ));
        }
        (None, Verification::Schemes(schemes)) => schemes(),
        (None, Verification::Configured) => {
            return Err(format!(
                "provider \"{name}\" needs `verify`; write verify = {{ kind = \"none\" }} to accept anything"
            ));
        }
    };
    let url = spec.public_url.as_deref();
    schemes.iter().map(|scheme| Verifier::new(scheme, &spec.secrets, url)).collect()
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
    let (source, window) = (&spec.source, spec.dedup_window);
    match &spec.dedup {
        Some(DedupSpec::Off) => Ok(dedup::Rule::off()),
        Some(DedupSpec::Key(fields)) if fields.is_empty() => {
            Err("`dedup.key` is empty: every request would repeat the first one".into())
        }
        Some(DedupSpec::Key(fields)) => Ok(dedup::Rule::equal(fields, None, source, set, window)),
        None => dedup::Rule::preset(&spec.provider.repeats, source, set, window),
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
