//! Presets against the forms their services publish, and templates at their bounds.

use serde_json::json;

use super::*;
use crate::model::{EventId, Headers, Name};
use crate::time::Timestamp;

fn event(name: &str, body: &str) -> Event {
    Event {
        id: EventId::new(Timestamp::from_secs(1), [3; 10]),
        source: Name::parse("ci").unwrap(),
        name: name.into(),
        order_key: Some("k".into()),
        received_at: Timestamp::from_secs(1_774_789_200),
        headers: Headers::from_pairs([("x-team", &b"apollo"[..]), ("x-odd", b"\xff")]),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn preset(preset: Preset, event: &Event) -> Value {
    let body = Body::new(preset, None, None).unwrap();
    assert_eq!(body.content_type(), Some("application/json"));
    serde_json::from_slice(&body.render(event, 1).unwrap()).unwrap()
}

fn template(source: &str) -> Result<Body, TemplateError> {
    Body::new(Preset::Raw, Some(source.into()), Some("text/plain".into()))
}

fn rendered(source: &str, event: &Event) -> Result<String, TemplateError> {
    let bytes = template(source)?.render(event, 2)?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

const BUILDKITE: &str = r#"{"event":"build.finished","build":{"number":7,"state":"passed","blocked":false,"branch":"a<b>&c","commit":"abc","message":"Fix it\nmore","web_url":"https://buildkite.com/x/y/builds/7","creator":{"name":"Sam"}},"pipeline":{"slug":"game"}}"#;

#[test]
fn raw_sends_the_bytes_as_they_came() {
    let event = event("x", "{\"n\": 1.50}");
    let body = Body::new(Preset::Raw, None, None).unwrap();
    assert_eq!(body.render(&event, 1).unwrap(), event.body);
    assert_eq!((body.content_type(), body.passes_headers()), (None, true));
    let slack = Body::new(Preset::Slack, None, None).unwrap();
    assert!(!slack.passes_headers() && !slack.is_verbatim());
}

#[test]
fn slack_gets_text_with_its_marks_escaped() {
    let got = preset(Preset::Slack, &event("build.finished", BUILDKITE));
    let text = "*game #7 passed*\nBranch: a&lt;b&gt;&amp;c\nCommit: abc\nMessage: Fix it\nBy: Sam\n\
                <https://buildkite.com/x/y/builds/7|Open>";
    assert_eq!(got, json!({ "text": text }));
}

#[test]
fn discord_mentions_nobody_and_is_cut_at_its_limit() {
    let got = preset(Preset::Discord, &event("build.finished", BUILDKITE));
    assert_eq!(got["allowed_mentions"], json!({ "parse": [] }));
    assert!(got["content"].as_str().unwrap().starts_with("**game #7 passed**\nBranch: a\\<b\\>&c"));
    let long = "😀*".repeat(3_000);
    let body = json!({ "type": "t", "data": { "build": { "branch": long, "commit": long, "platform": long, "buildType": long, "artifactUrl": format!("https://x.example/{}", "a".repeat(900)) }, "project": { "name": long } } });
    let got = preset(Preset::Discord, &event("build.failed", &body.to_string()));
    let content = got["content"].as_str().unwrap();
    assert!(content.encode_utf16().count() <= 2_000 && content.ends_with("a>"), "{content}");
}

#[test]
fn teams_gets_one_adaptive_card_below_its_limit() {
    let got = preset(Preset::Teams, &event("build.finished", BUILDKITE));
    assert_eq!(got["type"], "message");
    let card = &got["attachments"][0];
    assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(card["content"]["type"], "AdaptiveCard");
    assert_eq!(card["content"]["body"][0]["text"], "game #7 passed");
    assert_eq!(card["content"]["actions"][0]["url"], "https://buildkite.com/x/y/builds/7");
    let big = Body::new(Preset::Teams, Some("\"{{ body.x }}\"".into()), None).unwrap();
    let large = event("x", &json!({ "x": "y".repeat(28 * 1024) }).to_string());
    assert_eq!(big.render(&large, 1), Err(TemplateError::TooLarge(28 * 1024)));
}

#[test]
fn github_gets_everything_under_one_key_and_a_null_body_when_it_does_not_fit() {
    let name = "n".repeat(150);
    let got = preset(Preset::GithubDispatch, &event(&name, BUILDKITE));
    assert_eq!(got["event_type"].as_str().unwrap().len(), 100);
    let payload = got["client_payload"].as_object().unwrap();
    assert_eq!(payload.keys().collect::<Vec<_>>(), ["event"]);
    assert_eq!(payload["event"]["body"]["build"]["number"], 7);
    let large = event("x", &json!({ "x": "y".repeat(70_000) }).to_string());
    assert_eq!(
        preset(Preset::GithubDispatch, &large)["client_payload"]["event"]["body"],
        Value::Null
    );
}

#[test]
fn a_buildkite_trigger_carries_our_id_in_its_body() {
    let event = event("build.approved", r#"{"a":1}"#);
    let got = preset(Preset::BuildkiteTrigger, &event);
    assert_eq!(got["id"], event.id.to_string());
    assert_eq!((&got["name"], &got["body"]["a"]), (&json!("build.approved"), &json!(1)));
}

#[test]
fn a_blocked_build_is_not_called_passed() {
    let blocked = BUILDKITE.replace("\"blocked\":false", "\"blocked\":true");
    let got = preset(Preset::Slack, &event("build.finished", &blocked));
    assert!(got["text"].as_str().unwrap().starts_with("*game #7 blocked*"), "{got}");
}

#[test]
fn a_template_speaks_of_the_event() {
    let event = event("build.finished", BUILDKITE);
    let source = "{{ event.id }} {{ event.source }} {{ event.name }} {{ event.received_at }} \
                  {{ event.order_key }} {{ headers[\"x-team\"] }} {{ body.build.number }} {{ attempt }} \
                  {{ summary.title }} {{ body.build.branch | tojson }}";
    let expected = format!(
        "{} ci build.finished 2026-03-29T13:00:00.000Z k apollo 7 2 game #7 passed \"a\\u003cb\\u003e\\u0026c\"",
        event.id
    );
    assert_eq!(rendered(source, &event).unwrap(), expected);
    let text = self::event("x", "plain words");
    assert_eq!(rendered("{{ body | upper }}", &text).unwrap(), "PLAIN WORDS");
}

#[test]
fn mistakes_are_found_before_anything_is_rendered() {
    for bad in ["{{ evnt.name }}", "{{ body", "{% for %}", "{{ body | nosuch }}"] {
        let error = template(bad).and_then(|body| body.render(&event("x", "{}"), 1)).unwrap_err();
        let early = matches!(error, TemplateError::Malformed(_) | TemplateError::Failed(_));
        assert!(early, "{bad}: {error}");
    }
    assert!(matches!(template("{{ evnt.name }}"), Err(TemplateError::Malformed(_))));
}

#[test]
fn no_template_runs_or_writes_without_bound() {
    let event = event("x", r#"{"s":"canary"}"#);
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    assert_eq!(rendered(endless, &event), Err(TemplateError::TooLong));
    let large = "{% for a in range(9000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}";
    assert_eq!(rendered(large, &event), Err(TemplateError::TooLarge(MAX_RENDERED)));
    let failing = rendered("{{ body.s.a.b }}{{ body.s | int }}", &event).unwrap_err().to_string();
    assert!(!failing.contains("canary"), "{failing}");
}

#[test]
fn what_is_called_json_has_to_be_json() {
    let event = event("x", r#"{"s":"a\"b"}"#);
    let body = |source: &str| Body::new(Preset::Raw, Some(source.into()), None).unwrap();
    assert_eq!(body("{\"s\": \"{{ body.s }}\"}").render(&event, 1), Err(TemplateError::NotJson));
    assert_eq!(
        body("{\"s\": {{ body.s | tojson }}}").render(&event, 1).unwrap(),
        "{\"s\": \"a\\\"b\"}"
    );
}

#[test]
fn a_sender_can_make_no_link_in_a_card_and_turn_no_text_around() {
    let mut body: Value = serde_json::from_str(BUILDKITE).unwrap();
    body["build"]["branch"] = json!("[log in](https://evil.example)");
    body["pipeline"]["slug"] = json!("ga\u{202e}me\u{2066}[x](y)");
    let event = event("build.finished", &body.to_string());
    let got = preset(Preset::Teams, &event);
    let card = &got["attachments"][0]["content"]["body"];
    assert_eq!(card[0]["text"], "game[x] (y) #7 passed");
    assert_eq!(card[1]["facts"][0]["value"], "[log in] (https://evil.example)");
}

#[test]
fn a_pipeline_trigger_takes_five_megabytes_and_a_larger_body_is_null() {
    let of = |length: usize| event("x", &json!({ "x": "y".repeat(length) }).to_string());
    let fits = preset(Preset::BuildkiteTrigger, &of(4_900_000));
    assert_eq!(fits["body"]["x"].as_str().unwrap().len(), 4_900_000);
    let large = of(5_000_000);
    let got = preset(Preset::BuildkiteTrigger, &large);
    assert_eq!((&got["body"], &got["id"]), (&Value::Null, &json!(large.id.to_string())));
}
