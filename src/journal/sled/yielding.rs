//! A long calculation lets whoever waits for a processor go first.
//!
//! The kernel takes the processor from a thread that only calculates at its own tick, every 4 ms at the usual 250 Hz. On
//! few cores the writer, or a worker with an acknowledgement, waits for that. What calculates for longer behind their back
//! offers its processor far more often. A look-up holds nothing meanwhile, sealing only its own generation, which is not
//! written any more: no commit waits for who was passed by.
//!
//! Offering is not enough for what takes a processor for a tenth of a second: everybody else has one less meanwhile. Sealing
//! has time, so it rests in between, until somebody waits for what it holds.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::dir;
use crate::time::Stopwatch;

/// For how long a calculation goes on by itself.
const AT_ONCE: Duration = Duration::from_micros(200);
/// Short steps between two looks at the clock.
const STEPS: u32 = 64;
/// About how many bytes of a store's files are looked through in that time. Where it is fewer, there are more rests.
const BYTES_AT_ONCE: u64 = 128 * 1024;
/// The longest that a calculation is given.
const LONGEST: Duration = Duration::from_secs(2);

/// One calculation in many small steps.
#[derive(Debug)]
pub(super) struct Yielding {
    steps: Cell<u32>,
    since: Cell<Stopwatch>,
    rests: Option<Rests>,
}

/// The rests of a calculation that has time.
#[derive(Debug)]
struct Rests {
    each: Duration,
    queue: Arc<Queue>,
    /// What is to be done after it.
    more: Arc<AtomicUsize>,
}

/// Whoever waits for what a calculation holds.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<usize>,
    changed: Condvar,
}

/// A place in a queue; left when dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Queue);

impl Yielding {
    /// Offers its processor.
    pub(super) fn start() -> Self {
        Self { steps: Cell::new(0), since: Cell::new(Stopwatch::start()), rests: None }
    }

    /// Looks through what is in a folder within about this time, but not longer than it must once somebody waits for it,
    /// or while there is `more` to do.
    pub(super) fn within(
        time: Duration,
        folder: &Path,
        (queue, more): (&Arc<Queue>, &Arc<AtomicUsize>),
    ) -> Self {
        let each = rest(time, dir::occupied(folder).unwrap_or(0));
        let rests = Rests { each, queue: Arc::clone(queue), more: Arc::clone(more) };
        Self { rests: Some(rests), ..Self::start() }
    }

    /// A step of at most some microseconds is done.
    pub(super) fn step(&self) {
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(STEPS) {
            self.look();
        }
    }

    /// A longer step is done.
    pub(super) fn look(&self) {
        if self.since.get().elapsed() >= AT_ONCE {
            match &self.rests {
                Some(Rests { each, queue, more }) if more.load(Ordering::Relaxed) == 0 => {
                    queue.rest(*each);
                }
                Some(_) | None => {}
            }
            std::thread::yield_now();
            self.since.set(Stopwatch::start());
        }
    }
}

/// How long each rest is when so many bytes are looked through within this time.
fn rest(time: Duration, bytes: u64) -> Duration {
    let pieces = u32::try_from(bytes.div_ceil(BYTES_AT_ONCE)).unwrap_or(u32::MAX).max(1);
    (time.min(LONGEST) / pieces).min(Duration::from_millis(10))
}

impl Queue {
    /// Waits, too.
    pub(super) fn join(&self) -> Waiting<'_> {
        let mut waiting = self.waiting();
        *waiting = waiting.saturating_add(1);
        drop(waiting);
        self.changed.notify_all();
        Waiting(self)
    }

    /// Rests, but only while nobody waits.
    fn rest(&self, rest: Duration) {
        let waited = self.changed.wait_timeout_while(self.waiting(), rest, |it| *it == 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        *waiting = waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_rests_of_a_file_are_as_long_as_there_is_time_and_no_longer() {
        let millis = Duration::from_millis;
        assert_eq!(rest(millis(800), 100 * MIB), millis(1));
        assert_eq!(rest(Duration::from_secs(3_600), 100 * MIB), Duration::from_micros(2_500));
        assert_eq!(rest(Duration::from_secs(3_600), 0), millis(10));
        assert_eq!(rest(Duration::ZERO, 100 * MIB), Duration::ZERO);
        assert_eq!(rest(Duration::MAX, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn a_calculation_does_not_rest_while_there_is_more_to_do() {
        let (queue, more) = (Arc::default(), Arc::new(AtomicUsize::new(1)));
        let folder = tempfile::tempdir().unwrap();
        let mut turn = Yielding::within(LONGEST, folder.path(), (&queue, &more));
        turn.rests.as_mut().unwrap().each = Duration::from_secs(3_600);
        let begun = Stopwatch::start();
        while begun.elapsed() < 10 * AT_ONCE {
            turn.look();
        }
    }

    #[test]
    fn nobody_rests_while_somebody_waits() {
        let queue = Queue::default();
        let waiting = queue.join();
        queue.rest(Duration::from_secs(3_600));
        drop(waiting);
        std::thread::scope(|scope| {
            let rests = scope.spawn(|| queue.rest(Duration::from_secs(3_600)));
            let waits = queue.join();
            assert!(rests.join().is_ok(), "it does not rest on");
            drop(waits);
        });
        assert_eq!(*queue.waiting(), 0);
    }
}
