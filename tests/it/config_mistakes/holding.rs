//! Where holding what cannot be verified makes no sense, and where it is a risk; what repeats and silences can be.

use super::desk::{Desk, text};
use super::{SMALLEST, source_mistakes};

#[test]
fn a_provider_that_tests_for_refusals_gets_them() {
    let discord = "[source.d]\nprovider = \"discord\"\non_unverified = \"accept-hold\"\n\
         secret = \"plain:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c\"\n";
    let mistakes = Desk::with(&format!("{discord}{SMALLEST}")).mistakes();
    assert!(
        mistakes.contains("everhook.toml:3: source.d.on_unverified: this provider sends bad"),
        "{mistakes}"
    );
    let other = source_mistakes("on_unverified = \"hold\"");
    assert!(other.contains("write one of \"reject\", \"quarantine\", \"accept-hold\""), "{other}");
}

#[test]
fn what_is_refused_and_kept_has_two_names() {
    for word in ["reject", "quarantine"] {
        let source = format!(
            "[source.b]\nprovider = \"github\"\nsecret = \"plain:x\"\non_unverified = {word:?}\n"
        );
        let output = Desk::with(&format!("{source}{SMALLEST}")).check(&[]);
        assert!(output.status.success(), "{word}: {}", text(&output.stderr));
    }
}

#[test]
fn a_conflict_needs_a_key_and_a_silence_a_time() {
    let mistakes = source_mistakes("on_conflict = \"new\"\ndedup = \"none\"");
    assert!(mistakes.contains("none can conflict; remove `on_conflict`"), "{mistakes}");
    let mistakes = source_mistakes("on_conflict = \"both\"\nexpect_every = \"1ms\"");
    assert!(mistakes.contains("on_conflict: this word is not one of those"), "{mistakes}");
    assert!(mistakes.contains("expect_every: the value is out of bounds"), "{mistakes}");
}

#[test]
fn what_is_useless_or_open_to_all_is_warned_about() {
    let warnings = |text_of: &str| {
        let output = Desk::with(text_of).check(&[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let useless = SMALLEST.replace("[target.t]", "on_unverified = \"accept-hold\"\n[target.t]");
    assert!(warnings(&useless).contains("nothing is ever held"), "{}", warnings(&useless));
    let open = |rest: &str| {
        let source = "[source.b]\nprovider = \"github\"\nsecret = \"plain:x\"\non_unverified = \"accept-hold\"\n";
        warnings(&format!("[ingress]\nlisten = [\"0.0.0.0:8080\"]\n{source}{rest}\n{SMALLEST}"))
    };
    let risk = "source.b.on_unverified: anyone who can reach the listener can fill the quarantine";
    assert!(open("").contains(risk), "{}", open(""));
    assert!(!open("allow_ips = [\"192.0.2.1\"]").contains(risk));
}
