//! Patterns and conditions: the laws of the list, and what each kind of value matches.

use proptest::prelude::*;

use super::*;

fn patterns(items: &[&str]) -> Patterns {
    Patterns::parse(items).unwrap()
}

#[test]
fn only_who_names_the_beginning_asks_for_what_is_our_own() {
    let asks = |patterns: &[&str]| {
        Patterns::parse(patterns).unwrap().asks_for("everhook.gap", "everhook.")
    };
    for asking in
        [&["everhook.*"][..], &["everhook.gap"], &["build.* everhook.*"], &["everhook.*p"]]
    {
        assert!(asks(asking), "{asking:?}");
    }
    for other in [
        &[][..],
        &["*"],
        &["!build.*"],
        &["e*"],
        &["everhook.stall"],
        &["everhook.* !everhook.gap"],
        &["everhook.* !*gap"],
    ] {
        assert!(!asks(other), "{other:?}");
    }
}

#[test]
fn follows_the_branch_filter_syntax() {
    let cases: [(&[&str], &str, bool); 18] = [
        (&[], "anything", true),
        (&[""], "anything", true),
        (&["*"], "", true),
        (&["main"], "main", true),
        (&["main"], "main2", false),
        (&["main release/*"], "release/1/x", true),
        (&["main", "release/*", "!release/old*"], "release/old-1", false),
        (&["main", "release/*", "!release/old*"], "release/new", true),
        (&["!wip"], "main", true),
        (&["!wip"], "wip", false),
        (&["main !main"], "main", false),
        (&["*-x-*"], "a-x-b", true),
        (&["*-x-*"], "-x-", true),
        (&["a*a"], "a", false),
        (&["a*b*c"], "a-b-c", true),
        (&["a*b*c"], "a-c-b", false),
        (&["a**c"], "ac", true),
        (&["build.?"], "build.x", false),
    ];
    for (list, value, expected) in cases {
        assert_eq!(patterns(list).matches(value), expected, "{list:?} on {value:?}");
    }
    assert!(Patterns::parse(&["main !"]).is_err());
}

#[test]
fn an_array_matches_by_any_element_and_fails_by_any() {
    let tags = Value::Raw(r#"["linux", "gpu", 3]"#);
    assert!(patterns(&["gpu"]).matches_value(&tags));
    assert!(patterns(&["3"]).matches_value(&tags));
    assert!(!patterns(&["windows"]).matches_value(&tags));
    assert!(!patterns(&["!gpu"]).matches_value(&tags), "one forbidden element is enough");
    assert!(!patterns(&["linux !gpu"]).matches_value(&tags));
}

#[test]
fn a_value_that_is_not_there_matches_only_negative_lists() {
    for absent in [Value::Missing, Value::Null, Value::Raw("[]"), Value::Raw("{}")] {
        assert!(patterns(&["!wip"]).matches_value(&absent));
        assert!(patterns(&[]).matches_value(&absent));
        assert!(!patterns(&["*"]).matches_value(&absent));
        assert!(!patterns(&["main"]).matches_value(&absent));
    }
}

#[test]
fn existence_asks_for_any_value_but_null() {
    let there = [
        Value::Text("".into()),
        Value::Literal("false"),
        Value::Raw("[]"),
        Value::Raw("{}"),
        Value::Bytes(b"\xff"),
    ];
    for value in there {
        assert!(Patterns::there().matches_value(&value), "{value:?}");
        assert!(!Patterns::absent().matches_value(&value), "{value:?}");
    }
    for value in [Value::Missing, Value::Null] {
        assert!(!Patterns::there().matches_value(&value), "{value:?}");
        assert!(Patterns::absent().matches_value(&value), "{value:?}");
    }
    assert!(Patterns::there().matches("x") && !Patterns::absent().matches("x"));
}

#[test]
fn a_number_and_a_boolean_match_by_their_json_text() {
    assert!(patterns(&["1.50"]).matches_value(&Value::Literal("1.50")));
    assert!(!patterns(&["1.5"]).matches_value(&Value::Literal("1.50")), "as it was written");
    assert!(patterns(&["true"]).matches_value(&Value::Literal("true")));
    assert!(patterns(&["tru*"]).matches_value(&Value::Literal("true")));
}

#[test]
fn hostile_patterns_stay_cheap() {
    let glob = patterns(&[&"*a".repeat(2_000)]);
    assert!(!glob.matches(&("a".repeat(1_999) + "b")));
    assert!(glob.matches(&"a".repeat(100_000)));
}

/// The same language, written as the obvious slow recursion.
fn slow(pattern: &[char], value: &[char]) -> bool {
    match pattern.split_first() {
        None => value.is_empty(),
        Some(('*', rest)) => (0..=value.len()).any(|skip| slow(rest, &value[skip..])),
        Some((c, rest)) => value.split_first().is_some_and(|(v, tail)| v == c && slow(rest, tail)),
    }
}

proptest! {
    #[test]
    fn globs_agree_with_the_obvious_matcher(pattern in "[ab*é]{1,8}", value in "[abé]{0,10}") {
        let chars: (Vec<char>, Vec<char>) = (pattern.chars().collect(), value.chars().collect());
        prop_assert_eq!(Glob::new(&pattern).matches(&value), slow(&chars.0, &chars.1));
    }

    #[test]
    fn negation_wins_and_order_does_not_matter(words in prop::collection::vec("!?[ab*]{1,3}", 0..5), value in "[ab]{0,4}") {
        let forward = Patterns::parse(&words).unwrap();
        let backward: Vec<&String> = words.iter().rev().collect();
        prop_assert_eq!(forward.matches(&value), Patterns::parse(&backward).unwrap().matches(&value));
        let forbidden = words.iter().filter_map(|w| w.strip_prefix('!')).any(|w| Glob::new(w).matches(&value));
        prop_assert!(!(forbidden && forward.matches(&value)));
        prop_assert_eq!(forward.matches(&value), forward.matches_value(&Value::Text(value.into())));
    }
}
