//! The storage engine's threads wake each second to see whether there is anything to do. Where a processor sleeps, each
//! of them wakes it alone; they need not be punctual, so they wait until something else wakes it, too.

use std::num::NonZeroU64;

use rustix::thread::set_current_timer_slack;

/// How late they may be, in nanoseconds: `PR_SET_TIMERSLACK` of prctl(2). Only a wait that is over by its time is longer;
/// whoever is told that there is something to do wakes at once.
const LATE: NonZeroU64 = NonZeroU64::new(60_000_000_000).unwrap();

/// Threads that this one begins inherit how late they may be.
pub(super) struct Unhurried;

impl Unhurried {
    /// Until it is dropped.
    pub(super) fn begin() -> Self {
        if let Err(error) = set_current_timer_slack(Some(LATE)) {
            tracing::debug!(%error, "the storage engine's threads are punctual");
        }
        Self
    }
}

impl Drop for Unhurried {
    fn drop(&mut self) {
        // What this thread itself was begun with.
        if let Err(error) = set_current_timer_slack(None) {
            tracing::warn!(%error, "this thread's timers stay late");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_that_are_begun_meanwhile_may_be_late() {
        let slack = || {
            let thread = rustix::thread::gettid();
            let path = format!("/proc/{}/timerslack_ns", thread.as_raw_nonzero());
            std::fs::read_to_string(path).unwrap().trim().parse::<u64>().unwrap()
        };
        let (before, late) = (slack(), LATE.get());
        let unhurried = Unhurried::begin();
        let thread = std::thread::spawn(slack);
        assert_eq!((slack(), thread.join().unwrap()), (late, late));
        drop(unhurried);
        let thread = std::thread::spawn(slack);
        assert_eq!((slack(), thread.join().unwrap()), (before, before));
    }
}
