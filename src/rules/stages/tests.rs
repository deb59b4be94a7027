//! Builds as providers send them: whole, out of order, with a step lost, stuck, and gone on after their end.

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::super::provider::preset;
use super::*;

const START: Timestamp = Timestamp::from_secs(1_775_000_000);
const GAP: Duration = Duration::from_secs(30);
const STALL: Duration = Duration::from_secs(1800);

fn patience(skip: &[&str]) -> Patience {
    let skip = skip.iter().map(|event| (*event).to_owned()).collect();
    Patience { gap_after: GAP, stall_after: STALL, skip }
}

/// A source that has been watched for long enough to know every build from its beginning.
struct Watch {
    stages: Stages,
    now: Timestamp,
}

impl Watch {
    fn of(provider: &str) -> Self {
        Self::with(provider, &[])
    }

    fn with(provider: &str, skip: &[&str]) -> Self {
        let stages = Stages::new(preset(provider).unwrap().steps, patience(skip), START);
        Self { stages, now: START.plus(STALL) }
    }

    fn hears(&mut self, event: &str) -> Option<Notice> {
        self.stages.handle("b1", event, self.now)
    }

    fn hears_all(&mut self, events: &[&str]) {
        for event in events {
            assert_eq!(self.hears(event), None, "{event}");
        }
    }

    fn after(&mut self, wait: Duration) -> Vec<String> {
        self.now = self.now.plus(wait);
        self.stages.poll(self.now).iter().map(told).collect()
    }
}

fn told(notice: &Notice) -> String {
    match notice {
        Notice::Gap { missing, .. } => format!("gap {missing}"),
        Notice::Healed { event, .. } => format!("healed {event}"),
        Notice::Stall { last, .. } => format!("stall {last}"),
    }
}

const UPLOAD: [&str; 6] = [
    "build.uploaded",
    "build.downloading",
    "build.extracting",
    "build.saving",
    "build.distributing",
    "build.approved",
];

#[test]
fn a_whole_build_is_no_news() {
    for (provider, events) in [
        ("streampixel", &UPLOAD[..]),
        ("buildpixel", &["build.created", "build.running", "build.complete"]),
        ("buildpixel", &["build.created", "build.failed"]),
        ("buildpixel", &["build.created", "build.superseded"]),
        ("buildkite", &["build.scheduled", "build.running", "build.failing", "build.finished"]),
        ("buildkite", &["build.scheduled", "build.finished"]),
        ("buildkite", &["build.skipped"]),
        // Distribution may be left out, and a build may be rejected at any stage.
        ("streampixel", &[UPLOAD[0], UPLOAD[1], UPLOAD[2], UPLOAD[3], UPLOAD[5]]),
        ("streampixel", &["build.uploaded", "build.rejected"]),
    ] {
        let mut watch = Watch::of(provider);
        watch.hears_all(events);
        assert_eq!(watch.after(STALL * 2), [""; 0], "{provider} {events:?}");
    }
}

#[test]
fn a_step_that_never_came_is_told_once_after_a_while() {
    let mut watch = Watch::of("streampixel");
    watch.hears_all(&["build.uploaded", "build.downloading", "build.saving"]);
    assert_eq!(watch.after(GAP / 2), [""; 0], "patience");
    assert_eq!(watch.after(GAP / 2), ["gap build.extracting"]);
    watch.hears_all(&["build.approved"]);
    assert_eq!(watch.after(STALL * 2), [""; 0]);
}

#[test]
fn the_first_step_can_be_the_one_that_is_missing() {
    let mut watch = Watch::of("streampixel");
    watch.hears_all(&["build.extracting"]);
    assert_eq!(watch.after(GAP), ["gap build.uploaded", "gap build.downloading"]);
}

