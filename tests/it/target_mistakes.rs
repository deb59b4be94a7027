//! What is wrong in a target's policies is found before anything starts, and the mistake says what to write.

use insta::assert_snapshot;

use crate::config_mistakes::desk::Desk;

/// A source, and a target that waits for its keys.
const BEGINNING: &str = r#"[source.s]
provider = "custom"
verify = { kind = "none" }
[target.t]
url = "http://127.0.0.1:9/"
"#;

fn mistakes(keys: &str) -> String {
    Desk::with(&format!("{BEGINNING}{keys}")).mistakes()
}

#[test]
fn a_condition_is_patterns_or_existence() {
    assert_snapshot!(mistakes(
        r#"where = { "/a" = { exists = "yes" }, "/b" = { exist = true }, "/c" = {}, "/d" = "!", "no" = "x" }"#
    ));
}

#[test]
fn a_jitter_is_a_fraction_or_full_and_giving_up_takes_status_codes() {
    assert_snapshot!(mistakes("retry = { jitter = \"ful\", give_up = [400, 200, \"422\"] }"));
}

#[test]
fn a_rate_has_a_unit_and_a_burst_has_a_rate() {
    assert_snapshot!(mistakes("rate = \"50\"\nburst = 3"));
    assert_snapshot!(mistakes("burst = 3"));
}

#[test]
fn a_breaker_is_a_table_or_none() {
    assert_snapshot!(mistakes("breaker = \"off\""));
    assert_snapshot!(mistakes(
        "breaker = { failures = 0, failure_rate = 2.0, probe_every = \"0s\", probes = 1 }"
    ));
}

#[test]
fn a_signature_fits_its_style() {
    for keys in [
        r#"sign = { style = "ed25519", secret = "plain:whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }"#,
        r#"sign = { style = "hmac-sha256", secrets = ["plain:a", "plain:b"] }"#,
        r#"sign = { style = "hmac-sha256", secret = "plain:a", header = "Content-Length" }"#,
        r#"sign = { style = "buildkite", secret = "plain:a", prefix = "sha256=" }"#,
        r#"sign = { style = "standard-webhooks", header = "x-signature" }"#,
        r#"sign = { style = "hmac", secret = "plain:a" }"#,
        r#"sign = { style = "token" }"#,
    ] {
        assert_snapshot!(mistakes(keys));
    }
}

#[test]
fn a_template_is_tried_on_what_the_providers_send() {
    for keys in [
        "body = '{{ evnt.name }}'",
        "body = '{{ body.build.branch | tojson'",
        "preset = \"slak\"",
        "content_type = \"text/plain\"",
        "body = 'x'\ncontent_type = \"text/plain\\r\\nx: y\"",
        "headers = { Host = \"x\", Authorization = \"Bearer canary\", X-A = \"a\\nb\" }",
    ] {
        let mistakes = mistakes(keys);
        assert!(!mistakes.contains("canary"), "{mistakes}");
        assert_snapshot!(mistakes);
    }
    let sampled = "[source.s]\nprovider = \"buildpixel\"\nsecret = \"plain:x\"\n[target.t]\nurl = \"http://127.0.0.1:9/\"\n";
    for keys in ["body = '{{ body.build.branch | tojson }}'", "body = '{ \"b\": {{ body.type }} }'"]
    {
        assert_snapshot!(Desk::with(&format!("{sampled}{keys}")).mistakes());
    }
    // What no filter lets through is not tried.
    let filtered =
        "body = '{{ body.build.branch | tojson }}'\nwhere = { \"/build\" = { exists = true } }";
    assert!(Desk::with(&format!("{sampled}{filtered}")).check(&[]).status.success());
}

#[test]
fn certificates_are_read_before_anything_starts_and_never_shown() {
    for keys in [
        "tls = { verify = 1 }",
        "tls = { ca_file = \"missing.pem\" }",
        "tls = { cert_file = \"canary.pem\", key_file = \"canary.pem\" }",
        "tls = { cert_file = \"canary.pem\" }",
        "tls = { verify = false, ca_file = \"canary.pem\" }",
    ] {
        let desk = Desk::with(&format!("{}{keys}", BEGINNING.replace("http:", "https:")));
        desk.write("canary.pem", "-----BEGIN NONSENSE-----\nY2FuYXJ5LWJvZHk=\n");
        let mistakes = desk.mistakes();
        assert!(!mistakes.contains("Y2FuYXJ5"), "{mistakes}");
        assert_snapshot!(mistakes);
    }
    assert_snapshot!(mistakes("tls = { verify = true }"));
}

#[test]
fn a_proxy_is_an_authority_and_the_whole_of_its_credentials() {
    for keys in [
        r#"proxy = { user = "a", password = "plain:b" }"#,
        r#"proxy = { url = "https://proxy.example:3128" }"#,
        r#"proxy = { url = "socks5://proxy.example" }"#,
        r#"proxy = { url = "http://user:canary@proxy.example:1" }"#,
        r#"proxy = { url = "http://proxy.example:1/path" }"#,
        r#"proxy = { url = "http://proxy.example:1", user = "a" }"#,
        r#"proxy = { url = "http://proxy.example:1", user = "a:b", password = "plain:canary" }"#,
        "deny_private = true\nproxy = { url = \"http://proxy.example:1\" }",
        "forward_tokens = \"no\"",
    ] {
        let mistakes = mistakes(keys);
        assert!(!mistakes.contains("canary"), "{mistakes}");
        assert_snapshot!(mistakes);
    }
    for good in ["http://proxy.example:3128/", "socks5://[::1]:1080", "SOCKS5H://10.0.0.1:1080"] {
        let keys = format!("proxy = {{ url = {good:?} }}");
        let desk = Desk::with(&format!("{BEGINNING}{keys}"));
        assert!(desk.check(&[]).status.success(), "{good}");
    }
}

#[test]
fn an_order_has_its_words_and_a_dead_letter_holds_only_where_there_is_one() {
    assert_snapshot!(mistakes("order = \"keys\"\nactive = \"no\""));
    assert_snapshot!(mistakes("on_dead = \"hold\""));
}

#[test]
fn a_field_is_set_once() {
    assert_snapshot!(mistakes(
        r#"headers = { X-Team = "a", x-team = "b", X-Hub-Signature = "c" }
sign = { style = "hmac-sha256", secret = "plain:a", header = "x-hub-signature" }"#
    ));
    assert_snapshot!(mistakes(
        r#"headers = { Authorization = "plain:Basic abc" }
sign = { style = "token", secret = "plain:a", header = "authorization", prefix = "Bearer " }"#
    ));
}
