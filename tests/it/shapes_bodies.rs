//! What each kind of target is sent, and what becomes of a template that fails.

use base64::Engine as _;
use everhook::model::{Event, EventId, Headers, Name};
use everhook::rules::provider::presets;
use everhook::template::{Body, Preset};
use everhook::time::Timestamp;

use crate::harness::daemon::Home;
use crate::harness::receiver::{Act, OK, Receiver};
use crate::harness::sign;

const SOURCES: &str = r#"
[source.buildkite]
provider = "buildkite"
secret = "plain:29b1ff5779c76bd48ba6705eb99ff970"

[source.any]
provider = "custom"
verify = { kind = "none" }
"#;
const BUILDKITE: &str = r#"{"event":"build.finished","build":{"id":"k1","number":7,"state":"failed","blocked":false,"branch":"main","commit":"abc","web_url":"https://buildkite.com/x/y/builds/7"},"pipeline":{"slug":"game"}}"#;
const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/json"),
    ("x-buildkite-event", "build.finished"),
    ("x-buildkite-token", "29b1ff5779c76bd48ba6705eb99ff970"),
];

fn target(name: &str, url: &str, keys: &str) -> String {
    format!("[target.{name}]\nurl = {url:?}\n{keys}\n")
}

#[tokio::test]
async fn each_preset_sends_what_its_service_takes_and_no_token_of_the_provider() {
    let mut receiver = Receiver::good().await;
    for (preset, expected) in [
        ("slack", "*game #7 failed*"),
        ("discord", "\"allowed_mentions\":{\"parse\":[]}"),
        ("teams", "application/vnd.microsoft.card.adaptive"),
        ("github-dispatch", "\"client_payload\":{\"event\":{\"id\":\"evt_"),
        ("buildkite-trigger", "{\"id\":\"evt_"),
    ] {
        let keys =
            format!("preset = {preset:?}\nheaders = {{ Authorization = \"plain:Bearer abc\" }}");
        let home = Home::new(&format!("{SOURCES}{}", target("t", &receiver.url(), &keys)));
        let daemon = home.start().await;
        let (id, _) = daemon.post("/in/buildkite", &HEADERS, BUILDKITE.as_bytes()).await.ack();
        let got = receiver.next().await;
        let text = String::from_utf8(got.body.to_vec()).expect("text");
        assert!(text.contains(expected), "{preset}: {text}");
        assert_eq!(got.id(), id);
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.header("authorization"), "Bearer abc");
        assert_eq!(got.find("x-buildkite-token"), None, "{preset}");
        let path = if preset == "discord" { "/hook?wait=true" } else { "/hook" };
        assert_eq!(got.line, format!("POST {path} HTTP/1.1"));
        assert!(!daemon.log().join("\n").contains("Bearer abc"));
    }
}

#[tokio::test]
async fn a_template_makes_the_body_and_the_signature_is_over_what_it_made() {
    let mut receiver = Receiver::good().await;
    let signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let keys = format!(
        "method = \"PUT\"\nbody = '{{\"branch\": {{{{ body.build.branch | tojson }}}}, \"try\": {{{{ attempt }}}}}}'\n\
         sign = {{ style = \"standard-webhooks\", secret = \"plain:{signing}\" }}\nfrom = [\"buildkite\"]\n\
         events = [\"build.*\"]"
    );
    let home = Home::new(&format!("{SOURCES}{}", target("t", &receiver.url(), &keys)));
    let daemon = home.start().await;
    daemon.post("/in/buildkite", &HEADERS, BUILDKITE.as_bytes()).await.ack();
    let got = receiver.next().await;
    assert_eq!(got.body, r#"{"branch": "main", "try": 1}"#);
    assert_eq!(got.line, "PUT /hook HTTP/1.1");
    assert_eq!(
        got.header("x-buildkite-event"),
        "build.finished",
        "raw keeps the provider's fields"
    );
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = base64.decode(signing.trim_start_matches("whsec_")).expect("base64");
    let timestamp = got.header("webhook-timestamp");
    let mut message = format!("{}.{timestamp}.", got.id()).into_bytes();
    message.extend_from_slice(&got.body);
    let expected = format!("v1,{}", base64.encode(sign::hmac_sha256(&key, &message)));
    assert_eq!(got.header("webhook-signature"), expected);
}

#[tokio::test]
async fn a_template_that_fails_on_an_event_buries_it_and_the_others_go_on() {
    let mut receiver = Receiver::good().await;
    let keys = "body = '{{ body.a.b | tojson }}'\nfrom = [\"any\"]";
    let home = Home::new(&format!("{SOURCES}{}", target("t", &receiver.url(), keys)));
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"canary").await.ack();
    let (id, _) = daemon.post("/in/any", &[], br#"{"a":{"b":1}}"#).await.ack();
    let got = receiver.next().await;
    assert_eq!((got.id(), got.body.as_ref()), (id.as_str(), &b"1"[..]));
    let buried = "everhook_dead_letters_total{reason=\"template\",target=\"t\"}";
    daemon.metric_becomes(buried, 1.0).await;
    assert_eq!(receiver.seen().len(), 1, "nothing was sent for it");
    let log = daemon.log().join("\n");
    assert!(log.contains("the template fails") && !log.contains("canary"), "{log}");
}

#[tokio::test]
async fn discord_is_left_alone_when_it_says_that_its_window_is_used_up() {
    let used_up = "x-ratelimit-remaining: 0\r\nx-ratelimit-reset-after: 0.9\r\n";
    let mut receiver =
        Receiver::scripted(
            move |number, _| {
                if number == 0 { Act::Answer("200 OK", used_up) } else { OK }
            },
        )
        .await;
    let keys = "preset = \"discord\"\nconcurrency = 1";
    let home = Home::new(&format!("{SOURCES}{}", target("t", &receiver.url(), keys)));
    let daemon = home.start().await;
    let began = std::time::Instant::now();
    for number in 0..2 {
        daemon.post("/in/any", &[], format!("{number}").as_bytes()).await.ack();
    }
    receiver.take(2).await;
    assert!(began.elapsed() >= std::time::Duration::from_millis(900), "0.9 is rounded up");
}

#[test]
fn every_sample_of_every_provider_has_a_message() {
    for provider in presets() {
        for sample in provider.samples {
            let event = Event {
                id: EventId::new(Timestamp::EPOCH, [1; 10]),
                source: Name::parse("ci").expect("a name"),
                name: sample.event.into(),
                order_key: None,
                received_at: Timestamp::EPOCH,
                headers: Headers::default(),
                body: sample.body.as_bytes().into(),
            };
            let text = |preset| {
                let body = Body::new(preset, None, None).expect("built in");
                String::from_utf8(body.render(&event, 1).expect("rendered").to_vec()).expect("text")
            };
            for preset in [Preset::Slack, Preset::Discord, Preset::Teams] {
                let text = text(preset);
                let said = serde_json::from_str::<serde_json::Value>(&text).expect("json");
                assert!(said.is_object() && !text.contains("null"), "{}: {text}", sample.event);
            }
            if provider.name != "custom" {
                let bare = format!("*{} from ci*", sample.event);
                let about = text(Preset::Slack);
                // What is not about a build has no better word than its own name.
                let about_builds = ["streampixel", "buildpixel", "buildkite"];
                let named = sample.event != "ping" && about_builds.contains(&provider.name);
                assert!(!named || !about.contains(&bare), "no better word: {about}");
            }
        }
    }
}
