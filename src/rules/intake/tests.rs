//! The whole decision about a request: its order, its refusals, its routes.

use proptest::prelude::*;

use super::super::provider::preset;
use super::*;

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_775_000_000);
const UPLOADED: &str = r#"{"event":"build.uploaded","projectId":"p1","uploadId":"u1"}"#;

pub(super) fn spec(provider: &str) -> IntakeSpec {
    IntakeSpec {
        source: Name::parse("source").unwrap(),
        provider: preset(provider).unwrap(),
        verify: None,
        secrets: Vec::new(),
        handshake_token: None,
        public_url: None,
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

pub(super) fn custom() -> IntakeSpec {
    IntakeSpec { verify: Some(Scheme::none()), ..spec("custom") }
}

pub(super) fn intake(spec: IntakeSpec) -> Intake {
    Intake::new(spec).unwrap()
}

pub(super) fn condition(field: &str, patterns: &[&str]) -> Condition {
    let field = Field::parse(field).unwrap();
    Condition { field, patterns: Patterns::parse(patterns).unwrap() }
}

pub(super) fn interest(
    target: &str,
    events: Option<&[&str]>,
    conditions: Vec<Condition>,
) -> Interest {
    let events = events.map(|events| Patterns::parse(events).unwrap());
    Interest { target: Name::parse(target).unwrap(), events, conditions }
}

fn decide(intake: &Intake, pairs: &[(&str, &str)], body: &str) -> Result<Admission, Refusal> {
    let pairs = pairs.iter().map(|(name, value)| (*name, value.as_bytes()));
    intake.decide(&Headers::from_pairs(pairs), body.as_bytes(), NOW)
}

#[test]
fn a_request_is_named_grouped_and_routed() {
    let mut spec = spec("streampixel");
    spec.targets = vec![
        interest("all", None, Vec::new()),
        interest("final", Some(&["build.approved", "build.rejected"]), Vec::new()),
        interest("project", Some(&["build.*"]), vec![condition("/projectId", &["p1"])]),
        interest("other", None, vec![condition("/projectId", &["p2"])]),
    ];
    let admission = decide(&intake(spec), &[], UPLOADED).unwrap();
    assert_eq!(admission.event, "build.uploaded");
    assert_eq!(admission.order_key.as_deref(), Some("p1/u1"));
    assert_eq!(admission.dedup.len(), 1);
    let targets: Vec<_> = admission.targets.iter().map(Name::as_str).collect();
    assert_eq!(targets, ["all", "project"]);
}

#[test]
fn a_source_admits_what_its_where_names_and_the_test_event_of_the_provider() {
    let mut spec = spec("streampixel");
    spec.admit = vec![condition("/projectId", &["p1"])];
    let intake = intake(spec);
    assert!(decide(&intake, &[], UPLOADED).is_ok());
    let foreign = UPLOADED.replace("p1", "p2");
    assert_eq!(decide(&intake, &[], &foreign), Err(Refusal::NotAllowed));
    let test =
        r#"{"event":"webhook.test","projectId":"test_project_id","uploadId":"test_upload_id"}"#;
    assert!(decide(&intake, &[], test).is_ok());
    let forged = test.replace("webhook.test", "build.approved");
    assert_eq!(decide(&intake, &[], &forged), Err(Refusal::NotAllowed));
    let forged = test.replace("test_project_id", "p2");
    assert_eq!(decide(&intake, &[], &forged), Err(Refusal::NotAllowed));
}

#[test]
fn an_unsigned_request_must_say_its_event_in_a_string() {
    let intake = intake(spec("streampixel"));
    let long = format!(r#"{{"event":"{}"}}"#, "e".repeat(MAX_EVENT_NAME + 1));
    for body in [
        "",
        "[]",
        "{}",
        r#"{"event":null}"#,
        r#"{"event":7}"#,
        r#"{"event":""}"#,
        r#"{"event":"a\nb"}"#,
        r#"{"event":["a"]}"#,
        r#"{"event":"a","event":"b"}"#,
        &long,
    ] {
        assert_eq!(decide(&intake, &[], body), Err(Refusal::Malformed), "{body}");
    }
    let longest = format!(r#"{{"event":"{}"}}"#, "e".repeat(MAX_EVENT_NAME));
    assert_eq!(decide(&intake, &[], &longest).unwrap().event.len(), MAX_EVENT_NAME);
}

#[test]
fn a_signed_request_without_a_name_is_kept_as_unknown() {
    let mut spec = spec("buildpixel");
    spec.secrets = vec![Secret::new("secret")];
    let intake = intake(spec);
    for body in ["{}", r#"{"type":null}"#, r#"{"type":"a\u0000b"}"#] {
        let made = intake.sign_sample(&Headers::default(), body.as_bytes(), NOW).unwrap();
        let pairs: Vec<_> = made.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(decide(&intake, &pairs, body).unwrap().event, UNKNOWN, "{body}");
        assert_eq!(decide(&intake, &[], body), Err(Refusal::Unverified));
    }
    assert_eq!(
        decide(&intake, &[], "not json"),
        Err(Refusal::Unverified),
        "verified before parsed"
    );
}

#[test]
fn two_proofs_in_one_request_are_refused() {
    let mut spec = spec("buildkite");
    spec.secrets = vec![Secret::new("secret")];
    let intake = intake(spec);
    let made = intake.sign_sample(&Headers::default(), b"{}", NOW).unwrap();
    let signature = (&*made[0].0, &*made[0].1);
    assert_eq!(signature.0, "x-buildkite-signature");
    let token = ("x-buildkite-token", "secret");
    assert!(decide(&intake, &[signature], "{}").is_ok());
    assert!(decide(&intake, &[token], "{}").is_ok());
    let broken = ("x-buildkite-signature", "");
    for pairs in [&[][..], &[signature, token], &[token, token], &[broken, token]] {
        assert_eq!(decide(&intake, pairs, "{}"), Err(Refusal::Unverified), "{pairs:?}");
    }
}

#[test]
fn where_two_proofs_are_usual_the_signature_decides() {
    let mut spec = spec("gitlab");
    let signing = "whsec_c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl";
    spec.secrets = vec![Secret::new(signing), Secret::new("token")];
    let intake = intake(spec);
    let made = intake.sign_sample(&Headers::default(), b"{}", NOW).unwrap();
    let mut pairs: Vec<_> = made.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert!(decide(&intake, &pairs, "{}").is_ok());
    pairs.push(("x-gitlab-token", "not the token"));
    assert!(decide(&intake, &pairs, "{}").is_ok());
    assert!(decide(&intake, &pairs, "[]").is_err(), "another body");
    assert!(decide(&intake, &[("x-gitlab-token", "token")], "{}").is_ok());
    let as_token = decide(&intake, &[("x-gitlab-token", signing)], "{}");
    assert_eq!(as_token, Err(Refusal::Unverified), "a signing key is no token");
}

#[test]
fn a_public_key_never_serves_as_a_symmetric_one() {
    let public = "whpk_iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";
    let mut both = spec("standard-webhooks");
    both.secrets =
        vec![Secret::new(public), Secret::new("whsec_c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl")];
    let both = intake(both);
    let private = PrivateKey::parse(&"01".repeat(32)).unwrap();
    let id = Headers::from_pairs([("webhook-id", &b"msg_1"[..])]);
    let passes = |made: Vec<(String, String)>| {
        let mut pairs: Vec<_> = made.iter().map(|(name, value)| (&**name, &**value)).collect();
        pairs.push(("webhook-id", "msg_1"));
        decide(&both, &pairs, "{}").is_ok()
    };
    assert!(passes(both.sign_sample(&id, b"{}", NOW).unwrap()));
    let only = |secret: &str| {
        intake(IntakeSpec { secrets: vec![Secret::new(secret)], ..spec("standard-webhooks") })
    };
    assert!(passes(only(public).sign_sample_with(Some(&private), &id, b"{}", NOW).unwrap()));
    // Without its prefix it is taken for a symmetric key, and for nothing else.
    let bare = only(public.trim_start_matches("whpk_"));
    assert!(!passes(bare.sign_sample(&id, b"{}", NOW).unwrap()));
    assert!(bare.sign_sample_with(Some(&private), &id, b"{}", NOW).is_err());
    assert!(only("c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl").sign_sample(&id, b"{}", NOW).is_ok());
}

#[test]
fn a_key_without_its_prefix_serves_each_scheme_that_it_could_be_for() {
    let bare = "c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl";
    let with = |provider: &str, secret: &str| {
        intake(IntakeSpec { secrets: vec![Secret::new(secret)], ..spec(provider) })
    };
    let svix = with("svix", bare);
    for (sender, id) in [("svix", "svix-id"), ("standard-webhooks", "webhook-id")] {
        let sender = with(sender, &format!("whsec_{bare}"));
        let known = Headers::from_pairs([(id, &b"msg_1"[..])]);
        let made = sender.sign_sample(&known, b"{}", NOW).unwrap();
        let mut pairs: Vec<_> = made.iter().map(|(name, value)| (&**name, &**value)).collect();
        pairs.push((id, "msg_1"));
        assert!(decide(&svix, &pairs, "{}").is_ok(), "{id}");
    }
}

#[test]
fn a_form_is_read_as_the_json_it_stands_for() {
    let mut reading = custom();
    reading.event = Some(Field::parse("/action").unwrap());
    let reading = intake(reading);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for body in ["action=opened&number=1", "payload=%7B%22action%22%3A%22opened%22%7D"] {
        assert_eq!(decide(&reading, &form, body).unwrap().event, "opened", "{body}");
        assert_eq!(decide(&reading, &[], body), Err(Refusal::Malformed), "{body}");
    }
    for body in ["action=a&action=b", "action=%ff", "payload=text", "payload={"] {
        assert_eq!(decide(&reading, &form, body), Err(Refusal::Malformed), "{body}");
    }
}

#[test]
fn a_body_that_is_no_json_and_says_so_has_no_fields() {
    let mut spec = spec("cloudevents");
    spec.secrets = vec![Secret::new("token")];
    spec.targets = vec![
        interest("all", None, Vec::new()),
        interest("some", None, vec![condition("/a", &["1"])]),
    ];
    let intake = intake(spec);
    let decide = |media: &str, body: &str| {
        let pairs = [("authorization", "Bearer token"), ("ce-type", "t"), ("content-type", media)];
        let admission = decide(&intake, &pairs, body)?;
        assert_eq!(admission.event, "t");
        Ok::<_, Refusal>(admission.targets.len())
    };
    assert_eq!(decide("text/plain", "not json"), Ok(1));
    assert_eq!(decide("text/plain", r#"{"a":"1"}"#), Ok(2), "JSON whatever it is called");
    assert_eq!(decide("application/cloudevents+json", "not json"), Err(Refusal::Malformed));
    let twice = r#"{"a":"1","a":"2"}"#;
    assert_eq!(decide("text/plain", twice), Err(Refusal::Malformed), "ambiguous all the same");
}

#[test]
fn a_copy_with_another_body_is_a_repeat_or_new_as_the_source_says() {
    let streampixel = |on_conflict| intake(IntakeSpec { on_conflict, ..spec("streampixel") });
    let other = UPLOADED.replace('}', r#","timestamp":"2"}"#);
    let keys = |on_conflict| {
        let intake = streampixel(on_conflict);
        let (one, two) = (decide(&intake, &[], UPLOADED), decide(&intake, &[], &other));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one, decide(&intake, &[], UPLOADED).unwrap());
        assert_eq!(one.may_conflict, on_conflict == OnConflict::Duplicate);
        one.dedup == two.dedup
    };
    assert!(keys(OnConflict::Duplicate));
    assert!(!keys(OnConflict::New));
    let body = Some(DedupSpec::Key(vec![Field::Body]));
    let by_body = intake(IntakeSpec { dedup: body, ..custom() });
    assert!(!decide(&by_body, &[], "x").unwrap().may_conflict);
    let on_conflict = OnConflict::New;
    let secrets = vec![Secret::new("secret")];
    for without in [
        IntakeSpec { secrets, on_conflict, ..spec("buildkite") },
        IntakeSpec { dedup: Some(DedupSpec::Off), on_conflict, ..spec("streampixel") },
    ] {
        let mistake = Intake::new(without).unwrap_err();
        assert!(mistake.contains("none can conflict"), "{mistake}");
    }
}

#[test]
fn the_window_is_the_sources_or_the_presets_or_the_common_one() {
    let window = |own: Option<u64>, provider: &str| {
        let mut spec = if provider == "custom" { custom() } else { spec(provider) };
        spec.own_window = own.map(Duration::from_secs);
        if provider == "custom" {
            spec.dedup = Some(DedupSpec::Key(vec![Field::parse("/uploadId").unwrap()]));
            spec.event = None;
        }
        match decide(&intake(spec), &[], UPLOADED).unwrap().dedup.as_slice() {
            [DedupKey::Exact { window, .. }] => window.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(window(None, "streampixel"), 24 * 3600);
    assert_eq!(window(Some(5), "streampixel"), 5);
    assert_eq!(window(None, "custom"), 3600);
    assert_eq!(window(Some(5), "custom"), 5);
    let keyless = IntakeSpec { own_window: Some(Duration::from_secs(5)), ..custom() };
    assert!(Intake::new(keyless).unwrap_err().contains("dedup.key"));
}

#[test]
fn buildkite_is_named_by_header_or_body_and_grouped_by_what_it_is_about() {
    let mut spec = spec("buildkite");
    spec.secrets = vec![Secret::new("secret")];
    let intake = intake(spec);
    let body = r#"{"event":"e","build":{"id":"b"},"job":{"id":"j"},"agent":{"id":"a"},
        "cluster_token":{"id":"c"},"service":{"id":"s"}}"#;
    for (event, order_key) in [
        ("build.running", Some("b")),
        ("job.started", Some("b")),
        ("agent.lost", Some("a")),
        ("agent.blocked", Some("a")),
        ("cluster_token.registration_blocked", Some("c")),
        ("ping", Some("s")),
        ("package.created", None),
    ] {
        let pairs = [("x-buildkite-token", "secret"), ("x-buildkite-event", event)];
        let admission = decide(&intake, &pairs, body).unwrap();
        assert_eq!((&*admission.event, admission.order_key.as_deref()), (event, order_key));
    }
    let named = |body| decide(&intake, &[("x-buildkite-token", "secret")], body).unwrap().event;
    assert_eq!(named(r#"{"event":"workflow.alarm"}"#), "workflow.alarm");
    assert_eq!(named("{}"), UNKNOWN);
}

#[test]
fn a_custom_source_reads_the_body_only_when_asked_to() {
    let plain = intake(custom());
    let admission = decide(&plain, &[("content-encoding", "gzip")], "\u{1f}not json").unwrap();
    assert_eq!(
        (&*admission.event, admission.order_key, admission.dedup),
        ("webhook", None, Vec::new())
    );
    let mut reading = custom();
    reading.targets = vec![interest("t", None, vec![condition("/a", &["1"])])];
    let reading = intake(reading);
    assert_eq!(decide(&reading, &[], "not json"), Err(Refusal::Malformed));
    for (coding, refused) in
        [("gzip", true), ("identity, br", true), ("Identity", false), ("", false)]
    {
        let decided = decide(&reading, &[("content-encoding", coding)], r#"{"a":"1"}"#);
        assert_eq!(decided == Err(Refusal::MediaType), refused, "{coding}");
    }
}

#[test]
fn the_configuration_overrides_the_preset() {
    let mut other = custom();
    other.event = Some(Field::parse("header:x-event").unwrap());
    other.order_key = Some(vec![Field::parse("/a").unwrap(), Field::parse("/b").unwrap()]);
    other.dedup = Some(DedupSpec::Key(vec![Field::parse("header:x-id").unwrap()]));
    let other = intake(other);
    let pairs = [("x-event", "push"), ("x-id", "1")];
    let admission = decide(&other, &pairs, r#"{"a":"x","b":2}"#).unwrap();
    assert_eq!((&*admission.event, admission.order_key.as_deref()), ("push", Some("x/2")));
    assert_eq!(admission.dedup.len(), 1);
    let without = decide(&other, &[("x-event", "push")], r#"{"a":"x"}"#).unwrap();
    assert_eq!((without.order_key, without.dedup.len()), (None, 0));
    assert_eq!(decide(&other, &[], "{}"), Err(Refusal::Malformed), "unsigned and unnamed");

    let mut off = spec("streampixel");
    (off.dedup, off.order_key) = (Some(DedupSpec::Off), Some(Vec::new()));
    let admission = decide(&intake(off), &[], UPLOADED).unwrap();
    assert_eq!((admission.order_key, admission.dedup.len()), (None, 0));
}

#[test]
fn an_order_key_that_is_too_long_is_told_from_others_by_its_hash() {
    let mut long = custom();
    long.order_key = Some(vec![Field::parse("header:x-key").unwrap()]);
    let long = intake(long);
    let key = |value: &str| decide(&long, &[("x-key", value)], "").unwrap().order_key.unwrap();
    let longest = "k".repeat(MAX_ORDER_KEY);
    assert_eq!(key(&longest), longest);
    let hashed = key(&(longest.clone() + "1"));
    assert!(hashed.starts_with('#') && hashed.len() == 33, "{hashed}");
    assert_ne!(hashed, key(&(longest + "2")));
}

#[test]
fn what_cannot_work_is_said_in_a_sentence() {
    assert!(Intake::new(spec("custom")).unwrap_err().contains("verify"));
    assert!(Intake::new(spec("buildkite")).unwrap_err().contains("secret"));
    let empty = IntakeSpec { dedup: Some(DedupSpec::Key(Vec::new())), ..custom() };
    assert!(Intake::new(empty).unwrap_err().contains("dedup"));
}

pub(super) fn busy(provider: &str) -> Intake {
    let mut spec = if provider == "custom" { custom() } else { spec(provider) };
    if spec.provider.needs_secret() {
        let hex = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
        spec.secrets = vec![Secret::new(match provider {
            "discord" => hex,
            "standard-webhooks" | "svix" => "whsec_c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl",
            _ => "secret",
        })];
        spec.public_url = Some("https://hooks.example/in".into());
    }
    spec.admit = vec![condition("/a/0", &["!x"])];
    spec.targets = vec![interest("t", Some(&["build.*"]), vec![condition("/a", &["*b*", "!c"])])];
    intake(spec)
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(
        headers in prop::collection::vec((
            prop::sample::select(vec!["x-buildkite-signature", "x-buildkite-token", "x-buildkite-event",
                "x-buildpixel-signature", "content-encoding", "content-type"]),
            prop::collection::vec(any::<u8>(), 0..90),
        ), 0..4),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            r#"\{("(event|type|a|b)":("[a-c\\"]{0,3}"|\[[1-9]?\]|null|\{\}),?){0,3}\}"#.prop_map(String::into_bytes),
        ],
    ) {
        for preset in super::super::provider::presets() {
            let headers = Headers::from_pairs(headers.iter().map(|(n, v)| (*n, &**v)));
            let decided = busy(preset.name).decide(&headers, &body, NOW);
            if let Ok(admission) = decided {
                prop_assert!(!preset.needs_secret(), "{} without a proof", preset.name);
                prop_assert!(is_plain(&admission.event, MAX_EVENT_NAME));
            }
        }
    }
}

#[test]
fn the_facts_of_a_source_are_its_own_where_it_differs_from_its_preset() {
    let fact = |spec: IntakeSpec, label: &str| {
        let facts = intake(spec).facts().to_vec();
        facts.into_iter().find(|(name, _)| *name == label).unwrap().1
    };
    let field = |text| Field::parse(text).unwrap();
    let own = || IntakeSpec {
        event: Some(field("/kind")),
        dedup: Some(DedupSpec::Key(vec![field("/id"), field("header:x-try")])),
        order_key: Some(vec![field("/order")]),
        ..custom()
    };
    assert_eq!(fact(own(), "event name"), "/kind");
    assert_eq!(fact(own(), "a repeat is"), "one with the same /id + header:x-try");
    assert_eq!(fact(own(), "order key"), "/order");
    assert_eq!(fact(own(), "verified by"), "nothing");
    assert_eq!(fact(custom(), "event name"), "always webhook");
    let off = IntakeSpec { dedup: Some(DedupSpec::Off), ..spec("streampixel") };
    assert!(fact(off, "a repeat is").starts_with("never assumed"));
}
