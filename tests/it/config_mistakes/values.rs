//! What a configuration says that would only show later, or be shown where it should not: log levels, secrets,
//! proofs, certificates.

use insta::assert_snapshot;

use super::SMALLEST;
use super::desk::{Desk, text};
use super::source_mistakes;

#[test]
fn a_log_level_that_is_none_is_no_filter_either() {
    // Each of these would be read as the name of a module and silence everything else.
    for (level, guess) in
        [("inof", "`info`"), ("warning", "`warn`"), ("lots", ""), ("x=debug,inof", "`info`")]
    {
        let mistakes = Desk::with(&format!("[log]\nlevel = {level:?}\n{SMALLEST}")).mistakes();
        assert!(mistakes.contains("everhook.toml:2: log.level: "), "{mistakes}");
        assert!(mistakes.contains(guess), "{mistakes}");
    }
    for level in ["off", "ERROR", "warn", "everhook=debug,info", "info,everhook::relay=trace"] {
        let output = Desk::with(&format!("[log]\nlevel = {level:?}\n{SMALLEST}")).check(&[]);
        assert!(output.status.success(), "{level}: {}", text(&output.stderr));
    }
}

#[test]
fn a_secret_of_white_space_is_no_secret() {
    let mistakes = source_mistakes("path_token = \"plain:   \"\nsecrets = [\"plain: \\t \"]");
    assert!(mistakes.contains("source.a.secrets[0]: the secret is only white space"), "{mistakes}");
    assert!(mistakes.contains("source.a.path_token: the secret is only white space"), "{mistakes}");
}

#[test]
fn what_a_query_holds_is_not_shown() {
    let url = "https://example.com/hooks/build?token=hunter2&team=a&hunter2#";
    let url = url.trim_end_matches('#');
    let desk = Desk::with(&SMALLEST.replace("http://127.0.0.1:9000/", url));
    for arguments in [["config", "show"].as_slice(), &["config", "show", "--json"]] {
        let shown = text(&desk.run(arguments, &[]).stdout);
        assert!(!shown.contains("hunter2"), "{shown}");
        let redacted =
            "https://example.com/hooks/build?token=[redacted]&team=[redacted]&[redacted]";
        assert!(shown.contains(redacted), "{shown}");
    }
}

#[test]
fn every_mistake_of_a_proof_is_found_beside_every_other_and_names_its_key() {
    let desk = Desk::with(
        r#"[source.a]
provider = "custom"
path = "no slash"
secrets = ["plain:0a", "plain:nothex"]
[source.a.verify]
kind = "hmac"
header = "x-signature"
key_encoding = "hex"
prefix = "sha256="
list = ","
signed = "{timestamp}.{nope}.{body}"
tolerance = "5m"
[source.b]
provider = "custom"
verify = { kind = "hmac", header = "x", signed = "{timestamp}", pick = "v1" }
[source.c]
provider = "custom"
[source.d]
provider = "buildpixel"
where = { "nopointer" = "x" }
[source.e]
provider = "streampixel"
secret = "plain:hunter2"
event = "nopointer"
[source.f]
provider = "custom"
secret = "plain:hunter2"
verify = { kind = "none" }
[source.g]
provider = "custom"
secret = "plain:hunter2"
verify = { kind = "hmac", header = "x", signed = "{timestamp}{url}{body}", timestamp = "nowhere" }
[source.h]
provider = "custom"
secret = "plain:hunter2"
verify = { kind = "token", header = "x", key_encoding = "hex", algorithm = "sha1" }
[source.i]
provider = "custom"
secret = "plain:hunter2"
verify = { kind = "ed25519", header = "x", list = ",", kv = ",", pick = "v1", timestamp = "sig:t" }
[target.t]
url = "http://127.0.0.1:9000/"
"#,
    );
    let mistakes = desk.mistakes();
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
    assert_snapshot!(mistakes);
}

/// A certificate with its key, and the key of another.
fn pem_files(desk: &Desk) {
    for (cert, key) in [("cert.pem", "key.pem"), ("other.pem", "other-key.pem")] {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        desk.write(cert, &made.cert.pem());
        desk.write(key, &made.signing_key.serialize_pem());
    }
}

