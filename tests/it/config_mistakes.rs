//! What a configuration's author sees: every mistake at once with its place and remedy, and no secret.
//!
//! The real binary runs in an empty environment and an empty directory, so that paths are short and no
//! variable of the machine takes part.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod desk;
mod holding;
mod values;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use insta::assert_snapshot;

use self::desk::{Desk, mistakes, text};

/// One source, one target and nothing else.
const SMALLEST: &str = r#"[source.a]
provider = "custom"
verify = { kind = "none" }

[target.t]
url = "http://127.0.0.1:9000/"
"#;

/// The mistakes of the smallest configuration with more keys in its source.
fn source_mistakes(keys: &str) -> String {
    Desk::with(&SMALLEST.replace("[target.t]", &format!("{keys}\n[target.t]"))).mistakes()
}

/// The mistakes of the smallest configuration with more keys in its target.
fn target_mistakes(keys: &str) -> String {
    Desk::with(&format!("{SMALLEST}{keys}\n")).mistakes()
}

#[test]
fn five_mistakes_in_one_file_are_reported_as_five_with_their_lines() {
    let desk = Desk::with(
        r#"[ingress]
ack_timeout = "5 parsecs"
max_body = 5

[journal]
pth = "data"

[source.a]
provider = "costom"

[target.t]
url = "ftp://example.com"
"#,
    );
    assert_snapshot!(desk.mistakes());
}

#[test]
fn an_unknown_key_offers_the_one_that_was_meant() {
    let desk = Desk::with(&format!("[ingres]\n[log]\nzebra = 1\n{SMALLEST}concurency = 3\n"));
    assert_snapshot!(desk.mistakes());
}

#[test]
fn a_key_of_a_later_release_is_unknown() {
    let mistakes = target_mistakes("resolve = \"127.0.0.1\"");
    assert!(mistakes.contains("target.t.resolve: this key is unknown"), "{mistakes}");
}

#[test]
fn a_value_of_the_wrong_type_names_what_was_expected() {
    let desk = Desk::with(
        r#"journal = "data"
[ingress]
listen = 8080
max_connections = "many"
header_timeout = 5
[log]
level = true
format = ["text"]
[source]
a = 3
[source.b]
provider = "custom"
secret = 5
where = "main"
dedup = "off"
[target.t]
url = ["http://a", "http://b"]
retry = { jitter = "0.2", factor = true }
"#,
    );
    assert_snapshot!(desk.mistakes());
}

#[test]
fn networks_rates_and_tokens_say_how_they_are_written() {
    let desk = Desk::with(
        r#"[ingress]
trusted_proxies = ["10.0.0.0/33", "10.0.0.1"]
[source.a]
provider = "slack"
secret = "plain:canary"
allow_ips = ["203.0.113.0/24", "example.com", 7]
rate = "many"
client_rate = 5
[source.b]
provider = "slack"
secret = "plain:canary"
handshake_token = "plain:canary"
[source.c]
provider = "meta"
secret = "plain:canary"
dedup = { window = "1h" }
[source.d]
provider = "github"
secret = "plain:canary"
stages = {}
[source.e]
provider = "streampixel"
stages = { gap_after = "1ms", skip = ["build.extracting", "build.extracted"] }
[target.t]
url = "http://127.0.0.1:9000/"
"#,
    );
    assert_snapshot!(desk.mistakes());
}

