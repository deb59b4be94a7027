//! The one task that works on jobs: it lists the next events, has the journal change them, and keeps the job's place.
//!
//! What comes next and when is decided in `rules::jobs`. Jobs outlive a restart as notes of the journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::chosen::{Choice, scope};
use crate::journal::{Ask, Journal, Note, OperateError};
use crate::model::{EventId, JobId};
use crate::rules::jobs::{self, Job, JobState, Kind, MAX_RUNNING, Step};
use crate::time::{Clock, Timestamp};

/// The topics of the notes that hold jobs, and the ids that jobs were given.
const TOPIC: &str = "job";
const IDS_TOPIC: &str = "job-ids";
/// Ids in one note: as many as fit.
const IDS_IN_NOTE: usize = 256;
/// Changes that are waited for at once: they share a commit.
const AT_ONCE: usize = 32;

/// Jobs under way and the last that have ended.
#[derive(Default)]
pub(super) struct Jobs {
    all: Mutex<BTreeMap<JobId, Entry>>,
    /// A job came, or was cancelled: the task looks again.
    came: Notify,
    /// A step was made.
    stepped: Notify,
}

#[derive(Clone)]
struct Entry {
    job: Job,
    ids: Arc<[EventId]>,
}

/// Too many jobs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Jobs {
    fn all(&self) -> MutexGuard<'_, BTreeMap<JobId, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every job, the latest first.
    pub(super) fn list(&self) -> Vec<(JobId, Job)> {
        self.all().iter().rev().map(|(id, entry)| (*id, entry.job.clone())).collect()
    }

    /// One job.
    pub(super) fn get(&self, id: JobId) -> Option<Job> {
        self.all().get(&id).map(|entry| entry.job.clone())
    }

    /// Takes a job up; it is kept before it is begun.
    pub(super) async fn begin(
        &self,
        journal: &dyn Journal,
        (id, job): (JobId, Job),
        ids: Arc<[EventId]>,
    ) -> Result<(), TooMany> {
        {
            let mut all = self.all();
            let running = all.values().filter(|it| it.job.state == JobState::Running).count();
            if running >= MAX_RUNNING {
                return Err(TooMany);
            }
            all.insert(id, Entry { job: job.clone(), ids: Arc::clone(&ids) });
        }
        for (index, chunk) in ids.chunks(IDS_IN_NOTE).enumerate() {
            let value = chunk.iter().flat_map(|id| id.to_bytes()).collect();
            note(journal, IDS_TOPIC, ids_name(id, index), value).await;
        }
        keep(journal, id, &job).await;
        self.came.notify_one();
        Ok(())
    }

    /// Ends a job, and says whether it still ran; `None` when there is none of that id.
    fn cancel(&self, id: JobId, now: Timestamp) -> Option<(Job, bool)> {
        let mut all = self.all();
        let job = &mut all.get_mut(&id)?.job;
        let ran = job.state == JobState::Running;
        job.cancel(now);
        Some((job.clone(), ran))
    }

    /// Resolves when a job has ended, or is not there any more.
    pub(super) async fn ended(&self, id: JobId) {
        loop {
            let mut step = std::pin::pin!(self.stepped.notified());
            // From here on no step is missed.
            step.as_mut().enable();
            if self.get(id).is_none_or(|job| job.state != JobState::Running) {
                return;
            }
            step.await;
        }
    }

    /// Takes up what an earlier run has kept.
    fn recall(&self, journal: &dyn Journal, now: Timestamp) {
        let ids = journal.notes(IDS_TOPIC);
        let mut all = self.all();
        for (name, value) in journal.notes(TOPIC) {
            let read = JobId::parse(&name).zip(serde_json::from_slice::<Job>(&value).ok());
            let Some((id, mut job)) = read else {
                tracing::warn!(job = name, "a job that was kept cannot be read; it is left");
                continue;
            };
            job.due = now;
            let prefix = format!("{name}/");
            let chunks = ids.iter().filter(|(name, _)| name.starts_with(&prefix));
            let bytes = chunks.flat_map(|(_, chunk)| chunk.as_chunks::<16>().0);
            let ids = bytes.map(|bytes| EventId::from_bytes(*bytes)).collect();
            all.insert(id, Entry { job, ids });
        }
    }

    /// The job whose turn it is, and when.
    fn next(&self) -> Option<(Timestamp, JobId)> {
        jobs::next(self.all().iter().map(|(id, entry)| (*id, &entry.job)))
    }

    /// Takes a step's result up, and says whether it was the last.
    fn record(&self, id: JobId, result: Result<Step, Halt>, now: Timestamp) -> Option<(Job, bool)> {
        let mut all = self.all();
        let job = &mut all.get_mut(&id)?.job;
        let ran = job.state == JobState::Running;
        match result {
            Ok(step) => job.stepped(step, now),
            Err(Halt { deliveries, why }) => job.failed_to_step(deliveries, why, now),
        }
        Some((job.clone(), ran && job.state != JobState::Running))
    }

    /// Lets go of what is no longer shown.
    fn forget(&self) -> Vec<JobId> {
        let mut all = self.all();
        let forgotten = jobs::forgotten(all.iter().map(|(id, entry)| (*id, &entry.job)));
        for id in &forgotten {
            all.remove(id);
        }
        forgotten
    }
}

