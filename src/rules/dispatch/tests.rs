//! The scheduler core, one decision at a time. Whole runs are in `tests/it/simulation.rs`.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use rand::SeedableRng as _;

use super::*;
use crate::model::{Answer, Order, Wanted};
use crate::rules::retry::Jitter;

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn moment(seconds: i64) -> Moment {
    Moment { now: Timestamp::from_secs(seconds), wall: Timestamp::from_secs(seconds) }
}

pub(super) fn policy(target: &str, concurrency: usize) -> TargetPolicy {
    TargetPolicy {
        name: name(target),
        concurrency,
        order: Order::None,
        retry: RetryPolicy {
            delays: [Duration::from_secs(5)].into(),
            jitter: Jitter::Proportional(0.0),
            give_up: [422].into(),
            expire: Duration::from_secs(100_000),
        },
        rate: None,
        breaker: None,
        was: Vec::new(),
    }
}

/// A core and what a journal knows of its demand.
pub(super) struct Driven {
    core: Dispatcher<u32>,
    wanted: BTreeMap<String, Wanted>,
}

impl Driven {
    /// As [`Dispatcher::handle_claimed`], the demand being lower then.
    pub(super) fn handle_claimed(&mut self, jobs: Vec<Job<u32>>, now: Timestamp) {
        for job in &jobs {
            if let Some(wanted) = self.wanted.get_mut(job.target.as_str()) {
                wanted.most = wanted.most.saturating_sub(1);
            }
        }
        self.core.handle_claimed(jobs, now);
    }
}

impl Deref for Driven {
    type Target = Dispatcher<u32>;

    fn deref(&self) -> &Self::Target {
        &self.core
    }
}

impl DerefMut for Driven {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.core
    }
}

pub(super) fn dispatcher(targets: &[(&str, usize)]) -> Driven {
    with(targets.iter().map(|(target, most)| policy(target, *most)).collect(), 1_000)
}

pub(super) fn with(policies: Vec<TargetPolicy>, pool: usize) -> Driven {
    let rng = StdRng::seed_from_u64(7);
    let core = Dispatcher::new(policies, pool, rng, Timestamp::EPOCH);
    Driven { core, wanted: BTreeMap::new() }
}

pub(super) fn job(lease: u32, target: &str) -> Job<u32> {
    let event = EventId::new(Timestamp::EPOCH, [0; 10]);
    Job {
        lease,
        target: name(target),
        event,
        attempts: 0,
        received_at: Timestamp::EPOCH,
        revived: false,
    }
}

pub(super) fn answered(status: u16, retry_after: Option<&str>) -> Finished {
    attempted(Answer::Status { status, retry_after: retry_after.map(str::to_owned) })
}

pub(super) fn attempted(answer: Answer) -> Finished {
    let duration = Duration::ZERO;
    Finished::Attempted(Attempt {
        number: 1,
        started_at: Timestamp::EPOCH,
        duration,
        answer,
        seen: Box::default(),
    })
}

pub(super) fn actions(driven: &mut Driven) -> Vec<Action<u32>> {
    let actions: Vec<_> = std::iter::from_fn(|| driven.core.poll_action()).collect();
    for action in &actions {
        if let Action::Demand(changes) = action {
            let named = |wanted: &Wanted| (wanted.target.to_string(), wanted.clone());
            driven.wanted.extend(changes.iter().map(named));
        }
    }
    actions
}

pub(super) fn settlements(actions: &[Action<u32>]) -> Vec<(u32, Settlement)> {
    let settled = |action: &Action<u32>| match action {
        Action::Settle { job, settlement, .. } => Some((job.lease, *settlement)),
        Action::Demand(_)
        | Action::Start(_)
        | Action::Notify(..)
        | Action::Remember(..)
        | Action::Drained => None,
    };
    actions.iter().filter_map(settled).collect()
}

pub(super) fn notices(actions: &[Action<u32>]) -> Vec<Notice> {
    let told = |action: &Action<u32>| match action {
        Action::Notify(_, notice) => Some(*notice),
        Action::Demand(_)
        | Action::Start(_)
        | Action::Settle { .. }
        | Action::Remember(..)
        | Action::Drained => None,
    };
    actions.iter().filter_map(told).collect()
}

pub(super) fn wanted(target: &str, most: usize) -> Wanted {
    Wanted { target: name(target), most, order: Order::None }
}

/// What is wanted now, everything being told that is to be told.
pub(super) fn demand(driven: &mut Driven) -> Vec<Wanted> {
    actions(driven);
    driven.wanted.values().filter(|wanted| wanted.most > 0).cloned().collect()
}

