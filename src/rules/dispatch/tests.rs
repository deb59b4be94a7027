//! The scheduler core, one decision at a time. Whole runs are in `tests/it/simulation.rs`.

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

pub(super) fn dispatcher(targets: &[(&str, usize)]) -> Dispatcher<u32> {
    with(targets.iter().map(|(target, most)| policy(target, *most)).collect(), 1_000)
}

fn with(policies: Vec<TargetPolicy>, pool: usize) -> Dispatcher<u32> {
    Dispatcher::new(policies, pool, StdRng::seed_from_u64(7), Timestamp::EPOCH)
}

pub(super) fn job(lease: u32, target: &str) -> Job<u32> {
    let event = EventId::new(Timestamp::EPOCH, [0; 10]);
    Job { lease, target: name(target), event, attempts: 0, received_at: Timestamp::EPOCH }
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

pub(super) fn actions(dispatcher: &mut Dispatcher<u32>) -> Vec<Action<u32>> {
    std::iter::from_fn(|| dispatcher.poll_action()).collect()
}

pub(super) fn settlements(actions: &[Action<u32>]) -> Vec<(u32, Settlement)> {
    let settled = |action: &Action<u32>| match action {
        Action::Settle { job, settlement, .. } => Some((job.lease, *settlement)),
        Action::Claim(_)
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
        Action::Claim(_)
        | Action::Start(_)
        | Action::Settle { .. }
        | Action::Remember(..)
        | Action::Drained => None,
    };
    actions.iter().filter_map(told).collect()
}

/// The last demand stated.
pub(super) fn wanted(target: &str, most: usize) -> Wanted {
    Wanted { target: name(target), most, order: Order::None }
}

pub(super) fn demand(actions: &[Action<u32>]) -> Vec<Wanted> {
    let stated = |action: &Action<u32>| match action {
        Action::Claim(demand) => Some(demand.clone()),
        Action::Start(_)
        | Action::Notify(..)
        | Action::Remember(..)
        | Action::Settle { .. }
        | Action::Drained => None,
    };
    actions.iter().rev().find_map(stated).unwrap_or_default()
}

#[test]
fn asks_for_what_is_free_and_starts_what_it_gets() {
    let mut d = dispatcher(&[("a", 2), ("b", 1)]);
    assert_eq!(actions(&mut d), [Action::Claim(vec![wanted("a", 2), wanted("b", 1)])]);
    d.handle_claimed(vec![job(1, "a"), job(2, "b")], Timestamp::EPOCH);
    let expected = [
        Action::Start(job(1, "a")),
        Action::Start(job(2, "b")),
        Action::Claim(vec![wanted("a", 1)]),
    ];
    assert_eq!(actions(&mut d), expected);
    assert!(actions(&mut d).is_empty(), "nothing changed, so nothing is asked again");
}

#[test]
fn a_full_target_leaves_the_others_their_demand() {
    let mut d = dispatcher(&[("dead", 1), ("live", 1)]);
    d.handle_claimed(vec![job(1, "dead")], Timestamp::EPOCH);
    assert_eq!(actions(&mut d).last(), Some(&Action::Claim(vec![wanted("live", 1)])));
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
    assert_eq!(got.last(), Some(&Action::Claim(vec![wanted("b", 4)])));
    assert_eq!(d.poll_timeout(), Some(Timestamp::from_secs(70)));
    d.handle_timeout(Timestamp::from_secs(69));
    assert!(actions(&mut d).is_empty());
    d.handle_timeout(Timestamp::from_secs(70));
    let slow = [Action::Claim(vec![wanted("a", 1), wanted("b", 4)])];
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
    assert_eq!(actions(&mut d), [Action::Claim(vec![])]);
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
        assert_eq!(demand(&got), [], "{status}");
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
    assert_eq!(demand(&got), [wanted("b", 4)]);
    assert_eq!(d.poll_timeout(), None, "no time ends it");
    d.handle_finished(2, answered(410, None), moment(2));
    assert_eq!(notices(&actions(&mut d)), [], "said once");
    d.handle_claimed(vec![job(3, "a")], Timestamp::from_secs(3));
    assert_eq!(settlements(&actions(&mut d)), [(3, Settlement::Released)]);
    d.handle_resume(&name("a"));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::Resumed]);
    assert_eq!(demand(&got), [wanted("a", 4), wanted("b", 4)]);
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
    assert_eq!(demand(&got), []);
    assert_eq!(d.poll_timeout(), Some(Timestamp::from_secs(10)));
    d.handle_timeout(Timestamp::from_secs(10));
    assert_eq!(demand(&actions(&mut d)), [wanted("a", 1)]);
    d.handle_claimed(vec![job(3, "a"), job(4, "a")], Timestamp::from_secs(10));
    let got = actions(&mut d);
    assert_eq!(settlements(&got), [(4, Settlement::Released)], "parked, with all its attempts");
    assert_eq!(demand(&got), []);
    d.handle_finished(3, answered(200, None), moment(11));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::BreakerClosed]);
    assert_eq!(demand(&got), [wanted("a", 2)], "twice as much with each round");
}