#[test]
fn certificate_and_key_are_tried_before_anything_starts() {
    let with = |cert: &str, key: &str| {
        let tls = format!("[ingress.tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n");
        let desk = Desk::with(&format!("{tls}{SMALLEST}"));
        pem_files(&desk);
        desk.write("text.pem", "this is not PEM");
        desk
    };
    assert!(with("cert.pem", "key.pem").check(&[]).status.success());
    for (cert, key, expected) in [
        (
            "text.pem",
            "key.pem",
            "everhook.toml:2: ingress.tls.cert_file: text.pem holds no certificate",
        ),
        (
            "key.pem",
            "key.pem",
            "everhook.toml:2: ingress.tls.cert_file: key.pem holds no certificate",
        ),
        (
            "cert.pem",
            "text.pem",
            "everhook.toml:3: ingress.tls.key_file: text.pem holds no private key",
        ),
        (
            "cert.pem",
            "cert.pem",
            "everhook.toml:3: ingress.tls.key_file: cert.pem holds no private key",
        ),
        (
            "cert.pem",
            "other-key.pem",
            "everhook.toml:3: ingress.tls.key_file: other-key.pem is not the key",
        ),
    ] {
        let mistakes = with(cert, key).mistakes();
        assert!(mistakes.contains(expected), "{cert} {key}: {mistakes}");
    }
    // `serve` says the same before it touches anything.
    let desk = with("cert.pem", "other-key.pem");
    assert_eq!(desk.run(&["serve"], &[]).status.code(), Some(78));
    assert!(!desk.path().join("everhook-data").exists());
}

#[test]
fn authorities_of_clients_are_tried_before_anything_starts() {
    for (authorities, expected) in [
        ("absent.pem", "ingress.tls.client_ca_file: cannot read absent.pem"),
        ("key.pem", "ingress.tls.client_ca_file: key.pem holds no certificate"),
    ] {
        let files = "cert_file = \"cert.pem\"\nkey_file = \"key.pem\"";
        let tls = format!("[ingress.tls]\n{files}\nclient_ca_file = {authorities:?}\n");
        let desk = Desk::with(&format!("{tls}{SMALLEST}"));
        pem_files(&desk);
        let mistakes = desk.mistakes();
        assert!(mistakes.contains(&format!("everhook.toml:4: {expected}")), "{mistakes}");
    }
}

#[test]
fn a_wrong_secret_of_a_preset_with_several_schemes_is_named_by_its_place() {
    let text = |second: &str| {
        format!(
            "[source.a]\nprovider = \"standard-webhooks\"\n\
             secrets = [\"plain:whsec_MDEyMzQ1Njc4OWFiY2RlZg==\", \"plain:{second}\"]\n\
             [target.t]\nurl = \"http://127.0.0.1:9000/\"\n"
        )
    };
    let mistakes = Desk::with(&text("whpk_c2hvcnQ=")).mistakes();
    assert!(mistakes.contains("source.a.secrets[1]: an ed25519 public key has 32"), "{mistakes}");
    assert!(!mistakes.contains("secrets[0]"), "{mistakes}");
    let key = "whpk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(Desk::with(&text(key)).check(&[]).status.success());
}

#[test]
fn traces_are_asked_for_where_they_can_be_exported_and_have_somewhere_to_go() {
    let mistakes = |keys: &str| Desk::with(&format!("[otel]\n{keys}\n{SMALLEST}")).mistakes();
    let alone = mistakes("headers = { x-team = \"deploys\" }");
    assert!(alone.contains("otel.endpoint: there are headers and nothing to send"), "{alone}");
    // A build with the feature says something else of this: it is no URL.
    let said = mistakes("endpoint = \"127.0.0.1:4318\"");
    let expected = if cfg!(feature = "otel") {
        "everhook.toml:2: otel.endpoint: the URL does not start with http:// or https://"
    } else {
        "everhook.toml:2: otel.endpoint: this everhook was built without the export of traces"
    };
    assert!(said.contains(expected), "{said}");
    assert!(cfg!(feature = "otel") || said.contains("--features otel"), "{said}");
}
