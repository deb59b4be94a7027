//! What a configuration says that would only show later, or be shown where it should not: log levels, secrets,
//! proofs, certificates.

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
