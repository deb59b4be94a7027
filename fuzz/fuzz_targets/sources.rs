//! A source for every preset, as the targets use it.

use std::sync::OnceLock;
use std::time::Duration;

use everhook::model::{Headers, Name, Secret};
use everhook::rules::intake::{Intake, IntakeSpec, OnConflict};
use everhook::rules::provider::{Preset, presets};
use everhook::rules::verify::Scheme;

const PUBLIC_KEY: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

/// One compiled source for each preset, in their order.
pub fn all() -> &'static [Intake] {
    static ALL: OnceLock<Vec<Intake>> = OnceLock::new();
    ALL.get_or_init(|| presets().iter().map(|preset| source(preset)).collect())
}

fn source(provider: &'static Preset) -> Intake {
    let custom = provider.name == "custom";
    let secret = match provider.name {
        "standard-webhooks" | "svix" => "whsec_c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl",
        "discord" => PUBLIC_KEY,
        _ => "secret",
    };
    let signs = custom || !provider.schemes().is_empty();
    Intake::new(IntakeSpec {
        source: Name::parse("source").expect("a name"),
        provider,
        verify: custom.then(|| Scheme::hmac("x-signature")),
        secrets: signs.then(|| Secret::new(secret)).into_iter().collect(),
        handshake_token: (provider.name == "meta").then(|| Secret::new("token")),
        public_url: Some("https://hooks.example/in".into()),
        admit: Vec::new(),
        event: None,
        dedup: None,
        on_conflict: OnConflict::Duplicate,
        own_window: None,
        order_key: None,
        dedup_window: Duration::from_secs(60),
        targets: Vec::new(),
    })
    .expect("a source")
}

/// The header fields that any preset looks at, so that the fuzzer need not guess names.
pub const NAMES: [&str; 28] = [
    "content-type",
    "content-encoding",
    "authorization",
    "x-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-buildkite-signature",
    "x-buildkite-token",
    "x-buildkite-event",
    "x-buildpixel-signature",
    "x-gitlab-token",
    "x-gitlab-event",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "svix-signature",
    "stripe-signature",
    "paddle-signature",
    "x-slack-signature",
    "x-slack-request-timestamp",
    "x-signature-ed25519",
    "x-signature-timestamp",
    "x-twilio-signature",
    "sanity-webhook-signature",
    "x-hook-secret",
    "x-hook-signature",
    "x-github-event",
    "ce-type",
];

/// Packs pairs of a number for the name and a value.
pub fn headers(pairs: &[(u8, Vec<u8>)]) -> Headers {
    let name = |number: u8| NAMES[usize::from(number) % NAMES.len()];
    Headers::from_pairs(pairs.iter().map(|(number, value)| (name(*number), &**value)))
}
