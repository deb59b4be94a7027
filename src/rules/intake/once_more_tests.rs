//! What was refused and is released: with the right secret as if nothing had been, and never more than that.

use super::tests::{NOW, busy, condition, custom, intake, interest, spec};
use super::*;

const LATER: Timestamp = Timestamp::from_secs(1_775_000_000 + 3600);

/// A source of the provider with one secret.
fn with_secret(provider: &str, secret: &str) -> Intake {
    let mut spec = spec(provider);
    spec.secrets = vec![Secret::new(secret)];
    intake(spec)
}

fn inbound<'a>(headers: &'a Headers, body: &'a [u8]) -> Inbound<'a> {
    Inbound { method: Method::Post, query: None, headers, body }
}

/// The header fields of a body as the provider signs it at [`NOW`].
fn signed(by: &Intake, body: &[u8]) -> Headers {
    let made = by.sign_sample(&Headers::default(), body, NOW).unwrap();
    Headers::from_pairs(made.iter().map(|(name, value)| (&**name, value.as_bytes())))
}

#[test]
fn with_the_right_secret_it_is_what_it_would_have_been_and_its_copies_are_known() {
    let (wrong, right) = (with_secret("buildkite", "old"), with_secret("buildkite", "new"));
    let body = br#"{"event":"ping"}"#;
    let headers = signed(&right, body);
    let request = inbound(&headers, body);
    assert_eq!(wrong.receive(&request, NOW), Err(Refusal::Unverified));
    assert_eq!(wrong.reconsider(&request, NOW, LATER), Err(Refusal::Unverified));
    assert_eq!(right.receive(&request, LATER), Err(Refusal::Unverified), "it is stale by now");
    let Ok(Decision::Store(fresh)) = right.receive(&request, NOW) else { panic!("refused") };
    let late = right.reconsider(&request, NOW, LATER).unwrap();
    assert_eq!((&late.event, &late.targets), (&fresh.event, &fresh.targets));
    let ends = |admission: &Admission| match admission.dedup[..] {
        [DedupKey::Exact { key, window }] => (key, NOW.plus(window)),
        _ => panic!("{admission:?}"),
    };
    let ((key, end), (late_key, late_end)) = (ends(&fresh), ends(&late));
    assert_eq!((key, late_end), (late_key, end.plus(Duration::from_secs(3600))));
    assert!(end < LATER, "or a second copy would be an event of its own");
}

#[test]
fn force_changes_nothing_about_what_is_admitted_anyway() {
    // One has no secret before its handshake, and of the other only the public key is known.
    let (mut tried, without) = (0, ["asana", "discord"]);
    for preset in super::super::provider::presets().iter().filter(|it| !without.contains(&it.name))
    {
        let intake = busy(preset.name);
        for sample in preset.samples {
            let body = sample.body_at(NOW);
            let plain = sample.all_headers().map(|(name, value)| (name, value.as_bytes()));
            let plain = Headers::from_pairs(plain);
            let made = intake.sign_sample(&plain, body.as_bytes(), NOW).unwrap();
            let made = made.iter().map(|(name, value)| (&**name, value.as_bytes()));
            let headers = Headers::from_pairs(plain.iter().chain(made));
            let request = inbound(&headers, body.as_bytes());
            let Ok(again) = intake.reconsider(&request, NOW, LATER) else { continue };
            assert_eq!(again, intake.admit_anyway(&request, NOW, LATER), "{}", preset.name);
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} samples");
}

#[test]
fn a_request_that_was_stale_when_it_came_stays_refused() {
    let intake = with_secret("buildkite", "secret");
    let headers = signed(&intake, b"{}");
    let refused = intake.reconsider(&inbound(&headers, b"{}"), LATER, LATER);
    assert_eq!(refused, Err(Refusal::Unverified));
}

#[test]
fn a_handshake_is_no_event_however_late() {
    let intake = with_secret("slack", "secret");
    let body = br#"{"type":"url_verification","challenge":"c"}"#;
    let headers = signed(&intake, body);
    let answer = intake.receive(&inbound(&headers, body), NOW);
    assert!(matches!(answer, Ok(Decision::Answer(_))));
    let again = intake.reconsider(&inbound(&headers, body), NOW, LATER);
    assert_eq!(again, Err(Refusal::Malformed));
}

#[test]
fn an_operator_admits_anything_under_the_name_that_can_be_read() {
    let mut spec = custom();
    spec.event = Some(Field::parse("/event").unwrap());
    spec.order_key = Some(vec![Field::parse("/id").unwrap()]);
    spec.dedup = Some(DedupSpec::Key(vec![Field::parse("/id").unwrap()]));
    spec.admit = vec![condition("/project", &["p1"])];
    spec.targets = vec![
        interest("all", None, Vec::new()),
        interest("named", Some(&["build.*"]), Vec::new()),
        interest("project", None, vec![condition("/project", &["p1"])]),
    ];
    let intake = intake(spec);
    let none = Headers::default();
    let anyway = |body: &[u8]| {
        let admission = intake.admit_anyway(&inbound(&none, body), NOW, LATER);
        let targets: Vec<_> = admission.targets.iter().map(Name::to_string).collect();
        (admission.event, admission.order_key, admission.dedup.len(), targets.join(" "))
    };
    let foreign = br#"{"event":"build.done","id":"1","project":"p2"}"#;
    assert_eq!(intake.decide(&none, foreign, NOW), Err(Refusal::NotAllowed));
    let (event, order, dedup, targets) = anyway(foreign);
    assert_eq!((&*event, order.as_deref(), dedup), ("build.done", Some("1"), 1));
    assert_eq!(targets, "all named");
    for unreadable in [&b"\x1f\x8b"[..], b"", br#"{"event":"a","event":"b","id":"1"}"#] {
        let unknown = anyway(unreadable);
        assert_eq!(unknown, (UNKNOWN.to_owned(), None, 0, "all".to_owned()), "{unreadable:?}");
    }
}
