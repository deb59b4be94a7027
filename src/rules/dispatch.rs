//! The scheduler core: which deliveries are attempted when, and what becomes of them.
//!
//! It does no I/O and reads no clock. The driver tells it what happened (`handle_*`) and asks what to do next
//! ([`Dispatcher::poll_action`] until it says `None`, then [`Dispatcher::poll_timeout`]). It holds
//! counts, holds and policies, never bodies, sockets or tasks, so a simulation can run days of faults in
//! milliseconds.
//!
//! Isolation is by construction: the demand it states to the journal is per target, each target has its own
//! limits in its lane, and the one thing that targets share, the pool of attempts, keeps a part for each of them.

mod demand;
mod lane;
mod reload;
mod view;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;

use self::demand::Ledger;
use self::lane::Lane;
pub use self::reload::Renewed;
pub use self::view::{Last, Notice, Pause, PauseReason, Remembered, TargetView};
use super::breaker::{BreakerPolicy, Probe};
use super::pool::Pool;
use super::rate::Rate;
use super::retry::{Moment, RetryPolicy, Verdict, judge};
use crate::model::{Attempt, DeadReason, EventId, Name, Order, Settlement, Wanted};
use crate::time::Timestamp;

/// How long a delivery waits that could not be attempted for a reason on our side.
const NOT_ATTEMPTED_DELAY: Duration = Duration::from_secs(5);

/// What the dispatcher knows of one target.
#[derive(Clone, Debug)]
pub struct TargetPolicy {
    /// The target.
    pub name: Name,
    /// Most attempts at once.
    pub concurrency: usize,
    /// When to try again and when to give up.
    pub retry: RetryPolicy,
    /// The order its deliveries keep.
    pub order: Order,
    /// How often attempts begin; `None` is as often as `concurrency` allows.
    pub rate: Option<Rate>,
    /// When to leave the target alone; `None` is never.
    pub breaker: Option<BreakerPolicy>,
    /// Names it had before: what is still queued for them goes to it.
    pub was: Vec<Name>,
}

/// A delivery leased from the journal; `L` is whatever identifies the lease there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<L> {
    /// To be settled once, whatever happens.
    pub lease: L,
    /// Where to.
    pub target: Name,
    /// Which event.
    pub event: EventId,
    /// Attempts made and counted before this one.
    pub attempts: u32,
    /// When the event was received.
    pub received_at: Timestamp,
    /// An operator made it due again: it ends with its attempts, however old its event is.
    pub revived: bool,
}

/// What became of a started job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// An attempt was made.
    Attempted(Attempt),
    /// The stored event fails its check and never will be readable.
    Damaged,
    /// Nothing was sent: the target's template fails on this event, as it will every time. The record says why.
    Unrenderable(Attempt),
    /// Nothing was attempted, for a reason on our side that may pass.
    NotAttempted,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<L> {
    /// Ask the journal for at most so many deliveries of these targets, in place of what was asked for them before and
    /// has not been claimed. Of other targets what was asked stays.
    Demand(Vec<Wanted>),
    /// Begin an attempt; answer with [`Dispatcher::handle_finished`].
    Start(Job<L>),
    /// Tell the journal.
    Settle {
        /// The job that ended.
        job: Job<L>,
        /// How it goes on.
        settlement: Settlement,
        /// What was tried, if anything was.
        attempt: Option<Attempt>,
    },
    /// Something changed for a target as a whole; the operator should know.
    Notify(Name, Notice),
    /// Keep this for the next run, in place of what was kept for the target before.
    Remember(Name, Remembered),
    /// Stopped, and nothing is in flight any more.
    Drained,
}

/// The scheduler core. `L` identifies a lease.
#[derive(Debug)]
pub struct Dispatcher<L> {
    lanes: Vec<Lane>,
    lane_of: HashMap<Name, usize>,
    /// Who takes what is queued for a name that no target has any more.
    heir_of: HashMap<Name, usize>,
    pool: Pool,
    in_flight: HashMap<L, Running<L>>,
    actions: VecDeque<Action<L>>,
    rng: StdRng,
    /// The latest moment the driver told.
    now: Timestamp,
    ledger: Ledger,
    stop: Stop,
}