#[test]
fn asks_for_what_is_free_and_starts_what_it_gets() {
    let mut d = dispatcher(&[("a", 2), ("b", 1)]);
    assert_eq!(actions(&mut d), [Action::Demand(vec![wanted("a", 2), wanted("b", 1)])]);
    d.handle_claimed(vec![job(1, "a"), job(2, "b")], Timestamp::EPOCH);
    assert_eq!(actions(&mut d), [Action::Start(job(1, "a")), Action::Start(job(2, "b"))]);
    assert_eq!(demand(&mut d), [wanted("a", 1)], "lower by what it got");
    assert!(actions(&mut d).is_empty(), "nothing changed, so nothing is asked again");
}

#[test]
fn a_full_target_leaves_the_others_their_demand() {
    let mut d = dispatcher(&[("dead", 1), ("live", 1)]);
    d.handle_claimed(vec![job(1, "dead")], Timestamp::EPOCH);
    assert_eq!(demand(&mut d), [wanted("live", 1)]);
}

#[test]
fn retry_after_closes_the_target_until_then_and_only_the_target() {
    let mut d = dispatcher(&[("a", 4), ("b", 4)]);
    d.handle_claimed(vec![job(1, "a")], Timestamp::EPOCH);
    actions(&mut d);
    d.handle_finished(1, answered(429, Some("60")), moment(10));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::Held(Timestamp::from_secs(70))]);
    assert_eq!(settlements(&got), [(1, Settlement::RetryAt(Timestamp::from_secs(70)))]);
    assert_eq!(got.last(), Some(&Action::Demand(vec![wanted("a", 0)])));
    assert_eq!(demand(&mut d), [wanted("b", 4)]);
    assert_eq!(d.poll_timeout(), Some(Timestamp::from_secs(70)));
    d.handle_timeout(Timestamp::from_secs(69));
    assert!(actions(&mut d).is_empty());
    d.handle_timeout(Timestamp::from_secs(70));
    let slow = [Action::Demand(vec![wanted("a", 1)])];
    assert_eq!(actions(&mut d), slow, "one at a time at first");
    assert_eq!(d.poll_timeout(), None);
}

#[test]
fn an_event_that_could_not_be_tried_waits_and_a_damaged_one_is_dead() {
    let mut d = dispatcher(&[("a", 2)]);
    d.handle_claimed(vec![job(1, "a"), job(2, "a")], Timestamp::EPOCH);
    d.handle_finished(1, Finished::NotAttempted, moment(10));
    d.handle_finished(2, Finished::Damaged, moment(10));
    let expected = [
        (1, Settlement::RetryAt(Timestamp::from_secs(15))),
        (2, Settlement::Dead(DeadReason::Damaged)),
    ];
    assert_eq!(settlements(&actions(&mut d)), expected);
}

#[test]
fn stopping_claims_nothing_waits_for_what_is_in_flight_and_counts_no_interrupted_attempt() {
    let mut d = dispatcher(&[("a", 2)]);
    d.handle_claimed(vec![job(1, "a")], Timestamp::EPOCH);
    actions(&mut d);
    d.handle_stop();
    assert_eq!(actions(&mut d), [Action::Demand(vec![wanted("a", 0)])]);
    // A claim that resolved while the stop was decided is handed back.
    d.handle_claimed(vec![job(2, "a")], Timestamp::EPOCH);
    assert_eq!(settlements(&actions(&mut d)), [(2, Settlement::Released)]);
    d.handle_finished(1, attempted(Answer::Interrupted), moment(1));
    let got = actions(&mut d);
    assert_eq!(settlements(&got), [(1, Settlement::Released)]);
    assert_eq!(got.last(), Some(&Action::Drained));
    assert!(actions(&mut d).is_empty());
}

#[test]
fn a_job_for_an_unknown_target_and_a_second_finish_do_no_harm() {
    let mut d = dispatcher(&[("a", 1)]);
    d.handle_claimed(vec![job(1, "gone")], Timestamp::EPOCH);
    assert_eq!(settlements(&actions(&mut d)), [(1, Settlement::Released)]);
    d.handle_claimed(vec![job(2, "a")], Timestamp::EPOCH);
    d.handle_finished(2, answered(200, None), moment(1));
    d.handle_finished(2, answered(500, None), moment(1));
    assert_eq!(settlements(&actions(&mut d)), [(2, Settlement::Delivered)]);
    assert_eq!(d.in_flight(), 0);
}

