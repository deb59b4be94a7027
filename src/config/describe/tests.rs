//! The declarations against everything that must agree with them: their own bounds, the example file and
//! the documentation.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test is about some shapes and fails loudly on the others"
)]

use std::time::Duration;

use super::*;
use crate::config::locate::parse_value;
use crate::config::mistake::Findings;
use crate::config::reference::{named, reference, walk};
use crate::config::tree::{Datum, KeyPath, Node, Origin};
use crate::config::units::{parse_duration, parse_size};

const EXAMPLE: &str = include_str!("../../../config.example.toml");
const DOCUMENTATION: &str = include_str!("../../../docs/configuration.md");

fn each_field(mut visit: impl FnMut(&[&'static str], &Field)) {
    walk(&[], &Root::TABLE, &mut |path, table| {
        for field in table.fields {
            visit(&[path, &[field.key()]].concat(), field);
        }
    });
}

/// The tree with one value, written as TOML, and what its reader notes.
fn read(path: &[&str], toml: &str) -> (Node, Findings) {
    let value = parse_value(toml).unwrap_or_else(|| panic!("{path:?} = {toml} is not TOML"));
    let root = path.iter().rev().fold(value, |node, key| Node {
        datum: Datum::Table([((*key).to_owned(), node)].into()),
        origin: Origin::Default,
    });
    let mut findings = Findings::default();
    Root::read_table(&root, &KeyPath::default(), &mut findings);
    (root, findings)
}

/// Whether a value at a key is refused.
fn is_refused(path: &[&str], toml: &str) -> bool {
    read(path, toml).1.is_wrong_below(&KeyPath::of(path))
}

#[test]
fn no_key_shows_what_was_written_for_it() {
    each_field(|path, _| {
        for value in ["\"canary\"", "[\"canary\", 5]", "{ x = \"canary\" }", "[[\"canary\"]]"] {
            let (root, findings) = read(path, value);
            let told = findings.located(&root, &[]).to_string();
            assert!(!told.contains("canary"), "{path:?} = {value}: {told}");
        }
    });
}

#[test]
fn every_range_holds_at_both_ends_and_not_beyond() {
    let mut ranges = 0;
    each_field(|path, field| {
        let Some((low, high)) = field.range else { return };
        let shape = if let Shape::List(of) = field.shape { *of } else { field.shape };
        let millis = |text| parse_duration(text).unwrap().as_millis();
        let quoted = |text: &str| format!("{text:?}");
        let (ends, beyond) = match shape {
            Shape::Duration | Shape::DurationOrSeconds => {
                let below = millis(low).checked_sub(1).map(|ms| format!("\"{ms}ms\""));
                let above = format!("\"{}ms\"", millis(high) + 1);
                ([quoted(low), quoted(high)], below.into_iter().chain([above]).collect::<Vec<_>>())
            }
            Shape::Size => {
                let below = parse_size(low).unwrap().checked_sub(1).map(|b| format!("\"{b}B\""));
                let above = format!("\"{}B\"", parse_size(high).unwrap() + 1);
                ([quoted(low), quoted(high)], below.into_iter().chain([above]).collect())
            }
            Shape::Integer => {
                let (below, above) =
                    (low.parse::<i64>().unwrap() - 1, high.parse::<i64>().unwrap() + 1);
                ([low.into(), high.into()], vec![below.to_string(), above.to_string()])
            }
            Shape::Number | Shape::NumberOr(_) => {
                let (below, above) =
                    (low.parse::<f64>().unwrap() - 0.1, high.parse::<f64>().unwrap() + 0.1);
                (
                    [low.into(), high.into()],
                    vec![format!("{below:.1}"), format!("{above:.1}"), "nan".into()],
                )
            }
            other => panic!("{path:?}: a range means nothing to {:?}", named(&other)),
        };
        for value in ends {
            assert!(!is_refused(path, &value), "{path:?} = {value}");
        }
        for value in beyond {
            assert!(is_refused(path, &value), "{path:?} = {value}");
        }
        ranges += 1;
    });
    assert!(ranges >= 18, "{ranges} ranges");
}

#[test]
fn every_length_holds_at_both_ends_and_not_beyond() {
    let mut lengths = 0;
    each_field(|path, field| {
        let Some((low, high)) = field.size else { return };
        let written = |length: usize| match field.shape {
            Shape::Text | Shape::Url => format!("\"{}\"", "x".repeat(length)),
            Shape::List(of) => {
                let element =
                    if matches!(of, Shape::Secret) { "\"plain:x\"" } else { "\"1.1.1.1:1\"" };
                let element = if matches!(of, Shape::Duration) { "\"1s\"" } else { element };
                let element = if matches!(of, Shape::Network) { "\"::/0\"" } else { element };
                let element = if matches!(of, Shape::Integer) { "400" } else { element };
                format!("[{}]", vec![element; length].join(","))
            }
            Shape::Conditions => {
                let entries: Vec<_> = (0..length).map(|n| format!("\"/{n}\" = \"x\"")).collect();
                format!("{{{}}}", entries.join(","))
            }
            Shape::HeaderFields => {
                let entries: Vec<_> = (0..length).map(|n| format!("X-{n} = \"x\"")).collect();
                format!("{{{}}}", entries.join(","))
            }
            Shape::Named(_) => {
                let entries: Vec<_> = (0..length).map(|n| format!("n{n} = {{}}")).collect();
                format!("{{{}}}", entries.join(","))
            }
            other => panic!("{path:?}: a length means nothing to {}", named(&other)),
        };
        // Tables by name have keys that must be there, so only what is beyond can be told apart.
        if !matches!(field.shape, Shape::Named(_)) {
            assert!(!is_refused(path, &written(low)), "{path:?} of {low}");
            assert!(!is_refused(path, &written(high)), "{path:?} of {high}");
        }
        assert!(low == 0 || is_refused(path, &written(low - 1)), "{path:?} below {low}");
        assert!(is_refused(path, &written(high + 1)), "{path:?} above {high}");
        lengths += 1;
    });
    assert!(lengths >= 18, "{lengths} lengths");
}

#[test]
fn every_default_is_a_value_that_would_be_accepted() {
    each_field(|path, field| {
        if let (Some(default), false) = (field.default, is_required(field)) {
            assert!(!is_refused(path, default), "{path:?} = {default}");
        }
    });
}

#[test]
fn the_example_names_every_key() {
    each_field(|path, field| {
        let key = field.key();
        let written = EXAMPLE.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            let assigned =
                [format!("{key} = "), format!("[{key}]"), format!("[{key}."), format!(".{key}]")];
            // Inside an inline table a key follows a brace or a comma.
            assigned.iter().any(|form| {
                line.starts_with(form.as_str())
                    || line.contains(&format!("{{ {form}"))
                    || line.contains(&format!(", {form}"))
                    || form.starts_with('.') && line.contains(form.as_str())
            })
        });
        assert!(written, "{path:?} is not in config.example.toml");
    });
}

#[test]
fn the_documentation_has_every_key_with_its_default_and_bounds() {
    let reference = reference();
    assert!(
        DOCUMENTATION.ends_with(&reference),
        "docs/configuration.md must end with what `everhook config reference` prints:\n{reference}"
    );
}

#[test]
fn the_default_delays_are_those_of_the_documentation() {
    let total: Duration = crate::config::raw::DEFAULT_SCHEDULE.iter().sum();
    assert_eq!(total, Duration::from_secs(46 * 3_600 + 42 * 60 + 35));
}

#[test]
fn the_schema_has_every_key() {
    let schema = schema();
    each_field(|path, _| {
        let mut here = &schema;
        for key in path {
            here = match here.get("anyOf").and_then(|all| all.get(1)) {
                Some(table) => table,
                None => here,
            };
            here = here
                .get("properties")
                .and_then(|all| all.get(*key))
                .or_else(|| here.get("additionalProperties"))
                .unwrap_or_else(|| panic!("{path:?}"));
        }
        assert!(here.get("description").is_some(), "{path:?}");
    });
}
