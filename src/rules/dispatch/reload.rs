//! Other targets and other policies, while deliveries are on their way.

use std::collections::HashMap;

use super::lane::Lane;
use super::{Action, Dispatcher, Stop, TargetPolicy};
use crate::rules::pool::Pool;
use crate::time::Timestamp;

/// A target as the new configuration has it.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// Its policies.
    pub policy: TargetPolicy,
    /// Whether its address is another one: nothing that was learnt of the one before is true of it.
    pub moved: bool,
}

impl<L: Copy + Eq + std::hash::Hash> Dispatcher<L> {
    /// Takes these targets in place of the ones before, for at most `pool` attempts at once.
    ///
    /// A target that stays keeps what is in flight, its breaker, its pause and its pace. Of one that has left, what is in
    /// flight ends and is settled by the policies it began with; nothing more begins.
    pub fn handle_reload(&mut self, targets: Vec<Renewed>, pool: usize, now: Timestamp) {
        self.passed(now);
        if self.stop == Stop::Running {
            let withdrawal = self.ledger.withdrawal(&self.lanes);
            self.actions.push_back(Action::Demand(withdrawal));
        }
        let before = std::mem::take(&mut self.lanes).into_iter();
        let mut before: HashMap<_, _> =
            before.map(|lane| (lane.policy.name.clone(), lane)).collect();
        for Renewed { policy, moved } in targets {
            let lane = match before.remove(&policy.name) {
                Some(lane) => self.renewed(lane, policy, moved, now),
                None => Lane::new(policy, now),
            };
            self.lanes.push(lane);
        }
        let limits = self.lanes.iter().map(|lane| lane.policy.concurrency);
        self.pool = Pool::new(pool, limits);
        let leaving = before.into_values().filter(|lane| lane.in_flight > 0);
        self.lanes.extend(leaving.map(Lane::left));
        for lane in &self.lanes {
            (0..lane.in_flight).for_each(|held| self.pool.begun(held));
        }
        self.index();
        self.ledger.begin(self.lanes.len());
    }

    fn renewed(
        &mut self,
        mut lane: Lane,
        policy: TargetPolicy,
        moved: bool,
        now: Timestamp,
    ) -> Lane {
        let (name, before) = (policy.name.clone(), lane.remembered());
        for notice in lane.renew(policy, moved, now) {
            self.actions.push_back(Action::Notify(name.clone(), notice));
        }
        if lane.remembered() != before {
            self.actions.push_back(Action::Remember(name, lane.remembered()));
        }
        lane
    }

    /// Finds the lanes by name again.
    pub(super) fn index(&mut self) {
        let named = |(index, lane): (usize, &Lane)| (lane.policy.name.clone(), index);
        self.lane_of = self.lanes.iter().enumerate().map(named).collect();
        let lanes = self.lanes.iter().enumerate();
        let heirs = lanes.flat_map(|(index, lane)| {
            lane.policy.was.iter().map(move |name| (name.clone(), index))
        });
        self.heir_of = heirs.collect();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Answer, Name, Settlement};
    use crate::rules::breaker::BreakerPolicy;
    use crate::rules::dispatch::tests::{
        Driven, actions, answered, attempted, demand, dispatcher, job, moment, name, notices,
        policy, settlements, wanted,
    };
    use crate::rules::dispatch::{Notice, PauseReason};
    use crate::rules::rate::Rate;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn stays(policy: TargetPolicy) -> Renewed {
        Renewed { policy, moved: false }
    }

    fn moves(policy: TargetPolicy) -> Renewed {
        Renewed { policy, moved: true }
    }

    fn names(dispatcher: &Driven) -> Vec<Name> {
        dispatcher.view().into_iter().map(|view| view.target).collect()
    }

