//! Whole runs of the scheduler core over the memory journal in virtual time: random targets, faults, holds and
//! restarts from one seed. A failing seed is printed and replayed with `EVERHOOK_SEED=N`; the number of runs is
//! `EVERHOOK_SIMULATIONS` (500 unless told otherwise).

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use everhook::journal::memory::MemoryJournal;
use everhook::journal::{Append, Demand, Journal, Lease};
use everhook::model::{
    Answer, Attempt, DeadReason, ErrorClass, Event, EventId, Headers, Name, Settlement,
};
use everhook::rules::dispatch::{Action, Dispatcher, Finished, Job, TargetPolicy};
use everhook::rules::retry::{Jitter, Moment, RetryPolicy};
use everhook::time::{Clock, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Steps of one run before everything is repaired and must drain.
const STEPS: usize = 300;
/// Virtual steps within which a repaired world must be empty.
const DRAIN_STEPS: usize = 20_000;

#[test]
fn every_delivery_ends_exactly_once_whatever_the_targets_do() {
    let only = std::env::var("EVERHOOK_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let runs = std::env::var("EVERHOOK_SIMULATIONS").ok().and_then(|n| n.parse().ok());
    let seeds = only.map_or(0..runs.unwrap_or(500), |seed| seed..seed + 1);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(run.is_ok(), "failed with EVERHOOK_SEED={seed}");
    }
}

/// How a target behaves at the moment.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Healthy,
    Failing,
    Busy,
    Gone,
}

struct Target {
    policy: TargetPolicy,
    mood: Mood,
    held_until: Timestamp,
}

type Delivery = (EventId, Name);

