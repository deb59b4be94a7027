//! Has sled keep what the intake log acknowledged, behind the writer's back.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sled::Db;

use super::intake::{Intake, Value};
use super::store::{StoreError, WriteError};

/// What stands in the log for so long is kept by sled, even if the log is not full; and so long after the last commit
/// the log gives its room back.
const REST: Duration = Duration::from_secs(1);

/// The intake log and the thread that relieves it.
pub(super) struct Absorber {
    log: Arc<Log>,
    thread: Option<JoinHandle<()>>,
}

struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    intake: Intake,
    /// The log has something that sled has not, or has not written; it is so, too, while sled is being given a commit. Whoever
    /// else sees this, with the lock in his hand, knows that this failed: the log alone has what was acknowledged.
    owes: bool,
    ending: Option<Ending>,
    failed: Option<WriteError>,
}

/// How the thread is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// When sled has everything.
    Relieved,
    /// At once, without a last write.
    Abandoned,
}

impl Absorber {
    /// Begins; sled has everything of the log, and `file` is sled's.
    pub(super) fn start(generation: &Path, db: Db, file: File) -> Result<Self, StoreError> {
        let state =
            State { intake: Intake::open(generation)?, owes: false, ending: None, failed: None };
        let log = Arc::new(Log { state: Mutex::new(state), changed: Condvar::new() });
        let worker = Arc::clone(&log);
        let thread = std::thread::Builder::new().name("journal-absorber".into());
        let thread = thread.spawn(move || worker.absorb(&db, &file))?;
        Ok(Self { log, thread: Some(thread) })
    }

    /// Writes a commit to the log and has `timed_sync` sync it; then it is on stable storage, and `take_up` gives it to
    /// sled.
    pub(super) fn write<'a>(
        &self,
        (commit, values): (u64, impl Iterator<Item = Value<'a>>),
        timed_sync: impl FnOnce(&mut dyn FnMut() -> std::io::Result<()>) -> std::io::Result<()>,
        take_up: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), WriteError> {
        let mut state = self.log.state();
        while state.intake.overflows() && state.failed.is_none() {
            state = self.log.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(failed) = state.failed.take() {
            return Err(failed);
        }
        let was_empty = state.intake.is_empty();
        let written = state.intake.write(commit, values);
        written.map_err(|error| WriteError::Write(error.into()))?;
        timed_sync(&mut || state.intake.file().sync_data()).map_err(WriteError::Sync)?;
        // The log may be passed over only when sled has it, so the log stays locked until then.
        state.owes = true;
        take_up().map_err(WriteError::Write)?;
        state.owes = false;
        let wakes = was_empty || state.intake.is_full();
        drop(state);
        if wakes {
            self.log.changed.notify_all();
        }
        Ok(())
    }

    /// Ends without a last write.
    pub(super) fn abandon(&self) {
        self.log.end(Ending::Abandoned);
    }

    /// Ends when sled has everything, or says why it has not.
    pub(super) fn end(&mut self) -> Result<(), WriteError> {
        self.log.end(Ending::Relieved);
        let panicked = self.thread.take().is_some_and(|thread| thread.join().is_err());
        if panicked {
            tracing::error!("the journal's absorber panicked");
        }
        let mut state = self.log.state();
        match state.failed.take() {
            Some(failed) => Err(failed),
            None if state.owes || panicked => Err(WriteError::Write(StoreError::Missing)),
            None => Ok(()),
        }
    }
}

impl Drop for Absorber {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::debug!(?error, "the journal's intake log was not relieved at last");
        }
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, how: Ending) {
        self.state().ending.get_or_insert(how);
        self.changed.notify_all();
    }

    fn absorb(&self, db: &Db, file: &File) {
        loop {
            let mut state = self.wait();
            let ending = state.ending;
            if ending == Some(Ending::Abandoned) {
                return;
            }
            if state.owes {
                state.failed = Some(WriteError::Write(StoreError::Missing));
                return;
            }
            let taken = state.intake.take_over();
            drop(state);
            // A panic inside the engine is a write that failed.
            let kept = catch_unwind(AssertUnwindSafe(|| keep(taken, db, file)));
            let kept = match kept {
                Ok(Ok(length)) => Ok(length),
                Ok(Err(error)) => Err(error),
                Err(_panic) => Err(WriteError::Write(StoreError::Closed)),
            };
            let mut state = self.state();
            let ends = kept.is_err() || ending.is_some();
            match kept {
                Ok(length) => state.intake.relieved(length),
                Err(error) => (state.owes, state.failed) = (true, Some(error)),
            }
            if ending.is_some() && state.failed.is_none() {
                cut(&mut state);
            }
            drop(state);
            self.changed.notify_all();
            if ends {
                return;
            }
        }
    }

    /// Waits until the file that is written is full, or has waited long enough, or all is over.
    fn wait(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.ending.is_none() && !state.intake.is_full() {
            let is_empty = state.intake.is_empty();
            if is_empty && !state.intake.has_length() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.changed.wait_timeout(state, REST);
            let (guard, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if !waited.timed_out() {
                continue;
            }
            if !is_empty {
                break;
            }
            if state.intake.is_empty() {
                cut(&mut state);
            }
        }
        state
    }
}

/// Has sled write what it has, and syncs its file: how long that is then.
fn keep(taken: std::io::Result<bool>, db: &Db, file: &File) -> Result<u64, WriteError> {
    if taken.map_err(|error| WriteError::Write(error.into()))? {
        db.flush().map_err(|error| WriteError::Write(error.into()))?;
        file.sync_data().map_err(WriteError::Sync)?;
    }
    Ok(file.metadata().map_or(0, |it| it.len()))
}

fn cut(state: &mut State) {
    if let Err(error) = state.intake.cut() {
        tracing::debug!(%error, "the journal's intake log was not cut");
    }
}

#[cfg(test)]
mod tests;
