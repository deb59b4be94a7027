//! What is known of a build, as it is written down for the next run.
//!
//! By the names of the events and not by their places: a later release may know more steps.

use serde::{Deserialize, Serialize};

use super::{Build, Stages, State, Steps, bit};
use crate::time::Timestamp;

/// One build.
#[derive(Debug, Serialize, Deserialize)]
struct Memo {
    build: String,
    /// Each step that came, with the moment in microseconds.
    seen: Vec<(String, i64)>,
    /// Steps that must have come before it was known.
    believed: Vec<String>,
    /// Gaps that have been told.
    told: Vec<String>,
    last: String,
    heard_at: i64,
    missing_since: Option<i64>,
    stalled: bool,
    ended: bool,
}

impl Stages {
    /// The builds of which something changed since this was last asked.
    pub fn take_touched(&mut self) -> Vec<String> {
        std::mem::take(&mut self.touched)
    }

    /// What is worth remembering of a build; nothing of one that has ended and misses nothing.
    pub fn memo(&self, build: &str) -> Option<Vec<u8>> {
        let known = self.builds.get(build)?;
        if known.state == State::Ended && known.missing_since.is_none() {
            return None;
        }
        let timed = known.times.iter().fold(0, |all, (index, _)| all | bit(*index));
        let names = |set: Steps| {
            let within = move |(index, _): &(usize, _)| set & bit(*index) != 0;
            self.steps.iter().enumerate().filter(within).map(|(_, step)| step.event.to_owned())
        };
        let seen = known.times.iter().filter_map(|(index, at)| {
            Some((self.steps.get(*index)?.event.to_owned(), at.as_micros()))
        });
        let memo = Memo {
            build: build.to_owned(),
            seen: seen.collect(),
            believed: names(known.seen & !timed).collect(),
            told: names(known.told).collect(),
            last: self.steps.get(known.last)?.event.to_owned(),
            heard_at: known.heard_at.as_micros(),
            missing_since: known.missing_since.map(Timestamp::as_micros),
            stalled: known.state == State::Stalled,
            ended: known.state == State::Ended,
        };
        serde_json::to_vec(&memo).ok()
    }

    /// Takes a build up again. `whole` says that nothing happened after it was written down; otherwise the next step is
    /// believed, because one before it may have come. The build's name, or nothing when it cannot be read.
    pub fn restore(&mut self, memo: &[u8], whole: bool, now: Timestamp) -> Option<String> {
        let memo: Memo = serde_json::from_slice(memo).ok()?;
        let index =
            |event: &String| self.steps.iter().position(|step| step.event == event.as_str());
        let set =
            |events: &[String]| events.iter().filter_map(index).fold(0, |all, i| all | bit(i));
        // The clock may have gone back meanwhile.
        let at = |micros: i64| Timestamp::from_micros(micros).min(now);
        let times: Vec<_> = memo
            .seen
            .iter()
            .filter_map(|(event, micros)| Some((index(event)?, at(*micros))))
            .collect();
        let came = times.iter().fold(0, |all, (index, _)| all | bit(*index));
        let needs = |(index, _): &(usize, Timestamp)| self.needs.get(*index).copied();
        let state = match (memo.stalled, memo.ended) {
            (_, true) => State::Ended,
            (true, false) => State::Stalled,
            (false, false) => State::Going,
        };
        let build = Build {
            seen: came | set(&memo.believed),
            expected: times.iter().filter_map(needs).fold(0, |all, needs| all | needs),
            told: set(&memo.told),
            last: index(&memo.last)?,
            heard_at: at(memo.heard_at),
            due_at: now,
            missing_since: memo.missing_since.map(at),
            state,
            times,
            resumed: !whole,
        };
        self.remember(memo.build.clone(), build);
        Some(memo.build)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Notice, Patience};
    use super::*;
    use crate::rules::provider::preset;

    const START: Timestamp = Timestamp::from_secs(1_775_000_000);
    const GAP: Duration = Duration::from_secs(30);
    const STALL: Duration = Duration::from_secs(1800);

    fn stages(now: Timestamp) -> Stages {
        let patience = Patience { gap_after: GAP, stall_after: STALL, skip: Vec::new() };
        Stages::new(preset("streampixel").unwrap().steps, patience, now)
    }

    /// A build that has come so far, written down, and read again two minutes later.
    fn after(events: &[&str], whole: bool) -> Stages {
        let mut before = stages(START);
        for event in events {
            assert_eq!(before.handle("p/u", event, START), None);
        }
        assert_eq!(before.take_touched(), vec!["p/u"; events.len()]);
        let memo = before.memo("p/u").unwrap();
        assert!(memo.len() < 1_000, "{}", String::from_utf8_lossy(&memo));
        let later = START.plus(Duration::from_secs(120));
        let mut after = stages(later);
        assert_eq!(after.restore(&memo, whole, later).as_deref(), Some("p/u"));
        assert_eq!(after.memo("p/u").unwrap(), memo, "nothing is lost by it");
        after
    }

    fn gaps(stages: &mut Stages, now: Timestamp) -> Vec<&'static str> {
        let missing = |notice| match notice {
            Notice::Gap { missing, .. } => Some(missing),
            Notice::Healed { .. } | Notice::Stall { .. } => None,
        };
        stages.poll(now).into_iter().filter_map(missing).collect()
    }

    #[test]
    fn a_step_that_is_missing_over_a_restart_is_told_and_what_was_told_is_not_again() {
        let later = START.plus(Duration::from_secs(125));
        let mut known = after(&["build.uploaded"], true);
        assert_eq!(known.handle("p/u", "build.extracting", later), None);
        assert_eq!(gaps(&mut known, later.plus(GAP)), ["build.downloading"]);
        let memo = known.memo("p/u").unwrap();
        let mut again = stages(later);
        again.restore(&memo, true, later).unwrap();
        assert_eq!(gaps(&mut again, later.plus(GAP * 2)), [""; 0]);

        let mut waiting = after(&["build.uploaded", "build.extracting"], true);
        assert_eq!(gaps(&mut waiting, later), ["build.downloading"], "its time was over meanwhile");
    }

    #[test]
    fn after_a_crash_the_next_step_is_believed_and_those_after_it_are_not() {
        let later = START.plus(Duration::from_secs(125));
        let mut known = after(&["build.uploaded"], false);
        assert_eq!(known.handle("p/u", "build.extracting", later), None);
        assert_eq!(gaps(&mut known, later.plus(GAP)), [""; 0]);
        assert_eq!(known.handle("p/u", "build.approved", later), None);
        assert_eq!(gaps(&mut known, later.plus(GAP)), ["build.saving"]);
    }

    #[test]
    fn a_stall_goes_on_and_what_has_ended_is_not_written_down() {
        let mut known = after(&["build.uploaded", "build.downloading"], true);
        let stall = known.poll(START.plus(STALL));
        assert!(
            matches!(&stall[..], [Notice::Stall { last: "build.downloading", seen, .. }] if seen.len() == 2),
            "{stall:?}"
        );
        let mut again = stages(START.plus(STALL));
        again.restore(&known.memo("p/u").unwrap(), true, START.plus(STALL)).unwrap();
        assert_eq!(again.poll(START.plus(STALL * 2)), []);
        again.handle("p/u", "build.rejected", START.plus(STALL * 2));
        assert_eq!(again.memo("p/u"), None);
        assert_eq!(again.restore(b"{}", true, START), None);
    }
}
