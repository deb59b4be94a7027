//! Published and generated signatures: each is accepted as it is and refused when anything changes.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const BODY: &[u8] = br#"{"id":1,"sent":1700000000000}"#;

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::new(*text)).collect()
}

fn verifier(scheme: &Scheme, secret: &str) -> Verifier {
    Verifier::new(scheme, &secrets(&[secret]), Some("https://relay.example/in?x=1")).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers::from_pairs(pairs.iter().map(|(name, value)| (*name, value.as_bytes())))
}

fn owned(pairs: &[(String, String)]) -> Headers {
    Headers::from_pairs(pairs.iter().map(|(name, value)| (&**name, value.as_bytes())))
}

fn signed(verifier: &Verifier, body: &[u8], now: Timestamp) -> Vec<(String, String)> {
    verifier.imitate(&Headers::default(), body, now).unwrap()
}

/// As Buildkite, Stripe and others lay it out.
fn in_list() -> Scheme {
    Scheme {
        list: Some(','),
        kv: Some('='),
        pick: Some("v1".into()),
        signed: "{timestamp}.{body}".into(),
        timestamp: Some("sig:t".into()),
        tolerance: Some(Duration::from_secs(300)),
        ..Scheme::hmac("x-signature")
    }
}

fn standard_webhooks() -> Scheme {
    Scheme {
        list: Some(' '),
        kv: Some(','),
        pick: Some("v1".into()),
        encoding: Encoding::Base64,
        key_encoding: Encoding::Base64,
        key_prefix: "whsec_".into(),
        signed: "{header:webhook-id}.{timestamp}.{body}".into(),
        timestamp: Some("header:webhook-timestamp".into()),
        tolerance: Some(Duration::from_secs(300)),
        ..Scheme::hmac("webhook-signature")
    }
}

