//! How builds stand, for whoever looks at them.

use super::{Build, Stages, State, Steps, bit};
use crate::time::Timestamp;

/// Which builds are wanted, those heard of last first; what is left empty is not asked.
#[derive(Clone, Debug, Default)]
pub struct Looked<'a> {
    /// In one of these states.
    pub state: &'a [Standing],
    /// Only those of which a step never came, or only the others.
    pub missing: Option<bool>,
    /// A text in the build's order key, letter case of ASCII ignored.
    pub q: Option<&'a str>,
    /// Only those heard of before this moment or, at this moment, with a lesser order key.
    pub before: Option<(Timestamp, &'a str)>,
    /// Most of them.
    pub most: usize,
}

/// The word for how a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    Going,
    /// It has not ended, and nothing was heard of it for long.
    Stalled,
    /// Its last step came.
    Ended,
}

/// How one build stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The build's order key.
    pub build: String,
    /// The word for it.
    pub standing: Standing,
    /// When something was heard of it last.
    pub heard_at: Timestamp,
    /// When what is late is told to be missing.
    pub gap_at: Option<Timestamp>,
    /// When it is told to be stalled, if nothing is heard of it until then.
    pub stall_at: Option<Timestamp>,
    /// Every step that the provider has, in its order.
    pub steps: Vec<StepView>,
}

/// How one step of a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepView {
    /// Its event.
    pub event: &'static str,
    /// The word for it.
    pub standing: StepStanding,
    /// When it came last.
    pub at: Option<Timestamp>,
}

/// The word for how a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepStanding {
    /// It came.
    Came,
    /// It is believed to have come before the build was watched.
    Believed,
    /// One that comes after it came, and it did not yet.
    Late,
    /// The same, and that was told.
    Missing,
    /// The provider was not asked to send it.
    Skipped,
    /// It may still come.
    Open,
}

impl Standing {
    /// Every word.
    pub const ALL: [Self; 3] = [Self::Going, Self::Stalled, Self::Ended];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Going => "going",
            Self::Stalled => "stalled",
            Self::Ended => "ended",
        }
    }
}

impl StepStanding {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Came => "came",
            Self::Believed => "believed",
            Self::Late => "late",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
            Self::Open => "open",
        }
    }
}

impl Stages {
    /// The builds that are wanted.
    pub fn look(&self, wanted: &Looked<'_>) -> Vec<View> {
        let latest = match wanted.before {
            Some((at, build)) => self.heard.range(..(at, build.to_owned())),
            None => self.heard.range(..),
        };
        let known = latest.rev().filter_map(|(_, name)| Some((name, self.builds.get(name)?)));
        let fits = known.filter(|(name, build)| wanted.fits(name, build));
        fits.take(wanted.most).map(|(name, build)| self.view(name, build)).collect()
    }

    fn view(&self, name: &str, build: &Build) -> View {
        let (gap, stall) = (self.patience.gap_after, self.patience.stall_after);
        let standing = build.state.into();
        View {
            build: name.to_owned(),
            standing,
            heard_at: build.heard_at,
            gap_at: build.missing_since.map(|since| since.plus(gap)),
            stall_at: (standing == Standing::Going).then(|| build.heard_at.plus(stall)),
            steps: (0..self.needs.len()).filter_map(|index| self.step(index, build)).collect(),
        }
    }

    fn step(&self, index: usize, build: &Build) -> Option<StepView> {
        let event = self.steps.get(index)?.event;
        let is_in = |set: Steps| set & bit(index) != 0;
        let at = build.times.iter().find(|(step, _)| *step == index).map(|(_, at)| *at);
        let standing = if at.is_some() {
            StepStanding::Came
        } else if is_in(build.told) {
            StepStanding::Missing
        } else if is_in(build.missing()) {
            StepStanding::Late
        } else if is_in(build.seen) {
            StepStanding::Believed
        } else if self.patience.skip.iter().any(|skipped| skipped == event) {
            StepStanding::Skipped
        } else {
            StepStanding::Open
        };
        Some(StepView { event, standing, at })
    }
}

impl Looked<'_> {
    fn fits(&self, name: &str, build: &Build) -> bool {
        let part = |needle: &str| {
            let (name, needle) = (name.to_ascii_lowercase(), needle.to_ascii_lowercase());
            name.contains(&needle)
        };
        (self.state.is_empty() || self.state.contains(&build.state.into()))
            && self.missing.is_none_or(|missing| missing == (build.told != 0))
            && self.q.is_none_or(part)
    }
}

