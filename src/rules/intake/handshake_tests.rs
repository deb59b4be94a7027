//! Each provider's question, as it asks it, and everything that only looks like it.

use super::super::provider::preset;
use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_775_000_000);

fn source(provider: &str, secret: Option<&str>, token: Option<&str>) -> Intake {
    Intake::new(IntakeSpec {
        source: Name::parse("source").unwrap(),
        provider: preset(provider).unwrap(),
        verify: None,
        secrets: secret.map(Secret::new).into_iter().collect(),
        handshake_token: token.map(Secret::new),
        public_url: None,
        admit: Vec::new(),
        event: None,
        dedup: None,
        on_conflict: OnConflict::Duplicate,
        own_window: None,
        order_key: None,
        dedup_window: Duration::from_secs(60),
        targets: Vec::new(),
    })
    .unwrap()
}

fn ask(
    intake: &Intake,
    method: Method,
    query: Option<&str>,
    pairs: &[(String, String)],
    body: &str,
) -> Result<Decision, Refusal> {
    let headers = Headers::from_pairs(pairs.iter().map(|(n, v)| (&**n, v.as_bytes())));
    let request = Inbound { method, query, headers: &headers, body: body.as_bytes() };
    intake.receive(&request, NOW)
}

/// Posts a body that the provider has signed.
fn signed(intake: &Intake, pairs: &[(&str, &str)], body: &str) -> Result<Decision, Refusal> {
    let private = PrivateKey::parse(&"01".repeat(32)).unwrap();
    let private = (intake.provider().name == "discord").then_some(&private);
    let plain = Headers::from_pairs(pairs.iter().map(|(n, v)| (*n, v.as_bytes())));
    let mut all = intake.sign_sample_with(private, &plain, body.as_bytes(), NOW).unwrap();
    all.extend(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    let decided = ask(intake, Method::Post, None, &all, body);
    let unsigned: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let refused = ask(intake, Method::Post, None, &unsigned, body);
    assert_eq!(refused, Err(Refusal::Unverified), "verified first: {body}");
    decided
}

fn reply(decided: Result<Decision, Refusal>) -> (u16, &'static str, String) {
    match decided {
        Ok(Decision::Answer(reply)) => (reply.status, reply.content_type, reply.body),
        other => panic!("no handshake: {other:?}"),
    }
}

fn is_event(decided: &Result<Decision, Refusal>) -> bool {
    matches!(decided, Ok(Decision::Store(_)))
}

#[test]
fn slack_is_told_its_challenge() {
    let slack = source("slack", Some("secret"), None);
    let body = r#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV","type":"url_verification"}"#;
    let told = reply(signed(&slack, &[], body));
    assert_eq!(told, (200, "text/plain", "3eZbrw1aBm2rZgRNFdxV".into()));
    assert_eq!(signed(&slack, &[], r#"{"type":"url_verification"}"#), Err(Refusal::Malformed));
    let event = r#"{"type":"event_callback","challenge":"x","event":{"type":"url_verification"}}"#;
    assert!(is_event(&signed(&slack, &[], event)));
}

#[test]
fn discord_is_answered_on_both_its_endpoints() {
    let key = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
    let discord = source("discord", Some(key), None);
    let ping = r#"{"version":1,"application_id":"1","type":0}"#;
    assert_eq!(reply(signed(&discord, &[], ping)), (204, "application/json", String::new()));
    let told = reply(signed(&discord, &[], r#"{"id":"7","type":1}"#));
    assert_eq!(told, (200, "application/json", r#"{"type":1}"#.into()));
    for event in [r#"{"type":1,"event":{"type":"ENTITLEMENT_CREATE"}}"#, r#"{"id":"7","type":2}"#] {
        assert!(is_event(&signed(&discord, &[], event)), "{event}");
    }
    let probe = [
        ("x-signature-ed25519".to_owned(), "00".repeat(64)),
        ("x-signature-timestamp".to_owned(), NOW.as_secs().to_string()),
    ];
    let probed = ask(&discord, Method::Post, None, &probe, ping);
    assert_eq!(probed, Err(Refusal::Unverified), "what Discord probes for");
}

#[test]
fn twitch_is_told_its_challenge() {
    let twitch = source("twitch", Some("secret"), None);
    let body = r#"{"challenge":"pogchamp-kappa","subscription":{"type":"stream.online"}}"#;
    let asks = [("twitch-eventsub-message-type", "webhook_callback_verification")];
    assert_eq!(reply(signed(&twitch, &asks, body)), (200, "text/plain", "pogchamp-kappa".into()));
    let revoked = [("twitch-eventsub-message-type", "revocation")];
    assert!(is_event(&signed(&twitch, &revoked, body)));
}

#[test]
fn zoom_is_shown_that_the_secret_is_known_and_gets_nothing_else_signed() {
    let zoom = source("zoom", Some("123456789asdf"), None);
    let asks = |token: &str| {
        let body = format!(
            r#"{{"event":"endpoint.url_validation","payload":{{"plainToken":"{token}"}},"event_ts":1}}"#
        );
        signed(&zoom, &[], &body)
    };
    let (status, kind, body) = reply(asks("qgg8vlvZRS6UYooatFL8Aw"));
    assert_eq!((status, kind), (200, "application/json"));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"123456789asdf");
    let mac = hex::encode(ring::hmac::sign(&key, b"qgg8vlvZRS6UYooatFL8Aw"));
    let expected = format!(r#"{{"plainToken":"qgg8vlvZRS6UYooatFL8Aw","encryptedToken":"{mac}"}}"#);
    assert_eq!(body, expected);
    for oracle in ["v0:1775000000:{}", "", "a b"] {
        assert_eq!(asks(oracle), Err(Refusal::Malformed), "{oracle}");
    }
}

#[test]
fn meta_must_show_the_token_it_was_given() {
    let meta = source("meta", Some("secret"), Some("meatyhamhock"));
    let get = |query: &str| ask(&meta, Method::Get, Some(query), &[], "");
    let asks = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock";
    assert_eq!(reply(get(asks)), (200, "text/plain", "1158201444".into()));
    for (query, refusal) in [
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=other", Refusal::Unverified),
        ("hub.mode=subscribe&hub.challenge=1", Refusal::Unverified),
        ("hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=meatyhamhock", Refusal::Malformed),
        ("hub.mode=subscribe&hub.verify_token=meatyhamhock", Refusal::Malformed),
        ("", Refusal::Malformed),
    ] {
        assert_eq!(get(query), Err(refusal), "{query}");
    }
    let untold = source("meta", Some("secret"), None);
    let decided = ask(&untold, Method::Get, Some(&asks.replace("meatyhamhock", "")), &[], "");
    assert_eq!(decided, Err(Refusal::Unverified), "no token fits none");
}

#[test]
fn microsoft_graph_is_told_its_token_decoded() {
    let graph = source("microsoft-graph", None, None);
    let post = |query| ask(&graph, Method::Post, query, &[], r#"{"value":[]}"#);
    assert_eq!(
        reply(post(Some("validationToken=abc%20def"))),
        (200, "text/plain", "abc def".into())
    );
    assert_eq!(post(Some("validationToken=")), Err(Refusal::Malformed));
    assert!(is_event(&post(None)));
}

#[test]
fn asana_is_believed_once_and_afterwards_only_with_its_secret() {
    let said = |secret: &str| vec![("x-hook-secret".to_owned(), secret.to_owned())];
    let open = source("asana", None, None);
    let Ok(Decision::Answer(told)) = ask(&open, Method::Post, None, &said("b537207f20"), "") else {
        panic!("no handshake");
    };
    assert_eq!((told.status, told.header), (200, Some(("x-hook-secret", "b537207f20".into()))));
    let event = ask(&open, Method::Post, None, &[], r#"{"events":[]}"#);
    assert_eq!(event, Err(Refusal::Unverified), "no event before the secret is known");
    let closed = source("asana", Some("b537207f20"), None);
    assert!(ask(&closed, Method::Post, None, &said("b537207f20"), "").is_ok());
    let foreign = ask(&closed, Method::Post, None, &said("another"), "");
    assert_eq!(foreign, Err(Refusal::Unverified));
    assert!(is_event(&signed(&closed, &[], r#"{"events":[]}"#)));
}

#[test]
fn a_token_where_none_is_asked_for_is_a_mistake() {
    let spec = IntakeSpec {
        source: Name::parse("source").unwrap(),
        provider: preset("slack").unwrap(),
        verify: None,
        secrets: vec![Secret::new("secret")],
        handshake_token: Some(Secret::new("canary")),
        public_url: None,
        admit: Vec::new(),
        event: None,
        dedup: None,
        on_conflict: OnConflict::Duplicate,
        own_window: None,
        order_key: None,
        dedup_window: Duration::from_secs(60),
        targets: Vec::new(),
    };
    let sentence = Intake::new(spec).unwrap_err();
    assert!(sentence.contains("handshake_token") && !sentence.contains("canary"), "{sentence}");
}
