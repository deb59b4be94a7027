//! What one request costs before it is stored: verification, the whole decision, a filter.

#![expect(clippy::expect_used, reason = "a benchmark of something invalid would measure nothing")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use everhook::model::{Headers, Name, Secret};
use everhook::rules::filter::{Condition, Patterns};
use everhook::rules::intake::{Intake, IntakeSpec, Interest, OnConflict};
use everhook::rules::payload::Field;
use everhook::rules::provider::preset;
use everhook::rules::verify::{Algorithm, Encoding, Kind, Scheme, Unit, Verifier};
use everhook::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_775_000_000);

/// A published public key. No signature of ours fits it, but to find that out costs as much as the opposite.
const PUBLIC_KEY: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const WELL_FORMED: &str =
    "hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

fn one_kibibyte() -> Vec<u8> {
    let filler = "x".repeat(1024);
    let mut body = format!(r#"{{"event":"build.finished","sent":1775000000,"filler":"{filler}"#);
    body.truncate(1022);
    body.push_str("\"}");
    body.into_bytes()
}

fn headers(pairs: &[(String, String)]) -> Headers {
    let usual = [("host", "hooks.example"), ("user-agent", "sender/1"), ("accept", "*/*")];
    let usual = usual.iter().map(|(name, value)| (*name, value.as_bytes()));
    Headers::from_pairs(usual.chain(pairs.iter().map(|(name, value)| (&**name, value.as_bytes()))))
}

fn schemes() -> Vec<(&'static str, Scheme)> {
    let body = || Scheme::hmac("x-signature");
    let in_list = Scheme {
        list: Some(','),
        kv: Some('='),
        pick: Some("v1".into()),
        signed: "{timestamp}.{body}".into(),
        timestamp: Some("sig:t".into()),
        tolerance: Some(Duration::from_secs(300)),
        ..body()
    };
    let in_body = Scheme {
        timestamp: Some("json:/sent".into()),
        unit: Unit::Seconds,
        tolerance: Some(Duration::from_secs(60)),
        ..body()
    };
    vec![
        ("sha256-hex", body()),
        ("sha1-hex", Scheme { algorithm: Algorithm::Sha1, ..body() }),
        ("sha512-hex", Scheme { algorithm: Algorithm::Sha512, ..body() }),
        ("sha256-base64", Scheme { encoding: Encoding::Base64, ..body() }),
        ("sha256-list-timestamp", in_list),
        ("sha256-json-timestamp", in_body),
        ("token", Scheme::token("x-token")),
    ]
}

fn verification(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify-1KiB");
    let body = one_kibibyte();
    for (name, scheme) in schemes() {
        let verifier =
            Verifier::new(&scheme, &[Secret::new("secret")], None).expect("a valid scheme");
        let made = verifier.imitate(&Headers::default(), &body, NOW).expect("a signature");
        let headers = headers(&made);
        assert!(verifier.verifies(&headers, &body, NOW));
        group.bench_function(name, |b| {
            b.iter(|| verifier.verifies(black_box(&headers), black_box(&body), NOW));
        });
    }
    let scheme = Scheme {
        kind: Kind::Ed25519,
        encoding: Encoding::Base64,
        key_encoding: Encoding::Base64,
        key_prefix: "whpk_".into(),
        ..Scheme::hmac("x-signature")
    };
    let verifier =
        Verifier::new(&scheme, &[Secret::new(PUBLIC_KEY)], None).expect("a valid scheme");
    let headers = headers(&[("x-signature".to_owned(), WELL_FORMED.to_owned())]);
    group.bench_function("ed25519", |b| {
        b.iter(|| verifier.verifies(black_box(&headers), black_box(&body), NOW));
    });
    group.finish();
}

fn intake(provider: &str, targets: usize) -> Intake {
    let field = |text| Field::parse(text).expect("a field");
    let patterns = |text: &str| Patterns::parse(&[text]).expect("patterns");
    let interest = |number: usize| Interest {
        target: Name::parse(&format!("target-{number}")).expect("a name"),
        events: Some(patterns("build.* !build.skipped")),
        conditions: vec![Condition {
            field: field("/build/branch"),
            patterns: patterns("main release/* !release/old*"),
        }],
    };
    let provider = preset(provider).expect("a preset");
    let spec = IntakeSpec {
        source: Name::parse("source").expect("a name"),
        provider,
        verify: None,
        secrets: if provider.needs_secret() { vec![Secret::new("secret")] } else { Vec::new() },
        handshake_token: None,
        public_url: None,
        admit: Vec::new(),
        event: None,
        dedup: None,
        on_conflict: OnConflict::Duplicate,
        own_window: None,
        order_key: None,
        dedup_window: Duration::from_secs(3600),
        targets: (0..targets).map(interest).collect(),
    };
    Intake::new(spec).expect("a valid source")
}

fn decision(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    for (provider, event) in [
        ("streampixel", "build.approved"),
        ("buildpixel", "build.complete"),
        ("buildkite", "build.finished"),
    ] {
        for targets in [1, 20] {
            let intake = intake(provider, targets);
            let sample = intake.provider().sample(Some(event)).expect("a sample");
            let body = sample.body.as_bytes();
            let made = intake.sign_sample(&Headers::default(), body, NOW).expect("a signature");
            let headers = headers(&made);
            assert!(intake.decide(&headers, body, NOW).is_ok());
            group.bench_function(format!("{provider}-{targets}-targets"), |b| {
                b.iter(|| intake.decide(black_box(&headers), black_box(body), NOW));
            });
        }
    }
    group.finish();
}

fn filter(c: &mut Criterion) {
    let patterns =
        Patterns::parse(&["main release/*/hotfix-* !release/old* !*wip*"]).expect("patterns");
    c.bench_function("filter/branch", |b| {
        b.iter(|| patterns.matches(black_box("release/2026.4/hotfix-login-page")));
    });
    let hostile = Patterns::parse(&["*a*a*a*a*a*a*a*a*b"]).expect("patterns");
    let value = "a".repeat(200);
    c.bench_function("filter/hostile", |b| b.iter(|| hostile.matches(black_box(&value))));
}

criterion_group!(benches, verification, decision, filter);
criterion_main!(benches);
