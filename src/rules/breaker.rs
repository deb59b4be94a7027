//! When a target is left alone: a breaker that opens on failures and finds out by single probes that they are over.
//!
//! While it is open nothing is attempted, so deliveries wait in the journal and lose none of their attempts to a
//! target that is down.

use std::time::Duration;

use crate::time::Timestamp;

/// How many of the latest attempts the failure rate is taken over.
pub const RATE_WINDOW: u32 = 64;
/// Each probe that fails doubles the wait for the next one, up to this multiple of `probe_every`: a target that
/// is back must not wait long to be found.
const MOST_WAIT: u32 = 2;

/// A target's breaker, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// It opens after so many failures in a row; at least 1.
    pub failures: u32,
    /// It opens when this part of the last [`RATE_WINDOW`] attempts failed; above 0.
    pub failure_rate: f64,
    /// The wait for the first probe.
    pub probe_every: Duration,
}

/// What an attempt says about its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, even if it refuses this one delivery.
    Good,
    /// It fails.
    Bad,
    /// Nothing: the attempt was not made, was cut off, or only came too early.
    Unknown,
}

/// What happened to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing begins any more.
    Opened,
    /// The target is back.
    Closed,
}

/// Tells one probe from another: what was a probe of an earlier opening is none of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe(u32);

/// How a breaker stands, for whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Attempts begin.
    Closed,
    /// Nothing begins before the moment of the next probe.
    Open {
        /// That moment.
        until: Timestamp,
    },
    /// A probe is under way.
    Probing,
}

/// One target's breaker.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
    /// The latest probe.
    probe: Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Attempts begin. Moves to `Open`.
    Closed(Record),
    /// Nothing begins before `until`; then one attempt does, and it moves to `Probing`. Moves to `Closed` when an
    /// attempt from before comes back well.
    Open { until: Timestamp, wait: Duration },
    /// One attempt is on its way to find out. Moves to `Closed` or back to `Open`.
    Probing { wait: Duration },
}

/// The latest outcomes while closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    /// Failures since the last success.
    streak: u32,
    /// One bit for each of the last [`RATE_WINDOW`] attempts, set for a failure.
    failed: u64,
    /// Attempts in it so far.
    known: u32,
}

