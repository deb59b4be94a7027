//! A long calculation lets whoever waits for a processor go first.
//!
//! The kernel takes the processor from a thread that only calculates at its own tick, every 4 ms at the usual 250 Hz. On
//! few cores the writer, or a worker with an acknowledgement, waits for that. What calculates for longer behind their back
//! offers its processor far more often. A look-up holds nothing meanwhile, sealing only its own generation, which is not
//! written any more: no commit waits for who was passed by.

use std::cell::Cell;
use std::time::Duration;

use crate::time::Stopwatch;

/// For how long a calculation goes on by itself.
const AT_ONCE: Duration = Duration::from_micros(200);
/// Short steps between two looks at the clock.
const STEPS: u32 = 64;

/// One calculation in many small steps.
#[derive(Debug)]
pub(super) struct Yielding {
    steps: Cell<u32>,
    since: Cell<Stopwatch>,
}

impl Yielding {
    pub(super) fn start() -> Self {
        Self { steps: Cell::new(0), since: Cell::new(Stopwatch::start()) }
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
            std::thread::yield_now();
            self.since.set(Stopwatch::start());
        }
    }
}