    #[test]
    fn what_is_in_flight_at_a_target_that_left_ends_and_is_settled_by_its_policies() {
        let mut d = dispatcher(&[("a", 2), ("b", 2)]);
        d.handle_claimed(vec![job(1, "a"), job(2, "a"), job(3, "b")], at(0));
        actions(&mut d);
        d.handle_reload(vec![stays(policy("b", 2))], 1_000, at(1));
        assert_eq!(demand(&mut d), [wanted("b", 1)], "nothing more for the other");
        assert_eq!(names(&d), [name("b")]);
        d.handle_finished(1, answered(500, None), moment(2));
        d.handle_finished(2, answered(200, None), moment(2));
        let settled = settlements(&actions(&mut d));
        assert_eq!(settled, [(1, Settlement::RetryAt(at(7))), (2, Settlement::Delivered)]);
        d.handle_claimed(vec![job(4, "a")], at(3));
        assert_eq!(
            settlements(&actions(&mut d)),
            [(4, Settlement::Released)],
            "kept for its return"
        );
        d.handle_reload(vec![stays(policy("a", 2)), stays(policy("b", 2))], 1_000, at(4));
        assert_eq!(demand(&mut d), [wanted("a", 2), wanted("b", 1)]);
    }

    #[test]
    fn a_target_that_leaves_and_returns_while_it_is_served_never_has_more_than_its_limit() {
        let mut d = dispatcher(&[("a", 2)]);
        d.handle_claimed(vec![job(1, "a"), job(2, "a")], at(0));
        d.handle_reload(vec![stays(policy("b", 1))], 1_000, at(1));
        d.handle_reload(vec![stays(policy("a", 2))], 1_000, at(2));
        assert!(demand(&mut d).is_empty());
        d.handle_finished(1, answered(200, None), moment(3));
        assert_eq!(demand(&mut d), [wanted("a", 1)]);
    }

    #[test]
    fn a_target_that_stays_keeps_its_pause_and_takes_its_new_limits() {
        let mut d = dispatcher(&[("a", 2)]);
        d.handle_pause(&name("a"), at(0));
        d.handle_reload(vec![stays(policy("a", 5))], 1_000, at(1));
        assert!(demand(&mut d).is_empty());
        d.handle_resume(&name("a"));
        assert_eq!(demand(&mut d), [wanted("a", 5)]);
        d.handle_reload(vec![stays(policy("a", 1))], 1_000, at(2));
        assert_eq!(demand(&mut d), [wanted("a", 1)]);
    }

    #[test]
    fn another_retry_policy_counts_for_what_ends_after_it() {
        let mut d = dispatcher(&[("a", 1)]);
        d.handle_claimed(vec![job(1, "a")], at(0));
        let mut changed = policy("a", 1);
        changed.retry.delays = [Duration::from_secs(60)].into();
        d.handle_reload(vec![stays(changed)], 1_000, at(1));
        d.handle_finished(1, answered(500, None), moment(2));
        assert_eq!(settlements(&actions(&mut d)), [(1, Settlement::RetryAt(at(62)))]);
    }

    #[test]
    fn an_open_breaker_stays_open_unless_the_address_is_another_or_it_is_turned_off() {
        let breaker =
            BreakerPolicy { failures: 1, failure_rate: 1.0, probe_every: Duration::from_secs(10) };
        let broken = |failures| TargetPolicy {
            breaker: Some(BreakerPolicy { failures, ..breaker }),
            ..policy("a", 2)
        };
        let opened = || {
            let mut d = dispatcher(&[]);
            d.handle_reload(vec![stays(broken(1))], 1_000, at(0));
            d.handle_claimed(vec![job(1, "a")], at(0));
            d.handle_finished(1, answered(500, None), moment(0));
            assert_eq!(notices(&actions(&mut d)), [Notice::BreakerOpened]);
            d
        };
        let mut d = opened();
        d.handle_reload(vec![stays(broken(5))], 1_000, at(1));
        assert!(demand(&mut d).is_empty(), "it is as dead as before");
        assert_eq!(d.poll_timeout(), Some(at(10)));
        for renewed in [moves(broken(1)), stays(policy("a", 2))] {
            let mut d = opened();
            d.handle_reload(vec![renewed], 1_000, at(1));
            let done = actions(&mut d);
            assert_eq!(notices(&done), [Notice::BreakerReset]);
            assert_eq!(demand(&mut d), [wanted("a", 2)]);
        }
    }

