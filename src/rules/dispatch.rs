//! The scheduler core: which deliveries are attempted when, and what becomes of them.
//!
//! It does no I/O and reads no clock. The driver tells it what happened (`handle_*`) and asks what to do next
//! ([`Dispatcher::poll_action`] until it says `None`, then [`Dispatcher::poll_timeout`]). It holds
//! counts, holds and policies, never bodies, sockets or tasks, so a simulation can run days of faults in
//! milliseconds.
//!
//! Isolation is by construction: the demand it states to the journal is per target, each target has its own
//! limit, and nothing is shared between targets that one of them could use up.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;

use super::retry::{Moment, RetryPolicy, Verdict, judge, quiet_until};
use crate::model::{Attempt, DeadReason, EventId, Name, Settlement};
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
}

/// What became of a started job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// An attempt was made.
    Attempted(Attempt),
    /// The stored event fails its check and never will be readable.
    Damaged,
    /// Nothing was attempted, for a reason on our side that may pass.
    NotAttempted,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<L> {
    /// Ask the journal for at most so many deliveries per target, instead of whatever was asked before.
    /// Empty: ask for nothing.
    Claim(Vec<(Name, usize)>),
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
    /// Stopped, and nothing is in flight any more.
    Drained,
}

/// The scheduler core. `L` identifies a lease.
#[derive(Debug)]
pub struct Dispatcher<L> {
    lanes: Vec<Lane>,
    lane_of: HashMap<Name, usize>,
    in_flight: HashMap<L, Job<L>>,
    actions: VecDeque<Action<L>>,
    rng: StdRng,
    /// The demand may differ from what the driver was told last.
    demand_changed: bool,
    stop: Stop,
}

/// One target's share of the state.
#[derive(Debug)]
struct Lane {
    policy: TargetPolicy,
    in_flight: usize,
    /// The target asked for quiet until then.
    held_until: Option<Timestamp>,
}

/// `Running -> Draining -> Drained`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Running,
    Draining,
    Drained,
}

impl<L: Copy + Eq + std::hash::Hash> Dispatcher<L> {
    /// A dispatcher with nothing in flight. `rng` spreads retries.
    pub fn new(targets: Vec<TargetPolicy>, rng: StdRng) -> Self {
        let lane_of = targets.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let lanes = targets
            .into_iter()
            .map(|policy| Lane { policy, in_flight: 0, held_until: None })
            .collect();
        Self {
            lanes,
            lane_of,
            in_flight: HashMap::new(),
            actions: VecDeque::new(),
            rng,
            demand_changed: true,
            stop: Stop::Running,
        }
    }

    /// The journal leased these. A job that cannot be started now is handed back unharmed.
    pub fn handle_claimed(&mut self, jobs: Vec<Job<L>>) {
        self.demand_changed = true;
        for job in jobs {
            let lane = self.lane_of.get(&job.target).and_then(|i| self.lanes.get_mut(*i));
            match lane {
                Some(lane) if self.stop == Stop::Running => {
                    lane.in_flight = lane.in_flight.saturating_add(1);
                    self.in_flight.insert(job.lease, job.clone());
                    self.actions.push_back(Action::Start(job));
                }
                Some(_) | None => self.settle(job, Settlement::Released, None),
            }
        }
    }

    /// A started job has ended. A lease that is not in flight is ignored.
    pub fn handle_finished(&mut self, lease: L, finished: Finished, moment: Moment) {
        let Some(job) = self.in_flight.remove(&lease) else {
            return;
        };
        self.demand_changed = true;
        let Some(lane) = self.lane_of.get(&job.target).and_then(|i| self.lanes.get_mut(*i)) else {
            return;
        };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        let (settlement, attempt) = match finished {
            Finished::Damaged => (Settlement::Dead(DeadReason::Damaged), None),
            Finished::NotAttempted => {
                (Settlement::RetryAt(moment.now.plus(NOT_ATTEMPTED_DELAY)), None)
            }
            Finished::Attempted(attempt) => {
                let number = job.attempts.saturating_add(1);
                lane.held_until = lane.held_until.max(quiet_until(&attempt.answer, moment));
                let policy = &lane.policy.retry;
                let received_at = job.received_at;
                match judge(policy, &attempt.answer, number, received_at, moment, &mut self.rng) {
                    Verdict::Delivered => (Settlement::Delivered, Some(attempt)),
                    Verdict::Dead(reason) => (Settlement::Dead(reason), Some(attempt)),
                    Verdict::Released => (Settlement::Released, None),
                    Verdict::Retry(at) => (Settlement::RetryAt(at), Some(attempt)),
                }
            }
        };
        self.settle(job, settlement, attempt);
    }

    /// Time has passed: ends the holds that are over.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for lane in &mut self.lanes {
            if lane.held_until.is_some_and(|until| until <= now) {
                lane.held_until = None;
                self.demand_changed = true;
            }
        }
    }

    /// Starts nothing more; [`Action::Drained`] follows when what is in flight has ended.
    pub fn handle_stop(&mut self) {
        if self.stop == Stop::Running {
            self.stop = Stop::Draining;
            self.actions.push_back(Action::Claim(Vec::new()));
        }
    }

    /// What to do next, until `None`.
    pub fn poll_action(&mut self) -> Option<Action<L>> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        match self.stop {
            Stop::Running if self.demand_changed => {
                self.demand_changed = false;
                Some(Action::Claim(self.demand()))
            }
            Stop::Draining if self.in_flight.is_empty() => {
                self.stop = Stop::Drained;
                Some(Action::Drained)
            }
            Stop::Running | Stop::Draining | Stop::Drained => None,
        }
    }

    /// When [`Dispatcher::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.lanes.iter().filter_map(|lane| lane.held_until).min()
    }

    /// Jobs started and not yet finished.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What each target can take now.
    fn demand(&self) -> Vec<(Name, usize)> {
        let free = |lane: &Lane| lane.policy.concurrency.saturating_sub(lane.in_flight);
        let open = self.lanes.iter().filter(|lane| lane.held_until.is_none() && free(lane) > 0);
        open.map(|lane| (lane.policy.name.clone(), free(lane))).collect()
    }

    fn settle(&mut self, job: Job<L>, settlement: Settlement, attempt: Option<Attempt>) {
        self.actions.push_back(Action::Settle { job, settlement, attempt });
    }
}

#[cfg(test)]
mod tests;
