//! What should have come and did not: the order of a build's events, watched per order key.
//!
//! A gap is a step that must have come before another one and has not, `gap_after` later. A stall is a build that
//! has not ended and of which nothing was heard for `stall_after`. Neither refuses or delays anything: a step that
//! comes late heals its gap, what the provider's pages allow to be left out is never missed, and an event that is no
//! step is a sign of life.
//!
//! Sans-IO: events and moments in, notices out. Memory is bounded, and what was forgotten is not taken for lost: for
//! a while unknown builds are believed to have come as far as they say. What a restart must not forget is read and
//! given back in `memo`.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

pub use self::view::{Looked, Standing, StepStanding, StepView, View};
use super::provider::Step;
use crate::time::Timestamp;

mod memo;
#[cfg(test)]
mod tests;
mod view;

/// Most builds of one source that are watched at once; the one not heard of for the longest time is forgotten.
pub const MAX_BUILDS: usize = 10_000;
/// How long the end of a build is remembered: some providers let an ended build go on.
const REMEMBER_ENDED: Duration = Duration::from_secs(24 * 60 * 60);
/// Most steps of a provider: they are the bits of one number.
pub const MAX_STEPS: usize = 32;

/// How patient a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For steps that come out of order.
    pub gap_after: Duration,
    /// For a build of which nothing is heard.
    pub stall_after: Duration,
    /// Events that the provider was not asked to send.
    pub skip: Vec<String>,
}

/// What was noticed about one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A step never came.
    Gap {
        /// The build's order key.
        build: String,
        /// The event that is missing.
        missing: &'static str,
        /// The steps that came, in the order in which they did.
        seen: Vec<Seen>,
    },
    /// A missing step came after all.
    Healed {
        /// The build's order key.
        build: String,
        /// The event that came.
        event: &'static str,
    },
    /// Nothing was heard for a long time.
    Stall {
        /// The build's order key.
        build: String,
        /// The last step that was.
        last: &'static str,
        /// When it was heard of last.
        heard_at: Timestamp,
        /// The steps that came, in the order in which they did.
        seen: Vec<Seen>,
    },
}

/// A step that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its event.
    pub event: &'static str,
    /// When it came last.
    pub at: Timestamp,
}

/// The builds of one source.
#[derive(Debug)]
pub struct Stages {
    steps: &'static [Step],
    /// For each step, itself and the steps that must have come before it.
    needs: Vec<Steps>,
    patience: Patience,
    builds: HashMap<String, Build>,
    /// When each build is to be looked at next.
    due: BTreeSet<(Timestamp, String)>,
    /// When each build was heard of last.
    heard: BTreeSet<(Timestamp, String)>,
    /// Until then, a build that is not known may be one that was forgotten.
    blind_until: Timestamp,
    /// Builds that have changed since somebody asked.
    touched: Vec<String>,
}

/// A set of steps, by their positions.
type Steps = u32;

#[derive(Clone, Debug)]
struct Build {
    seen: Steps,
    /// What must have come, as far as it is known.
    expected: Steps,
    /// Gaps that have been told.
    told: Steps,
    last: usize,
    heard_at: Timestamp,
    due_at: Timestamp,
    /// Since when something is missing.
    missing_since: Option<Timestamp>,
    state: State,
    /// When each step came that was seen to come.
    times: Vec<(usize, Timestamp)>,
    /// It is known from an earlier run that ended amid its work: a step of it may not have been written down.
    resumed: bool,
}

/// `Going -> Stalled | Ended`, `Stalled -> Going | Ended`, `Ended -> Going`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Going,
    Stalled,
    Ended,
}

impl Stages {
    /// Watches a provider's steps from `now` on. Steps beyond [`MAX_STEPS`] are not watched.
    pub fn new(steps: &'static [Step], patience: Patience, now: Timestamp) -> Self {
        let skipped = |step: &Step| patience.skip.iter().any(|event| event == step.event);
        let mut needs: Vec<Steps> = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate().take(MAX_STEPS) {
            let earlier = steps.iter().zip(&needs).filter(|(s, _)| step.after.contains(&s.event));
            let before = earlier.fold(0, |all, (_, needs)| all | needs);
            // What is skipped itself still leads to what comes before it.
            needs.push(before | if skipped(step) { 0 } else { bit(index) });
        }
        let blind_until = now.plus(patience.stall_after);
        Self {
            steps,
            needs,
            patience,
            builds: HashMap::new(),
            due: BTreeSet::new(),
            heard: BTreeSet::new(),
            blind_until,
            touched: Vec::new(),
        }
    }

    /// An event of a build was stored.
    pub fn handle(&mut self, build: &str, event: &str, now: Timestamp) -> Option<Notice> {
        let step = self.steps.iter().take(MAX_STEPS).position(|step| step.event == event);
        let mut state = match (self.forget(build), step) {
            (None, None) => return None,
            (None, Some(step)) => self.met(step, now),
            (Some(state), _) => state,
        };
        state.heard_at = now;
        let mut healed = None;
        match step.and_then(|index| Some((index, self.steps.get(index)?))) {
            Some((index, step)) => {
                if state.told & bit(index) != 0 {
                    state.told &= !bit(index);
                    healed = Some(Notice::Healed { build: build.to_owned(), event: step.event });
                }
                let needs = self.needs.get(index).copied().unwrap_or_default();
                if std::mem::take(&mut state.resumed) {
                    state.seen |= needs & !state.expected;
                }
                let overtaken = self.is_overtaken(&state, index, now);
                state.seen |= bit(index);
                state.expected |= needs;
                state.times.retain(|(seen, _)| *seen != index);
                state.times.push((index, now));
                if !overtaken {
                    state.last = index;
                    state.state = if step.last { State::Ended } else { State::Going };
                } else if state.state == State::Stalled {
                    state.state = State::Going;
                }
            }
            None if state.state == State::Stalled => state.state = State::Going,
            None => {}
        }
        state.missing_since = match state.missing() {
            0 => None,
            _ => state.missing_since.or(Some(now)),
        };
        self.touched.push(build.to_owned());
        self.remember(build.to_owned(), state);
        if self.builds.len() > MAX_BUILDS {
            self.forget_one(now);
        }
        healed
    }

