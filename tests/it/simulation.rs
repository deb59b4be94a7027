//! Whole runs of the scheduler core over the memory journal in virtual time: random targets and policies, faults, holds,
//! pauses, clock jumps, and restarts with changed policies, all from one seed.
//!
//! A failing seed is printed and replayed with `EVERHOOK_SEED=N`. The number of runs is `EVERHOOK_SEEDS`, 500 unless told
//! otherwise; the long form is `EVERHOOK_SEEDS=10000 cargo test --release --test it simulation`.

mod target;

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
    Answer, Attempt, DeadReason, Event, EventId, Headers, Name, Settlement, Wanted,
};
use everhook::rules::dispatch::{Action, Dispatcher, Finished, Job, Notice};
use everhook::rules::retry::Moment;
use everhook::time::{Clock, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::target::{Mood, Target};

/// Steps of one run before everything is repaired and must drain.
const STEPS: usize = 300;
/// Virtual steps within which a repaired world must be empty.
const DRAIN_STEPS: usize = 20_000;

#[test]
fn every_delivery_ends_exactly_once_whatever_the_targets_do() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("EVERHOOK_SEED") {
        Some(only) => only..only + 1,
        None => 0..number("EVERHOOK_SEEDS").unwrap_or(500),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(run.is_ok(), "failed with EVERHOOK_SEED={seed}");
    }
}

type Delivery = (EventId, Name);

