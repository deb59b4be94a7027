//! What is done to generations behind the writer's back, by a thread of its own, one job after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::super::dir;
use super::super::files::Files;
use super::super::generation::{Body, Closed, Generation};
use super::super::intake;
use super::super::ledger::Seal;
use super::super::scan::Whole;
use super::super::sealed::{Found, Sealed};
use super::super::store::{Store, StoreError};
use super::super::yielding::Yielding;
use super::{Generations, Job, Walk, lock};

/// For how long it looks through a generation that is to be drained.
const WALK: Duration = Duration::from_millis(500);

impl Generations {
    /// Until the journal is closed.
    pub(super) fn keep_house(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            if self.forgotten.load(Ordering::SeqCst) {
                return;
            }
            let sealing = match &job {
                Job::Seal(generation, _) => Some(Arc::clone(generation)),
                Job::Spare(_) | Job::Walk(_) | Job::Remove(_) | Job::SyncLedger => None,
            };
            let is_spare = matches!(&job, Job::Spare(_));
            let counts = job.counts();
            self.waiting.fetch_sub(counts, Ordering::Relaxed);
            let done = catch_unwind(AssertUnwindSafe(|| match job {
                Job::Seal(generation, took) => self.seal(&generation, took),
                Job::Spare(number) => self.make_spare(number),
                Job::Walk(number) => {
                    self.walk(number);
                    Ok(())
                }
                Job::SyncLedger => Ok(self.sync_ledger()?),
                Job::Remove(generation) => {
                    // Nothing of it is needed.
                    drop(generation.close());
                    Ok(dir::remove_generation(&self.root, generation.number)?)
                }
            }));
            self.done.fetch_add(1, Ordering::Relaxed);
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a generation of the journal was not kept in order");
                }
                Err(_panic) => {
                    self.forget_walk();
                    tracing::error!("the journal's housekeeper panicked");
                    if is_spare {
                        // The engine panics when the last sync of a store that it closes fails.
                        self.fails(
                            "the storage engine panicked while a generation was made".into(),
                        );
                    }
                }
            }
            if let Some(generation) = sealing.filter(|it| it.is_closed()) {
                // A new start can read it.
                self.fails(format!("generation {} was closed and not sealed", generation.number));
            }
        }
    }

    /// Says why the journal must end; what was said first counts.
    fn fails(&self, detail: String) {
        lock(&self.failure).get_or_insert(detail);
    }

    /// Closes a generation for good, and finds every record in its file again.
    pub(super) fn seal(
        &self,
        generation: &Arc<Generation>,
        took: Duration,
    ) -> Result<(), StoreError> {
        if self.numbered(generation.number).is_none() {
            return Ok(());
        }
        let path = dir::generation(&self.root, generation.number);
        if !matches!(&*generation.body(), Body::Written(_)) {
            return Ok(());
        }
        let (mut body, closed) = generation.close();
        let closed = closed.and_then(|closed| {
            if closed != Closed::Busy {
                dir::remove_snapshots(&path)?;
                dir::sync_tree(&path)?;
            }
            Ok(closed)
        });
        let relieved = match closed {
            Ok(Closed::Relieved) => true,
            // A write that failed may have left in memory only what can be read from the file.
            Ok(Closed::Logged) => {
                dir::read_anew(&path)?;
                false
            }
            Ok(Closed::Busy) => {
                drop(body);
                tracing::warn!(generation = generation.number, "a generation is read for long");
                self.submit(Job::Seal(Arc::clone(generation), took));
                return Ok(());
            }
            Err(error) => return self.leave_unsealed(generation.number, &mut body, error),
        };
        let (found, alone) = self.look_through(generation, took, relieved)?;
        if found.ambiguous {
            // sled knows which record counts: it goes on reading this generation.
            *body = Body::Written(Arc::new(Store::open(&path)?));
            tracing::warn!(generation = generation.number, "a generation stays with its engine");
            return Ok(());
        }
        *body = Body::Sealed(Arc::new(found.sealed));
        drop(body);
        if !alone {
            tracing::warn!(
                generation = generation.number,
                "a generation is sealed at the next start"
            );
            return Ok(());
        }
        let Whole { length, checksum, .. } = found.whole;
        self.ledger().sealed(generation.number, Seal { length, checksum })?;
        self.sync_ledger()?;
        Ok(intake::remove(&path)?)
    }

    /// Everything that is in a generation that was closed, and whether its store has it without the log.
    fn look_through(
        &self,
        generation: &Generation,
        took: Duration,
        relieved: bool,
    ) -> Result<(Found, bool), StoreError> {
        let holds = self.ledger().known(generation.number).holds.unwrap_or_default();
        let path = dir::generation(&self.root, generation.number);
        let turn = Yielding::within(took / 2, &path, (generation.queue(), &self.waiting));
        let has_all = |found: &Found| {
            let records = u64::try_from(found.records.len()).unwrap_or(u64::MAX);
            records >= holds.records && found.contents >= holds.contents
        };
        let stored = if relieved {
            Some(Sealed::walk(Files::store(&path)?, Some(holds.commit), &turn)?).filter(has_all)
        } else {
            None
        };
        // Else the store could not take up, or not write, the last commits: the intake log has them.
        let alone = stored.is_some();
        let found = match stored {
            Some(found) => found,
            None => Sealed::open(Files::all(&path)?, Some(holds.commit))?,
        };
        if !has_all(&found) {
            let records = found.records.len();
            // What was committed must be there. The next start looks at it, with a copy put aside.
            let detail = format!(
                "generation {} cannot be read back: it has {records} of {} records and {} of {} contents",
                generation.number, holds.records, found.contents, holds.contents
            );
            self.fails(detail);
            return Err(StoreError::Missing);
        }
        Ok((found, alone))
    }

    /// What was to be synced may stand in memory only. So the intake log stays, and the next start has the store take it
    /// up once more; at once, unless the disk takes nothing at all.
    fn leave_unsealed(
        &self,
        number: u32,
        body: &mut Body,
        error: std::io::Error,
    ) -> Result<(), StoreError> {
        if !dir::has_turned_read_only(&self.root) {
            self.fails(format!("syncing generation {number}: {error}"));
        }
        let files = Files::all(&dir::generation(&self.root, number))?;
        *body = Body::Sealed(Arc::new(Sealed::open(files, None)?.sealed));
        Err(error.into())
    }

    pub(super) fn make_spare(&self, number: u32) -> Result<(), StoreError> {
        {
            let there = lock(&self.spare);
            if there.is_some() || self.numbered(number).is_some() {
                return Ok(());
            }
        }
        let path = dir::generation(&self.root, number);
        if path.exists() {
            if !intake::read(&path)?.entries.is_empty() {
                // Whatever made it so: what was acknowledged is never made room for.
                self.fails(format!("generation {number} is no member and holds commits"));
                return Err(StoreError::Missing);
            }
            // An earlier try that failed may have listed what is removed now.
            self.write_manifest(None)?;
        }
        let path = dir::make_generation(&self.root, number, Store::create)?;
        let store = Store::open(&path)?;
        // Listed before it can be written: what is acknowledged in it is found by the next start.
        Ok(self.write_manifest(Some(Generation::written(number, store)))?)
    }

    fn walk(&self, number: u32) {
        let Some(generation) = self.numbered(number) else { return };
        if !matches!(&*lock(&self.walk), Walk::Asked(asked) if *asked == number) {
            return;
        }
        let path = dir::generation(&self.root, number);
        let known = self.ledger().known(number);
        let turn = Yielding::within(WALK, &path, (generation.queue(), &self.waiting));
        let found = Files::all(&path)
            .and_then(|files| Sealed::walk(files, known.last_if_sealed(), &turn))
            .map_err(StoreError::from);
        let mut walk = lock(&self.walk);
        if matches!(&*walk, Walk::Asked(asked) if *asked == number) {
            *walk = Walk::Done(number, found);
        }
    }
}