#[test]
fn what_comes_late_heals_its_gap() {
    let mut watch = Watch::of("buildpixel");
    watch.hears_all(&["build.created", "build.complete"]);
    watch.hears_all(&["build.running"]);
    assert_eq!(watch.after(GAP), [""; 0], "late, but in time");
    let mut watch = Watch::of("buildpixel");
    watch.hears_all(&["build.created", "build.complete"]);
    assert_eq!(watch.after(GAP), ["gap build.running"]);
    assert_eq!(
        watch.hears("build.running").as_ref().map(told).as_deref(),
        Some("healed build.running")
    );
    assert_eq!(watch.hears("build.running"), None);
}

#[test]
fn a_build_of_which_nothing_is_heard_stalls_once() {
    let mut watch = Watch::of("streampixel");
    watch.hears_all(&["build.uploaded", "build.downloading"]);
    assert_eq!(watch.after(STALL / 2), [""; 0]);
    watch.hears_all(&["build.never-heard-of"]);
    assert_eq!(watch.after(STALL / 2), [""; 0], "any event is a sign of life");
    assert_eq!(watch.after(STALL / 2), ["stall build.downloading"]);
    assert_eq!(watch.after(STALL * 2), [""; 0]);
    watch.hears_all(&["build.extracting"]);
    assert_eq!(watch.after(STALL), ["stall build.extracting"]);
    watch.hears_all(&["build.never-heard-of"]);
    assert_eq!(watch.after(STALL), ["stall build.extracting"], "it lived, and stands still again");
}

#[test]
fn a_build_that_goes_on_after_its_end_is_the_same_build() {
    let mut watch = Watch::of("buildkite");
    watch.hears_all(&["build.scheduled", "build.running", "build.finished"]);
    assert_eq!(watch.after(REMEMBER_ENDED / 2), [""; 0]);
    watch.hears_all(&["build.running"]);
    assert_eq!(watch.after(STALL), ["stall build.running"]);
    watch.hears_all(&["build.finished"]);
    assert_eq!(watch.after(REMEMBER_ENDED), [""; 0]);
    assert_eq!(watch.stages.watched(), 0);
}

#[test]
fn a_step_that_its_builds_end_has_overtaken_does_not_open_it_again() {
    // It was missing, and came after it had been told.
    let mut watch = Watch::of("streampixel");
    watch.hears_all(&["build.uploaded", "build.extracting", "build.saving", "build.approved"]);
    assert_eq!(watch.after(GAP), ["gap build.downloading"]);
    assert!(matches!(watch.hears("build.downloading"), Some(Notice::Healed { .. })));
    assert_eq!(watch.after(STALL * 2), [""; 0]);
    // It may be left out, and came a moment late.
    for events in [
        &["build.scheduled", "build.finished", "build.running"][..],
        &["build.scheduled", "build.running", "build.finished", "build.failing"],
    ] {
        let mut watch = Watch::of("buildkite");
        watch.hears_all(events);
        assert_eq!(watch.after(STALL * 2), [""; 0], "{events:?}");
    }
    // Much later it is the beginning of another round.
    let mut watch = Watch::of("streampixel");
    watch.hears_all(&UPLOAD[..4]);
    watch.hears_all(&["build.approved"]);
    assert_eq!(watch.after(GAP * 2), [""; 0]);
    watch.hears_all(&["build.distributing"]);
    assert_eq!(watch.after(STALL), ["stall build.distributing"]);
}

#[test]
fn a_late_step_is_a_sign_of_life_and_not_where_the_build_stands() {
    let mut watch = Watch::of("streampixel");
    watch.hears_all(&["build.uploaded", "build.extracting", "build.downloading"]);
    assert_eq!(watch.after(STALL), ["stall build.extracting"]);
    let mut watch = Watch::of("streampixel");
    watch.hears_all(&["build.uploaded", "build.extracting"]);
    assert_eq!(watch.after(STALL), ["gap build.downloading", "stall build.extracting"]);
    assert!(matches!(watch.hears("build.downloading"), Some(Notice::Healed { .. })));
    assert_eq!(watch.after(STALL), ["stall build.extracting"]);
}

#[test]
fn what_the_provider_was_not_asked_to_send_is_not_missed() {
    let mut watch = Watch::with("streampixel", &["build.downloading", "build.extracting"]);
    watch.hears_all(&["build.saving"]);
    assert_eq!(watch.after(GAP), ["gap build.uploaded"]);
}

