//! What the machine does when nobody asks anything of it but one thing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{Turn, histogram, record};

/// Between two looks at the clock a thread that is left alone needs far less.
const PAUSE: Duration = Duration::from_micros(300);

/// How long threads were kept from going on, one on each core, that only read the clock.
pub struct Pauses {
    /// Of their time, in percent.
    pub share: f64,
    pub longest: Duration,
}

/// What the disk alone takes: a plain write of one small body and an fdatasync, one after the other.
pub fn sync(folder: &Path, length: Duration) -> Turn {
    let mut file = File::create(folder.join("sync")).expect("writable");
    let body = [b'x'; 230];
    let (begun, mut nanos) = (Instant::now(), histogram());
    while begun.elapsed() < length {
        let at = Instant::now();
        file.write_all(&body).and_then(|()| file.sync_data()).expect("synced");
        record(&mut nanos, at.elapsed());
    }
    Turn { requests: nanos.len(), elapsed: begun.elapsed(), nanos }
}

/// What is taken from a busy core: by the kernel, by other processes, by other machines on the same processor.
pub fn pauses(length: Duration) -> Pauses {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads: Vec<_> = (0..cores).map(|_| thread::spawn(move || paused(length))).collect();
    let paused: Vec<_> = threads.into_iter().map(|it| it.join().expect("no panic")).collect();
    let all: Duration = paused.iter().map(|(sum, _)| *sum).sum();
    let time = length.as_secs_f64() * f64::from(u32::try_from(cores).unwrap_or(u32::MAX));
    let longest = paused.into_iter().map(|(_, longest)| longest).max().unwrap_or_default();
    Pauses { share: all.as_secs_f64() / time * 100.0, longest }
}

/// The sum and the longest of one thread's pauses.
fn paused(length: Duration) -> (Duration, Duration) {
    let begun = Instant::now();
    let (mut last, mut sum, mut longest) = (begun, Duration::ZERO, Duration::ZERO);
    while last - begun < length {
        let now = Instant::now();
        let passed = now - last;
        if passed > PAUSE {
            sum += passed;
            longest = longest.max(passed);
        }
        last = now;
    }
    (sum, longest)
}
