//! Threads that look things up for operators, and give way to those that acknowledge and deliver.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Look-ups at once, and how many more may wait.
const THREADS: usize = 2;
const MAX_WAITING: usize = 256;
/// How much less of a busy processor such a thread gets than one that acknowledges: a ninth (see setpriority(2)).
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is dropped and what waits is done.
#[derive(Debug)]
pub(super) struct Readers {
    jobs: SyncSender<Job>,
}

impl Readers {
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, receiver) = sync_channel::<Job>(MAX_WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..THREADS {
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new().name("journal-reader".into());
            thread.spawn(move || work(&receiver))?;
        }
        Ok(Self { jobs })
    }

    /// Does this on one of the threads. The error is a sentence.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, &'static str> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            if answer.send(look()).is_err() {
                tracing::trace!("nobody waits for what was looked up");
            }
        });
        self.jobs.try_send(job).map_err(|_full| "too much is being looked up at once")?;
        answered.await.map_err(|_panicked| "looking it up failed")
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    give_way();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a look-up panicked");
        }
    }
}

/// Lowers the priority of the calling thread, which on Linux has one of its own.
pub(super) fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_up_is_answered_also_after_others_panicked() {
        let readers = Readers::start().unwrap();
        for _ in 0..THREADS * 2 {
            let failed = readers.run(|| panic!("a look-up of this test")).await;
            assert_eq!(failed, Err::<(), _>("looking it up failed"));
        }
        assert_eq!(readers.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn what_waits_is_bounded() {
        let readers = Readers::start().unwrap();
        let (begun, begins) = sync_channel(THREADS);
        let (go, waits) = sync_channel::<()>(0);
        let waits = Arc::new(Mutex::new(waits));
        let busy = || {
            let (begun, waits) = (begun.clone(), Arc::clone(&waits));
            Box::new(move || {
                begun.send(()).unwrap();
                let _ended = waits.lock().unwrap_or_else(PoisonError::into_inner).recv();
            })
        };
        for _ in 0..THREADS {
            readers.jobs.send(busy()).unwrap();
            begins.recv().unwrap();
        }
        for _ in 0..MAX_WAITING {
            readers.jobs.try_send(Box::new(|| ())).unwrap();
        }
        assert_eq!(readers.run(|| ()).await, Err("too much is being looked up at once"));
        drop(go);
    }

    #[test]
    fn a_reader_has_a_lower_priority_and_its_maker_keeps_his_own() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let lowered = std::thread::spawn(move || {
            give_way();
            priority()
        });
        assert_eq!(lowered.join().unwrap(), before.max(NICENESS));
        assert_eq!(priority(), before);
    }
}
