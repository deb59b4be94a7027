//! One target's share of the scheduler: everything that decides whether an attempt may begin there now.

use crate::model::{Answer, Attempt};
use crate::rules::breaker::{Breaker, Change, Health, Probe};
use crate::rules::pace::Pace;
use crate::rules::rate::Bucket;
use crate::rules::retry::{MAX_RETRY_AFTER, Moment, health, is_overload, quiet_until};
use crate::time::Timestamp;

use super::TargetPolicy;
use super::view::{Last, Notice, Pause, PauseReason, Remembered, TargetView};

/// One target.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) policy: TargetPolicy,
    pub(super) in_flight: usize,
    /// It is not configured any more: what is in flight ends, and nothing begins.
    pub(super) has_left: bool,
    pub(super) paused: Option<Pause>,
    /// When the breaker opened, if it is not closed.
    pub(super) open_since: Option<Timestamp>,
    last_failure: Option<Last>,
    last_success: Option<Timestamp>,
    pace: Pace,
    breaker: Option<Breaker>,
    bucket: Option<Bucket>,
}

impl Lane {
    pub(super) fn new(policy: TargetPolicy, now: Timestamp) -> Self {
        Self {
            in_flight: 0,
            has_left: false,
            paused: None,
            open_since: None,
            last_failure: None,
            last_success: None,
            pace: Pace::new(policy.concurrency),
            breaker: policy.breaker.map(Breaker::new),
            bucket: policy.rate.map(|rate| Bucket::new(rate, now)),
            policy,
        }
    }

    /// Takes other policies, for the same address or for another one. Says what changed for the target as a whole.
    pub(super) fn renew(
        &mut self,
        policy: TargetPolicy,
        moved: bool,
        now: Timestamp,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        if moved {
            self.pace = Pace::new(policy.concurrency);
            (self.last_failure, self.last_success) = (None, None);
        } else {
            self.pace.resize(policy.concurrency);
        }
        if moved && self.paused.is_some_and(|pause| pause.reason == PauseReason::Gone) {
            self.paused = None;
            notices.push(Notice::Resumed);
        }
        if policy.rate != self.policy.rate {
            self.bucket = policy.rate.map(|rate| Bucket::new(rate, now));
        }
        self.breaker = policy.breaker.map(|policy| match self.breaker {
            Some(breaker) if moved => breaker.reset(policy),
            Some(breaker) => breaker.renewed(policy),
            None => Breaker::new(policy),
        });
        if (moved || self.breaker.is_none()) && self.open_since.take().is_some() {
            notices.push(Notice::BreakerReset);
        }
        (self.policy, self.has_left) = (policy, false);
        notices
    }

    /// Begins nothing more.
    pub(super) fn left(self) -> Self {
        Self { has_left: true, ..self }
    }

    /// Takes up how it stood when the last run ended.
    pub(super) fn restore(&mut self, remembered: Remembered, now: Timestamp) {
        self.paused = remembered.paused;
        if let Some((policy, since)) = self.policy.breaker.zip(remembered.open_since) {
            self.breaker = Some(Breaker::open(policy, now));
            self.open_since = Some(since);
        }
        // The clock may have been set back meanwhile: no target can ask for more than this.
        let longest = now.plus(MAX_RETRY_AFTER);
        let held = remembered.held_until.map(|until| until.min(longest));
        if let Some(until) = held.filter(|until| *until > now) {
            self.pace.hold(until);
        }
    }

    /// What must outlive the process.
    pub(super) fn remembered(&self) -> Remembered {
        Remembered {
            paused: self.paused,
            open_since: self.open_since,
            held_until: self.pace.asked_until(),
        }
    }

    /// How it stands.
    pub(super) fn view(&self) -> TargetView {
        TargetView {
            target: self.policy.name.clone(),
            paused: self.paused,
            breaker: self.breaker.as_ref().map(Breaker::view),
            open_since: self.open_since,
            held_until: self.pace.held_until(),
            in_flight: self.in_flight,
            concurrency: self.policy.concurrency,
            last_failure: self.last_failure,
            last_success: self.last_success,
        }
    }

    /// How many attempts may begin now.
    pub(super) fn room(&self, now: Timestamp) -> usize {
        if self.paused.is_some() || self.has_left {
            return 0;
        }
        let breaker = self.breaker.map_or(usize::MAX, |breaker| breaker.room(now));
        let bucket = self.bucket.map_or(usize::MAX, |bucket| bucket.room(now));
        self.pace.room(self.in_flight, now).min(breaker).min(bucket)
    }

    /// When there may be more room by the passing of time alone.
    pub(super) fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.paused.is_some() || self.has_left {
            return None;
        }
        let breaker = self.breaker.and_then(|breaker| breaker.closed_to_all_until());
        let bucket = self.bucket.and_then(|bucket| bucket.next(now));
        let all = [self.pace.held_until(), breaker, bucket];
        all.into_iter().flatten().filter(|at| *at > now).max()
    }

    /// If its breaker is open, a probe may begin at once.
    pub(super) fn hasten(&mut self, now: Timestamp) {
        if let Some(breaker) = &mut self.breaker {
            breaker.hasten(now);
        }
    }

    /// An attempt begins; the breaker's probe that it may be is handed back when it has ended.
    pub(super) fn begun(&mut self, now: Timestamp) -> Option<Probe> {
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now);
        }
        self.breaker.as_mut().and_then(Breaker::begun)
    }

    /// An attempt has ended, or was not made after all. Says what changed for the target as a whole.
    pub(super) fn ended(
        &mut self,
        attempt: Option<&Attempt>,
        probe: Option<Probe>,
        moment: Moment,
    ) -> Vec<Notice> {
        let now = moment.now;
        let mut notices = Vec::new();
        let answer = attempt.map(|attempt| &attempt.answer);
        let health = answer.map_or(Health::Unknown, |answer| health(&self.policy.retry, answer));
        match self.breaker.as_mut().and_then(|breaker| breaker.ended(health, probe, now)) {
            Some(Change::Opened) => {
                self.open_since = Some(now);
                notices.push(Notice::BreakerOpened);
            }
            Some(Change::Closed) => {
                self.open_since = None;
                self.pace.recover();
                notices.push(Notice::BreakerClosed);
            }
            None => {}
        }
        if let Some(answer) = answer {
            let wish = quiet_until(answer, moment);
            let success = matches!(answer, Answer::Status { status: 200..=299, .. });
            match Last::of(answer, now) {
                _ if success => self.last_success = Some(now),
                Some(last) => self.last_failure = Some(last),
                None => {}
            }
            let slow = is_overload(answer) || wish.is_some();
            if slow && self.pace.overloaded(wish, self.in_flight, now) {
                notices.extend(self.pace.held_until().map(Notice::Held));
            } else if success {
                self.pace.succeeded(now);
            }
            if matches!(answer, Answer::Status { status: 410, .. }) && self.paused.is_none() {
                self.paused = Some(Pause { reason: PauseReason::Gone, since: now });
                notices.push(Notice::Paused(PauseReason::Gone));
            }
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        notices
    }
}
