//! One simulated target: how it answers, and what may never happen to it.

use std::time::Duration;

use everhook::journal::Lease;
use everhook::model::{Answer, ErrorClass, Name, OnDead, Order};
use everhook::rules::breaker::{BreakerPolicy, Health};
use everhook::rules::dispatch::{Job, TargetPolicy};
use everhook::rules::rate::Rate;
use everhook::rules::retry::{Jitter, RetryPolicy, health};
use everhook::time::Timestamp;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// An attempt that hangs ends after so long.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How a target behaves at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Healthy,
    Failing,
    /// Fails one time in two.
    Flapping,
    Hanging,
    /// Has too much to do and says for how long, or does not.
    Busy,
    Refusing,
    Gone,
}

/// A target, and what an observer outside the scheduler knows of it.
pub struct Target {
    pub policy: TargetPolicy,
    pub mood: Mood,
    /// Whether the configuration has it.
    pub listed: bool,
    /// In the order they began, so that a seed always gives the same run.
    pub running: Vec<(Job<Lease>, Timestamp)>,
    pub paused: bool,
    /// Until when it has asked for quiet.
    held_until: Timestamp,
    /// When attempts began since the scheduler did.
    began: Vec<Timestamp>,
    /// Failures in a row, and since when there were enough of them to open the breaker. `None` after it returned, until it
    /// is well once: how many were still known then depends on what was under way.
    streak: Option<u32>,
    failed_since: Option<Timestamp>,
    /// Set while an operator does not want to wait for the next probe: since when there is none.
    hastened: Option<Timestamp>,
    /// Has answered nothing but 2xx since the scheduler began.
    spotless: bool,
}

impl Target {
    pub fn random(index: usize, rng: &mut StdRng) -> Self {
        let name = Name::parse(&format!("target-{index}")).unwrap();
        Self {
            policy: policy(name, rng),
            mood: Mood::Healthy,
            listed: true,
            running: Vec::new(),
            paused: false,
            held_until: Timestamp::EPOCH,
            began: Vec::new(),
            streak: Some(0),
            failed_since: None,
            hastened: None,
            spotless: true,
        }
    }

    /// A new scheduler knows nothing of what was but that the target is paused, its breaker open, or until when it asked for quiet, and may
    /// have been given another policy.
    pub fn restarted(&mut self, held: Option<Timestamp>, rng: &mut StdRng) {
        assert!(self.running.is_empty());
        if rng.random_ratio(1, 3) {
            self.policy = policy(self.policy.name.clone(), rng);
        }
        self.held_until = held.unwrap_or(Timestamp::EPOCH);
        self.began.clear();
        self.streak = Some(0);
        (self.failed_since, self.hastened) = (None, None);
        self.spotless = held.is_none();
    }

    /// An operator wants what is due there attempted now: one probe may come early.
    pub fn hastened(&mut self) {
        self.hastened = self.failed_since;
    }

    /// A reload may give it another policy. Its breaker and its order stay: what is under way follows from them.
    pub fn reloaded(&mut self, rng: &mut StdRng) {
        if rng.random_ratio(1, 3) {
            let old = self.policy.clone();
            let new = policy(old.name.clone(), rng);
            if new.rate != old.rate {
                self.began.clear();
            }
            self.policy = TargetPolicy { breaker: old.breaker, order: old.order, ..new };
        }
    }

    /// A reload lists it again; of what was, only what was remembered is known.
    pub fn returned(&mut self, paused: bool, held: Option<Timestamp>) {
        (self.listed, self.paused, self.spotless) = (true, paused, false);
        self.held_until = held.unwrap_or(Timestamp::EPOCH);
        self.began.clear();
        (self.streak, self.failed_since, self.hastened) = (None, None, None);
    }

    pub fn mood_swing(&mut self, rng: &mut StdRng) {
        self.mood = match rng.random_range(0..14) {
            0..=5 => Mood::Healthy,
            6..=7 => Mood::Failing,
            8 => Mood::Flapping,
            9..=10 => Mood::Hanging,
            11 => Mood::Busy,
            12 => Mood::Refusing,
            _ => Mood::Gone,
        };
    }

    /// An attempt begins: every limit holds.
    pub fn begins(&mut self, job: Job<Lease>, now: Timestamp) {
        let name = &self.policy.name;
        assert!(self.listed, "attempted while {name} is not configured");
        let twice = self.running.iter().any(|(running, _)| running.event == job.event);
        assert!(!twice, "two attempts at once: {job:?}");
        assert!(now >= self.held_until, "attempted while {name} is held");
        assert!(!self.paused, "attempted while {name} is paused");
        if let (Some(since), Some(breaker)) = (self.failed_since, self.policy.breaker) {
            let early = self.hastened.take().is_some();
            assert!(early || now >= since.plus(breaker.probe_every), "{name} is probed too early");
            let probes = self.running.iter().filter(|(_, began)| *began > since).count();
            assert_eq!(probes, 0, "{name} is probed twice at once");
        }
        self.running.push((job, now));
        assert!(self.running.len() <= self.policy.concurrency, "above the limit of {name}");
        self.began.push(now);
        if let Some(Rate { interval, burst }) = self.policy.rate {
            for first in 0..self.began.len() {
                let span = now.since(self.began[first]);
                let allowed = u128::from(burst) + span.as_micros() / interval.as_micros();
                let count = u128::try_from(self.began.len() - first).unwrap();
                assert!(count <= allowed, "{name} got {count} attempts in {span:?}");
            }
        }
    }

