//! A source from which nothing is heard: told once, until something comes again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// After a start nothing is told for so long, or for the expected time if that is shorter: what waited is only coming in.
const GRACE: Duration = Duration::from_secs(60);
/// Part of the expected time after which a sign of life is written down again.
const NOTE_PART: u32 = 16;

/// One source.
#[derive(Debug)]
pub struct Silence {
    every: Duration,
    not_before: Timestamp,
    noted_at: Timestamp,
    memo: Memo,
}

/// What is known of a source, as it is written down for the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memo {
    /// Microseconds.
    heard_at: i64,
    told: bool,
}

/// What a sign of life means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// A silence that was told is over.
    pub ended: bool,
    /// It is to be written down.
    pub note: bool,
}

impl Silence {
    /// Something is expected every so often, from `now` on; `memo` is what the last run wrote down.
    pub fn new(every: Duration, memo: Option<&[u8]>, now: Timestamp) -> Self {
        let known = memo.and_then(|memo| serde_json::from_slice::<Memo>(memo).ok());
        let unknown = Memo { heard_at: now.as_micros(), told: false };
        // The clock may have gone back meanwhile.
        let since = |memo: Memo| Memo { heard_at: memo.heard_at.min(now.as_micros()), ..memo };
        let not_before = now.plus(every.min(GRACE));
        Self { every, not_before, noted_at: now, memo: known.map_or(unknown, since) }
    }

    /// Something came.
    pub fn heard(&mut self, now: Timestamp) -> Heard {
        let ended = self.memo.told;
        let note = ended || now.since(self.noted_at) >= self.every / NOTE_PART;
        if note {
            self.noted_at = now;
        }
        self.memo = Memo { heard_at: now.as_micros(), told: false };
        Heard { ended, note }
    }

    /// Since when nothing was heard, when that is to be told now.
    pub fn poll(&mut self, now: Timestamp) -> Option<Timestamp> {
        let since = Timestamp::from_micros(self.memo.heard_at);
        if self.memo.told || now < self.not_before || now.since(since) < self.every {
            return None;
        }
        self.memo.told = true;
        Some(since)
    }

    /// Whether a silence was told and goes on.
    pub fn is_told(&self) -> bool {
        self.memo.told
    }

    /// How often something is expected.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// What the next run is to know.
    pub fn memo(&self) -> Vec<u8> {
        serde_json::to_vec(&self.memo).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_775_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn minutes(count: u64) -> Timestamp {
        START.plus(Duration::from_secs(60 * count))
    }

    #[test]
    fn a_silence_is_told_once_and_anew_after_something_came() {
        let mut silence = Silence::new(HOUR, None, START);
        assert_eq!(silence.poll(minutes(59)), None);
        assert_eq!(silence.heard(minutes(59)), Heard { ended: false, note: true });
        assert_eq!(silence.poll(minutes(118)), None);
        assert_eq!(silence.poll(minutes(119)), Some(minutes(59)));
        assert_eq!(silence.poll(minutes(500)), None);
        assert_eq!(silence.heard(minutes(500)), Heard { ended: true, note: true });
        assert_eq!(silence.heard(minutes(501)), Heard { ended: false, note: false });
        assert_eq!(silence.poll(minutes(561)), Some(minutes(501)));
    }

    #[test]
    fn it_goes_on_over_a_restart_and_is_not_told_again() {
        let mut before = Silence::new(HOUR, None, START);
        before.heard(minutes(10));
        let mut after = Silence::new(HOUR, Some(&before.memo()), minutes(40));
        assert_eq!(after.poll(minutes(69)), None);
        assert_eq!(after.poll(minutes(70)), Some(minutes(10)));
        let mut again = Silence::new(HOUR, Some(&after.memo()), minutes(90));
        assert!(again.is_told());
        assert_eq!(again.poll(minutes(200)), None);
        // What waited while the relay was down has a moment to come in.
        let mut late = Silence::new(HOUR, Some(&before.memo()), minutes(300));
        assert_eq!(late.poll(minutes(300)), None);
        assert_eq!(late.poll(minutes(301)), Some(minutes(10)));
        let mut future = Silence::new(HOUR, Some(&after.memo()), START);
        assert_eq!(future.heard(START), Heard { ended: true, note: true });
        assert_eq!(Silence::new(HOUR, Some(b"?"), START).poll(minutes(60)), Some(START));
    }
}
