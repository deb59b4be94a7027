//! Which builds miss a step or got stuck: counted, logged, and remembered over restarts as notes of the journal.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::clean::Before;
use crate::journal::{Journal, Note};
use crate::metrics::{Counter, Metrics};
use crate::model::Name;
use crate::rules::stages::{Looked, Notice, Stages, View};
use crate::time::Timestamp;

/// The notes' topic.
pub(super) const TOPIC: &str = "stages";
/// Most builds of one source that are remembered over a restart: those that go on, the first ones first. A build that
/// is not is believed to have come as far as it says.
const MAX_NOTED: usize = 1_000;

/// The watched builds of one source.
pub(super) struct Watch {
    source: Name,
    builds: Mutex<Builds>,
    gaps: Counter,
    stalls: Counter,
}

struct Builds {
    stages: Stages,
    /// Those that the journal has a note of.
    noted: HashSet<String>,
}

impl Watch {
    /// Watches from `now` on, with what the last run knew.
    pub(super) fn new(
        source: &Name,
        mut stages: Stages,
        before: &Before,
        metrics: &Metrics,
        now: Timestamp,
    ) -> Self {
        let restored =
            before.of(TOPIC, source).filter_map(|memo| stages.restore(memo, before.is_whole, now));
        let noted = restored.collect();
        Self {
            source: source.clone(),
            builds: Mutex::new(Builds { stages, noted }),
            gaps: metrics.absence.gaps.with_label_values(&[source.as_str()]),
            stalls: metrics.absence.stalls.with_label_values(&[source.as_str()]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Builds> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event of a build was stored.
    pub(super) fn stored(&self, journal: &dyn Journal, build: &str, event: &str, now: Timestamp) {
        let mut builds = self.lock();
        let healed = builds.stages.handle(build, event, now);
        builds.note(journal, &self.source);
        drop(builds);
        if let Some(healed) = healed {
            self.tell(&healed);
        }
    }

    /// What is to be told now. When its notices are dealt with, [`Watch::noted`] remembers that they were.
    pub(super) fn look(&self, now: Timestamp) -> Vec<Notice> {
        let notices = self.lock().stages.poll(now);
        for notice in &notices {
            self.tell(notice);
        }
        notices
    }

    /// How builds stand.
    pub(super) fn builds(&self, wanted: &Looked<'_>) -> Vec<View> {
        self.lock().stages.look(wanted)
    }

    /// Remembers what has changed.
    pub(super) fn noted(&self, journal: &dyn Journal) {
        self.lock().note(journal, &self.source);
    }

    fn tell(&self, notice: &Notice) {
        let source = self.source.as_str();
        match notice {
            Notice::Gap { build, missing, .. } => {
                self.gaps.inc();
                tracing::warn!(source, build, missing, "a step of a build never came");
            }
            Notice::Healed { build, event } => {
                tracing::info!(source, build, event, "a missing step of a build came after all");
            }
            Notice::Stall { build, last, .. } => {
                self.stalls.inc();
                tracing::warn!(source, build, last, "nothing was heard of a build for a long time");
            }
        }
    }
}

impl Builds {
    /// Under the lock, so that no older state of a build is written over a newer one.
    fn note(&mut self, journal: &dyn Journal, source: &Name) {
        for build in self.stages.take_touched() {
            let value = match self.stages.memo(&build) {
                Some(memo) if self.noted.len() < MAX_NOTED || self.noted.contains(&build) => {
                    self.noted.insert(build.clone());
                    memo
                }
                Some(_) | None if self.noted.remove(&build) => Vec::new(),
                Some(_) | None => continue,
            };
            let (topic, name) = (TOPIC.to_owned(), note_name(source, &build));
            // It is taken at once; what is not is believed after a restart.
            drop(journal.note(Note { topic, name, value }));
        }
    }
}

/// Short, whatever the build is called.
fn note_name(source: &Name, build: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, build.as_bytes());
    format!("{source}/{}", hex::encode(digest.as_ref().get(..16).unwrap_or_default()))
}