struct World {
    rng: StdRng,
    clock: Clock,
    journal: Arc<dyn Journal>,
    dispatcher: Dispatcher<Lease>,
    targets: Vec<Target>,
    running: Vec<Job<Lease>>,
    expected: HashSet<Delivery>,
    ended: HashMap<Delivery, Settlement>,
    attempts: HashMap<Delivery, u32>,
    demand: Vec<(Name, usize)>,
    drained: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
        let targets: Vec<_> = (0..rng.random_range(1..6)).map(|i| target(i, &mut rng)).collect();
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(clock.clone()));
        let policies = targets.iter().map(|t| t.policy.clone()).collect();
        let dispatcher = Dispatcher::new(policies, StdRng::from_rng(&mut rng));
        Self {
            rng,
            clock,
            journal,
            dispatcher,
            targets,
            running: Vec::new(),
            expected: HashSet::new(),
            ended: HashMap::new(),
            attempts: HashMap::new(),
            demand: Vec::new(),
            drained: false,
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match self.rng.random_range(0..10) {
                0..=3 => self.receive(),
                4..=6 => self.finish_one(),
                7 => self.advance(),
                8 => self.change_a_mood(),
                _ if self.rng.random_ratio(1, 10) => self.restart(),
                _ => {}
            }
            self.settle_down();
        }
        for target in &mut self.targets {
            target.mood = Mood::Healthy;
        }
        for _ in 0..DRAIN_STEPS {
            if self.ended.len() == self.expected.len() {
                break;
            }
            while !self.running.is_empty() {
                self.finish_one();
                self.settle_down();
            }
            self.clock.advance(Duration::from_secs(60));
            self.settle_down();
        }
        let stuck: Vec<_> = self.expected.iter().filter(|d| !self.ended.contains_key(d)).collect();
        assert!(stuck.is_empty(), "never ended: {stuck:?}");
        for depth in self.journal.depth() {
            assert_eq!((depth.ready, depth.waiting, depth.in_flight), (0, 0, 0), "{depth:?}");
        }
    }

    fn receive(&mut self) {
        let at = self.clock.now();
        let id = EventId::new(at, self.rng.random());
        let names = self.targets.iter().map(|t| t.policy.name.clone());
        let chosen: Vec<_> = names.filter(|_| self.rng.random_bool(0.6)).collect();
        self.expected.extend(chosen.iter().map(|name| (id, name.clone())));
        let event = Event {
            id,
            source: Name::parse("source").unwrap(),
            name: "build.approved".into(),
            order_key: None,
            received_at: at,
            headers: Headers::default(),
            body: Bytes::from_static(b"{}"),
        };
        let append = Append { event, targets: chosen, dedup: Vec::new() };
        ready(self.journal.append(append)).expect("resolves").expect("accepted");
    }

    /// Lets the driver do everything that is due now.
    fn settle_down(&mut self) {
        self.dispatcher.handle_timeout(self.clock.now());
        loop {
            while let Some(action) = self.dispatcher.poll_action() {
                self.act(action);
            }
            let demand = self.demand.clone();
            let claimed =
                if demand.is_empty() { None } else { ready(self.journal.claim(Demand(demand))) };
            let Some(claimed) = claimed else { return };
            assert!(!claimed.is_empty(), "a claim resolves only with something");
            self.demand.clear();
            let jobs = claimed.into_iter().map(|c| Job {
                lease: c.lease,
                target: c.target,
                event: c.event,
                attempts: c.attempts,
                received_at: c.received_at,
            });
            self.dispatcher.handle_claimed(jobs.collect());
        }
    }

    fn act(&mut self, action: Action<Lease>) {
        match action {
            Action::Claim(demand) => self.demand = demand,
            Action::Start(job) => self.start(job),
            Action::Settle { job, settlement, attempt } => {
                let delivery = (job.event, job.target.clone());
                if matches!(settlement, Settlement::Delivered | Settlement::Dead(_)) {
                    let before = self.ended.insert(delivery, settlement);
                    assert_eq!(before, None, "ended twice: {job:?}");
                }
                ready(self.journal.settle(job.lease, settlement, attempt))
                    .expect("resolves")
                    .unwrap();
            }
            Action::Drained => {
                assert!(self.running.is_empty(), "drained with attempts running");
                self.drained = true;
            }
        }
    }

    fn start(&mut self, job: Job<Lease>) {
        let delivery = (job.event, job.target.clone());
        assert!(self.expected.contains(&delivery), "invented: {job:?}");
        assert!(!self.ended.contains_key(&delivery), "attempted after its end: {job:?}");
        let twice = self.running.iter().any(|r| r.event == job.event && r.target == job.target);
        assert!(!twice, "two attempts at once: {job:?}");
        let counted = self.attempts.get(&delivery).copied().unwrap_or(0);
        assert_eq!(job.attempts, counted, "interrupted attempts are not counted, failed ones are");
        let target = self.targets.iter().find(|t| t.policy.name == job.target).unwrap();
        assert!(self.clock.now() >= target.held_until, "attempted while the target is held");
        self.running.push(job);
        let now_running = self.running.iter().filter(|r| r.target == target.policy.name).count();
        assert!(
            now_running <= target.policy.concurrency,
            "above the limit of {}",
            target.policy.name
        );
    }

    fn finish_one(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.running.len());
        let job = self.running.swap_remove(index);
        let now = self.clock.now();
        let target = self.targets.iter_mut().find(|t| t.policy.name == job.target).unwrap();
        let answer = match target.mood {
            Mood::Healthy => status(200, None),
            Mood::Failing if self.rng.random_bool(0.5) => Answer::Failed(ErrorClass::Timeout),
            Mood::Failing => status(500, None),
            Mood::Gone => status(410, None),
            Mood::Busy => {
                let seconds = self.rng.random_range(0..90);
                let until = now.plus(Duration::from_secs(seconds));
                target.held_until = target.held_until.max(until);
                status(429, Some(seconds))
            }
        };
        *self.attempts.entry((job.event, job.target.clone())).or_default() += 1;
        self.finish(&job, answer);
    }

    fn finish(&mut self, job: &Job<Lease>, answer: Answer) {
        let now = self.clock.now();
        let number = job.attempts + 1;
        let attempt = Attempt { number, started_at: now, duration: Duration::ZERO, answer };
        let moment = Moment { now, wall: now };
        self.dispatcher.handle_finished(job.lease, Finished::Attempted(attempt), moment);
    }

    fn advance(&mut self) {
        let seconds = self.rng.random_range(0..120);
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn change_a_mood(&mut self) {
        let index = self.rng.random_range(0..self.targets.len());
        self.targets[index].mood = match self.rng.random_range(0..8) {
            0..=3 => Mood::Healthy,
            4..=5 => Mood::Failing,
            6 => Mood::Busy,
            _ => Mood::Gone,
        };
    }

    /// A stop that interrupts everything in flight, then a new core over the same journal.
    fn restart(&mut self) {
        self.dispatcher.handle_stop();
        self.settle_down();
        for job in std::mem::take(&mut self.running) {
            self.finish(&job, Answer::Interrupted);
        }
        while let Some(action) = self.dispatcher.poll_action() {
            self.act(action);
        }
        assert!(std::mem::take(&mut self.drained), "a stop with nothing in flight drains");
        let policies = self.targets.iter().map(|t| t.policy.clone()).collect();
        self.dispatcher = Dispatcher::new(policies, StdRng::from_rng(&mut self.rng));
        for target in &mut self.targets {
            target.held_until = Timestamp::EPOCH;
        }
    }
}

fn target(index: usize, rng: &mut StdRng) -> Target {
    let delays = (0..rng.random_range(0..6)).map(|_| Duration::from_secs(rng.random_range(0..600)));
    let retry = RetryPolicy {
        delays: delays.collect(),
        jitter: if rng.random() {
            Jitter::Full
        } else {
            Jitter::Proportional(rng.random_range(0.0..=1.0))
        },
        give_up: [422].into(),
        expire: Duration::from_secs(rng.random_range(60..7_200)),
    };
    let name = Name::parse(&format!("target-{index}")).unwrap();
    let policy = TargetPolicy { name, concurrency: rng.random_range(1..4), retry };
    Target { policy, mood: Mood::Healthy, held_until: Timestamp::EPOCH }
}

fn status(status: u16, retry_after: Option<u64>) -> Answer {
    Answer::Status { status, retry_after: retry_after.map(|s| s.to_string()) }
}

/// The future's value if it resolves at once.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn a_dead_letter_keeps_its_reason() {
    let mut world = World::new(1);
    world.targets.truncate(1);
    world.targets[0].mood = Mood::Gone;
    while world.expected.is_empty() {
        world.receive();
    }
    world.settle_down();
    while !world.running.is_empty() {
        world.finish_one();
        world.settle_down();
    }
    let gone = Settlement::Dead(DeadReason::Gone);
    assert!(world.ended.values().any(|end| *end == gone), "{:?}", world.ended);
}