/// A job in flight.
#[derive(Debug)]
struct Running<L> {
    job: Job<L>,
    /// Set when it is the breaker's probe.
    probe: Option<Probe>,
}

/// `Running -> Draining -> Drained`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Running,
    Draining,
    Drained,
}

impl<L: Copy + Eq + std::hash::Hash> Dispatcher<L> {
    /// A dispatcher with nothing in flight, for at most `pool` attempts at once over all targets (but one for each
    /// target). `rng` spreads retries.
    pub fn new(targets: Vec<TargetPolicy>, pool: usize, rng: StdRng, now: Timestamp) -> Self {
        let pool = Pool::new(pool, targets.iter().map(|target| target.concurrency));
        let lanes = targets.into_iter().map(|policy| Lane::new(policy, now)).collect();
        let mut dispatcher = Self {
            lanes,
            lane_of: HashMap::new(),
            heir_of: HashMap::new(),
            pool,
            now,
            in_flight: HashMap::new(),
            actions: VecDeque::new(),
            rng,
            ledger: Ledger::default(),
            stop: Stop::Running,
        };
        dispatcher.index();
        dispatcher.ledger.begin(dispatcher.lanes.len());
        dispatcher
    }

    /// The journal leased these. A job that cannot be started now is handed back unharmed.
    pub fn handle_claimed(&mut self, jobs: Vec<Job<L>>, now: Timestamp) {
        self.passed(now);
        let mut above = Vec::new();
        for mut job in jobs {
            let index = self.heir_of.get(&job.target).or_else(|| self.lane_of.get(&job.target));
            let lane = index.and_then(|index| Some((*index, self.lanes.get_mut(*index)?)));
            if let Some((index, lane)) = lane {
                self.ledger.claimed(index, lane.policy.was.len().saturating_add(1));
                if room(lane, &self.pool, now) > 0 && self.stop == Stop::Running {
                    self.pool.begun(lane.in_flight);
                    let probe = lane.begun(now);
                    job.target = lane.policy.name.clone();
                    self.in_flight.insert(job.lease, Running { job: job.clone(), probe });
                    self.actions.push_back(Action::Start(job));
                    continue;
                }
            }
            above.push(job);
        }
        // Several targets, or several names of one, were each told of room that only one of them could have. What goes
        // back last is due first.
        for job in above.into_iter().rev() {
            self.settle(job, Settlement::Released, None);
        }
    }

    /// A started job has ended. A lease that is not in flight is ignored.
    pub fn handle_finished(&mut self, lease: L, finished: Finished, moment: Moment) {
        let Some(Running { job, probe }) = self.in_flight.remove(&lease) else {
            return;
        };
        self.passed(moment.now);
        let Some(index) = self.lane_of.get(&job.target).copied() else { return };
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let attempted = match &finished {
            Finished::Attempted(attempt) => Some(attempt),
            Finished::Damaged | Finished::Unrenderable(_) | Finished::NotAttempted => None,
        };
        let before = lane.remembered();
        for notice in lane.ended(attempted, probe, moment) {
            self.actions.push_back(Action::Notify(job.target.clone(), notice));
        }
        if lane.remembered() != before {
            let remembered = Action::Remember(job.target.clone(), lane.remembered());
            self.actions.push_back(remembered);
        }
        self.pool.ended(lane.in_flight);
        self.ledger.touch(index);
        self.ledger.freed(&self.pool);
        let (settlement, attempt) = match finished {
            Finished::Damaged => (Settlement::Dead(DeadReason::Damaged), None),
            Finished::Unrenderable(attempt) => {
                (Settlement::Dead(DeadReason::Template), Some(attempt))
            }
            Finished::NotAttempted => {
                (Settlement::RetryAt(moment.now.plus(NOT_ATTEMPTED_DELAY)), None)
            }
            Finished::Attempted(attempt) => {
                let number = job.attempts.saturating_add(1);
                let policy = &lane.policy.retry;
                let born = (!job.revived).then_some(job.received_at);
                match judge(policy, &attempt.answer, number, born, moment, &mut self.rng) {
                    Verdict::Delivered => (Settlement::Delivered, Some(attempt)),
                    Verdict::Dead(reason) => (Settlement::Dead(reason), Some(attempt)),
                    Verdict::Released => (Settlement::Released, None),
                    Verdict::Retry(at) => (Settlement::RetryAt(at), Some(attempt)),
                }
            }
        };
        self.settle(job, settlement, attempt);
    }

