//! Properties and tables of the retry rule.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::model::ErrorClass;

const SECOND: Duration = Duration::from_secs(1);

fn policy(delays: &[u64]) -> RetryPolicy {
    let delays = delays.iter().map(|s| Duration::from_secs(*s)).collect();
    let (jitter, expire) = (Jitter::Proportional(0.0), Duration::from_secs(1_000));
    RetryPolicy { delays, jitter, expire, give_up: [400, 422].into() }
}

fn at(seconds: i64) -> Moment {
    Moment { now: Timestamp::from_secs(seconds), wall: Timestamp::from_secs(seconds) }
}

fn status(status: u16, retry_after: Option<&str>) -> Answer {
    Answer::Status { status, retry_after: retry_after.map(str::to_owned) }
}

fn judged(policy: &RetryPolicy, answer: &Answer, number: u32, moment: Moment) -> Verdict {
    judge(policy, answer, number, Some(Timestamp::EPOCH), moment, &mut StdRng::seed_from_u64(1))
}

fn retry(at: i64) -> Verdict {
    Verdict::Retry(Timestamp::from_secs(at))
}

#[test]
fn the_meaning_of_each_answer() {
    let policy = policy(&[5, 30]);
    for good in [200, 201, 204, 299] {
        assert_eq!(judged(&policy, &status(good, None), 1, at(10)), Verdict::Delivered);
    }
    for bad in [101, 199, 300, 301, 302, 307, 401, 403, 404, 413, 421, 429, 500, 502, 503, 599] {
        assert_eq!(judged(&policy, &status(bad, None), 1, at(10)), retry(15), "{bad}");
    }
    for refused in [400, 422] {
        let got = judged(&policy, &status(refused, Some("5")), 1, at(10));
        assert_eq!(got, Verdict::Dead(DeadReason::Refused), "{refused}");
    }
    let gone = judged(&policy, &status(410, None), 1, at(10));
    assert_eq!(gone, Verdict::Dead(DeadReason::Gone));
    assert_eq!(judged(&policy, &Answer::Failed(ErrorClass::Dns), 2, at(10)), retry(40));
    assert_eq!(judged(&policy, &Answer::Interrupted, 9, at(10)), Verdict::Released);
}

#[test]
fn a_breaker_counts_what_says_that_the_target_is_down() {
    let policy = policy(&[5]);
    for good in [200, 204, 400, 409, 410, 413, 415, 422, 431] {
        assert_eq!(health(&policy, &status(good, None)), Health::Good, "{good}");
    }
    for bad in [301, 401, 403, 404, 405, 408, 500, 502, 503] {
        assert_eq!(health(&policy, &status(bad, None)), Health::Bad, "{bad}");
    }
    let given_up = RetryPolicy { give_up: [404].into(), ..policy.clone() };
    assert_eq!(health(&given_up, &status(404, None)), Health::Good);
    assert_eq!(health(&policy, &Answer::Failed(ErrorClass::Reset)), Health::Bad);
    for unknown in [status(429, None), Answer::Interrupted] {
        assert_eq!(health(&policy, &unknown), Health::Unknown);
    }
}

#[test]
fn a_schedule_that_is_used_up_ends_in_a_dead_letter() {
    let answer = Answer::Failed(ErrorClass::Connect);
    assert_eq!(judged(&policy(&[5, 30]), &answer, 3, at(40)), Verdict::Dead(DeadReason::Attempts));
    assert_eq!(judged(&policy(&[]), &answer, 1, at(0)), Verdict::Dead(DeadReason::Attempts));
}

#[test]
fn a_retry_that_would_come_after_the_expiry_ends_in_a_dead_letter() {
    let answer = status(500, None);
    assert_eq!(judged(&policy(&[5]), &answer, 1, at(995)), retry(1_000));
    assert_eq!(judged(&policy(&[5]), &answer, 1, at(996)), Verdict::Dead(DeadReason::Expired));
}

#[test]
fn retry_after_delays_the_delivery_and_holds_the_target() {
    let policy = policy(&[5]);
    for code in [429, 502, 503, 504] {
        let answer = status(code, Some("120"));
        assert_eq!(judged(&policy, &answer, 1, at(10)), retry(130));
        assert_eq!(quiet_until(&answer, at(10)), Some(Timestamp::from_secs(130)));
    }
    // A shorter wish does not shorten the policy's own delay.
    assert_eq!(judged(&policy, &status(503, Some("1")), 1, at(10)), retry(15));
    // Where the standard gives it no meaning, it has none.
    assert_eq!(judged(&policy, &status(500, Some("120")), 1, at(10)), retry(15));
    assert_eq!(quiet_until(&status(500, Some("120")), at(10)), None);
}