/// One scheme for each thing a scheme can say.
fn every_scheme() -> Vec<(Scheme, &'static str)> {
    let text = |f: fn(&mut Scheme)| {
        let mut scheme = Scheme::hmac("x-signature");
        f(&mut scheme);
        (scheme, "secret")
    };
    vec![
        text(|_| ()),
        text(|s| s.prefix = "sha256=".into()),
        text(|s| s.algorithm = Algorithm::Sha1),
        text(|s| (s.algorithm, s.encoding) = (Algorithm::Sha512, Encoding::Base64)),
        text(|s| s.encoding = Encoding::Base64Url),
        text(|s| s.signed = "{method} {url}{form_sorted}".into()),
        text(|s| s.signed = "{form:payload}".into()),
        text(|s| (s.kv, s.pick) = (Some('='), Some("v1".into()))),
        text(|s| {
            s.timestamp = Some("json:/sent".into());
            (s.unit, s.tolerance) = (Unit::Millis, Some(Duration::from_secs(60)));
        }),
        text(|s| {
            s.signed = "v0:{timestamp}:{header:x-id}:{body}".into();
            s.timestamp = Some("header:x-time".into());
            (s.unit, s.tolerance) = (Unit::Rfc3339, Some(Duration::from_secs(60)));
        }),
        (in_list(), "secret"),
        (standard_webhooks(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (Scheme { key_encoding: Encoding::Hex, ..Scheme::hmac("x-signature") }, "00ff"),
        (Scheme { prefix: "Bearer ".into(), ..Scheme::token("authorization") }, "token"),
    ]
}

#[test]
fn agrees_with_what_is_published() {
    let github = Scheme { prefix: "sha256=".into(), ..Scheme::hmac("x-hub-signature-256") };
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let request = headers(&[("x-hub-signature-256", signature)]);
    let verifier = verifier(&github, "It's a Secret to Everybody");
    assert!(verifier.verifies(&request, b"Hello, World!", NOW));
    assert!(!verifier.verifies(&request, b"Hello, World?", NOW));
}

#[test]
fn agrees_with_the_standard_webhooks_vectors_in_both_algorithms() {
    let request = headers(&[
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        (
            "webhook-signature",
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== \
             v2,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ]);
    let asymmetric = Scheme {
        kind: Kind::Ed25519,
        pick: Some("v1a".into()),
        key_prefix: "whpk_".into(),
        ..standard_webhooks()
    };
    let at = Timestamp::from_secs(1_614_265_330);
    for (scheme, key) in [
        (standard_webhooks(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (standard_webhooks(), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (asymmetric, "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="),
    ] {
        let verifier = verifier(&scheme, key);
        assert!(verifier.verifies(&request, br#"{"test": 2432232314}"#, at), "{scheme:?}");
        assert!(!verifier.verifies(&request, br#"{"test": 2432232315}"#, at));
        assert!(!verifier.verifies(&request, br#"{"test": 2432232314}"#, NOW), "stale");
    }
}

#[test]
fn every_scheme_verifies_what_it_signs_and_nothing_else() {
    for (scheme, secret) in every_scheme() {
        let verifier = verifier(&scheme, secret);
        let made = signed(&verifier, BODY, NOW);
        let request = owned(&made);
        assert!(verifier.verifies(&request, BODY, NOW), "{scheme:?}");
        let other = if scheme.key_encoding == Encoding::Utf8 { "other" } else { "0f0f" };
        assert!(!self::verifier(&scheme, other).verifies(&request, BODY, NOW), "key of {scheme:?}");
        if scheme.kind == Kind::Hmac {
            assert!(!verifier.verifies(&request, b"id=2", NOW), "body of {scheme:?}");
        }
        for missing in 0..made.len() {
            let mut fewer = made.clone();
            fewer.remove(missing);
            assert!(!verifier.verifies(&owned(&fewer), BODY, NOW), "{missing} of {scheme:?}");
            let mut twice = made.clone();
            twice.push(made[missing].clone());
            assert!(!verifier.verifies(&owned(&twice), BODY, NOW), "{missing} of {scheme:?}");
        }
    }
}

#[test]
fn the_document_in_a_form_is_signed_or_else_the_body() {
    let scheme = Scheme { signed: "{form:payload}".into(), ..Scheme::hmac("x-signature") };
    let verifier = verifier(&scheme, "secret");
    let document = r#"{"a":"ä b"}"#;
    let signature = signed(&verifier, document.as_bytes(), NOW).remove(0).1;
    let form = "payload=%7B%22a%22%3A%22%C3%A4+b%22%7D";
    let passes = |media: &str, body: &str| {
        let request = headers(&[("x-signature", &signature), ("content-type", media)]);
        verifier.verifies(&request, body.as_bytes(), NOW)
    };
    assert!(passes("application/json", document));
    assert!(passes("application/x-www-form-urlencoded", form));
    assert!(passes("Application/X-WWW-Form-URLEncoded; charset=utf-8", form));
    assert!(!passes("application/json", form), "the form itself is not what was signed");
    assert!(!passes("application/x-www-form-urlencoded", document));
    let more = format!("{form}&ref=main");
    assert!(!passes("application/x-www-form-urlencoded", &more), "an unsigned field beside it");
}

#[test]
fn a_private_key_signs_for_its_public_one_and_no_other() {
    let pair = "01".repeat(32);
    let scheme = Scheme {
        kind: Kind::Ed25519,
        key_encoding: Encoding::Hex,
        signed: "{timestamp}{body}".into(),
        timestamp: Some("header:x-time".into()),
        tolerance: Some(Duration::from_secs(300)),
        ..Scheme::hmac("x-signature")
    };
    let verifier =
        verifier(&scheme, "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c");
    let sign = |key: &str| {
        let private = PrivateKey::parse(key).unwrap();
        verifier.imitate_with(Some(&private), &Headers::default(), BODY, NOW)
    };
    let whsk = "whsk_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    for key in [&*pair, whsk, &format!("{pair}\n")] {
        let made = sign(key).unwrap();
        assert!(verifier.verifies(&owned(&made), BODY, NOW));
        assert!(!verifier.verifies(&owned(&made), b"{}", NOW));
    }
    assert!(sign(&"02".repeat(32)).unwrap_err().contains("does not belong"));
    assert!(verifier.imitate(&Headers::default(), BODY, NOW).unwrap_err().contains("private key"));
    for bad in ["", "canary", "01", &"01".repeat(33)] {
        let sentence = PrivateKey::parse(bad).unwrap_err();
        assert!(sentence.contains("32 bytes") && !sentence.contains("canary"), "{sentence}");
    }
}

#[test]
fn a_signature_without_a_timestamp_may_rightly_come_again() {
    let otherwise = Duration::from_secs(7);
    let window = |scheme: &Scheme| verifier(scheme, "secret").replay_window(otherwise);
    assert_eq!(window(&Scheme::hmac("x-signature")), None);
    assert_eq!(window(&Scheme { tolerance: None, ..in_list() }), Some(otherwise));
    assert_eq!(window(&in_list()), Some(Duration::from_secs(601)));
}

#[test]
fn freshness_is_checked_in_both_directions_to_the_second() {
    let verifier = verifier(&in_list(), "secret");
    let request = owned(&signed(&verifier, BODY, NOW));
    for (offset, fresh) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
        let now = Timestamp::from_secs(NOW.as_secs() + offset);
        assert_eq!(verifier.verifies(&request, BODY, now), fresh, "{offset}");
    }
    let window = verifier.replay_window(Duration::ZERO).unwrap();
    assert!(window > Duration::from_secs(600), "accepted 300 s early, still valid 300 s late");
}

#[test]
fn any_of_several_secrets_verifies() {
    let scheme = Scheme::hmac("x-signature");
    let both = Verifier::new(&scheme, &secrets(&["new", "old"]), None).unwrap();
    for secret in ["new", "old"] {
        let request = owned(&signed(&verifier(&scheme, secret), BODY, NOW));
        assert!(both.verifies(&request, BODY, NOW));
    }
}

#[test]
fn hexadecimal_is_read_in_either_case_and_proves_the_same() {
    let verifier = verifier(&Scheme::hmac("x-signature"), "secret");
    let lower = signed(&verifier, BODY, NOW).remove(0).1;
    let upper = lower.to_uppercase();
    let prove = |text: &str| verifier.prove(&headers(&[("x-signature", text)]), BODY, NOW);
    assert!(prove(&lower).is_some());
    assert_eq!(prove(&lower), prove(&upper));
}

#[test]
fn a_signature_with_something_behind_it_is_refused() {
    let base64 = Scheme { encoding: Encoding::Base64, ..Scheme::hmac("x-signature") };
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let tag = ring::hmac::sign(&key, BODY);
    for (behind, passes) in [(&b""[..], true), (b"\0", false), (b"\0\0\0\0", false)] {
        let bytes = [tag.as_ref(), behind].concat();
        for (scheme, text) in [
            (&base64, base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes)),
            (&Scheme::hmac("x-signature"), hex::encode(&bytes)),
        ] {
            let request = headers(&[("x-signature", &text)]);
            assert_eq!(verifier(scheme, "secret").verifies(&request, BODY, NOW), passes, "{text}");
        }
    }
}

#[test]
fn unknown_versions_are_skipped_and_none_known_is_a_refusal() {
    let verifier = verifier(&in_list(), "secret");
    let made = signed(&verifier, BODY, NOW).remove(0).1;
    let passes = |value: &str| verifier.verifies(&headers(&[("x-signature", value)]), BODY, NOW);
    let (stamp, signature) = made.split_once(',').unwrap();
    assert!(passes(&format!("{stamp}, v0=00, v1=00,{signature},junk,=,")));
    assert!(!passes(&made.replace("v1=", "v2=")));
    for bad in ["", ",", "v1", "v1=", "t=1", &format!("{stamp},v1="), signature] {
        assert!(!passes(bad), "{bad:?}");
    }
    assert!(!passes(&format!("{stamp},{made}")), "two timestamps");
    let many = format!("{stamp},{}{signature}", "v1=00,".repeat(signature::MAX_CANDIDATES));
    assert!(!passes(&many), "too many signatures");
    let many = format!("{stamp},{signature}{}", ",v1=00".repeat(signature::MAX_CANDIDATES));
    assert!(!passes(&many), "too many signatures, the right one among the first");
}

#[test]
fn a_timestamp_that_is_no_number_is_refused_after_its_signature_was_right() {
    let scheme = Scheme { tolerance: None, ..in_list() };
    let (lax, strict) = (verifier(&scheme, "secret"), verifier(&in_list(), "secret"));
    for text in ["+1700000000", "1700000000.0", "17e8", "99999999999999999999"] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
        let tag = ring::hmac::sign(&key, &[text.as_bytes(), b".", BODY].concat());
        let value = format!("t={text},v1={}", hex::encode(tag));
        let request = headers(&[("x-signature", &value)]);
        assert!(lax.verifies(&request, BODY, NOW), "spliced as it came: {text}");
        assert!(!strict.verifies(&request, BODY, NOW), "{text}");
    }
}

#[test]
fn mistakes_in_a_scheme_are_said_in_a_sentence_without_the_secret() {
    type Change = fn(&mut Scheme);
    let mistakes: [(&str, Change, &str); 16] = [
        ("canary", |s| s.signed = "{bdy}".into(), "{bdy}"),
        ("canary", |s| s.signed = "{body".into(), "without `}`"),
        ("canary", |s| s.signed = "v0".into(), "{body}"),
        ("canary", |s| s.signed = "{form:}".into(), "{form:NAME}"),
        ("canary", |s| s.signed = "{timestamp}{body}".into(), "`timestamp`"),
        ("canary", |s| s.signed = "{url}{body}".into(), "`public_url`"),
        ("canary", |s| s.signed = "{header:}{body}".into(), "header field"),
        ("canary", |s| s.timestamp = Some("sig:t".into()), "`kv`"),
        ("canary", |s| s.timestamp = Some("t".into()), "header:NAME"),
        ("canary", |s| s.tolerance = Some(Duration::ZERO), "`timestamp`"),
        ("canary", |s| s.kv = Some('='), "`pick`"),
        ("canary", |s| s.pick = Some("v1".into()), "`kv`"),
        ("canary", |s| (s.list, s.prefix) = (Some(','), "v1=".into()), "`prefix`"),
        ("canary", |s| s.key_encoding = Encoding::Hex, "hexadecimal"),
        ("canary", |s| s.key_prefix = "canary".into(), "empty"),
        ("canary", |s| s.kind = Kind::Ed25519, "32 bytes"),
    ];
    for (secret, change, part) in mistakes {
        let mut scheme = Scheme::hmac("x-signature");
        change(&mut scheme);
        let sentence = Verifier::new(&scheme, &secrets(&[secret]), None).unwrap_err();
        assert!(sentence.contains(part) && !sentence.contains("canary"), "{part}: {sentence}");
    }
    for kind in [Scheme::hmac("x"), Scheme::token("x")] {
        assert!(Verifier::new(&kind, &[], None).unwrap_err().contains("needs a secret"));
        assert!(Verifier::new(&kind, &secrets(&["a", ""]), None).unwrap_err().contains("empty"));
    }
    assert!(Verifier::new(&Scheme::none(), &secrets(&["a"]), None).is_err());
}

proptest! {
    #[test]
    fn a_changed_bit_anywhere_is_refused(which in any::<prop::sample::Index>(), bit in 0_u8..8, at in any::<prop::sample::Index>()) {
        let all = every_scheme();
        let (scheme, secret) = which.get(&all);
        let verifier = verifier(scheme, secret);
        let made = signed(&verifier, BODY, NOW);
        if scheme.kind == Kind::Hmac && !scheme.signed.contains("form") {
            let mut body = BODY.to_vec();
            body[at.index(BODY.len())] ^= 1 << bit;
            prop_assert!(!verifier.verifies(&owned(&made), &body, NOW));
            prop_assert!(!verifier.verifies(&owned(&made), &BODY[..at.index(BODY.len())], NOW));
        }
        let proof = verifier.prove(&owned(&made), BODY, NOW).unwrap();
        let (name, value) = made.last().unwrap();
        let mut value = value.clone().into_bytes();
        let at = at.index(value.len());
        value[at] ^= 1 << bit;
        let changed = Headers::from_pairs(
            made[..made.len() - 1].iter().map(|(n, v)| (&**n, v.as_bytes())).chain([(&**name, &*value)]),
        );
        // The case of a hexadecimal digit carries nothing; whatever still verifies proves the same.
        let after = verifier.prove(&changed, BODY, NOW);
        prop_assert!(after.is_none() || after.as_ref() == Some(&proof), "{scheme:?}");
        value.truncate(at);
        let shorter = verifier.prove(&Headers::from_pairs([(&**name, &*value)]), BODY, NOW);
        // Neither does the padding of base64.
        let padding = made.last().unwrap().1[at..].trim_matches('=').is_empty();
        prop_assert!(shorter.is_none() || padding && shorter == Some(proof), "{scheme:?}");
    }

    #[test]
    fn no_request_makes_it_panic(value in prop::collection::vec(any::<u8>(), 0..80), body in prop::collection::vec(any::<u8>(), 0..40)) {
        for (scheme, secret) in every_scheme() {
            let names = ["x-signature", "webhook-signature", "authorization", "x-time", "x-id"];
            let request = Headers::from_pairs(names.map(|name| (name, &*value)));
            prop_assert!(!verifier(&scheme, secret).verifies(&request, &body, NOW));
        }
    }
}
