//! Signatures against what others publish, and against verifications written from the definitions.

use ring::signature::{ED25519, UnparsedPublicKey};

use super::*;

const PUBLISHED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn signer(style: Style, secrets: &[&str]) -> Result<Signer, String> {
    let secrets: Vec<_> = secrets.iter().map(|s| Secret::new(*s)).collect();
    Signer::new(style, &secrets)
}

fn standard_value(secrets: &[&str], id: &str, seconds: i64, body: &[u8]) -> String {
    let signer = signer(Style::StandardWebhooks, secrets).unwrap();
    assert_eq!(signer.header(), "webhook-signature");
    String::from_utf8(signer.sign_parts(id, seconds, body)).unwrap()
}

fn hmac_style(header: &str, prefix: &str) -> Style {
    Style::HmacSha256 { header: header.into(), prefix: prefix.into() }
}

fn token_style(header: &str, prefix: &str) -> Style {
    Style::Token { header: header.into(), prefix: prefix.into() }
}

#[test]
fn agrees_with_the_vector_the_standard_publishes() {
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    let value = standard_value(&[PUBLISHED], id, 1_614_265_330, br#"{"test": 2432232314}"#);
    assert_eq!(value, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn during_a_rotation_every_secret_signs_the_first_one_first() {
    let pair = new_ed25519_key([7; 32]).unwrap().secret;
    let all = standard_value(&[OTHER, PUBLISHED, &pair], "evt_1", 5, b"x");
    let each = [OTHER, PUBLISHED, &pair].map(|key| standard_value(&[key], "evt_1", 5, b"x"));
    assert_eq!(all, each.join(" "));
    assert!(each[2].starts_with("v1a,"));
}

#[test]
fn every_signed_part_changes_the_signature() {
    let pair = new_ed25519_key([7; 32]).unwrap().secret;
    for key in [PUBLISHED, &pair] {
        let base = standard_value(&[key], "evt_1", 5, b"x");
        for (id, seconds, body) in [("evt_2", 5, b"x"), ("evt_1", 6, b"x"), ("evt_1", 5, b"y")] {
            assert_ne!(standard_value(&[key], id, seconds, body), base);
        }
    }
}

#[test]
fn the_public_half_of_a_new_key_verifies_what_the_private_half_signs() {
    let NewKey { secret, public } = new_ed25519_key([42; 32]).unwrap();
    let public = public.unwrap();
    let public = BASE64.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
    let verify = |style, secret: &str| {
        let value = signer(style, &[secret]).unwrap().sign_parts("evt_1", 5, b"body");
        let text = String::from_utf8(value).unwrap();
        let signature = BASE64.decode(text.strip_prefix("v1a,").unwrap()).unwrap();
        UnparsedPublicKey::new(&ED25519, &public).verify(b"evt_1.5.body", &signature)
    };
    verify(Style::Ed25519, &secret).unwrap();
    verify(Style::StandardWebhooks, &secret).unwrap();
    let seed_alone = format!("whsk_{}", BASE64.encode([42; 32]));
    verify(Style::Ed25519, &seed_alone).unwrap();
}

/// The example of RFC 4231, test case 2, as a body and as what Buildkite's style puts before it.
#[test]
fn hmac_is_over_the_body_alone_and_buildkite_puts_the_timestamp_before_it() {
    let body = b"what do ya want for nothing?";
    let style = hmac_style("X-Signature", "sha256=");
    let hmac = signer(style, &["Jefe"]).unwrap();
    assert_eq!(hmac.header(), "x-signature");
    let digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hmac.sign_parts("evt_1", 5, body), format!("sha256={digest}").into_bytes());

    let style = Style::Buildkite { header: "X-Buildkite-Signature".into() };
    let buildkite = signer(style, &["Jefe"]).unwrap();
    let signed = b"1700000000.{}";
    let expected = hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"Jefe"), signed));
    let expected = format!("timestamp=1700000000,signature={expected}");
    assert_eq!(buildkite.sign_parts("evt_1", 1_700_000_000, b"{}"), expected.into_bytes());
}

#[test]
fn a_token_is_the_secret_with_its_prefix() {
    let token = signer(token_style("Authorization", "Bearer "), &["abc"]).unwrap();
    assert_eq!(
        (token.header(), token.sign_parts("evt_1", 5, b"")),
        ("authorization", b"Bearer abc".to_vec())
    );
    assert!(signer(token_style("x-token", ""), &["a\nb"]).is_err());
}

#[test]
fn weak_or_broken_secrets_are_refused_without_showing_them() {
    for bad in ["whsec_", "whsec_canary!", "whsec_Y2FuYXJ5", "", "whsk_", "whsk_Y2FuYXJ5"] {
        let error = signer(Style::StandardWebhooks, &[bad]).unwrap_err();
        assert!(!error.contains("canary") && !error.contains("Y2FuYXJ5"), "{error}");
    }
    let mixed = format!("whsk_{}", BASE64.encode([1u8; 64]));
    assert!(signer(Style::Ed25519, &[&mixed]).is_err(), "halves that do not belong together");
    assert!(signer(Style::Ed25519, &[PUBLISHED]).is_err());
    assert!(signer(Style::StandardWebhooks, &[]).is_err());
}

#[test]
fn a_style_with_room_for_one_signature_takes_one_secret() {
    let buildkite = Style::Buildkite { header: "x".into() };
    for style in [hmac_style("x", ""), buildkite, token_style("x", "")] {
        assert!(signer(style.clone(), &["a", "b"]).is_err());
        assert!(signer(style, &["a"]).is_ok());
    }
    assert!(signer(hmac_style("Host", ""), &["a"]).is_err());
}

#[test]
fn a_new_key_is_accepted_by_its_style() {
    let key = new_standard_key([9; 32]);
    assert!(key.public.is_none() && signer(Style::StandardWebhooks, &[&key.secret]).is_ok());
    let key = new_text_key([9; 32]);
    assert_eq!(key.secret.len(), 64);
    assert!(signer(token_style("x", ""), &[&key.secret]).is_ok());
}