    /// What is answered to one attempt in the present mood; `None` while it hangs. `wall` is what the calendar says,
    /// which need not be `now`.
    pub fn answers(
        &self,
        lease: Lease,
        now: Timestamp,
        wall: Timestamp,
        rng: &mut StdRng,
    ) -> Option<Answer> {
        let began = self.find(lease).1;
        let failure = |rng: &mut StdRng| match rng.random_range(0..4) {
            0 => Answer::Failed(ErrorClass::Connect),
            1 => Answer::Failed(ErrorClass::Reset),
            2 => status(404, None),
            _ => status(500, None),
        };
        Some(match self.mood {
            Mood::Flapping if rng.random() => status(200, None),
            Mood::Failing | Mood::Flapping => failure(rng),
            Mood::Healthy => status(200, None),
            Mood::Hanging if now < began.plus(TIMEOUT) => return None,
            Mood::Hanging => Answer::Failed(ErrorClass::Timeout),
            Mood::Refusing => status([400, 422][rng.random_range(0..2)], None),
            Mood::Gone => status(410, None),
            Mood::Busy => {
                let seconds = rng.random_range(0..90);
                let code = [429, 502, 503, 504][rng.random_range(0..4)];
                let date = std::time::UNIX_EPOCH
                    + Duration::from_secs(u64::try_from(wall.as_secs()).unwrap_or(0) + seconds);
                match rng.random_range(0..4) {
                    0 => status(code, None),
                    1 => status(code, Some("soon".into())),
                    2 => status(code, Some(httpdate::fmt_http_date(date))),
                    _ => status(code, Some(seconds.to_string())),
                }
            }
        })
    }

    /// A running attempt.
    pub fn find(&self, lease: Lease) -> &(Job<Lease>, Timestamp) {
        self.running.iter().find(|(job, _)| job.lease == lease).expect("it is running")
    }

    /// An attempt has ended: what it means for the next ones.
    pub fn ended(&mut self, lease: Lease, answer: &Answer, now: Timestamp, wall: Timestamp) {
        self.running.retain(|(job, _)| job.lease != lease);
        if let Answer::Status { status: 429 | 502..=504, retry_after: Some(text) } = answer {
            let wait = match text.parse::<u64>() {
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => httpdate::parse_http_date(text).map_or(Duration::ZERO, |date| {
                    let since = date.duration_since(std::time::UNIX_EPOCH).unwrap();
                    Timestamp::EPOCH.plus(since).since(wall)
                }),
            };
            self.held_until = self.held_until.max(now.plus(wait));
        }
        self.paused |= matches!(answer, Answer::Status { status: 410, .. });
        self.spotless &= matches!(answer, Answer::Status { status: 200, .. });
        match health(&self.policy.retry, answer) {
            Health::Good => {
                (self.streak, self.failed_since, self.hastened) = (Some(0), None, None);
            }
            Health::Unknown => {}
            Health::Bad => {
                let streak = self.streak.map(|streak| streak + 1);
                let enough = |it: BreakerPolicy| streak.is_some_and(|streak| streak >= it.failures);
                if self.failed_since.is_none() && self.policy.breaker.is_some_and(enough) {
                    self.failed_since = Some(now);
                }
                self.streak = streak;
            }
        }
    }

    /// Whether something that is due here has to be on its way by now.
    pub fn must_be_busy(&self) -> bool {
        // A dead letter of an earlier run may hold everything up.
        let may_hold = self.policy.order == Order::Key(OnDead::Hold);
        self.listed && self.spotless && self.policy.rate.is_none() && !self.paused && !may_hold
    }
}

fn policy(name: Name, rng: &mut StdRng) -> TargetPolicy {
    let mut delays = vec![Duration::ZERO; rng.random_range(0..6)];
    for delay in &mut delays {
        *delay = Duration::from_secs(rng.random_range(0..600));
    }
    let fraction = rng.random_range(0.0..=1.0);
    let retry = RetryPolicy {
        delays: delays.into(),
        jitter: if rng.random() { Jitter::Full } else { Jitter::Proportional(fraction) },
        expire: Duration::from_secs(rng.random_range(60..7_200)),
        give_up: [422].into(),
    };
    let rate = Rate {
        interval: Duration::from_millis(rng.random_range(1..30_000)),
        burst: rng.random_range(1..5),
    };
    let breaker = BreakerPolicy {
        failures: rng.random_range(1..6),
        failure_rate: rng.random_range(0.3..=1.0),
        probe_every: Duration::from_secs(rng.random_range(1..60)),
    };
    TargetPolicy {
        name,
        concurrency: rng.random_range(1..6),
        order: match rng.random_range(0..4) {
            0 => Order::Key(OnDead::Continue),
            1 => Order::Key(OnDead::Hold),
            _ => Order::None,
        },
        retry,
        rate: rng.random_ratio(1, 3).then_some(rate),
        breaker: rng.random_ratio(2, 3).then_some(breaker),
        was: Vec::new(),
    }
}

fn status(status: u16, retry_after: Option<String>) -> Answer {
    Answer::Status { status, retry_after }
}