    #[test]
    fn another_address_lifts_the_pause_of_a_410_and_no_other() {
        let mut d = dispatcher(&[("a", 2)]);
        d.handle_claimed(vec![job(1, "a")], at(0));
        d.handle_finished(1, answered(410, None), moment(0));
        assert_eq!(notices(&actions(&mut d)), [Notice::Paused(PauseReason::Gone)]);
        d.handle_reload(vec![stays(policy("a", 2))], 1_000, at(1));
        assert!(demand(&mut d).is_empty());
        d.handle_reload(vec![moves(policy("a", 2))], 1_000, at(2));
        let done = actions(&mut d);
        assert_eq!(notices(&done), [Notice::Resumed]);
        assert!(done.iter().any(|action| matches!(action, Action::Remember(..))));
        d.handle_pause(&name("a"), at(3));
        d.handle_reload(vec![moves(policy("a", 2))], 1_000, at(4));
        assert!(demand(&mut d).is_empty(), "an operator said so");
    }

    #[test]
    fn a_new_rate_counts_at_once_and_the_same_rate_grants_nothing_anew() {
        let limited =
            |interval| TargetPolicy { rate: Some(Rate { interval, burst: 1 }), ..policy("a", 2) };
        let minute = Duration::from_secs(60);
        let mut d = dispatcher(&[("a", 2)]);
        d.handle_reload(vec![stays(limited(minute))], 1_000, at(0));
        d.handle_claimed(vec![job(1, "a")], at(0));
        d.handle_finished(1, attempted(Answer::Interrupted), moment(0));
        for second in 1..50 {
            d.handle_reload(vec![stays(limited(minute))], 1_000, at(second));
            assert!(demand(&mut d).is_empty(), "after {second} reloads");
        }
    }

    #[test]
    fn the_heir_of_a_renamed_target_takes_what_was_queued_for_it() {
        let mut d = dispatcher(&[("old", 2)]);
        d.handle_claimed(vec![job(1, "old")], at(0));
        actions(&mut d);
        let renamed = TargetPolicy { was: vec![name("old")], ..policy("new", 2) };
        d.handle_reload(vec![stays(renamed)], 1_000, at(1));
        assert_eq!(demand(&mut d), [wanted("new", 2), wanted("old", 2)]);
        d.handle_claimed(vec![job(2, "old"), job(3, "new"), job(4, "new")], at(2));
        let done = actions(&mut d);
        let started = done.iter().filter_map(|action| match action {
            Action::Start(job) => Some((job.lease, job.target.clone())),
            Action::Demand(_)
            | Action::Settle { .. }
            | Action::Notify(..)
            | Action::Remember(..)
            | Action::Drained => None,
        });
        assert_eq!(started.collect::<Vec<_>>(), [(2, name("new")), (3, name("new"))]);
        assert_eq!(settlements(&done), [(4, Settlement::Released)]);
        d.handle_finished(1, answered(200, None), moment(3));
        assert_eq!(settlements(&actions(&mut d)), [(1, Settlement::Delivered)]);
    }

    #[test]
    fn the_pool_counts_what_began_before() {
        let mut d = dispatcher(&[("a", 10)]);
        d.handle_claimed((0..10).map(|lease| job(lease, "a")).collect(), at(0));
        d.handle_reload(vec![stays(policy("b", 10)), stays(policy("c", 10))], 12, at(1));
        let all: usize = demand(&mut d).iter().map(|wanted| wanted.most).sum();
        assert!(all <= 8, "{all} more, beside ten of a target that left");
        for lease in 0..10 {
            d.handle_finished(lease, answered(200, None), moment(2));
        }
        // They learn of it when they claim.
        d.handle_claimed(vec![job(10, "b"), job(11, "c")], at(2));
        let all: usize = demand(&mut d).iter().map(|wanted| wanted.most).sum();
        assert!(all > 8, "{all}");
    }
}
