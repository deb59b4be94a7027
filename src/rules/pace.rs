//! How a target that answers 429, 502, 503 or 504 is slowed down as a whole, and how it is let back to full speed.
//!
//! Two bounds do it, as in a network's congestion control: a hold, during which nothing begins, and a limit on what
//! is in flight, which starts again at one and grows with each success. The same slow start follows a breaker's
//! opening, so that a backlog does not fall upon a target the moment it is back.

use std::time::Duration;

use crate::time::Timestamp;

/// The hold after the first answer of this kind that does not say how long; each further one doubles it.
const FIRST_HOLD: Duration = Duration::from_secs(1);
/// No hold of our own choice is longer, so that a target that is back is found soon.
const LONGEST_HOLD: Duration = Duration::from_secs(16);

/// A shorter wish is over before a restart is.
const WORTH_KEEPING: Duration = Duration::from_secs(5);

/// One target's speed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    held_until: Option<Timestamp>,
    /// Until when the target itself asked for quiet, as long as it has not answered well since.
    asked_until: Option<Timestamp>,
    /// What the next hold of our own choice takes.
    hold: Duration,
    /// Most attempts in flight.
    limit: usize,
    /// The configured limit.
    most: usize,
    /// Above this the limit grows by one in a round, below it by one with each success.
    knee: usize,
    /// Successes in the present round.
    round: usize,
}

impl Pace {
    /// Full speed.
    pub fn new(most: usize) -> Self {
        Self {
            held_until: None,
            asked_until: None,
            hold: FIRST_HOLD,
            limit: most,
            most,
            knee: most,
            round: 0,
        }
    }

    /// How many more attempts may begin.
    pub fn room(&self, in_flight: usize, now: Timestamp) -> usize {
        if self.held(now) { 0 } else { self.limit.saturating_sub(in_flight) }
    }

    /// Until when nothing begins.
    pub fn held_until(&self) -> Option<Timestamp> {
        self.held_until
    }

    /// Until when the target asked for quiet, if the next run has to know.
    pub fn asked_until(&self) -> Option<Timestamp> {
        self.asked_until
    }

    /// What it asked for in an earlier run goes on.
    pub fn hold(&mut self, until: Timestamp) {
        (self.held_until, self.asked_until) = (Some(until), Some(until));
        self.restart();
    }

    /// The target is overloaded; `wish` is until when it asks for quiet. True when a hold begins with this.
    pub fn overloaded(
        &mut self,
        wish: Option<Timestamp>,
        in_flight: usize,
        now: Timestamp,
    ) -> bool {
        let begins = !self.held(now);
        // Answers to what was in flight at the same time are one sign, not many.
        if begins {
            self.knee = (in_flight / 2).clamp(1, self.most.max(1));
            self.restart();
        }
        let until = wish.unwrap_or_else(|| now.plus(self.hold));
        if begins && wish.is_none() {
            self.hold = self.hold.saturating_mul(2).min(LONGEST_HOLD);
        }
        let long = wish.filter(|until| until.since(now) >= WORTH_KEEPING);
        self.asked_until = self.asked_until.max(long);
        if begins || wish.is_some() {
            self.held_until = self.held_until.max(Some(until));
        }
        begins && until > now
    }

    /// An attempt was answered well.
    pub fn succeeded(&mut self, now: Timestamp) {
        if self.held(now) {
            return;
        }
        (self.hold, self.asked_until) = (FIRST_HOLD, None);
        self.round = self.round.saturating_add(1);
        if self.limit < self.knee || self.round >= self.limit {
            self.round = 0;
            self.limit = self.limit.saturating_add(1).min(self.most);
        }
    }

    /// One at a time, and from there to full speed again.
    pub fn restart(&mut self) {
        self.limit = self.most.min(1);
        self.round = 0;
    }

    /// As [`Pace::restart`], without a memory of where it was too much.
    pub fn recover(&mut self) {
        self.knee = self.most;
        self.restart();
    }

    /// At most so many at once from now on. What was learnt of the target stays true.
    pub fn resize(&mut self, most: usize) {
        let whole = self.limit >= self.most;
        (self.limit, self.knee) = if whole {
            (most, most)
        } else {
            (self.limit.min(most), self.knee.clamp(1, most.max(1)))
        };
        self.most = most;
    }

    fn held(&self, now: Timestamp) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn holds_as_long_as_the_target_asks_and_no_less_for_a_later_shorter_wish() {
        let mut pace = Pace::new(8);
        assert!(pace.overloaded(Some(at(60)), 4, at(0)));
        assert!(!pace.overloaded(Some(at(30)), 4, at(1)), "it goes on");
        assert_eq!(pace.held_until(), Some(at(60)));
        assert_eq!((pace.room(0, at(59)), pace.room(0, at(60))), (0, 1));
    }

    #[test]
    fn a_wish_for_no_wait_only_slows_down() {
        let mut pace = Pace::new(8);
        assert!(!pace.overloaded(Some(at(5)), 4, at(5)));
        assert_eq!(pace.room(0, at(5)), 1);
    }

    #[test]
    fn its_own_holds_double_to_their_cap_and_a_success_ends_that() {
        let mut pace = Pace::new(8);
        let mut now = at(0);
        let mut holds = Vec::new();
        for _ in 0..7 {
            assert!(pace.overloaded(None, 8, now));
            // The others that were in flight say the same; it is one sign.
            assert!(!pace.overloaded(None, 7, now));
            let until = pace.held_until().unwrap();
            holds.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(holds, [1, 2, 4, 8, 16, 16, 16]);
        pace.succeeded(now);
        pace.overloaded(None, 1, now);
        assert_eq!(pace.held_until().unwrap().since(now).as_secs(), 1);
    }

    #[test]
    fn grows_fast_to_where_it_was_half_too_much_and_slowly_from_there() {
        let mut pace = Pace::new(16);
        pace.overloaded(Some(at(0)), 8, at(0));
        let mut limits = Vec::new();
        for _ in 0..14 {
            limits.push(pace.room(0, at(1)));
            pace.succeeded(at(1));
        }
        assert_eq!(limits, [1, 2, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6]);
        (0..1_000).for_each(|_| pace.succeeded(at(1)));
        assert_eq!(pace.room(0, at(1)), 16, "and never above what is configured");
    }

    #[test]
    fn after_a_recovery_the_limit_doubles_with_each_round() {
        let mut pace = Pace::new(16);
        pace.recover();
        let mut rounds = Vec::new();
        for _ in 0..6 {
            let room = pace.room(0, at(0));
            rounds.push(room);
            (0..room).for_each(|_| pace.succeeded(at(0)));
        }
        assert_eq!(rounds, [1, 2, 4, 8, 16, 16]);
    }

    #[test]
    fn another_limit_counts_at_once_and_undoes_no_slow_start() {
        let mut pace = Pace::new(8);
        pace.resize(4);
        assert_eq!(pace.room(0, at(0)), 4);
        pace.resize(16);
        assert_eq!(pace.room(0, at(0)), 16);
        pace.overloaded(None, 8, at(0));
        pace.resize(32);
        assert_eq!(pace.room(0, at(0)), 0, "it is held");
        assert_eq!(pace.room(0, at(1)), 1);
        (0..10_000).for_each(|_| pace.succeeded(at(1)));
        assert_eq!(pace.room(0, at(1)), 32);
    }
}
