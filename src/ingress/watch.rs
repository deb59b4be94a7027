//! Which builds miss a step or got stuck: counted and logged, nothing else.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::lifecycle::Tasks;
use crate::metrics::{Counter, Metrics};
use crate::model::Name;
use crate::rules::stages::{Notice, Stages};
use crate::time::Timestamp;

use super::{Ingress, Shared};

/// How often silence is looked for: no patience that can be configured is shorter.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The watched builds of one source.
pub(super) struct Watch {
    source: Name,
    stages: Mutex<Stages>,
    gaps: Counter,
    stalls: Counter,
}

impl Watch {
    pub(super) fn new(source: &Name, stages: Stages, metrics: &Metrics) -> Self {
        Self {
            source: source.clone(),
            stages: Mutex::new(stages),
            gaps: metrics.stage_gaps.with_label_values(&[source.as_str()]),
            stalls: metrics.stage_stalls.with_label_values(&[source.as_str()]),
        }
    }

    /// An event of a build was stored.
    pub(super) fn stored(&self, build: &str, event: &str, now: Timestamp) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let notice = stages.handle(build, event, now);
        drop(stages);
        if let Some(notice) = notice {
            self.tell(notice);
        }
    }

    fn look(&self, now: Timestamp) {
        let notices = self.stages.lock().unwrap_or_else(PoisonError::into_inner).poll(now);
        for notice in notices {
            self.tell(notice);
        }
    }

    fn tell(&self, notice: Notice) {
        let source = self.source.as_str();
        match notice {
            Notice::Gap { build, missing } => {
                self.gaps.inc();
                tracing::warn!(source, build, missing, "a step of a build never came");
            }
            Notice::Healed { build, event } => {
                tracing::info!(source, build, event, "a missing step of a build came after all");
            }
            Notice::Stall { build, last } => {
                self.stalls.inc();
                tracing::warn!(source, build, last, "nothing was heard of a build for a long time");
            }
        }
    }
}

impl Ingress {
    /// Looks for builds that miss a step or got stuck until `tasks` is asked to stop.
    pub async fn watch(self, tasks: Tasks) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => self.shared.look(),
                () = tasks.stop_token().cancelled() => break,
            }
        }
    }
}

impl Shared {
    fn look(&self) {
        let now = self.clock.now();
        for source in self.settings.load().routes.sources() {
            if let Some(watch) = &source.watch {
                watch.look(now);
            }
        }
    }
}
