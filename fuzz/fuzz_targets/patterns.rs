//! Patterns against a plain backtracking match.
#![no_main]

use everhook::rules::filter::Patterns;
use libfuzzer_sys::fuzz_target;

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        [first, rest @ ..] => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}

fuzz_target!(|input: (&str, &str)| {
    let (list, text) = input;
    // A backtracking match takes a time that grows with every star.
    if list.len() > 24 || text.len() > 24 || list.matches('*').count() > 6 {
        return;
    }
    let Ok(patterns) = Patterns::parse(&[list]) else { return };
    let words = || list.split_whitespace();
    let hit = |word: &str| matches(word.as_bytes(), text.as_bytes());
    let mut positive = words().filter(|word| !word.starts_with('!')).peekable();
    let some = positive.peek().is_none() || positive.any(hit);
    let none = !words().filter_map(|word| word.strip_prefix('!')).any(hit);
    assert_eq!(patterns.matches(text), some && none, "{list:?} {text:?}");
});