struct World {
    rng: StdRng,
    clock: Clock,
    /// How far the calendar is from the steady clock, in seconds.
    calendar: i64,
    journal: Arc<dyn Journal>,
    dispatcher: Dispatcher<Lease>,
    pool: usize,
    targets: Vec<Target>,
    expected: HashSet<Delivery>,
    ended: HashMap<Delivery, Settlement>,
    attempts: HashMap<Delivery, u32>,
    demand: Vec<Wanted>,
    drained: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
        let targets: Vec<_> =
            (0..rng.random_range(1..8)).map(|i| Target::random(i, &mut rng)).collect();
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(clock.clone()));
        let pool = rng.random_range(1..24);
        let dispatcher = dispatcher(&targets, pool, &clock, &mut rng);
        Self {
            rng,
            clock,
            calendar: 0,
            journal,
            dispatcher,
            pool,
            targets,
            expected: HashSet::new(),
            ended: HashMap::new(),
            attempts: HashMap::new(),
            demand: Vec::new(),
            drained: false,
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match self.rng.random_range(0..12) {
                0..=3 => self.receive(),
                4..=6 => self.finish_one(),
                7..=8 => self.advance(),
                9 => {
                    let index = self.rng.random_range(0..self.targets.len());
                    self.targets[index].mood_swing(&mut self.rng);
                }
                10 if self.rng.random_ratio(1, 3) => self.resume_one(),
                _ if self.rng.random_ratio(1, 10) => self.restart(),
                _ => {}
            }
            self.settle_down();
        }
        self.repair();
        for _ in 0..DRAIN_STEPS {
            if self.ended.len() == self.expected.len() {
                break;
            }
            while self.running() > 0 {
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

    /// Every target is well from now on.
    fn repair(&mut self) {
        for index in 0..self.targets.len() {
            self.targets[index].mood = Mood::Healthy;
            let name = self.targets[index].policy.name.clone();
            self.dispatcher.handle_resume(&name);
        }
        self.settle_down();
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
            let Some(claimed) = claimed else { break };
            assert!(!claimed.is_empty(), "a claim resolves only with something");
            self.demand.clear();
            let jobs = claimed.into_iter().map(|c| Job {
                lease: c.lease,
                target: c.target,
                event: c.event,
                attempts: c.attempts,
                received_at: c.received_at,
            });
            self.dispatcher.handle_claimed(jobs.collect(), self.clock.now());
        }
        let next = self.dispatcher.poll_timeout();
        assert!(next.is_none_or(|at| at > self.clock.now()), "the driver would spin");
        self.nobody_starves();
    }

    /// A target that did nothing wrong is attempted while something is due there, whatever the others do.
    fn nobody_starves(&self) {
        for depth in self.journal.depth() {
            let target = self.targets.iter().find(|t| t.policy.name == depth.target).unwrap();
            if target.must_be_busy() && depth.ready > 0 {
                assert!(!target.running.is_empty(), "{} starves", depth.target);
            }
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
            Action::Notify(name, Notice::Paused) => assert!(self.target(&name).paused),
            Action::Notify(name, Notice::Resumed) => self.target(&name).paused = false,
            Action::Notify(..) => {}
            Action::Drained => {
                assert_eq!(self.running(), 0, "drained with attempts running");
                self.drained = true;
            }
        }
    }

    fn target(&mut self, name: &Name) -> &mut Target {
        self.targets.iter_mut().find(|target| target.policy.name == *name).unwrap()
    }

    fn running(&self) -> usize {
        self.targets.iter().map(|target| target.running.len()).sum()
    }

    fn start(&mut self, job: Job<Lease>) {
        let delivery = (job.event, job.target.clone());
        assert!(self.expected.contains(&delivery), "invented: {job:?}");
        assert!(!self.ended.contains_key(&delivery), "attempted after its end: {job:?}");
        let counted = self.attempts.get(&delivery).copied().unwrap_or(0);
        assert_eq!(job.attempts, counted, "interrupted attempts are not counted, failed ones are");
        let now = self.clock.now();
        let name = job.target.clone();
        self.target(&name).begins(job, now);
        assert!(self.running() <= self.pool.max(self.targets.len()), "above the pool");
    }

    fn finish_one(&mut self) {
        let running = self.targets.iter().enumerate();
        let all: Vec<_> = running
            .flat_map(|(index, target)| {
                target.running.iter().map(move |(job, _)| (index, job.lease))
            })
            .collect();
        if all.is_empty() {
            return;
        }
        let (index, lease) = all[self.rng.random_range(0..all.len())];
        let moment = self.moment();
        let target = &self.targets[index];
        let answer = target.answers(lease, moment.now, moment.wall, &mut self.rng);
        if let Some(answer) = answer {
            let job = &target.find(lease).0;
            *self.attempts.entry((job.event, job.target.clone())).or_default() += 1;
            self.finish(index, lease, answer);
        }
    }

    fn finish(&mut self, target: usize, lease: Lease, answer: Answer) {
        let Moment { now, wall } = self.moment();
        let target = &mut self.targets[target];
        let number = target.find(lease).0.attempts + 1;
        target.ended(lease, &answer, now, wall);
        let attempt = Attempt {
            number,
            started_at: now,
            duration: Duration::ZERO,
            answer,
            seen: Box::default(),
        };
        let finished = Finished::Attempted(attempt);
        self.dispatcher.handle_finished(lease, finished, self.moment());
    }

    fn moment(&self) -> Moment {
        let now = self.clock.now();
        Moment { now, wall: Timestamp::from_secs(now.as_secs().saturating_add(self.calendar)) }
    }

    /// Time passes: a little, or a night with the lid closed; and the calendar may be set to anything.
    fn advance(&mut self) {
        let seconds = if self.rng.random_ratio(1, 50) {
            self.rng.random_range(0..100_000)
        } else {
            self.rng.random_range(0..120)
        };
        self.clock
            .advance(Duration::from_millis(seconds * 1_000 + self.rng.random_range(0..1_000)));
        if self.rng.random_ratio(1, 20) {
            const JUMPS: [i64; 6] = [0, 3_600, -3_600, 86_400, -1_700_000_000, 450_000_000];
            self.calendar = JUMPS[self.rng.random_range(0..JUMPS.len())];
        }
    }

    fn resume_one(&mut self) {
        let index = self.rng.random_range(0..self.targets.len());
        let name = self.targets[index].policy.name.clone();
        self.dispatcher.handle_resume(&name);
    }

    /// A stop that interrupts everything in flight, then a new core over the same journal.
    fn restart(&mut self) {
        self.dispatcher.handle_stop();
        self.settle_down();
        for index in 0..self.targets.len() {
            let running: Vec<_> =
                self.targets[index].running.iter().map(|(job, _)| job.lease).collect();
            for lease in running {
                self.finish(index, lease, Answer::Interrupted);
            }
        }
        while let Some(action) = self.dispatcher.poll_action() {
            self.act(action);
        }
        assert!(std::mem::take(&mut self.drained), "a stop with nothing in flight drains");
        for target in &mut self.targets {
            target.restarted(&mut self.rng);
        }
        self.pool = self.rng.random_range(1..24);
        self.dispatcher = dispatcher(&self.targets, self.pool, &self.clock, &mut self.rng);
    }
}

fn dispatcher(
    targets: &[Target],
    pool: usize,
    clock: &Clock,
    rng: &mut StdRng,
) -> Dispatcher<Lease> {
    let policies = targets.iter().map(|target| target.policy.clone()).collect();
    Dispatcher::new(policies, pool, StdRng::from_rng(rng), clock.now())
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
    while world.running() > 0 {
        world.finish_one();
        world.settle_down();
    }
    let gone = Settlement::Dead(DeadReason::Gone);
    assert!(world.ended.values().any(|end| *end == gone), "{:?}", world.ended);
    assert!(world.targets[0].paused, "and the target is paused");
}