#[test]
fn overload_without_a_wish_slows_the_whole_target() {
    for status in [429, 502, 503, 504] {
        let mut d = dispatcher(&[("a", 4)]);
        d.handle_claimed(vec![job(1, "a")], Timestamp::EPOCH);
        actions(&mut d);
        d.handle_finished(1, answered(status, None), moment(10));
        let got = actions(&mut d);
        assert_eq!(notices(&got), [Notice::Held(Timestamp::from_secs(11))], "{status}");
        assert_eq!(demand(&mut d), [], "{status}");
        assert_eq!(d.poll_timeout(), Some(Timestamp::from_secs(11)));
    }
}

#[test]
fn gone_gives_up_the_delivery_and_pauses_the_target_until_it_is_resumed() {
    let mut d = dispatcher(&[("a", 4), ("b", 4)]);
    d.handle_claimed(vec![job(1, "a"), job(2, "a")], Timestamp::EPOCH);
    actions(&mut d);
    d.handle_finished(1, answered(410, None), moment(1));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::Paused(PauseReason::Gone)]);
    assert_eq!(settlements(&got), [(1, Settlement::Dead(DeadReason::Gone))]);
    assert_eq!(demand(&mut d), [wanted("b", 4)]);
    assert_eq!(d.poll_timeout(), None, "no time ends it");
    d.handle_finished(2, answered(410, None), moment(2));
    assert_eq!(notices(&actions(&mut d)), [], "said once");
    d.handle_claimed(vec![job(3, "a")], Timestamp::from_secs(3));
    assert_eq!(settlements(&actions(&mut d)), [(3, Settlement::Released)]);
    d.handle_resume(&name("a"));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::Resumed]);
    assert_eq!(demand(&mut d), [wanted("a", 4), wanted("b", 4)]);
    d.handle_resume(&name("a"));
    assert!(actions(&mut d).is_empty());
}

#[test]
fn a_failing_target_is_probed_by_one_delivery_and_comes_back_slowly() {
    let mut d = dispatcher(&[("a", 8)]);
    let probe_every = Duration::from_secs(10);
    let breaker = BreakerPolicy { failures: 2, failure_rate: 1.0, probe_every };
    d = with(vec![TargetPolicy { breaker: Some(breaker), ..d.lanes.remove(0).policy }], 1_000);
    d.handle_claimed(vec![job(1, "a"), job(2, "a")], Timestamp::EPOCH);
    d.handle_finished(1, answered(500, None), moment(0));
    d.handle_finished(2, answered(500, None), moment(0));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::BreakerOpened]);
    assert_eq!(demand(&mut d), []);
    assert_eq!(d.poll_timeout(), Some(Timestamp::from_secs(10)));
    d.handle_timeout(Timestamp::from_secs(10));
    assert_eq!(demand(&mut d), [wanted("a", 1)]);
    d.handle_claimed(vec![job(3, "a"), job(4, "a")], Timestamp::from_secs(10));
    let got = actions(&mut d);
    assert_eq!(settlements(&got), [(4, Settlement::Released)], "parked, with all its attempts");
    assert_eq!(demand(&mut d), []);
    d.handle_finished(3, answered(200, None), moment(11));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::BreakerClosed]);
    assert_eq!(demand(&mut d), [wanted("a", 2)], "twice as much with each round");
}

#[test]
fn a_rate_spaces_what_begins() {
    let mut d = dispatcher(&[("a", 8)]);
    let rate = Rate { interval: Duration::from_secs(2), burst: 2 };
    d = with(vec![TargetPolicy { rate: Some(rate), ..d.lanes.remove(0).policy }], 1_000);
    d.handle_timeout(Timestamp::from_secs(100));
    assert_eq!(demand(&mut d), [wanted("a", 2)]);
    d.handle_claimed(vec![job(1, "a"), job(2, "a"), job(3, "a")], Timestamp::from_secs(100));
    let got = actions(&mut d);
    assert_eq!(settlements(&got), [(3, Settlement::Released)]);
    assert_eq!(demand(&mut d), []);
    assert_eq!(d.poll_timeout(), Some(Timestamp::from_secs(102)));
    d.handle_timeout(Timestamp::from_secs(102));
    assert_eq!(demand(&mut d), [wanted("a", 1)]);
}

#[test]
fn a_small_pool_is_shared_and_what_does_not_fit_goes_back_unharmed() {
    let mut d = dispatcher(&[("a", 8), ("b", 8)]);
    d = with(d.lanes.drain(..).map(|lane| lane.policy).collect(), 8);
    let jobs = (0..8).map(|lease| job(lease, "a")).collect();
    d.handle_claimed(jobs, Timestamp::EPOCH);
    let got = actions(&mut d);
    let begun = got.iter().filter(|action| matches!(action, Action::Start(_))).count();
    assert_eq!((begun, settlements(&got).len()), (4, 4), "its part of 2, and half of the common 4");
    assert_eq!(demand(&mut d), [wanted("b", 3)], "b has its part, and half of what is left");
}

