//! Real-life sequences of each provider yield exactly the right events; every sample passes its own source.

use std::fmt::Write as _;
use std::time::Duration;

use super::*;
use crate::model::{Headers, Name, Secret};
use crate::rules::intake::{Intake, IntakeSpec, OnConflict};
use crate::rules::verify::PrivateKey;
use crate::time::Timestamp;

fn spec(preset: &'static Preset) -> IntakeSpec {
    let configured = matches!(preset.verification, Verification::Configured);
    IntakeSpec {
        source: Name::parse("source").unwrap(),
        provider: preset,
        verify: configured.then(Scheme::none),
        secrets: secret(preset).into_iter().collect(),
        handshake_token: None,
        public_url: Some("https://hooks.example/in".into()),
        admit: Vec::new(),
        event: None,
        dedup: None,
        on_conflict: OnConflict::Duplicate,
        own_window: None,
        order_key: None,
        dedup_window: Duration::from_secs(3600),
        targets: Vec::new(),
    }
}

/// A key pair of our own; the private half signs Discord's samples.
const PRIVATE_KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const PUBLIC_KEY: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

fn secret(preset: &Preset) -> Option<Secret> {
    let text = match preset.name {
        "standard-webhooks" | "svix" => "whsec_c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl",
        "discord" => PUBLIC_KEY,
        _ => "secret",
    };
    (!preset.schemes().is_empty()).then(|| Secret::new(text))
}

#[test]
fn presets_are_found_by_name_and_sorted() {
    assert!(presets().is_sorted_by(|a, b| a.name < b.name));
    for known in presets() {
        assert_eq!(preset(known.name).unwrap().name, known.name);
    }
    assert!(preset("Streampixel").is_none());
}

#[test]
fn every_sample_is_admitted_under_its_name() {
    let now = Timestamp::from_secs(1_775_000_000);
    for preset in presets() {
        let intake = Intake::new(spec(preset)).unwrap();
        assert!(!preset.samples.is_empty(), "{}", preset.name);
        for sample in preset.samples {
            let all: Vec<_> = sample.all_headers().collect();
            let pairs = all.iter().map(|(name, value)| (*name, value.as_bytes()));
            let (plain, body) = (Headers::from_pairs(pairs.clone()), sample.body_at(now));
            let private = PrivateKey::parse(PRIVATE_KEY).unwrap();
            let private = (preset.name == "discord").then_some(&private);
            let made = intake.sign_sample_with(private, &plain, body.as_bytes(), now).unwrap();
            let made = made.iter().map(|(name, value)| (&**name, value.as_bytes()));
            let signed = Headers::from_pairs(pairs.chain(made));
            let admission = intake.decide(&signed, body.as_bytes(), now).unwrap();
            assert_eq!(admission.event, sample.event, "{}", preset.name);
            let ordered =
                matches!(preset.name, "custom" | "asana") || sample.event == "package.created";
            assert_eq!(admission.order_key.is_none(), ordered, "{} {}", preset.name, sample.event);
            let repeats = !matches!(preset.repeats, Repeats::Off);
            assert!(repeats || admission.dedup.is_empty());
            assert_eq!(preset.sample(Some(sample.event)).unwrap().body, sample.body);
        }
    }
}

#[test]
fn a_preset_that_signs_needs_its_secret_and_one_that_does_not_refuses_it() {
    for preset in presets() {
        if preset.handshake == Handshake::HookSecret {
            continue;
        }
        let mut other = spec(preset);
        other.secrets =
            if preset.needs_secret() { Vec::new() } else { vec![Secret::new("canary")] };
        let sentence = Intake::new(other).unwrap_err();
        assert!(sentence.contains("secret") && !sentence.contains("canary"), "{sentence}");
    }
}

/// The sections of `docs/providers.md`.
fn documentation() -> String {
    let mut text = String::new();
    for preset in presets() {
        let (name, title) = (preset.name, preset.title);
        writeln!(text, "## {name}: {title}\n\n| | |\n|---|---|").unwrap();
        for (label, value) in preset.facts() {
            // A bar would end the cell, and an angle bracket begin a tag.
            let value = value.replace('|', "\\|").replace('<', "&lt;");
            writeln!(text, "| {label} | {value} |").unwrap();
        }
        let example = preset.example();
        writeln!(text, "\n```toml\n{example}```\n\nTest it with `everhook send {name}`.\n")
            .unwrap();
    }
    text
}

#[test]
fn the_documentation_has_a_page_for_every_provider() {
    let expected = documentation();
    let written = include_str!("../../../docs/providers.md");
    assert!(written.contains(&expected), "docs/providers.md must end with:\n{expected}");
}

#[test]
fn every_preset_says_what_a_reader_needs() {
    for preset in presets() {
        let labels: Vec<_> = preset.facts().into_iter().map(|(label, _)| label).collect();
        for label in ["set up", "verified by", "event name", "a repeat is", "order key", "samples"]
        {
            assert!(labels.contains(&label), "{}: {label}", preset.name);
        }
        assert_eq!(preset.docs.starts_with("https://"), preset.name != "custom", "{}", preset.name);
        assert_eq!(preset.secret.is_empty(), matches!(preset.verification, Verification::Unsigned));
        for sentence in [preset.setup, preset.note] {
            assert!(sentence.is_empty() || sentence.ends_with('.'), "{sentence}");
        }
    }
}

/// The fixture of Buildkite's own Go client (`buildkite/go-buildkite`, `webhook_test.go`, BSD-2-Clause).
const PUBLISHED_PING: &str = r#"{"event":"ping","service":{"id":"c9f8372d-c0cd-43dc-9274-768a875cf6ca","provider":"webhook","settings":{"url":"https://server.com/webhooks"}},"organization":{"id":"49801950-1df0-474f-bb56-ad6a930c5cb9","graphql_id":"T3JnYW5pemF0aW9uLS0tZTBmMzk3MgsTksGkxOWYtZTZjNzczZTJiYjEy","url":"https://api.buildkite.com/v2/organizations/acme-inc","web_url":"https://buildkite.com/acme-inc","name":"ACME Inc","slug":"acme-inc","agents_url":"https://api.buildkite.com/v2/organizations/acme-inc/agents","emojis_url":"https://api.buildkite.com/v2/organizations/acme-inc/emojis","created_at":"2021-02-03T20:34:10.486Z","pipelines_url":"https://api.buildkite.com/v2/organizations/acme-inc/pipelines"},"sender":{"id":"c9f8372d-c0cd-43dc-9269-bcbb7f308e3f","name":"ACME Man"}}"#;

#[test]
fn buildkite_verifies_what_its_own_client_verifies() {
    let mut buildkite = spec(preset("buildkite").unwrap());
    buildkite.secrets = vec![Secret::new("29b1ff5779c76bd48ba6705eb99ff970")];
    let intake = Intake::new(buildkite).unwrap();
    let signature = b"timestamp=1642080837,\
        signature=582d496ac2d869dd97a3101c4cda346288c49a742592daf582ec64c86449f79c";
    let headers = Headers::from_pairs([("x-buildkite-signature", &signature[..])]);
    let decide = |seconds, body: &str| {
        intake.decide(&headers, body.as_bytes(), Timestamp::from_secs(seconds)).is_ok()
    };
    assert!(decide(1_642_080_849, PUBLISHED_PING));
    assert!(!decide(1_642_081_138, PUBLISHED_PING), "301 seconds late");
    assert!(!decide(1_642_080_849, &PUBLISHED_PING.replace("acme-inc", "acme-ink")));
}
