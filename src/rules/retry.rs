//! What an answer means, and when to try again.

use std::time::Duration;

/// A target's retry policy, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How the delay after each failed attempt is found.
    pub delays: Delays,
    /// Each delay is moved by a random part of up to this fraction in either direction; 0 to 1.
    pub jitter: f64,
    /// A delivery older than this is given up.
    pub expire: Duration,
}

/// Delays between attempts.
#[derive(Clone, Debug, PartialEq)]
pub enum Delays {
    /// The delay after each failed attempt in turn; when the list is used up, the delivery is dead.
    Schedule(Vec<Duration>),
    /// Growing delays.
    Exponential {
        /// After the first failure.
        initial: Duration,
        /// Each delay is the one before times this.
        factor: f64,
        /// No delay is longer.
        max: Duration,
        /// Attempts in all; at least 1.
        attempts: u32,
    },
}
