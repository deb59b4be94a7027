//! What is done to many events at once, step by step: which step comes next, when, and what is kept so that a
//! restart goes on from there.
//!
//! `Running -> Done | Cancelled | Failed`. A step is a small batch. After it the job is kept again with the place where it is,
//! so that a crash repeats one batch at most; repeating is harmless, since what is due already is left as it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::query::{Query, StateWord};
use crate::time::Timestamp;

/// Most jobs that run at once.
pub const MAX_RUNNING: usize = 16;
/// Most jobs that have ended and are still shown.
pub const MAX_ENDED: usize = 16;
/// Most ids that a job is given.
pub const MAX_IDS: usize = 1_000;
/// Events a second when nothing is said: what deliveries of live events do not feel.
pub const RATE: u32 = 500;
/// Most events a second.
pub const MAX_RATE: u32 = 10_000;
/// Most events in one step: the journal's writer takes them as one commit.
pub const STEP: usize = 64;
/// Most bytes of a job's filter and targets as JSON: a job must fit a note of the journal.
pub const MAX_WORDS: usize = 3 * 1024;
/// How long a job waits when the journal takes nothing.
const PAUSE: Duration = Duration::from_secs(1);
/// Steps in a row that may fail.
const MAX_FAILED_STEPS: u32 = 600;

/// What a job does to each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Its settled deliveries become due again.
    Replay,
    /// Its dead letters become due again.
    Retry,
    /// Its dead letters are given up.
    Discard,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It goes on.
    Running,
    /// Nothing is left.
    Done,
    /// An operator ended it.
    Cancelled,
    /// The journal took nothing for too long.
    Failed,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is done.
    pub kind: Kind,
    /// To which events.
    pub query: Query,
    /// To how many events that were named, if they were: then `query` is empty and the ids are kept elsewhere.
    pub ids: Option<usize>,
    /// Only to deliveries to these targets; a replay makes one where there is none.
    pub targets: Option<Vec<String>>,
    /// Events a second.
    pub rate: u32,
    /// A discard gives up pending ones, too.
    pub force: bool,
}

/// One job as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What is done.
    pub kind: Kind,
    /// How far it is.
    pub state: JobState,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Which events; without what an order of this kind always asks.
    pub query: Query,
    /// How many events were named, if they were.
    pub ids: Option<usize>,
    /// Only these targets.
    pub targets: Option<Vec<String>>,
    /// Events a second.
    pub rate: u32,
    /// A discard gives up pending ones, too.
    pub force: bool,
    /// Events that fitted when it began, if they could be counted.
    pub expected: Option<u64>,
    /// Where the next step begins: events before this place, or after so many ids.
    pub place: Option<u64>,
    /// Events that were gone through.
    pub events: u64,
    /// Deliveries that were changed.
    pub deliveries: u64,
    /// Events that could not be changed.
    pub failed: u64,
    /// The latest failure.
    pub error: Option<String>,
    /// When the next step may begin.
    #[serde(skip)]
    pub due: Timestamp,
    /// Steps in a row that failed.
    #[serde(skip)]
    pub failed_steps: u32,
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Events that were gone through.
    pub events: u64,
    /// Deliveries that were changed.
    pub deliveries: u64,
    /// Events that could not be changed.
    pub failed: u64,
    /// Why, of the latest.
    pub error: Option<String>,
    /// Where the next step begins; `None` when nothing is left.
    pub next: Option<u64>,
}

impl Job {
    /// Begins a job. Events that are received from now on are left alone.
    pub fn new(order: Order, expected: Option<u64>, now: Timestamp) -> Self {
        let Order { kind, query, ids, targets, rate, force } = order;
        Self {
            kind,
            state: JobState::Running,
            created_at: now,
            ended_at: None,
            query,
            ids,
            targets,
            rate,
            force,
            expected,
            place: None,
            events: 0,
            deliveries: 0,
            failed: 0,
            error: None,
            due: now,
            failed_steps: 0,
        }
    }