#[test]
fn an_operator_pauses_and_resumes_and_the_next_run_knows() {
    let mut d = dispatcher(&[("a", 4)]);
    assert!(d.handle_pause(&name("a"), Timestamp::from_secs(3)));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::Paused(PauseReason::Operator)]);
    let pause = Pause { reason: PauseReason::Operator, since: Timestamp::from_secs(3) };
    let kept = Remembered { paused: Some(pause), ..Remembered::default() };
    assert!(got.contains(&Action::Remember(name("a"), kept)));
    assert_eq!(demand(&mut d), []);
    assert!(d.handle_pause(&name("a"), Timestamp::from_secs(4)) && actions(&mut d).is_empty());
    assert_eq!(d.view()[0].paused, Some(pause));
    let mut next = dispatcher(&[("a", 4)]);
    next.restore(&name("a"), kept);
    assert_eq!(demand(&mut next), []);
    assert!(next.handle_resume(&name("a")));
    let got = actions(&mut next);
    assert!(got.contains(&Action::Remember(name("a"), Remembered::default())));
    assert_eq!(demand(&mut next), [wanted("a", 4)]);
    assert!(!next.handle_pause(&name("nobody"), Timestamp::EPOCH));
    assert!(!next.handle_resume(&name("nobody")));
}

#[test]
fn a_breaker_that_was_open_is_open_in_the_next_run_and_probes_at_once() {
    let mut d = dispatcher(&[("a", 8)]);
    let probe_every = Duration::from_secs(10);
    let breaker = BreakerPolicy { failures: 1, failure_rate: 1.0, probe_every };
    let policy = TargetPolicy { breaker: Some(breaker), ..d.lanes.remove(0).policy };
    d = with(vec![policy.clone()], 1_000);
    d.handle_claimed(vec![job(1, "a")], Timestamp::EPOCH);
    d.handle_finished(1, answered(500, None), moment(7));
    let open = Remembered { open_since: Some(Timestamp::from_secs(7)), ..Remembered::default() };
    assert!(actions(&mut d).contains(&Action::Remember(name("a"), open)));
    let mut next = with(vec![policy], 1_000);
    next.restore(&name("a"), open);
    assert_eq!(demand(&mut next), [wanted("a", 1)]);
    next.handle_claimed(vec![job(2, "a")], Timestamp::EPOCH);
    assert_eq!(next.view()[0].breaker, Some(crate::rules::breaker::View::Probing));
    next.handle_finished(2, answered(200, None), moment(9));
    let got = actions(&mut next);
    assert_eq!(notices(&got), [Notice::BreakerClosed]);
    assert!(got.contains(&Action::Remember(name("a"), Remembered::default())));
}

/// A thousand targets, of which a hundred are being served and never answer.
fn many(pool: usize) -> Driven {
    let name = |number: u32| format!("t-{number:03}");
    let mut d = with((0..1_000).map(|number| policy(&name(number), 4)).collect(), pool);
    actions(&mut d);
    d.handle_claimed((0..100).map(|number| job(number, &name(number))).collect(), moment(0).now);
    actions(&mut d);
    d.core.ledger.looked = 0;
    d
}

#[test]
fn an_event_costs_what_it_touches_and_not_what_is_configured() {
    // With room for all; with as little as one attempt for each; and when the pool is full of those that hang.
    for pool in [4_000, 1_000] {
        let mut d = many(pool);
        for lease in 1_000..2_000 {
            d.handle_claimed(vec![job(lease, "t-500")], moment(1).now);
            assert!(actions(&mut d).contains(&Action::Start(job(lease, "t-500"))));
            d.handle_timeout(moment(1).now);
            d.handle_finished(lease, answered(200, None), moment(1));
            actions(&mut d);
        }
        assert_eq!(d.core.ledger.looked, 2_000, "one lane at the start and one at the end, {pool}");
        assert_eq!(d.wanted["t-500"].most, if pool == 4_000 { 4 } else { 1 });
    }
}

#[test]
fn what_time_opens_is_looked_at_when_it_is_time_and_nothing_else_is() {
    let mut d = many(4_000);
    for number in 0..100 {
        d.handle_finished(number, answered(503, None), moment(1));
    }
    actions(&mut d);
    d.core.ledger.looked = 0;
    assert_eq!(d.poll_timeout(), Some(moment(2).now));
    d.handle_timeout(moment(1).now);
    assert!(actions(&mut d).is_empty());
    assert_eq!(d.core.ledger.looked, 0);
    d.handle_timeout(moment(2).now);
    let opened = demand(&mut d).iter().filter(|wanted| wanted.most == 1).count();
    assert_eq!((opened, d.core.ledger.looked, d.poll_timeout()), (100, 100, None));
}

