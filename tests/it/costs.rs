//! What a decision asks of the allocator: nothing for each header field, and for most signatures nothing at all.

use allocation_counter::measure;
use everhook::model::{Headers, Secret};
use everhook::rules::provider::presets;
use everhook::rules::verify::{Kind, PrivateKey, Scheme, Verifier};
use everhook::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_775_000_000);
const PRIVATE_KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const PUBLIC_KEY: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
const BODY: &str = r#"{"webhookTimestamp":1775000000000,"event":"build.complete","text":"\u00e4"}"#;

/// A request with so many fields that nobody looks at, before those that count.
fn headers(others: usize, signed: &[(String, String)]) -> Headers {
    let others = (0..others).map(|number| (format!("x-other-{number}"), "value".to_owned()));
    let all: Vec<_> = others.chain(signed.iter().cloned()).collect();
    Headers::from_pairs(all.iter().map(|(name, value)| (&**name, value.as_bytes())))
}

fn verifier(scheme: &Scheme) -> Verifier {
    let text = match scheme.kind {
        Kind::Ed25519 if scheme.key_prefix.is_empty() => PUBLIC_KEY,
        Kind::Ed25519 => "whpk_iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=",
        Kind::Hmac | Kind::Token | Kind::None => "c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl",
    };
    let url = Some("https://hooks.example/in");
    Verifier::new(scheme, &[Secret::new(text)], url).expect("a secret of the right form")
}

#[test]
fn verifying_allocates_nothing_for_a_header_field_and_mostly_nothing_at_all() {
    let private = PrivateKey::parse(PRIVATE_KEY).expect("a key");
    let mut free = 0;
    for preset in presets() {
        for scheme in preset.schemes() {
            let verifier = verifier(&scheme);
            let private = (scheme.kind == Kind::Ed25519).then_some(&private);
            let made = verifier.imitate_with(private, &Headers::default(), BODY.as_bytes(), NOW);
            let made = made.expect("a signature");
            let spent = |others: usize| {
                let headers = headers(others, &made);
                let mut passes = false;
                let spent = measure(|| passes = verifier.verifies(&headers, BODY.as_bytes(), NOW));
                assert!(passes, "{}", preset.name);
                spent.count_total
            };
            let (few, many) = (spent(3), spent(120));
            assert_eq!(few, many, "{} with more fields", preset.name);
            // An ed25519 signature is of a message in one piece, a form is sorted, and a timestamp in the body is
            // looked for there.
            let is_fed = scheme.kind != Kind::Ed25519 && !scheme.signed.contains("{form");
            let stamped_inside = scheme.timestamp.is_some_and(|at| at.starts_with("json:"));
            if is_fed && !stamped_inside {
                assert_eq!(few, 0, "{}", preset.name);
                free += 1;
            }
        }
    }
    assert!(free > 20, "{free}");
}

#[test]
fn taking_header_fields_over_allocates_as_their_bytes_grow_and_not_for_each() {
    let pairs: Vec<_> = (0..120).map(|number| (format!("x-field-{number}"), "value")).collect();
    let pairs = || pairs.iter().map(|(name, value)| (&**name, value.as_bytes()));
    let spent = measure(|| drop(Headers::from_pairs(pairs())));
    // The buffer is doubled a few times, and shared once.
    assert!(spent.count_total <= 6, "{spent:?}");
}