    /// Time has passed: what waited for it may begin.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.passed(now);
    }

    /// Takes up how a target stood when the last run ended. For targets that are not known here nothing is taken up.
    pub fn restore(&mut self, target: &Name, remembered: Remembered) {
        let now = self.now;
        let Some(index) = self.lane_of.get(target).copied() else { return };
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.restore(remembered, now);
            self.ledger.touch(index);
        }
    }

    /// Begins nothing more at the target until it is resumed. False when it is not known.
    pub fn handle_pause(&mut self, target: &Name, now: Timestamp) -> bool {
        self.passed(now);
        let reason = PauseReason::Operator;
        self.switch(target, |lane| {
            let pauses = lane.paused.is_none();
            lane.paused.get_or_insert(Pause { reason, since: now });
            pauses.then_some(Notice::Paused(reason))
        })
    }

    /// Attempts the target again. False when it is not known; one that is not paused is left as it is.
    pub fn handle_resume(&mut self, target: &Name) -> bool {
        self.switch(target, |lane| lane.paused.take().map(|_pause| Notice::Resumed))
    }

    /// An operator wants something of the target attempted now: if its breaker is open, that is the next probe, and need
    /// not wait for it. A pause, a hold and a rate stand. False when the target is not known.
    pub fn handle_hasten(&mut self, target: &Name, now: Timestamp) -> bool {
        self.passed(now);
        self.switch(target, |lane| {
            lane.hasten(now);
            None
        })
    }

    /// Changes a target by hand, and says so if something changed.
    fn switch(&mut self, target: &Name, change: impl FnOnce(&mut Lane) -> Option<Notice>) -> bool {
        let Some(index) = self.lane_of.get(target).copied() else { return false };
        let lane = self.lanes.get_mut(index).filter(|lane| !lane.has_left);
        let Some(lane) = lane else { return false };
        self.ledger.touch(index);
        if let Some(notice) = change(lane) {
            let remembered = lane.remembered();
            self.actions.push_back(Action::Notify(target.clone(), notice));
            self.actions.push_back(Action::Remember(target.clone(), remembered));
        }
        true
    }

    /// How every target stands.
    pub fn view(&self) -> Vec<TargetView> {
        self.lanes.iter().filter(|lane| !lane.has_left).map(Lane::view).collect()
    }

    /// Every target by name, those included that have left and still have something in flight.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.lanes.iter().map(|lane| &lane.policy.name)
    }

    fn passed(&mut self, now: Timestamp) {
        self.ledger.passed(now);
        self.now = self.now.max(now);
    }

    /// Starts nothing more; [`Action::Drained`] follows when what is in flight has ended.
    pub fn handle_stop(&mut self) {
        if self.stop == Stop::Running {
            self.stop = Stop::Draining;
            let withdrawal = self.ledger.withdrawal(&self.lanes);
            self.actions.push_back(Action::Demand(withdrawal));
        }
    }

    /// What to do next, until `None`.
    pub fn poll_action(&mut self) -> Option<Action<L>> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        match self.stop {
            Stop::Running => {
                let changes = self.ledger.changes(&self.lanes, &self.pool, self.now);
                (!changes.is_empty()).then_some(Action::Demand(changes))
            }
            Stop::Draining if self.in_flight.is_empty() => {
                self.stop = Stop::Drained;
                Some(Action::Drained)
            }
            Stop::Draining | Stop::Drained => None,
        }
    }

    /// When [`Dispatcher::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.ledger.next()
    }

    /// Jobs started and not yet finished.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn settle(&mut self, job: Job<L>, settlement: Settlement, attempt: Option<Attempt>) {
        self.actions.push_back(Action::Settle { job, settlement, attempt });
    }
}

/// What a target can take, its own limits and the pool's together.
fn room(lane: &Lane, pool: &Pool, now: Timestamp) -> usize {
    lane.room(now).min(pool.room(lane.in_flight))
}

#[cfg(test)]
mod tests;