/// Why a step could not be made whole.
struct Halt {
    deliveries: u64,
    why: String,
}

impl Shared {
    /// Works on jobs until it is to stop. What was begun is gone on with at the next start.
    pub(super) async fn work(&self, stop: &CancellationToken) {
        let work = async {
            let journal = self.readiness.opened().await;
            self.jobs.recall(&*journal, self.clock.now());
            loop {
                self.work_once(&journal).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Makes one step, or waits until there may be one.
    async fn work_once(&self, journal: &Arc<dyn Journal>) {
        let Some((due, id)) = self.jobs.next() else { return self.jobs.came.notified().await };
        tokio::select! {
            () = wait(&self.clock, due) => {}
            () = self.jobs.came.notified() => return,
        }
        let Some(Entry { job, ids }) = self.jobs.all().get(&id).cloned() else { return };
        let result = self.step(&**journal, &job, &ids).await;
        let recorded = self.jobs.record(id, result, self.clock.now());
        let Some((job, is_over)) = recorded else { return };
        keep(&**journal, id, &job).await;
        if is_over {
            self.over(&**journal, id, &job).await;
        }
        self.jobs.stepped.notify_waiters();
    }

    /// Ends a job; `None` when there is none of that id.
    pub(super) async fn cancelled(&self, journal: &dyn Journal, id: JobId) -> Option<Job> {
        let (job, ran) = self.jobs.cancel(id, self.clock.now())?;
        if ran {
            keep(journal, id, &job).await;
            self.over(journal, id, &job).await;
            self.jobs.came.notify_one();
            self.jobs.stepped.notify_waiters();
        }
        Some(job)
    }

    /// Says that a job has ended, and lets go of what is no longer needed.
    async fn over(&self, journal: &dyn Journal, id: JobId, job: &Job) {
        let (events, deliveries, failed) = (job.events, job.deliveries, job.failed);
        tracing::info!(job = %id, kind = ?job.kind, state = ?job.state, events, deliveries, failed,
            "a job has ended");
        for index in 0..job.ids.unwrap_or(0).div_ceil(IDS_IN_NOTE) {
            note(journal, IDS_TOPIC, ids_name(id, index), Vec::new()).await;
        }
        for forgotten in self.jobs.forget() {
            note(journal, TOPIC, forgotten.to_string(), Vec::new()).await;
        }
    }

    /// The next batch of a job.
    async fn step(&self, journal: &dyn Journal, job: &Job, ids: &[EventId]) -> Result<Step, Halt> {
        let (wishes, gone, next) = match job.ids {
            Some(_) => named(job, ids),
            None => self.listed_wishes(journal, job).await?,
        };
        let mut step = Step { events: gone, next, ..Step::default() };
        let mut halted = None;
        let made =
            futures_util::stream::iter(wishes.into_iter().map(|(id, scope)| match job.kind {
                Kind::Replay | Kind::Retry => journal.replay(id, scope),
                Kind::Discard => journal.discard(id, scope),
            }));
        let mut made = made.buffer_unordered(AT_ONCE);
        while let Some(result) = made.next().await {
            match result {
                Ok(changed) => {
                    let deliveries = u64::try_from(changed.deliveries).unwrap_or(u64::MAX);
                    step.deliveries = step.deliveries.saturating_add(deliveries);
                }
                Err(error @ OperateError::Refused(_)) => halted = Some(error.to_string()),
                Err(error @ (OperateError::Unknown | OperateError::Unreadable(_))) => {
                    step.failed = step.failed.saturating_add(1);
                    step.error = Some(error.to_string());
                }
            }
        }
        match halted {
            Some(why) => Err(Halt { deliveries: step.deliveries, why }),
            None => Ok(step),
        }
    }

    /// What is to be done to the next events that fit.
    async fn listed_wishes(&self, journal: &dyn Journal, job: &Job) -> Result<Wishes, Halt> {
        let query = job.meant();
        let ask = Ask { query: query.clone(), before: job.place, limit: job.batch() };
        let halt =
            |error: crate::journal::LoadError| Halt { deliveries: 0, why: error.to_string() };
        let page = journal.list(ask).await.map_err(halt)?;
        let mut wishes = Vec::new();
        for item in &page.items {
            let fitting = self.fitting(journal, &query, item).await;
            let choice =
                Choice { kind: job.kind, force: job.force, targets: job.targets.as_deref() };
            wishes.extend(scope(choice, fitting).map(|scope| (item.id, scope)));
        }
        let gone = u64::try_from(page.items.len()).unwrap_or(u64::MAX);
        Ok((wishes, gone, page.next))
    }
}

/// Events with what is to be done to each, how many were gone through, and where the next ones are.
type Wishes = (Vec<(EventId, crate::journal::Scope)>, u64, Option<u64>);

/// The next of the ids that a job was given.
fn named(job: &Job, ids: &[EventId]) -> Wishes {
    let from = job.place.and_then(|place| usize::try_from(place).ok()).unwrap_or(0);
    let rest = ids.get(from..).unwrap_or_default();
    let batch = rest.get(..job.batch()).unwrap_or(rest);
    let to = from.saturating_add(batch.len());
    let choice = Choice { kind: job.kind, force: job.force, targets: job.targets.as_deref() };
    let wish = |id: &EventId| scope(choice, None).map(|scope| (*id, scope));
    let wishes = batch.iter().filter_map(wish).collect();
    let gone = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    (wishes, gone, (to < ids.len()).then(|| u64::try_from(to).unwrap_or(u64::MAX)))
}

async fn wait(clock: &Clock, due: Timestamp) {
    if due > clock.now() {
        clock.sleep_until(due).await;
    }
}

fn ids_name(id: JobId, index: usize) -> String {
    format!("{id}/{index:04}")
}

/// Keeps a job as it is now. It becomes durable with a later commit; until then a crash repeats some of it.
async fn keep(journal: &dyn Journal, id: JobId, job: &Job) {
    match serde_json::to_vec(job) {
        Ok(value) => note(journal, TOPIC, id.to_string(), value).await,
        Err(error) => tracing::error!(job = %id, %error, "a job could not be written"),
    }
}

async fn note(journal: &dyn Journal, topic: &str, name: String, value: Vec<u8>) {
    let note = Note { topic: topic.to_owned(), name, value };
    if let Err(error) = journal.note(note).await {
        tracing::warn!(%error, "a job could not be kept; a restart begins it where it was kept last");
    }
}