impl From<State> for Standing {
    fn from(state: State) -> Self {
        match state {
            State::Going => Self::Going,
            State::Stalled => Self::Stalled,
            State::Ended => Self::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Patience;
    use super::*;
    use crate::rules::provider::preset;

    const START: Timestamp = Timestamp::from_secs(1_775_000_000);
    const GAP: Duration = Duration::from_secs(30);
    const STALL: Duration = Duration::from_secs(1_800);

    fn at(seconds: u64) -> Timestamp {
        START.plus(STALL).plus(Duration::from_secs(seconds))
    }

    fn watched() -> Stages {
        let patience =
            Patience { gap_after: GAP, stall_after: STALL, skip: vec!["build.saving".to_owned()] };
        Stages::new(preset("streampixel").unwrap().steps, patience, START)
    }

    fn words(view: &View) -> Vec<(&'static str, &'static str)> {
        view.steps.iter().map(|step| (step.event, step.standing.as_str())).collect()
    }

    fn only(stages: &Stages) -> View {
        let mut found = stages.look(&Looked { most: 10, ..Looked::default() });
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn each_step_of_a_build_is_told_with_what_is_late_and_then_missing() {
        let mut stages = watched();
        stages.handle("p/u", "build.uploaded", at(0));
        stages.handle("p/u", "build.extracting", at(5));
        let view = only(&stages);
        assert_eq!((view.standing, view.heard_at), (Standing::Going, at(5)));
        assert_eq!(view.gap_at, Some(at(5).plus(GAP)));
        assert_eq!(view.stall_at, Some(at(5).plus(STALL)));
        let of = |view: &View, event: &str| {
            words(view).into_iter().find(|(it, _)| *it == event).map(|(_, word)| word)
        };
        assert_eq!(of(&view, "build.uploaded"), Some("came"));
        assert_eq!(of(&view, "build.downloading"), Some("late"));
        assert_eq!(of(&view, "build.extracting"), Some("came"));
        assert_eq!(of(&view, "build.saving"), Some("skipped"));
        assert_eq!(of(&view, "build.approved"), Some("open"));
        assert_eq!(view.steps[0].at, Some(at(0)));

        stages.poll(at(5).plus(GAP));
        let view = only(&stages);
        assert_eq!((of(&view, "build.downloading"), view.gap_at), (Some("missing"), None));
        stages.poll(at(5).plus(STALL));
        let view = only(&stages);
        assert_eq!((view.standing, view.stall_at), (Standing::Stalled, None));
        stages.handle("p/u", "build.rejected", at(9_000));
        assert_eq!(only(&stages).standing, Standing::Ended);
    }

    #[test]
    fn what_came_before_a_build_was_watched_is_believed() {
        let mut stages = watched();
        stages.handle("p/u", "build.extracting", START);
        let view = only(&stages);
        assert_eq!(
            words(&view)[..2],
            [("build.uploaded", "believed"), ("build.downloading", "believed")]
        );
    }

    #[test]
    fn builds_are_found_by_state_gap_and_text_page_by_page() {
        let mut stages = watched();
        for (number, name) in ["p/A", "p/b", "p/c", "q/d"].into_iter().enumerate() {
            stages.handle(name, "build.uploaded", at(u64::try_from(number / 2).unwrap()));
        }
        stages.handle("p/c", "build.extracting", at(2));
        stages.poll(at(2).plus(GAP));
        stages.handle("p/A", "build.rejected", at(60));
        let names = |wanted: Looked<'_>| {
            stages.look(&wanted).into_iter().map(|view| view.build).collect::<Vec<_>>()
        };
        let all = || Looked { most: 10, ..Looked::default() };
        assert_eq!(names(all()), ["p/A", "p/c", "q/d", "p/b"]);
        assert_eq!(names(Looked { state: &[Standing::Ended], ..all() }), ["p/A"]);
        assert_eq!(names(Looked { missing: Some(true), ..all() }), ["p/c"]);
        assert_eq!(
            names(Looked { missing: Some(false), state: &[Standing::Going], ..all() }),
            ["q/d", "p/b"]
        );
        assert_eq!(names(Looked { q: Some("P/a"), ..all() }), ["p/A"]);
        assert_eq!(names(Looked { most: 1, ..all() }), ["p/A"]);
        assert_eq!(names(Looked { before: Some((at(2), "p/c")), ..all() }), ["q/d", "p/b"]);
        assert_eq!(names(Looked { before: Some((at(1), "q/d")), ..all() }), ["p/b"]);
    }
}