    /// The events it is about.
    pub fn meant(&self) -> Query {
        let mut query = meant(self.kind, self.force, self.query.clone());
        let until = query.until.unwrap_or(Timestamp::MAX);
        query.until = Some(until.min(self.created_at));
        query
    }

    /// Events in its next step: a tenth of a second's worth.
    pub fn batch(&self) -> usize {
        let tenth = self.rate.div_ceil(10);
        usize::try_from(tenth).unwrap_or(STEP).clamp(1, STEP)
    }

    /// A step was made. The next one may begin when the rate allows it.
    pub fn stepped(&mut self, step: Step, now: Timestamp) {
        let Step { events, deliveries, failed, error, next } = step;
        self.events = self.events.saturating_add(events);
        self.deliveries = self.deliveries.saturating_add(deliveries);
        self.failed = self.failed.saturating_add(failed);
        self.error = error.or(self.error.take());
        self.failed_steps = 0;
        if self.state != JobState::Running {
            // It was cancelled meanwhile; what was done is counted all the same.
            return;
        }
        self.place = next;
        let cost = Duration::from_secs(1).saturating_mul(u32::try_from(events).unwrap_or(u32::MAX));
        // From when it was due, not from when it was made, so that a step that took long is made up for; but no more
        // than one second of it, so that a long sleep is not followed by a storm.
        let from = self.due.max(now.minus(Duration::from_secs(1)));
        self.due = from.plus(cost / self.rate.max(1));
        if next.is_none() {
            self.end(JobState::Done, now);
        }
    }

    /// A step could not be made whole, because the journal takes nothing now; it will be made again.
    pub fn failed_to_step(&mut self, deliveries: u64, why: String, now: Timestamp) {
        self.deliveries = self.deliveries.saturating_add(deliveries);
        self.error = Some(why);
        self.failed_steps = self.failed_steps.saturating_add(1);
        self.due = now.plus(PAUSE);
        if self.failed_steps >= MAX_FAILED_STEPS && self.state == JobState::Running {
            self.end(JobState::Failed, now);
        }
    }

    /// An operator ends it. One that has ended is left as it is.
    pub fn cancel(&mut self, now: Timestamp) {
        if self.state == JobState::Running {
            self.end(JobState::Cancelled, now);
        }
    }

    fn end(&mut self, state: JobState, now: Timestamp) {
        self.state = state;
        self.ended_at = Some(now);
    }
}

/// What an order of a kind asks of events beside what was said.
pub fn meant(kind: Kind, force: bool, mut query: Query) -> Query {
    match kind {
        Kind::Replay => {}
        Kind::Discard if force => query.state = vec![StateWord::Dead, StateWord::Pending],
        Kind::Retry | Kind::Discard => query.state = vec![StateWord::Dead],
    }
    query
}

/// Which of the jobs takes the next step: the one that has been due longest; and when.
pub fn next<'a, I: Copy + Ord>(
    jobs: impl IntoIterator<Item = (I, &'a Job)>,
) -> Option<(Timestamp, I)> {
    let running = jobs.into_iter().filter(|(_, job)| job.state == JobState::Running);
    running.map(|(id, job)| (job.due, id)).min()
}