impl Breaker {
    /// Closed, with nothing known.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: State::Closed(Record::default()), probe: Probe::default() }
    }

    /// Open from an earlier run: a probe finds out at once whether the target is back.
    pub fn open(policy: BreakerPolicy, now: Timestamp) -> Self {
        let state = State::Open { until: now, wait: policy.probe_every };
        Self { policy, state, probe: Probe::default() }
    }

    /// The same with another policy: how it stands does not change by that.
    #[must_use]
    pub fn renewed(self, policy: BreakerPolicy) -> Self {
        Self { policy, ..self }
    }

    /// A closed one. A probe that is still on its way is none of its own.
    #[must_use]
    pub fn reset(self, policy: BreakerPolicy) -> Self {
        Self { policy, state: State::Closed(Record::default()), ..self }
    }

    /// How it stands.
    pub fn view(&self) -> View {
        match self.state {
            State::Closed(_) => View::Closed,
            State::Open { until, .. } => View::Open { until },
            State::Probing { .. } => View::Probing,
        }
    }

    /// Until when nothing may begin, if that is a matter of time.
    pub fn closed_to_all_until(&self) -> Option<Timestamp> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed(_) | State::Probing { .. } => None,
        }
    }

    /// How many attempts may begin.
    pub fn room(&self, now: Timestamp) -> usize {
        match self.state {
            State::Closed(_) => usize::MAX,
            State::Open { until, .. } => usize::from(until <= now),
            State::Probing { .. } => 0,
        }
    }

    /// The next probe need not wait.
    pub fn hasten(&mut self, now: Timestamp) {
        if let State::Open { until, .. } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// An attempt begins; the probe that it may be is to be handed back when it has ended.
    pub fn begun(&mut self) -> Option<Probe> {
        match self.state {
            State::Open { wait, .. } => {
                self.state = State::Probing { wait };
                self.probe = Probe(self.probe.0.wrapping_add(1));
                Some(self.probe)
            }
            State::Closed(_) | State::Probing { .. } => None,
        }
    }

    /// An attempt has ended.
    pub fn ended(
        &mut self,
        health: Health,
        probe: Option<Probe>,
        now: Timestamp,
    ) -> Option<Change> {
        let probe = probe == Some(self.probe);
        match (self.state, health) {
            (State::Closed(record), Health::Good | Health::Bad) => {
                self.counted(record, health, now)
            }
            (State::Open { .. } | State::Probing { .. }, Health::Good) => {
                self.state = State::Closed(Record::default());
                Some(Change::Closed)
            }
            (State::Probing { wait }, Health::Bad) if probe => {
                let most = self.policy.probe_every.saturating_mul(MOST_WAIT);
                let wait = wait.saturating_mul(2).min(most);
                self.state = State::Open { until: now.plus(wait), wait };
                None
            }
            (State::Probing { wait }, Health::Unknown) if probe => {
                self.state = State::Open { until: now.plus(wait), wait };
                None
            }
            // What began before it opened says nothing new by failing.
            (State::Open { .. } | State::Probing { .. }, Health::Bad) | (_, Health::Unknown) => {
                None
            }
        }
    }

    fn counted(&mut self, record: Record, health: Health, now: Timestamp) -> Option<Change> {
        let bad = health == Health::Bad;
        let record = Record {
            streak: if bad { record.streak.saturating_add(1) } else { 0 },
            failed: record.failed << 1 | u64::from(bad),
            known: record.known.saturating_add(1).min(RATE_WINDOW),
        };
        let failed = f64::from(record.failed.count_ones());
        let most = self.policy.failure_rate * f64::from(RATE_WINDOW);
        let often = record.known == RATE_WINDOW && failed >= most;
        // It opens on a failure only, so that a success is never answered with a closed door.
        if bad && (often || record.streak >= self.policy.failures) {
            let wait = self.policy.probe_every;
            self.state = State::Open { until: now.plus(wait), wait };
            return Some(Change::Opened);
        }
        self.state = State::Closed(record);
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn breaker(failures: u32, failure_rate: f64) -> Breaker {
        let probe_every = Duration::from_secs(10);
        Breaker::new(BreakerPolicy { failures, failure_rate, probe_every })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn opens_after_failures_in_a_row_and_a_success_starts_the_count_anew() {
        let mut b = breaker(3, 1.0);
        for health in [Health::Bad, Health::Bad, Health::Good, Health::Bad, Health::Unknown] {
            assert_eq!(b.ended(health, None, at(0)), None);
        }
        assert_eq!(b.ended(Health::Bad, None, at(0)), None);
        assert_eq!(b.ended(Health::Bad, None, at(0)), Some(Change::Opened));
        assert_eq!((b.room(at(9)), b.room(at(10))), (0, 1));
        assert_eq!(b.closed_to_all_until(), Some(at(10)));
    }

    #[test]
    fn opens_when_too_many_of_the_latest_attempts_failed_though_some_come_back_well() {
        let mut b = breaker(100, 0.5);
        let pattern = [Health::Good, Health::Bad];
        let opened = (0..RATE_WINDOW).position(|n| {
            let health = pattern[usize::try_from(n % 2).unwrap()];
            b.ended(health, None, at(0)) == Some(Change::Opened)
        });
        assert_eq!(opened, Some(63), "not before the window is full");
    }

    #[test]
    fn probes_one_at_a_time_with_growing_waits_and_closes_on_the_first_success() {
        let mut b = breaker(1, 1.0);
        b.ended(Health::Bad, None, at(0));
        let probe = b.begun();
        assert!(probe.is_some(), "the first one after the wait is the probe");
        assert_eq!(b.room(at(100)), 0, "one at a time");
        assert_eq!(b.ended(Health::Bad, probe, at(10)), None);
        assert_eq!(b.closed_to_all_until(), Some(at(30)));
        let probe = b.begun();
        b.ended(Health::Bad, probe, at(30));
        assert_eq!(b.closed_to_all_until(), Some(at(50)), "no longer than twice the first wait");
        let probe = b.begun();
        assert_eq!(b.ended(Health::Good, probe, at(51)), Some(Change::Closed));
        assert_eq!(b.room(at(51)), usize::MAX);
        assert_eq!(b.begun(), None);
    }

    #[test]
    fn what_began_before_it_opened_can_close_it_but_is_no_probe() {
        let mut b = breaker(1, 1.0);
        b.ended(Health::Bad, None, at(0));
        assert_eq!(b.ended(Health::Bad, None, at(5)), None);
        assert_eq!(b.closed_to_all_until(), Some(at(10)), "a late failure does not move the probe");
        let probe = b.begun();
        assert_eq!(b.ended(Health::Bad, None, at(11)), None);
        assert_eq!(b.room(at(99)), 0, "the probe is still on its way");
        assert_eq!(b.ended(Health::Good, None, at(12)), Some(Change::Closed));
        // The probe itself comes back when all is decided; it counts like any other.
        assert_eq!(b.ended(Health::Bad, probe, at(13)), Some(Change::Opened));
    }

    #[test]
    fn a_late_probe_of_an_earlier_opening_does_not_end_the_present_one() {
        let mut b = breaker(1, 1.0);
        b.ended(Health::Bad, None, at(0));
        let early = b.begun();
        b.ended(Health::Good, None, at(11));
        b.ended(Health::Bad, None, at(12));
        let present = b.begun();
        assert_eq!(b.ended(Health::Bad, early, at(30)), None);
        assert_eq!(b.room(at(99)), 0, "the present one is still on its way");
        assert_eq!(b.ended(Health::Good, present, at(31)), Some(Change::Closed));
    }

    #[test]
    fn a_probe_that_says_nothing_is_made_again() {
        let mut b = breaker(1, 1.0);
        b.ended(Health::Bad, None, at(0));
        let probe = b.begun();
        assert_eq!(b.ended(Health::Unknown, probe, at(20)), None);
        assert_eq!(b.closed_to_all_until(), Some(at(30)));
    }

    proptest! {
        #[test]
        fn it_never_stays_shut_for_ever(outcomes in prop::collection::vec((0u8..3, 0i64..60), 0..200)) {
            let mut b = breaker(3, 0.7);
            let mut now = at(0);
            for (outcome, pause) in outcomes {
                now = now.plus(Duration::from_secs(u64::try_from(pause).unwrap()));
                if b.room(now) > 0 {
                    let probe = b.begun();
                    let health = [Health::Good, Health::Bad, Health::Unknown][usize::from(outcome)];
                    b.ended(health, probe, now);
                }
                let wait = b.closed_to_all_until().map_or(Duration::ZERO, |until| until.since(now));
                prop_assert!(wait <= Duration::from_secs(20));
            }
        }
    }
}