#[test]
fn retry_after_reads_seconds_fractions_and_dates() {
    let wall = Timestamp::from_secs(1_445_412_480 - 60); // 2015-10-21T07:27:00Z
    let read = |text| retry_after(text, wall);
    assert_eq!(read("120"), Some(120 * SECOND));
    assert_eq!(read(" 7 "), Some(7 * SECOND));
    assert_eq!(read("64.57"), Some(65 * SECOND));
    assert_eq!(read("0"), Some(Duration::ZERO));
    assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60 * SECOND));
    assert_eq!(read("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
    for cut in ["99999999999", "999999999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        assert_eq!(read(cut), Some(MAX_RETRY_AFTER), "{cut}");
    }
    for garbage in ["", "-5", "soon", "NaN", "inf", "1e9", "5s", "1.2.3", "0x10", "+5", "."] {
        assert_eq!(read(garbage), None, "{garbage}");
    }
}

#[test]
fn exponential_delays_grow_to_their_cap_and_stop() {
    let exponential = Exponential { initial: SECOND, factor: 2.0, max: 10 * SECOND, attempts: 7 };
    let seconds: Vec<_> = exponential.delays().iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
    assert!(Exponential { attempts: 1, ..exponential }.delays().is_empty());
}

proptest! {
    #[test]
    fn jitter_stays_within_its_fraction(seed: u64, jitter in 0.0..=1.0f64, delay in 1u64..100_000) {
        let policy = RetryPolicy { jitter: Jitter::Proportional(jitter), ..policy(&[delay]) };
        let got = next_delay(&policy, 1, &mut StdRng::seed_from_u64(seed)).unwrap().as_secs_f64();
        let middle = Duration::from_secs(delay).as_secs_f64();
        prop_assert!(got >= middle * (1.0 - jitter) - 1e-6 && got <= middle * (1.0 + jitter) + 1e-6);
    }

    #[test]
    fn full_jitter_uses_the_whole_delay_and_no_more(seed: u64, delay in 1u64..100_000) {
        let policy = RetryPolicy { jitter: Jitter::Full, ..policy(&[delay]) };
        let mut rng = StdRng::seed_from_u64(seed);
        let got: Vec<_> = (0..200).map(|_| next_delay(&policy, 1, &mut rng).unwrap()).collect();
        let whole = Duration::from_secs(delay);
        prop_assert!(got.iter().all(|d| *d <= whole));
        // 200 draws miss a tenth of the range at either end once in a thousand million runs.
        prop_assert!(got.iter().any(|d| *d < whole / 10) && got.iter().any(|d| *d > whole * 9 / 10));
    }

    #[test]
    fn no_text_in_retry_after_panics_or_passes_the_cap(text in "\\PC*") {
        prop_assert!(retry_after(&text, Timestamp::EPOCH).is_none_or(|wait| wait <= MAX_RETRY_AFTER));
    }

    #[test]
    fn every_failure_ends(seed: u64, gaps in proptest::collection::vec(1u64..500, 0..20)) {
        let policy = RetryPolicy { jitter: Jitter::Full, ..policy(&gaps) };
        let mut rng = StdRng::seed_from_u64(seed);
        let mut moment = at(0);
        for number in 1..=21 {
            match judge(&policy, &status(500, None), number, Some(Timestamp::EPOCH), moment, &mut rng) {
                Verdict::Retry(at) => {
                    prop_assert!(at >= moment.now);
                    moment = Moment { now: at, wall: at };
                }
                Verdict::Dead(_) => return Ok(()),
                Verdict::Delivered | Verdict::Released => prop_assert!(false),
            }
        }
        prop_assert!(false, "still retrying after the schedule");
    }
}

#[test]
fn what_an_operator_wants_ends_with_its_attempts_however_old_its_event_is() {
    let policy = policy(&[5, 5]);
    let judged = |born, number| {
        let mut rng = StdRng::seed_from_u64(1);
        judge(&policy, &status(500, None), number, born, at(5_000), &mut rng)
    };
    assert_eq!(judged(Some(Timestamp::EPOCH), 1), Verdict::Dead(DeadReason::Expired));
    assert_eq!(judged(None, 1), retry(5_005));
    assert_eq!(judged(None, 3), Verdict::Dead(DeadReason::Attempts));
}