/// Which ended jobs are no longer shown: all but the latest. Ids are in the order of their beginning.
pub fn forgotten<'a, I: Copy + Ord>(jobs: impl IntoIterator<Item = (I, &'a Job)>) -> Vec<I> {
    let ended = jobs.into_iter().filter(|(_, job)| job.state != JobState::Running);
    let mut ended: Vec<_> = ended.map(|(id, job)| (job.ended_at, id)).collect();
    ended.sort_unstable();
    let surplus = ended.len().saturating_sub(MAX_ENDED);
    ended.into_iter().take(surplus).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(rate: u32) -> Order {
        let (kind, query) = (Kind::Retry, Query::default());
        Order { kind, query, ids: None, targets: None, rate, force: false }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_rate_is_kept_over_steps_and_a_late_one_is_made_up_for_a_second() {
        let mut job = Job::new(order(100), None, at(0));
        assert_eq!(job.batch(), 10);
        let step = |next| Step { events: 10, deliveries: 10, next, ..Step::default() };
        job.stepped(step(Some(9)), at(20));
        assert_eq!(job.due, at(100));
        job.stepped(step(Some(8)), at(350));
        assert_eq!(job.due, at(200), "it is behind");
        job.stepped(step(Some(7)), at(60_000));
        assert_eq!(job.due, at(59_100), "a minute's sleep is not made up for");
        job.stepped(step(None), at(60_001));
        assert_eq!((job.state, job.events, job.ended_at), (JobState::Done, 40, Some(at(60_001))));
        assert_eq!(Job::new(order(MAX_RATE), None, at(0)).batch(), STEP);
        assert_eq!(Job::new(order(1), None, at(0)).batch(), 1);
    }

    #[test]
    fn a_journal_that_takes_nothing_is_waited_for_and_given_up_after_ten_minutes() {
        let mut job = Job::new(order(1), None, at(0));
        let mut now = at(0);
        while job.state == JobState::Running {
            job.failed_to_step(0, "full".into(), now);
            now = job.due;
        }
        assert_eq!((job.state, now), (JobState::Failed, at(600_000)));
        let mut job = Job::new(order(1), None, at(0));
        for _ in 0..MAX_FAILED_STEPS * 2 {
            job.failed_to_step(0, "full".into(), at(0));
            job.stepped(Step { next: Some(1), ..Step::default() }, at(0));
        }
        assert_eq!(job.state, JobState::Running, "only failures in a row count");
    }

    #[test]
    fn each_kind_asks_for_what_it_can_change_and_for_nothing_that_comes_later() {
        let said = Query { state: vec![StateWord::Delivered], ..Query::default() };
        assert_eq!(meant(Kind::Replay, false, said.clone()).state, [StateWord::Delivered]);
        assert_eq!(meant(Kind::Retry, true, said.clone()).state, [StateWord::Dead]);
        assert_eq!(meant(Kind::Discard, false, said.clone()).state, [StateWord::Dead]);
        let forced = meant(Kind::Discard, true, said).state;
        assert_eq!(forced, [StateWord::Dead, StateWord::Pending]);
        let mut job = Job::new(order(1), None, at(5));
        assert_eq!(job.meant().until, Some(at(5)));
        job.query.until = Some(at(3));
        assert_eq!(job.meant().until, Some(at(3)));
    }

    #[test]
    fn the_longest_due_goes_next_and_only_the_latest_that_ended_are_kept() {
        let mut jobs: Vec<Job> = (0..3).map(|at_| Job::new(order(1), None, at(at_))).collect();
        jobs[0].due = at(9);
        jobs[1].cancel(at(7));
        let numbered = |jobs: &[Job]| next(jobs.iter().enumerate());
        assert_eq!(numbered(&jobs), Some((at(2), 2)));
        jobs[2].cancel(at(8));
        jobs[0].cancel(at(8));
        assert_eq!(numbered(&jobs), None);
        jobs[1].cancel(at(99));
        assert_eq!(jobs[1].ended_at, Some(at(7)), "it has ended already");
        assert_eq!(forgotten(jobs.iter().enumerate()), [0; 0]);
        let mut many: Vec<_> = (0..20).map(|_| jobs[0].clone()).collect();
        many[3].ended_at = Some(at(1));
        assert_eq!(forgotten(many.iter().enumerate()), [3, 0, 1, 2]);
    }

    #[test]
    fn a_kept_job_is_read_back() {
        let mut job = Job::new(order(7), Some(3), at(5));
        job.stepped(Step { events: 1, next: Some(4), ..Step::default() }, at(6));
        let text = serde_json::to_vec(&job).unwrap();
        let again: Job = serde_json::from_slice(&text).unwrap();
        assert_eq!(again, Job { due: Timestamp::EPOCH, ..job });
    }
}