#[test]
fn what_a_full_pool_kept_from_a_target_it_has_when_there_is_room_again() {
    let mut d = with(vec![policy("a", 8), policy("b", 8), policy("c", 8)], 6);
    actions(&mut d);
    d.handle_claimed((0..3).map(|lease| job(lease, "a")).collect(), moment(0).now);
    d.handle_claimed((3..6).map(|lease| job(lease, "b")).collect(), moment(0).now);
    let begun: Vec<_> = d.view().iter().map(|view| view.in_flight).collect();
    assert_eq!(begun, [3, 2, 0]);
    // a and b have what the pool gives them. c was told more when it was free, and finds out when it claims it.
    assert_eq!(demand(&mut d), [wanted("c", 3)]);
    d.handle_claimed((6..9).map(|lease| job(lease, "c")).collect(), moment(0).now);
    let released = [(8, Settlement::Released), (7, Settlement::Released)];
    assert_eq!(settlements(&actions(&mut d)), released, "the one that is due first goes back last");
    assert_eq!(demand(&mut d), []);
    d.handle_finished(0, answered(200, None), moment(1));
    assert_eq!(demand(&mut d), [wanted("c", 1)], "not a and b, which have more");
    d.handle_claimed(vec![job(7, "c")], moment(1).now);
    assert!(actions(&mut d).contains(&Action::Start(job(7, "c"))));
}

#[test]
fn an_operator_need_not_wait_for_the_next_probe_but_for_everything_else() {
    let probe_every = Duration::from_secs(10);
    let breaker = Some(BreakerPolicy { failures: 1, failure_rate: 1.0, probe_every });
    let mut d = with(vec![TargetPolicy { breaker, ..policy("a", 8) }], 1_000);
    d.handle_claimed(vec![job(1, "a")], moment(0).now);
    d.handle_finished(1, answered(500, None), moment(0));
    assert_eq!(demand(&mut d), []);
    assert!(d.handle_hasten(&name("a"), moment(1).now));
    assert_eq!(demand(&mut d), [wanted("a", 1)], "one attempt finds out");
    d.handle_claimed(vec![job(2, "a")], moment(1).now);
    assert!(d.handle_hasten(&name("a"), moment(1).now), "a probe is under way");
    assert_eq!(demand(&mut d), []);
    d.handle_finished(2, answered(429, Some("60")), moment(2));
    d.handle_hasten(&name("a"), moment(3).now);
    assert_eq!((demand(&mut d), d.poll_timeout()), (vec![], Some(moment(62).now)), "it asked so");
    d.handle_pause(&name("a"), moment(62).now);
    d.handle_hasten(&name("a"), moment(62).now);
    assert_eq!(demand(&mut d), [], "it is paused");
    assert!(!d.handle_hasten(&name("nobody"), moment(62).now));
}

#[test]
fn what_a_target_asked_for_outlives_the_run_and_is_forgotten_when_it_answers_well() {
    let mut d = dispatcher(&[("a", 8)]);
    d.handle_claimed(vec![job(1, "a")], Timestamp::EPOCH);
    d.handle_finished(1, answered(503, Some("60")), moment(10));
    let until = Timestamp::from_secs(70);
    let held = Remembered { held_until: Some(until), ..Remembered::default() };
    assert!(actions(&mut d).contains(&Action::Remember(name("a"), held)));
    let mut next = dispatcher(&[("a", 8)]);
    next.handle_timeout(Timestamp::from_secs(20));
    next.restore(&name("a"), held);
    assert_eq!(demand(&mut next), []);
    assert_eq!((next.poll_timeout(), next.view()[0].held_until), (Some(until), Some(until)));
    next.handle_timeout(until);
    assert_eq!(demand(&mut next), [wanted("a", 1)], "it begins with one");
    next.handle_claimed(vec![job(2, "a")], until);
    next.handle_finished(2, answered(200, None), moment(71));
    assert!(actions(&mut next).contains(&Action::Remember(name("a"), Remembered::default())));
    let far = Remembered { held_until: Some(Timestamp::from_secs(10_000_000)), ..held };
    let mut back = dispatcher(&[("a", 8)]);
    back.restore(&name("a"), far);
    let most = back.view()[0].held_until.unwrap();
    assert_eq!(most, Timestamp::EPOCH.plus(super::super::retry::MAX_RETRY_AFTER));
}