#[test]
fn a_mistake_in_the_environment_names_its_variable() {
    let variables = [
        ("EVERHOOK_INGRESS__ACK_TIMEOUT", "soon"),
        ("EVERHOOK_INGRESS__LISTN", "127.0.0.1:1"),
        ("EVERHOOK_LOG_LEVEL", "debug"),
        // Not ours: what Kubernetes sets for a service called everhook.
        ("EVERHOOK_SERVICE_HOST", "10.0.0.1"),
        ("EVERHOOK_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ];
    assert_snapshot!(mistakes(&Desk::with(SMALLEST).check(&variables)));
}

#[test]
fn a_mistake_in_a_flag_names_the_flag() {
    let output = Desk::with(SMALLEST).run(&["--log-level", "a=b=c", "config", "check"], &[]);
    assert_snapshot!(mistakes(&output));
}

#[test]
fn each_place_wins_over_the_one_before() {
    let desk = Desk::with(&format!("[log]\nlevel = \"warn\"\n{SMALLEST}"));
    let level = |flags: &[&str], variables: &[_]| desk.effective(flags, variables, "/log/level");
    assert_eq!(Desk::with(SMALLEST).effective(&[], &[], "/log/level"), "\"info\"");
    assert_eq!(level(&[], &[]), "\"warn\"");
    desk.write("conf.d/20-late.toml", "[log]\nlevel = \"trace\"\n");
    desk.write("conf.d/10-early.toml", "[log]\nlevel = \"error\"\nformat = \"json\"\n");
    desk.write("conf.d/30-other.txt", "this is not read");
    assert_eq!(level(&[], &[]), "\"trace\"");
    assert_eq!(desk.effective(&[], &[], "/log/format"), "\"json\"");
    let variables = [("EVERHOOK_LOG__LEVEL", "debug")];
    assert_eq!(level(&[], &variables), "\"debug\"");
    assert_eq!(level(&["--log-level", "off"], &variables), "\"off\"");
}

#[test]
fn a_variable_reaches_into_named_tables_and_lists() {
    let desk = Desk::with(SMALLEST);
    let variables = [
        ("EVERHOOK_TARGET__T__EVENTS", "[build.approved,build.rejected]"),
        ("EVERHOOK_INGRESS__LISTEN", "127.0.0.1:1"),
        ("EVERHOOK_TARGET__T__CONCURRENCY", "3"),
    ];
    let shown = |pointer| desk.effective(&[], &variables, pointer);
    assert_eq!(shown("/target/t/events"), r#"["build.approved","build.rejected"]"#);
    assert_eq!(shown("/ingress/listen"), r#"["127.0.0.1:1"]"#);
    assert_eq!(shown("/target/t/concurrency"), "3");
}

#[test]
fn a_mistake_in_conf_d_names_that_file() {
    let desk = Desk::with(SMALLEST);
    desk.write("conf.d/more.toml", "\n[target.t]\ntimeout = \"1h\"\n[source.b]\npath = \"/x\"\n");
    assert_snapshot!(desk.mistakes());
}

#[test]
fn text_that_is_not_toml_is_placed_by_line_and_column_and_not_shown() {
    let desk = Desk::with("[ingress]\nmax_body = hunter2\n");
    desk.write("conf.d/a.toml", "[source.a]\nsecret = \"hunter2\n");
    let mistakes = desk.mistakes();
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
    assert_snapshot!(mistakes);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = Desk::with(SMALLEST).run(&["config", "check", "-c", "other.toml"], &[]);
    assert_snapshot!(mistakes(&output));
}

#[test]
fn nothing_to_receive_from_and_nothing_to_deliver_to_are_mistakes() {
    assert_snapshot!(Desk::with("").mistakes());
}

#[test]
fn addresses_that_cannot_be_bound_together_are_mistakes() {
    let desk = Desk::with(&format!(
        "[ingress]\nlisten = [\"127.0.0.1:80\", \"[::1]:80\", \"0.0.0.0:80\", \"127.0.0.1:9464\"]\n{SMALLEST}"
    ));
    assert_snapshot!(desk.mistakes());
}

#[test]
fn free_ports_may_be_asked_for_twice() {
    let listeners = "[ingress]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let output = Desk::with(&format!("{listeners}{SMALLEST}")).check(&[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn an_admin_listener_that_others_reach_needs_a_token() {
    let desk = Desk::with(&format!("[admin]\nlisten = \"0.0.0.0:9464\"\n{SMALLEST}"));
    assert_snapshot!(desk.mistakes());
    let token = [("EVERHOOK_ADMIN__TOKEN", "plain:x")];
    assert!(desk.check(&token).status.success());
    let output = desk.check(&[("EVERHOOK_ADMIN__TOKEN", "plain:two words")]);
    assert!(mistakes(&output).contains("no header field can carry"));
}

#[test]
fn a_token_for_looking_needs_one_for_everything_and_is_another() {
    let desk = Desk::with(SMALLEST);
    let check = |token: Option<&str>, reading: &str| {
        let token = token.map(|token| ("EVERHOOK_ADMIN__TOKEN", token));
        let reading = [("EVERHOOK_ADMIN__READ_ONLY_TOKEN", reading)];
        desk.check(&reading.into_iter().chain(token).collect::<Vec<_>>())
    };
    assert!(mistakes(&check(None, "plain:a")).contains("everybody may do everything"));
    assert!(mistakes(&check(Some("plain:a"), "plain:a")).contains("it is the token itself"));
    assert!(mistakes(&check(Some("plain:a"), "plain:b c")).contains("no header field can carry"));
    assert!(check(Some("plain:a"), "plain:b").status.success());
}

#[test]
fn names_and_paths_follow_their_grammar_and_are_unique() {
    let desk = Desk::with(&format!(
        r#"{SMALLEST}
[source.A_B]
provider = "custom"
[source.b]
provider = "custom"
path = "/in/a"
[source.c]
provider = "custom"
path = "/in/c/?token=hunter2"
path_token = "plain:short"
[source.d]
provider = "custom"
path_token = "plain:has/a/slash/and/more"
"#
    ));
    let mistakes = desk.mistakes();
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
    assert_snapshot!(mistakes);
}

#[test]
fn a_target_listens_to_sources_that_exist() {
    assert_snapshot!(target_mistakes("from = [\"a\", \"aa\", \"zebra\"]"));
}

#[test]
fn urls_are_absolute_and_hold_no_secret() {
    for url in
        ["https://user:hunter2@example.com/", "example.com/hunter2", "http://example.com/#hunter2"]
    {
        let mistakes = Desk::with(&SMALLEST.replace("http://127.0.0.1:9000/", url)).mistakes();
        assert!(mistakes.contains("everhook.toml:6: target.t.url: the URL"), "{mistakes}");
        assert!(!mistakes.contains("hunter2"), "{mistakes}");
    }
}

#[test]
fn a_retry_is_a_schedule_or_grows() {
    assert_snapshot!(target_mistakes(
        "retry = { schedule = [\"5s\", \"31d\"], initial = \"2h\", attempts = 0 }"
    ));
    let mistakes = target_mistakes("retry = { initial = \"2h\" }");
    assert!(mistakes.contains("target.t.retry.initial: the first delay is longer"), "{mistakes}");
}

#[test]
fn a_verify_table_is_complete_and_consistent() {
    let desk = Desk::with(
        r#"[source.a]
provider = "custom"
[source.a.verify]
header = "x-signature"
tolerance = "5"
[source.b]
provider = "custom"
secret = "plain:x"
verify = { kind = "hmac", algorithm = "ed25519", list = "|" }
[target.t]
url = "http://127.0.0.1:9000/"
"#,
    );
    assert_snapshot!(desk.mistakes());
}

#[test]
fn certificates_must_be_readable_before_anything_starts() {
    let desk = Desk::with(&format!(
        "[ingress]\ntls = {{ cert_file = \"missing.pem\", key_file = \"key.pem\" }}\n{SMALLEST}"
    ));
    desk.write("key.pem", "");
    assert_snapshot!(desk.mistakes());
    let desk = Desk::with(&format!("[ingress.tls]\ncert_file = \"key.pem\"\n{SMALLEST}"));
    assert!(desk.mistakes().contains("everhook.toml:1: ingress.tls.key_file: this key is missing"));
}

#[test]
fn without_any_file_the_place_to_write_one_is_named() {
    let output = desk::everhook().args(["config", "check"]).output().unwrap();
    let mistakes = mistakes(&output);
    assert!(mistakes.contains("not even /etc/everhook/everhook.toml: source:"), "{mistakes}");
}

#[test]
fn what_would_sign_nothing_is_a_mistake() {
    assert_snapshot!(target_mistakes("sign = { style = \"none\", secret = \"plain:hunter2\" }"));
    assert_snapshot!(target_mistakes(
        "sign = { style = \"standard-webhooks\", secret = \"plain:hunter2\" }"
    ));
    assert_snapshot!(target_mistakes("sign = { style = \"standard-webhooks\" }"));
}

#[test]
fn a_secret_without_a_scheme_is_refused_and_not_shown() {
    let mistakes = source_mistakes(
        "secret = \"hunter2\"\npath_token = \"hunter2:hunter2\"\nsecrets = [\"hunter2\", \"file:hunter2\"]",
    );
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
    assert_snapshot!(mistakes);
}

#[test]
fn a_secret_that_cannot_be_had_is_a_mistake() {
    let desk = Desk::with("");
    desk.write("empty", "\n");
    desk.write("large", &"x".repeat(64 * 1024 + 1));
    let here = desk.path().display().to_string();
    let references = [
        format!("file:{here}/empty"),
        format!("file:{here}/large"),
        format!("file:{here}"),
        format!("file:{here}/missing"),
        "env:MISSING".into(),
        "env:".into(),
        "credential:missing".into(),
        "credential:../x".into(),
        "plain:".into(),
    ];
    let secrets = format!("secrets = {references:?}");
    desk.write("everhook.toml", &SMALLEST.replace("[target.t]", &format!("{secrets}\n[target.t]")));
    assert_snapshot!(desk.mistakes().replace(&here, "HERE"));
}

#[test]
fn a_secret_is_never_printed() {
    let secret_file = Desk::with("");
    secret_file.write("secret", "hunter2hunter2hunter2\n");
    let path = secret_file.path().join("secret");
    let desk = Desk::with(&with_secrets(&path));
    let variables = [("TOKEN", "hunter2hunter2hunter2")];
    for arguments in [
        ["config", "check"].as_slice(),
        &["config", "show"],
        &["--json", "config", "show"],
        &["config", "check", "--json"],
    ] {
        let output = desk.run(arguments, &variables);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.contains("hunter2"), "{all}");
    }
    let shown = text(&desk.run(&["config", "show"], &variables).stdout);
    assert!(shown.contains("path_token = \"env:TOKEN\""), "{shown}");
    assert!(shown.contains("\"plain:[redacted]\""), "{shown}");
}

/// A source with a secret of every kind.
fn with_secrets(file: &Path) -> String {
    let secrets = format!("secrets = [\"file:{}\", \"plain:hunter2hunter2\"]", file.display());
    let source = "[source.b]\nprovider = \"buildpixel\"\npath_token = \"env:TOKEN\"\n";
    format!("{source}{secrets}\n{SMALLEST}")
}

#[test]
fn a_credential_of_systemd_is_a_secret() {
    let desk = Desk::with(
        &SMALLEST.replace("[target.t]", "path_token = \"credential:token\"\n[target.t]"),
    );
    desk.write("credentials/token", "0123456789abcdef\n");
    let directory = desk.path().join("credentials");
    let variables = [("CREDENTIALS_DIRECTORY", directory.to_str().unwrap())];
    assert!(desk.check(&variables).status.success());
    // The newline is not part of the token, or it would be refused; two newlines leave one.
    desk.write("credentials/token", "0123456789abcdef\n\n");
    assert_eq!(desk.check(&variables).status.code(), Some(78));
}

#[test]
fn what_is_allowed_but_unwise_is_a_warning() {
    let desk = Desk::with(&format!(
        r#"[ingress]
listen = ["0.0.0.0:8080"]
[source.s]
provider = "streampixel"
[source.u]
provider = "buildpixel"
path_token = "plain:0123456789"
secret = "plain: x"
{SMALLEST}from = ["a", "s"]
"#
    ));
    desk.write("shared", "0123456789abcdef");
    let shared = desk.path().join("shared");
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o644)).unwrap();
    let token = format!("file:{}", shared.display());
    let output = desk.check(&[("EVERHOOK_SOURCE__S__PATH_TOKEN", &token)]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "configuration is valid: 3 sources, 1 target\n");
    let here = desk.path().display().to_string();
    assert_snapshot!(text(&output.stderr).replace(&here, "HERE"));
}

#[test]
fn what_is_shown_is_a_configuration_that_shows_the_same() {
    let desk = Desk::with(&format!(
        "{SMALLEST}where = {{ \"/a b/\\\"c\" = [\"x\", 1, true] }}\nretry = {{ factor = 3 }}\n"
    ));
    let shown = text(&desk.run(&["config", "show"], &[]).stdout);
    desk.write("everhook.toml", &shown);
    assert_eq!(text(&desk.run(&["config", "show"], &[]).stdout), shown);
    assert_snapshot!(shown);
}

#[test]
fn mistakes_are_also_told_to_programs() {
    let output = Desk::with(&SMALLEST.replace("provider", "providr"))
        .run(&["config", "check", "--json"], &[]);
    assert_eq!(output.status.code(), Some(78));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict.pointer("/valid").unwrap(), false);
    assert_eq!(verdict.pointer("/mistakes/0/file").unwrap(), "everhook.toml");
    assert_eq!(verdict.pointer("/mistakes/0/line").unwrap(), 1);
    assert_eq!(verdict.pointer("/mistakes/0/key").unwrap(), "source.a.provider");
    assert_eq!(verdict.pointer("/mistakes/1/line").unwrap(), 2);
}

#[test]
fn the_example_loads_as_it_is() {
    let desk = Desk::with(include_str!("../../config.example.toml"));
    let output = desk.check(&[]);
    assert_eq!(
        text(&output.stdout),
        "configuration is valid: 3 sources, 2 targets\n",
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_usage_error_has_its_own_exit_code() {
    assert_eq!(Desk::with(SMALLEST).run(&["config", "chek"], &[]).status.code(), Some(2));
}

#[test]
fn a_relative_journal_is_below_the_state_directory_of_systemd() {
    let path = |directories| {
        let variables = [("STATE_DIRECTORY", directories)];
        Desk::with(SMALLEST).effective(&[], &variables, "/journal/path")
    };
    assert_eq!(path("/var/lib/everhook:/var/lib/other"), "\"/var/lib/everhook/everhook-data\"");
    assert_eq!(path(""), "\"everhook-data\"");
    let absolute = format!("[journal]\npath = \"/srv/journal\"\n{SMALLEST}");
    let variables = [("STATE_DIRECTORY", "/var/lib/everhook")];
    let shown = Desk::with(&absolute).effective(&[], &variables, "/journal/path");
    assert_eq!(shown, "\"/srv/journal\"");
}
