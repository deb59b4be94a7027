//! Whole runs of the scheduler core over the memory journal in virtual time: random targets and policies, faults, holds,
//! pauses, clock jumps, and reloads and restarts with changed policies, all from one seed.
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
use everhook::journal::{Append, Journal, Lease, Scope};
use everhook::model::{
    Answer, Attempt, DeadReason, Event, EventId, Headers, Name, OnDead, Order, Settlement,
};
use everhook::rules::dispatch::{
    Action, Dispatcher, Finished, Job, Notice, PauseReason, Remembered, Renewed,
};
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
    /// The order keys of all events, in the order in which they were accepted.
    keys: Vec<(EventId, Option<String>)>,
    /// What the scheduler wants to outlive it.
    remembered: HashMap<Name, Remembered>,
    discarded: HashSet<Delivery>,
    /// What was under way when the configuration was reloaded.
    before: HashSet<Lease>,
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
            keys: Vec::new(),
            remembered: HashMap::new(),
            discarded: HashSet::new(),
            before: HashSet::new(),
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
                10 if self.rng.random_ratio(1, 6) => self.pause_one(),
                11 if self.rng.random_ratio(1, 6) => self.reload(),
                11 if self.rng.random_ratio(1, 2) => self.hasten_one(),
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
            self.discard_what_holds();
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
        let all = vec![true; self.targets.len()];
        self.list(&all);
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
        let key = self.rng.random_ratio(3, 4).then(|| self.rng.random_range(0..5).to_string());
        self.keys.push((id, key.clone()));
        let names = self.targets.iter().map(|t| t.policy.name.clone());
        let chosen: Vec<_> = names.filter(|_| self.rng.random_bool(0.6)).collect();
        self.expected.extend(chosen.iter().map(|name| (id, name.clone())));
        let event = Event {
            id,
            source: Name::parse("source").unwrap(),
            name: "build.approved".into(),
            order_key: key.clone(),
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
            let Some(claimed) = ready(self.journal.claim()) else { break };
            assert!(!claimed.is_empty(), "a claim resolves only with something");
            let jobs = claimed.into_iter().map(|c| Job {
                lease: c.lease,
                target: c.target,
                event: c.event,
                attempts: c.attempts,
                received_at: c.received_at,
                revived: c.revived,
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
            // One of its key that waits for its next attempt holds those behind it.
            let may_stand = target.policy.order != Order::None && depth.waiting > 0;
            if target.must_be_busy() && depth.ready > 0 && !may_stand {
                assert!(!target.running.is_empty(), "{} starves", depth.target);
            }
        }
    }

    fn act(&mut self, action: Action<Lease>) {
        match action {
            Action::Demand(wanted) => self.journal.demand(wanted),
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
            Action::Notify(name, Notice::Paused(PauseReason::Gone)) => {
                assert!(self.target(&name).paused);
            }
            Action::Notify(name, Notice::Paused(PauseReason::Operator)) => {
                self.target(&name).paused = true;
            }
            Action::Remember(name, state) => {
                assert_eq!(state.paused.is_some(), self.target(&name).paused);
                // What a target that has left still does is nobody's to remember.
                if self.target(&name).listed {
                    self.remembered.insert(name, state);
                }
            }
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

    /// What is still under way since before the last reload: it has the room that it was given then.
    fn carried(&self) -> usize {
        let running = self.targets.iter().flat_map(|target| &target.running);
        running.filter(|(job, _)| self.before.contains(&job.lease)).count()
    }

    fn start(&mut self, job: Job<Lease>) {
        let delivery = (job.event, job.target.clone());
        assert!(self.expected.contains(&delivery), "invented: {job:?}");
        assert!(!self.ended.contains_key(&delivery), "attempted after its end: {job:?}");
        let counted = self.attempts.get(&delivery).copied().unwrap_or(0);
        assert_eq!(job.attempts, counted, "interrupted attempts are not counted, failed ones are");
        let now = self.clock.now();
        let name = job.target.clone();
        self.is_its_turn(&job);
        self.target(&name).begins(job, now);
        let most = self.pool.max(self.targets.len()) + self.carried();
        assert!(self.running() <= most, "above the pool");
    }

    /// Where an order is kept, everything of the same key that was accepted before has ended; and if dead letters hold
    /// the others up, ended well.
    fn is_its_turn(&self, job: &Job<Lease>) {
        let target = self.targets.iter().find(|target| target.policy.name == job.target).unwrap();
        let Order::Key(on_dead) = target.policy.order else { return };
        let position = self.keys.iter().position(|(id, _)| *id == job.event).unwrap();
        let Some(key) = &self.keys[position].1 else { return };
        let before = self.keys[..position].iter().filter(|(_, other)| other.as_ref() == Some(key));
        for (id, _) in before {
            let delivery = (*id, job.target.clone());
            let ended = self.ended.get(&delivery);
            let is_over = match on_dead {
                OnDead::Continue => ended.is_some(),
                OnDead::Hold => {
                    ended.is_some_and(|it| *it == Settlement::Delivered)
                        || self.discarded.contains(&delivery)
                }
            };
            assert!(
                !self.expected.contains(&delivery) || is_over,
                "{job:?} overtakes {id}, {ended:?}, {on_dead:?}"
            );
        }
    }

    /// An operator gives up what holds others up.
    fn discard_what_holds(&mut self) {
        let dead = self.ended.iter().filter(|(_, how)| matches!(how, Settlement::Dead(_)));
        let dead: Vec<_> = dead.map(|(delivery, _)| delivery.clone()).collect();
        for (id, target) in dead {
            let scope = Scope::DeadOf(vec![target.clone()]);
            ready(self.journal.discard(id, scope)).expect("resolves").expect("known");
            self.discarded.insert((id, target));
        }
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
        if self.targets[index].listed {
            self.dispatcher.handle_resume(&name);
        }
    }

    fn pause_one(&mut self) {
        let index = self.rng.random_range(0..self.targets.len());
        let name = self.targets[index].policy.name.clone();
        if self.targets[index].listed {
            self.dispatcher.handle_pause(&name, self.clock.now());
        }
    }

    /// An operator wants one event attempted now, whatever its deliveries wait for.
    fn hasten_one(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let (id, _) = self.keys[self.rng.random_range(0..self.keys.len())];
        let changed = ready(self.journal.hasten(id, Scope::All)).expect("resolves").expect("known");
        for target in self.targets.iter_mut().filter(|target| target.listed) {
            let name = &target.policy.name;
            let waits = self.expected.contains(&(id, name.clone()))
                && !self.ended.contains_key(&(id, name.clone()))
                && !target.running.iter().any(|(job, _)| job.event == id);
            if waits {
                assert!(changed.deliveries > 0, "{id} for {name} is pending");
                self.dispatcher.handle_hasten(name, self.clock.now());
                target.hastened();
            }
        }
    }

    /// Another configuration while attempts are under way: other policies, targets that leave and that return.
    fn reload(&mut self) {
        for target in &mut self.targets {
            target.reloaded(&mut self.rng);
        }
        let mut listed: Vec<_> = self.targets.iter().map(|_| self.rng.random_bool(0.8)).collect();
        listed[0] = true;
        self.list(&listed);
    }

    /// These targets are configured from now on.
    fn list(&mut self, listed: &[bool]) {
        let running = self.targets.iter().flat_map(|target| &target.running);
        self.before = running.map(|(job, _)| job.lease).collect();
        let all = self.targets.iter().zip(listed).filter(|(_, listed)| **listed);
        let renewed = all.map(|(it, _)| Renewed { policy: it.policy.clone(), moved: false });
        let renewed = renewed.collect();
        self.dispatcher.handle_reload(renewed, self.pool, self.clock.now());
        for (target, listed) in self.targets.iter_mut().zip(listed) {
            if *listed && !target.listed {
                let state = self.remembered.get(&target.policy.name).copied();
                let state = state.unwrap_or_default();
                target.returned(state.paused.is_some(), state.held_until);
                self.dispatcher.restore(&target.policy.name, state);
            }
            target.listed = *listed;
        }
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
            let known = self.remembered.get(&target.policy.name);
            target.restarted(known.and_then(|known| known.held_until), &mut self.rng);
        }
        self.pool = self.rng.random_range(1..24);
        self.dispatcher = dispatcher(&self.targets, self.pool, &self.clock, &mut self.rng);
        for (name, state) in &self.remembered {
            self.dispatcher.restore(name, *state);
        }
    }
}

fn dispatcher(
    targets: &[Target],
    pool: usize,
    clock: &Clock,
    rng: &mut StdRng,
) -> Dispatcher<Lease> {
    let listed = targets.iter().filter(|target| target.listed);
    let policies = listed.map(|target| target.policy.clone()).collect();
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
