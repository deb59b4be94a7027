//! The one loop that drives the scheduler core: it carries out what the core decides and tells it what happened.
//!
//! No decision is made here. Attempts run as tasks owned by this loop; the journal is asked for work with the
//! demand the core states, and told how each delivery goes on.

mod memo;
mod observe;
mod reload;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::observe::Observer;
use self::reload::Replacements;
pub use self::reload::{RelayReload, RelayStopped, replacements};
use self::worker::Worker;
use crate::control::{Command, Commands};
use crate::journal::{Claimed, Journal, Lease};
use crate::metrics::Metrics;
use crate::model::Name;
use crate::rules::dispatch::{Action, Dispatcher, Finished, Job, TargetPolicy};
use crate::rules::retry::Moment;
use crate::target::TargetClient;
use crate::time::Clock;
use crate::trace::Spans;

/// A target the relay delivers to.
pub struct RelayTarget {
    /// Its policies.
    pub policy: TargetPolicy,
    /// Its client.
    pub client: Arc<TargetClient>,
    /// Its address: what is remembered of a target is true of its address only.
    pub address: String,
}

/// How the relay is told to end.
#[derive(Clone, Debug)]
pub struct RelayStop {
    /// Start nothing more; end when what is in flight has ended.
    pub drain: CancellationToken,
    /// Interrupt what is in flight; such attempts are not counted.
    pub interrupt: CancellationToken,
}

/// The relay loop and what it drives.
pub struct Relay {
    dispatcher: Dispatcher<Lease>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    rng: StdRng,
    worker: Arc<Worker>,
    clients: HashMap<Name, Arc<TargetClient>>,
    addresses: HashMap<Name, String>,
    commands: Commands,
    replacements: Replacements,
    attempts: JoinSet<Finished>,
    leases: HashMap<Id, Lease, foldhash::fast::RandomState>,
    observer: Observer,
}

impl Relay {
    /// A relay with nothing in flight, for at most `pool` attempts at once over all targets. `seed` spreads retries
    /// and makes the ids of spans. How the targets stood when the last run ended is taken up from the journal.
    pub fn new(
        targets: Vec<RelayTarget>,
        pool: usize,
        journal: Arc<dyn Journal>,
        clock: Clock,
        (metrics, spans): (&Metrics, Spans),
        (commands, replacements): (Commands, Replacements),
        seed: u64,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let names: Vec<_> = targets.iter().map(|target| target.policy.name.clone()).collect();
        let address = |target: &RelayTarget| (target.policy.name.clone(), target.address.clone());
        let addresses: HashMap<_, _> = targets.iter().map(address).collect();
        let (policies, clients) = targets
            .into_iter()
            .map(|target| {
                let name = target.policy.name.clone();
                (target.policy, (name, target.client))
            })
            .unzip();
        let observer = Observer::new(metrics, &names);
        let own = StdRng::from_rng(&mut rng);
        let mut dispatcher = Dispatcher::new(policies, pool, own, clock.now());
        for (name, state) in memo::recall(&*journal, |name| addresses.get(name).cloned()) {
            observer.recalled(&name, state);
            dispatcher.restore(&name, state);
        }
        Self {
            dispatcher,
            worker: Arc::new(Worker { journal: Arc::clone(&journal), clock: clock.clone(), spans }),
            observer,
            attempts: JoinSet::new(),
            leases: HashMap::default(),
            clients,
            addresses,
            commands,
            replacements,
            journal,
            clock,
            rng,
        }
    }

    /// Delivers until it is told to end and everything in flight has ended.
    pub async fn run(mut self, stop: RelayStop) {
        let journal = Arc::clone(&self.journal);
        let mut claim = journal.claim();
        let mut draining = false;
        while self.act(&stop).await {
            let timeout = self.dispatcher.poll_timeout();
            tokio::select! {
                claimed = &mut claim => {
                    claim = journal.claim();
                    let jobs = claimed.into_iter().map(job).collect();
                    self.dispatcher.handle_claimed(jobs, self.clock.now());
                }
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                () = sleep_until(&self.clock, timeout) => {
                    self.dispatcher.handle_timeout(self.clock.now());
                }
                command = self.commands.next() => self.command(command),
                replacement = self.replacements.next() => self.replace(replacement),
                () = stop.drain.cancelled(), if !draining => {
                    draining = true;
                    self.dispatcher.handle_stop();
                }
            }
        }
    }

    /// Carries out everything the core wants done; false once it has drained.
    async fn act(&mut self, stop: &RelayStop) -> bool {
        // Everything that has ended is handed over first, so that one new demand follows, not many.
        while let Some(ended) = self.attempts.try_join_next_with_id() {
            self.ended(ended);
        }
        while let Some(action) = self.dispatcher.poll_action() {
            match action {
                Action::Demand(wanted) => self.journal.demand(wanted),
                Action::Start(job) => self.start(&job, stop),
                Action::Settle { job, settlement, attempt } => {
                    let now = self.clock.now();
                    self.observer.settled(&job, settlement, attempt.as_ref(), now);
                    if let Err(error) = self.journal.settle(job.lease, settlement, attempt).await {
                        tracing::warn!(event = %job.event, target_name = %job.target, %error,
                            "a settlement was not taken; the delivery will be repeated");
                    }
                }
                Action::Notify(target, notice) => self.observer.notified(&target, notice),
                Action::Remember(target, state) => {
                    if let Some(address) = self.addresses.get(&target) {
                        memo::keep(&*self.journal, &target, address, state).await;
                    }
                }
                Action::Drained => return false,
            }
        }
        true
    }

    /// Whoever asked may have left; what was told is done all the same.
    fn command(&mut self, command: Command) {
        let answered = match command {
            Command::Pause(target, answer) => {
                let now = self.clock.now();
                answer.send(self.dispatcher.handle_pause(&target, now)).is_ok()
            }
            Command::Resume(target, answer) => {
                answer.send(self.dispatcher.handle_resume(&target)).is_ok()
            }
            Command::Hasten(target, answer) => {
                let now = self.clock.now();
                answer.send(self.dispatcher.handle_hasten(&target, now)).is_ok()
            }
            Command::View(answer) => answer.send(self.dispatcher.view()).is_ok(),
        };
        if !answered {
            tracing::debug!("an operator left before a command was answered");
        }
    }

    fn start(&mut self, job: &Job<Lease>, stop: &RelayStop) {
        let Some(client) = self.clients.get(&job.target) else {
            return;
        };
        let span = self.rng.random();
        let attempt = Arc::clone(&self.worker).attempt(
            job.clone(),
            Arc::clone(client),
            span,
            stop.interrupt.clone(),
        );
        let task = self.attempts.spawn(attempt);
        self.leases.insert(task.id(), job.lease);
    }

    fn ended(&mut self, ended: Result<(Id, Finished), JoinError>) {
        let (id, finished) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "an attempt ended abnormally; the delivery is tried again");
                (error.id(), Finished::NotAttempted)
            }
        };
        if let Some(lease) = self.leases.remove(&id) {
            let moment = Moment { now: self.clock.now(), wall: self.clock.wall() };
            self.dispatcher.handle_finished(lease, finished, moment);
        }
    }
}

fn job(claimed: Claimed) -> Job<Lease> {
    Job {
        lease: claimed.lease,
        target: claimed.target,
        event: claimed.event,
        attempts: claimed.attempts,
        received_at: claimed.received_at,
        revived: claimed.revived,
    }
}

async fn sleep_until(clock: &Clock, at: Option<crate::time::Timestamp>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
