//! What reaches a terminal. What a sender made up is shown as the text it is: nothing of it arrives as a control character, or
//! turns the direction of what stands beside it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

/// A text that cannot steer a terminal: control characters and those that turn the direction are written out.
pub(super) fn safe(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same for a text of many lines, which it keeps.
pub(super) fn safe_lines(text: &str) -> String {
    escaped(text, |c| c == '\n' || c == '\t')
}

fn escaped(text: &str, keeps: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if keeps(character) || !is_unsafe(character) {
            safe.push(character);
        } else {
            safe.extend(character.escape_unicode());
        }
    }
    safe
}

/// JSON, or text that is safe but for colours, in which nothing steers a terminal: the same value, with more of it written as
/// `\uXXXX`. JSON itself asks for that of no character above U+001F.
pub(super) fn inert(text: &str) -> Cow<'_, str> {
    let harms = |c: char| is_unsafe(c) && !matches!(c, '\n' | '\t' | '\u{1b}');
    if !text.contains(harms) {
        return Cow::Borrowed(text);
    }
    let mut inert = String::with_capacity(text.len());
    for character in text.chars() {
        if harms(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                write!(inert, "\\u{unit:04x}").unwrap_or_default();
            }
        } else {
            inert.push(character);
        }
    }
    Cow::Owned(inert)
}

/// Writes lines of JSON so that they steer no terminal.
pub(super) struct Lines<W: io::Write> {
    out: W,
    line: Vec<u8>,
}

impl<W: io::Write> Lines<W> {
    /// Into `out`.
    pub(super) fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }
}

impl<W: io::Write> io::Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.line.split_off(end.saturating_add(1));
            let lines = std::mem::replace(&mut self.line, rest);
            self.out.write_all(inert(&String::from_utf8_lossy(&lines)).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn no_text_steers_the_terminal() {
        let hostile = "a\x1b[31m\r\n\u{202e}b\u{9b}\u{200b}c\u{7f}";
        assert_eq!(safe(hostile), "a\\u{1b}[31m\\u{d}\\u{a}\\u{202e}b\\u{9b}\\u{200b}c\\u{7f}");
        assert_eq!(safe_lines("a\n\tb\r"), "a\n\tb\\u{d}");
        assert_eq!(safe("grün 日本"), "grün 日本");
    }

    #[test]
    fn json_keeps_its_value_and_steers_no_terminal() {
        let value = serde_json::json!({ "a\u{9b}2J": "\u{1b}[31m\u{202e}x\u{7f}\u{e0041}é" });
        let text = value.to_string();
        let inert = inert(&text);
        assert!(inert.chars().all(|c| !is_unsafe(c)), "{inert:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&inert).unwrap(), value);
        assert_eq!(super::inert("a\n\tgrün \u{1b}[1mx"), "a\n\tgrün \u{1b}[1mx");

        let mut lines = Lines::new(Vec::new());
        for bytes in format!("{text}\n{text}\n").as_bytes().chunks(7) {
            lines.write_all(bytes).unwrap();
        }
        assert_eq!(String::from_utf8(lines.out).unwrap(), format!("{inert}\n{inert}\n"));
    }
}