    /// What is to be told at `now`.
    pub fn poll(&mut self, now: Timestamp) -> Vec<Notice> {
        let mut notices = Vec::new();
        while let Some((_, build)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            let Some(mut state) = self.forget(&build) else { break };
            self.touched.push(build.clone());
            if state.missing_since.is_some_and(|at| at.plus(self.patience.gap_after) <= now) {
                let missing = state.missing();
                state.told |= missing;
                state.missing_since = None;
                let gaps = self.steps.iter().enumerate().filter(|(i, _)| missing & bit(*i) != 0);
                notices.extend(gaps.map(|(_, step)| Notice::Gap {
                    build: build.clone(),
                    missing: step.event,
                    seen: seen(self.steps, &state),
                }));
            }
            let silent_since = state.heard_at;
            match state.state {
                State::Going if silent_since.plus(self.patience.stall_after) <= now => {
                    state.state = State::Stalled;
                    let last = self.steps.get(state.last).map_or("", |step| step.event);
                    let (build, seen) = (build.clone(), seen(self.steps, &state));
                    notices.push(Notice::Stall { build, last, heard_at: silent_since, seen });
                }
                State::Stalled | State::Ended if silent_since.plus(REMEMBER_ENDED) <= now => {
                    continue;
                }
                State::Going | State::Stalled | State::Ended => {}
            }
            self.remember(build, state);
        }
        notices
    }

    /// When [`Stages::poll`] is worth calling again.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many builds are watched.
    pub fn watched(&self) -> usize {
        self.builds.len()
    }

    /// A build that is met for the first time, at one of its steps.
    fn met(&self, step: usize, now: Timestamp) -> Build {
        let needs = self.needs.get(step).copied().unwrap_or_default();
        // While blind, what must have come before is believed to have come.
        let seen = if now < self.blind_until { needs } else { 0 };
        Build {
            seen,
            expected: 0,
            told: 0,
            last: step,
            heard_at: now,
            due_at: now,
            missing_since: None,
            state: State::Going,
            times: Vec::new(),
            resumed: false,
        }
    }

    /// Whether a step comes after one that it belongs before: it is late, and not where the build is now. One that has
    /// come already says that the build goes on.
    fn is_overtaken(&self, build: &Build, step: usize, now: Timestamp) -> bool {
        let came_at =
            |step| build.times.iter().find(|(index, _)| *index == step).map(|(_, at)| *at);
        if came_at(step).is_some() {
            return false;
        }
        let needed = build.expected & bit(step) != 0;
        // One that may be left out can be the beginning of another round, unless it comes on the heels of the end.
        let ended_at = came_at(build.last).filter(|_| build.state == State::Ended);
        let close = ended_at.is_some_and(|at| now <= at.plus(self.patience.gap_after));
        needed || (close && step < build.last)
    }

    fn remember(&mut self, build: String, mut state: Build) {
        let gap = state.missing_since.map(|at| at.plus(self.patience.gap_after));
        let silence = match state.state {
            State::Going => self.patience.stall_after,
            State::Stalled | State::Ended => REMEMBER_ENDED,
        };
        let silent = state.heard_at.plus(silence);
        state.due_at = gap.map_or(silent, |gap| gap.min(silent));
        self.due.insert((state.due_at, build.clone()));
        self.heard.insert((state.heard_at, build.clone()));
        self.builds.insert(build, state);
    }

    fn forget(&mut self, build: &str) -> Option<Build> {
        let state = self.builds.remove(build)?;
        self.due.remove(&(state.due_at, build.to_owned()));
        self.heard.remove(&(state.heard_at, build.to_owned()));
        Some(state)
    }

    /// Makes room. What is forgotten may be heard of again, and is then not known.
    fn forget_one(&mut self, now: Timestamp) {
        let oldest = self.heard.first().map(|(_, build)| build.clone());
        let Some(oldest) = oldest else { return };
        self.forget(&oldest);
        self.touched.push(oldest);
        self.blind_until = self.blind_until.max(now.plus(self.patience.stall_after));
    }
}

impl Build {
    /// The steps that must have come, did not, and have not been told.
    fn missing(&self) -> Steps {
        self.expected & !self.seen & !self.told
    }
}

/// The steps of a build that came, in the order in which they did.
fn seen(steps: &'static [Step], build: &Build) -> Vec<Seen> {
    let step =
        |(index, at): &(usize, Timestamp)| Some(Seen { event: steps.get(*index)?.event, at: *at });
    build.times.iter().filter_map(step).collect()
}

fn bit(index: usize) -> Steps {
    u32::try_from(index).ok().and_then(|index| 1_u32.checked_shl(index)).unwrap_or_default()
}
