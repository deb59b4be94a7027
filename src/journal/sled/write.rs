//! Writing a commit, and what is done while the disk has no room for it.

use std::sync::Arc;
use std::time::Duration;

use super::committer::{Committer, Failure, Outcome, answered};
use super::dir;
use super::shared::Shared;
use super::store::{Commit, StoreError, WriteError};
use crate::journal::{AppendError, Health, OperateError};
use crate::time::Timestamp;

/// Pause between two tries to open a store again whose last write failed.
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);

impl Committer {
    /// Writes the commit and, as soon as it is durable, answers everyone who waits for it. When the disk has no room for it,
    /// they are told, and it is written as soon as there is room: what it holds is delivered then, and a repeat of it is a
    /// duplicate.
    pub(super) fn write(
        &mut self,
        commit: &Commit,
        outcome: &mut Outcome,
        begun: Timestamp,
    ) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let mut store = self.generations.current().ok_or(StoreError::Closed)?.store();
        loop {
            let written = store.map(|store| {
                let timed = |sync: &mut dyn FnMut() -> std::io::Result<()>| timed(&shared, sync);
                store.write(commit, timed, || self.durable(commit, outcome, begun))
            });
            match written {
                Ok(Ok(())) => return Ok(()),
                // What was being synced may be lost; the store takes it up anew from what can be written again.
                Ok(Err(WriteError::Sync(error))) if self.has_turned_read_only(&error) => {
                    self.wait_for_room(error.into(), outcome)?;
                }
                Ok(Err(WriteError::Sync(error))) => return Err(Failure::Sync(error)),
                Ok(Err(WriteError::Write(error))) | Err(error) => {
                    self.wait_for_room(error, outcome)?;
                }
            }
            let opened = self.generations.reopen();
            let opened = opened.and_then(|store| Ok((store.has(commit.number())?, store)));
            // The part of it that reached the disk before the write failed may be all of it.
            if let Ok((true, _)) = &opened {
                self.durable(commit, outcome, begun);
                return Ok(());
            }
            store = opened.map(|(_, store)| store);
        }
    }

    /// The commit is on stable storage, whether the engine has taken it up or not. Once is enough.
    fn durable(&mut self, commit: &Commit, outcome: &mut Outcome, begun: Timestamp) {
        if self.last_commit == commit.number() {
            return;
        }
        let metrics = &self.shared.metrics;
        metrics.commit_duration.observe(self.shared.clock.now().since(begun).as_secs_f64());
        let events = u32::try_from(outcome.fresh.len()).unwrap_or(u32::MAX);
        metrics.batch_events.observe(f64::from(events));
        let outcome = std::mem::take(outcome);
        self.note(commit, &outcome.written);
        self.publish(outcome, commit);
    }

    /// Whether that is what an error is about.
    fn has_turned_read_only(&self, error: &std::io::Error) -> bool {
        let may_be = [rustix::io::Errno::IO, rustix::io::Errno::ROFS];
        let code = error.raw_os_error();
        may_be.iter().any(|it| Some(it.raw_os_error()) == code)
            && dir::has_turned_read_only(&self.shared.limits().path)
    }

    /// A write failed. If it was for want of room, gives up the ballast and waits a moment.
    fn wait_for_room(&mut self, error: StoreError, outcome: &mut Outcome) -> Result<(), Failure> {
        let detail = match (error.no_room(), &error) {
            (Some(detail), _) => detail,
            // It may say so with an error of another kind.
            (None, StoreError::Sync(cause) | StoreError::Sled(sled::Error::Io(cause)))
                if self.has_turned_read_only(cause) =>
            {
                format!("the journal's disk has turned read-only: {error}")
            }
            (None, _) => return Err(Failure::Store(error)),
        };
        self.shared.metrics.errors.with_label_values(&["commit"]).inc();
        self.shared.set_health(Health::Full { detail });
        for (answer, _) in outcome.answers.drain(..) {
            answered(answer, Err(AppendError::Full));
        }
        for (answer, _) in outcome.kept.drain(..) {
            if answer.send(Err(AppendError::Full)).is_err() {
                tracing::trace!("a change of the quarantine waits for room");
            }
        }
        for (answer, _) in outcome.decisions.answers.drain(..) {
            drop(answer.send(Err(OperateError::Refused(AppendError::Full))));
        }
        match self.ballast.release() {
            Ok(released) => self.starved |= released,
            Err(error) => tracing::debug!(%error, "the ballast could not be released"),
        }
        self.shared.commit_begins();
        if self.shared.pause(REOPEN_INTERVAL) { Ok(()) } else { Err(Failure::Stopped) }
    }
}

fn timed(shared: &Shared, sync: &mut dyn FnMut() -> std::io::Result<()>) -> std::io::Result<()> {
    let before = shared.clock.now();
    let synced = sync();
    let took = shared.clock.now().since(before);
    shared.metrics.fsync_duration.observe(took.as_secs_f64());
    synced
}
