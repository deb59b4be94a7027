//! The storage engine's threads wake each second to see whether there is anything to do. Where a processor sleeps, each
//! of them wakes it alone; they need not be punctual, so they wait until something else wakes it, too.

use std::num::NonZeroU64;

use rustix::thread::{current_timer_slack, set_current_timer_slack};

/// How late they may be, in nanoseconds: `PR_SET_TIMERSLACK` of prctl(2). Only a wait that is over by its time is longer;
/// whoever is told that there is something to do wakes at once.
const LATE: NonZeroU64 = NonZeroU64::new(2_000_000_000).unwrap();

/// Threads that this one begins inherit how late they may be.
pub(super) struct Unhurried(Option<NonZeroU64>);

impl Unhurried {
    /// Until it is dropped.
    pub(super) fn begin() -> Self {
        let before = current_timer_slack().ok().and_then(NonZeroU64::new);
        let set = before.map(|_| set_current_timer_slack(Some(LATE)));
        if let Some(Err(error)) = set {
            tracing::debug!(%error, "the storage engine's threads are punctual");
        }
        Self(before)
    }
}

impl Drop for Unhurried {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.map(|before| set_current_timer_slack(Some(before))) {
            tracing::warn!(%error, "this thread's timers stay late");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_that_are_begun_meanwhile_may_be_late() {
        let slack = || current_timer_slack().unwrap();
        let (before, late) = (slack(), LATE.get());
        let unhurried = Unhurried::begin();
        let thread = std::thread::spawn(slack);
        assert_eq!((slack(), thread.join().unwrap()), (late, late));
        drop(unhurried);
        let thread = std::thread::spawn(slack);
        assert_eq!((slack(), thread.join().unwrap()), (before, before));
    }
}