#[test]
fn a_rate_spaces_what_begins() {
    let mut d = dispatcher(&[("a", 8)]);
    let rate = Rate { interval: Duration::from_secs(2), burst: 2 };
    d = with(vec![TargetPolicy { rate: Some(rate), ..d.lanes.remove(0).policy }], 1_000);
    d.handle_timeout(Timestamp::from_secs(100));
    assert_eq!(demand(&actions(&mut d)), [wanted("a", 2)]);
    d.handle_claimed(vec![job(1, "a"), job(2, "a"), job(3, "a")], Timestamp::from_secs(100));
    let got = actions(&mut d);
    assert_eq!(settlements(&got), [(3, Settlement::Released)]);
    assert_eq!(demand(&got), []);
    assert_eq!(d.poll_timeout(), Some(Timestamp::from_secs(102)));
    d.handle_timeout(Timestamp::from_secs(102));
    assert_eq!(demand(&actions(&mut d)), [wanted("a", 1)]);
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
    assert_eq!(demand(&got), [wanted("b", 3)], "b has its part, and half of what is left");
}

#[test]
fn an_operator_pauses_and_resumes_and_the_next_run_knows() {
    let mut d = dispatcher(&[("a", 4)]);
    assert!(d.handle_pause(&name("a"), Timestamp::from_secs(3)));
    let got = actions(&mut d);
    assert_eq!(notices(&got), [Notice::Paused(PauseReason::Operator)]);
    let pause = Pause { reason: PauseReason::Operator, since: Timestamp::from_secs(3) };
    let kept = Remembered { paused: Some(pause), open_since: None };
    assert!(got.contains(&Action::Remember(name("a"), kept)));
    assert_eq!(demand(&got), []);
    assert!(d.handle_pause(&name("a"), Timestamp::from_secs(4)) && actions(&mut d).is_empty());
    assert_eq!(d.view()[0].paused, Some(pause));
    let mut next = dispatcher(&[("a", 4)]);
    next.restore(&name("a"), kept);
    assert_eq!(demand(&actions(&mut next)), []);
    assert!(next.handle_resume(&name("a")));
    let got = actions(&mut next);
    assert!(got.contains(&Action::Remember(name("a"), Remembered::default())));
    assert_eq!(demand(&got), [wanted("a", 4)]);
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
    let open = Remembered { paused: None, open_since: Some(Timestamp::from_secs(7)) };
    assert!(actions(&mut d).contains(&Action::Remember(name("a"), open)));
    let mut next = with(vec![policy], 1_000);
    next.restore(&name("a"), open);
    assert_eq!(demand(&actions(&mut next)), [wanted("a", 1)]);
    next.handle_claimed(vec![job(2, "a")], Timestamp::EPOCH);
    assert_eq!(next.view()[0].breaker, Some(crate::rules::breaker::View::Probing));
    next.handle_finished(2, answered(200, None), moment(9));
    let got = actions(&mut next);
    assert_eq!(notices(&got), [Notice::BreakerClosed]);
    assert!(got.contains(&Action::Remember(name("a"), Remembered::default())));
}
