//! A moment as an operator writes it: RFC 3339, or how long ago it was.

use std::time::Duration;

use crate::time::Timestamp;

/// Each unit of an age and its seconds.
const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)];

/// Reads `2026-03-29T13:00:00Z`, or an age such as `15m`, `2h` or `7d` before `now`. The error is a sentence.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(age) = age(text) {
        return Ok(now.minus(age));
    }
    text.parse().map_err(|_neither| {
        format!("{text:?} is no moment: write 2026-03-29T13:00:00Z, or an age such as 15m, 2h, 7d")
    })
}

fn age(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let count: u64 = digits.parse().ok()?;
    count.checked_mul(*seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_ages_are_read() {
        let now = Timestamp::from_secs(1_000_000);
        let secs = |text| moment(text, now).map(Timestamp::as_secs);
        assert_eq!(secs("15m"), Ok(1_000_000 - 900));
        assert_eq!(secs("0s"), Ok(1_000_000));
        assert_eq!(secs("1w"), Ok(1_000_000 - 604_800));
        assert_eq!(secs("1970-01-01T00:01:00Z"), Ok(60));
        for bad in ["", "m", "5", "-5m", "5M", "yesterday", "99999999999999999999s"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
