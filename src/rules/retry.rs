//! What an answer means, and when to try again.
//!
//! Delays are a list, whichever way they are configured: exponential growth is calculated once, when the
//! configuration is loaded, by the `backoff` crate, and looked up afterwards.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use rand::{Rng, RngExt as _};

use super::breaker::Health;
use crate::model::{Answer, DeadReason};
use crate::time::Timestamp;

/// A `Retry-After` beyond this is cut: a receiver's mistake must not park a delivery for months.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A target's retry policy, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The delay after each failed attempt in turn; when it is used up, the delivery is dead.
    pub delays: Arc<[Duration]>,
    /// How each delay is spread.
    pub jitter: Jitter,
    /// A delivery that fails at this age is given up.
    pub expire: Duration,
    /// Answers with these status codes mean that no further attempt can help.
    pub give_up: Arc<[u16]>,
}

/// How a delay is spread, so that deliveries that failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Moved by a random part of up to this fraction in either direction; 0 to 1.
    Proportional(f64),
    /// Anything from nothing to the whole delay: the widest spread.
    Full,
}

impl Jitter {
    fn spread(self, delay: Duration, rng: &mut impl Rng) -> Duration {
        let factor = match self {
            Self::Proportional(fraction) => 1.0 + fraction * rng.random_range(-1.0..=1.0),
            Self::Full => rng.random_range(0.0..=1.0),
        };
        Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(delay)
    }
}

/// Delays growing by a constant factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponential {
    /// After the first failure.
    pub initial: Duration,
    /// Each delay is the one before times this; at least 1.
    pub factor: f64,
    /// No delay is longer.
    pub max: Duration,
    /// Attempts in all; at least 1.
    pub attempts: u32,
}

impl Exponential {
    /// The delay after each attempt but the last.
    pub fn delays(self) -> Arc<[Duration]> {
        let mut backoff = ExponentialBackoff {
            current_interval: self.initial,
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: self.factor,
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let gaps = self.attempts.saturating_sub(1);
        (0..gaps).map(|_| backoff.next_backoff().unwrap_or(self.max).min(self.max)).collect()
    }
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The target has it.
    Delivered,
    /// Try again at this moment.
    Retry(Timestamp),
    /// Give up.
    Dead(DeadReason),
    /// Our own stop cut the attempt off: it does not count.
    Released,
}

/// The moments a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The steady clock, in which due times are kept.
    pub now: Timestamp,
    /// The system clock, with which a `Retry-After` date is compared.
    pub wall: Timestamp,
}

/// Judges the answer to attempt `number` (from 1) of a delivery. `born` is when its event was received, if its age counts:
/// what an operator wants delivered however old it is ends with its attempts.
pub fn judge(
    policy: &RetryPolicy,
    answer: &Answer,
    number: u32,
    born: Option<Timestamp>,
    moment: Moment,
    rng: &mut impl Rng,
) -> Verdict {
    match answer {
        Answer::Interrupted => return Verdict::Released,
        Answer::Status { status: 200..=299, .. } => return Verdict::Delivered,
        Answer::Status { status: 410, .. } => return Verdict::Dead(DeadReason::Gone),
        Answer::Status { status, .. } if policy.give_up.contains(status) => {
            return Verdict::Dead(DeadReason::Refused);
        }
        Answer::Status { .. } | Answer::Failed(_) => {}
    }
    let Some(delay) = next_delay(policy, number, rng) else {
        return Verdict::Dead(DeadReason::Attempts);
    };
    let at = moment.now.plus(delay).max(quiet_until(answer, moment).unwrap_or(moment.now));
    if born.is_some_and(|born| at > born.plus(policy.expire)) {
        return Verdict::Dead(DeadReason::Expired);
    }
    Verdict::Retry(at)
}

/// Whether the answer says that the target as a whole has too much to do.
pub fn is_overload(answer: &Answer) -> bool {
    matches!(answer, Answer::Status { status: 429 | 502..=504, .. })
}

/// What the answer says about the target, for its breaker. A refusal of one delivery's content comes from a target
/// that works; a refusal of everything, such as 401 or 404, does not, and its deliveries are better parked.
pub fn health(policy: &RetryPolicy, answer: &Answer) -> Health {
    match answer {
        Answer::Status { status: 429, .. } | Answer::Interrupted => Health::Unknown,
        Answer::Status { status: 200..=299 | 400 | 409..=411 | 413..=417 | 422 | 431, .. } => {
            Health::Good
        }
        Answer::Status { status, .. } if policy.give_up.contains(status) => Health::Good,
        Answer::Status { .. } | Answer::Failed(_) => Health::Bad,
    }
}

/// Until when the answer asks for quiet. It is meant for the whole target, whatever becomes of this delivery.
pub fn quiet_until(answer: &Answer, moment: Moment) -> Option<Timestamp> {
    // The target's client passes a wish on only where it has a meaning: with 2xx and 403 for some kinds of target.
    let Answer::Status { status: 200..=299 | 403 | 429 | 502..=504, retry_after: Some(text) } =
        answer
    else {
        return None;
    };
    Some(moment.now.plus(retry_after(text, moment.wall)?))
}

/// The delay after failed attempt `number`, jitter included; `None` when there is no further attempt.
fn next_delay(policy: &RetryPolicy, number: u32, rng: &mut impl Rng) -> Option<Duration> {
    let index = usize::try_from(number.saturating_sub(1)).ok()?;
    Some(policy.jitter.spread(*policy.delays.get(index)?, rng))
}

/// Reads a `Retry-After` value (RFC 9110, section 10.2.3): seconds, a fraction of seconds as some
/// providers send (rounded up), or a date; cut at [`MAX_RETRY_AFTER`]. Anything else is ignored.
pub fn retry_after(text: &str, wall: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let seconds: f64 = text.parse().ok()?;
        let wait = Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(MAX_RETRY_AFTER);
        return Some(wait.min(MAX_RETRY_AFTER));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::EPOCH.plus(date).since(wall).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests;
