//! Durations ("5s", "1h30m") and sizes ("1MiB"): how they are read and how they are written.

use std::time::Duration;

/// Each unit of time and its milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Each unit of size and its bytes. Both families exist because both are what people write.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// What would be right instead of a bad duration.
pub(super) const DURATION_REMEDY: &str =
    r#"write a whole number and a unit (ms, s, m, h, d, w), such as "250ms", "5s" or "1h30m""#;

/// What would be right instead of a bad size.
pub(super) const SIZE_REMEDY: &str =
    r#"write a whole number and a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB), such as "1MiB""#;

/// Reads whole numbers with units, each unit at most once and the larger first; `None` for anything else.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut units = TIME_UNITS.iter();
    while !rest.is_empty() || millis == 0 && rest.len() == text.len() {
        let (number, after) = split_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        // Taking from one iterator makes a repeated or a growing unit a mistake.
        let (_, size) = units.find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(number.checked_mul(*size)?)?;
        rest = next;
    }
    Some(Duration::from_millis(millis))
}

/// The shortest text that [`parse_duration`] reads back; below a millisecond is cut.
pub(super) fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let exact = TIME_UNITS.iter().find(|(_, size)| millis != 0 && millis.is_multiple_of(*size));
    exact.map_or_else(|| "0s".to_owned(), |(name, size)| format!("{}{name}", millis / size))
}

/// Reads a whole number with one unit; `None` for anything else.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let (_, size) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*size)
}

/// The digits at the front, and what follows them.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("2m", 120_000),
            ("72h", 259_200_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "5S",
            "1.5s",
            "-5s",
            "5s5s",
            "5s1m",
            "5sec",
            "1h30",
            " 5s",
            "5s ",
            "99999999999999999999s",
            "18446744073709551615w",
            "5µs",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn durations_are_written_in_their_largest_exact_unit() {
        for text in ["250ms", "5s", "2m", "3d", "1w", "0s", "90m", "36h"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(format_duration(duration), text);
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0B", 0),
            ("512B", 512),
            ("1KiB", 1_024),
            ("1kB", 1_000),
            ("1MiB", 1_048_576),
            ("10GiB", 10_737_418_240),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in
            ["", "1", "MiB", "1 MiB", "1mib", "1.5MiB", "-1B", "1M", "99999999TiB", "1MiB1KiB"]
        {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }
}
