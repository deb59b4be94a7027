//! A long calculation lets whoever waits for a processor go first.
//!
//! The kernel takes the processor from a thread that only calculates at its own tick, every 4 ms at the usual 250 Hz. On
//! few cores the writer, or a worker with an acknowledgement, waits for that. What calculates for longer behind their back
//! offers its processor far more often; nothing is held meanwhile, so nobody waits for who was passed by.

use std::time::Duration;

use crate::time::Stopwatch;

/// For how long a calculation goes on by itself.
const AT_ONCE: Duration = Duration::from_micros(200);
/// Steps between two looks at the clock.
const STEPS: u32 = 16;

/// One calculation in many small steps.
#[derive(Debug)]
pub(super) struct Yielding {
    steps: u32,
    since: Stopwatch,
}

impl Yielding {
    pub(super) fn start() -> Self {
        Self { steps: 0, since: Stopwatch::start() }
    }

    /// A step of some microseconds is done.
    pub(super) fn step(&mut self) {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS) && self.since.elapsed() >= AT_ONCE {
            self.offer();
        }
    }

    /// Offers the processor now.
    pub(super) fn offer(&mut self) {
        std::thread::yield_now();
        self.since = Stopwatch::start();
    }
}