#[test]
fn after_a_restart_a_build_is_believed_to_have_come_as_far_as_it_says() {
    let mut stages = Stages::new(preset("streampixel").unwrap().steps, patience(&[]), START);
    assert_eq!(stages.handle("old", "build.saving", START), None);
    assert_eq!(stages.handle("new", "build.uploaded", START), None);
    assert_eq!(stages.handle("new", "build.extracting", START), None);
    let notices: Vec<_> = stages.poll(START.plus(GAP)).iter().map(told).collect();
    assert_eq!(notices, ["gap build.downloading"], "of the build that was seen to begin");
}

#[test]
fn more_builds_than_are_remembered_make_no_gaps() {
    let mut watch = Watch::of("streampixel");
    for number in 0..MAX_BUILDS + 10 {
        watch.now = watch.now.plus(Duration::from_micros(1));
        watch.stages.handle(&number.to_string(), "build.uploaded", watch.now);
    }
    assert_eq!(watch.stages.watched(), MAX_BUILDS);
    assert_eq!(watch.stages.handle("0", "build.downloading", watch.now), None);
    assert_eq!(watch.after(GAP), [""; 0], "it was forgotten, not lost");
}

#[test]
fn every_preset_declares_steps_that_follow_each_other() {
    for preset in super::super::provider::presets() {
        assert!(preset.steps.len() <= MAX_STEPS);
        for (index, step) in preset.steps.iter().enumerate() {
            for before in step.after {
                let earlier = &preset.steps[..index];
                assert!(earlier.iter().any(|s| s.event == *before), "{} {before}", preset.name);
            }
        }
        assert!(preset.steps.is_empty() || preset.steps.iter().any(|step| step.last));
    }
}

proptest! {
    #[test]
    fn in_any_order_within_patience_nothing_is_missed(order in Just(UPLOAD.to_vec()).prop_shuffle()) {
        let mut watch = Watch::of("streampixel");
        for event in order {
            prop_assert_eq!(watch.hears(event), None);
            watch.now = watch.now.plus(GAP / 10);
        }
        let told: Vec<_> = [watch.after(GAP), watch.after(STALL), watch.after(STALL)].concat();
        prop_assert_eq!(told, [""; 0]);
    }

    #[test]
    fn exactly_what_is_lost_is_told(kept in subsequence(&UPLOAD[..], 1..=UPLOAD.len())) {
        let mut watch = Watch::of("streampixel");
        watch.hears_all(&kept);
        let reached = kept.iter().filter_map(|event| UPLOAD.iter().position(|all| all == event)).max();
        // Whatever came last, distribution is never required.
        let required = UPLOAD[..reached.unwrap()].iter().filter(|event| **event != "build.distributing");
        let lost: Vec<_> =
            required.filter(|event| !kept.contains(event)).map(|event| format!("gap {event}")).collect();
        prop_assert_eq!(watch.after(GAP), lost);
    }

    #[test]
    fn whatever_comes_memory_is_bounded_and_nothing_is_told_twice(
        events in prop::collection::vec((0_usize..40, 0_usize..7, 0_u64..4_000), 1..300),
    ) {
        let mut watch = Watch::of("streampixel");
        let mut gaps = BTreeSet::new();
        for (build, event, wait) in events {
            watch.now = watch.now.plus(Duration::from_secs(wait));
            let event = UPLOAD.get(event).unwrap_or(&"build.rejected");
            watch.stages.handle(&build.to_string(), event, watch.now);
            for notice in watch.stages.poll(watch.now) {
                if let Notice::Gap { build, missing, .. } = notice {
                    prop_assert!(gaps.insert((build, missing, watch.now)));
                }
            }
            let stages = &watch.stages;
            prop_assert!(stages.watched() <= 40 && stages.due.len() == stages.watched());
            prop_assert!(stages.heard.len() == stages.watched());
            prop_assert!(stages.poll_timeout().is_none_or(|at| at > watch.now));
        }
    }
}
