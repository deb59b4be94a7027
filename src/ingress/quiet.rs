//! Sources of which nothing was heard for longer than expected.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::clean::Before;
use crate::journal::{Journal, Note};
use crate::metrics::{Counter, Gauge, Metrics};
use crate::model::Name;
use crate::rules::notice::OwnEvent;
use crate::rules::silence::Silence;
use crate::time::Timestamp;

/// The notes' topic.
pub(super) const TOPIC: &str = "silence";

/// One source of which something is expected.
pub(super) struct Quiet {
    source: Name,
    silence: Mutex<Silence>,
    count: Counter,
    is_silent: Gauge,
}

impl Quiet {
    pub(super) fn new(
        source: &Name,
        every: Duration,
        before: &Before,
        metrics: &Metrics,
        now: Timestamp,
    ) -> Self {
        let silence = Silence::new(every, before.of(TOPIC, source).next(), now);
        let is_silent = metrics.absence.is_silent.with_label_values(&[source.as_str()]);
        is_silent.set(i64::from(silence.is_told()));
        Self {
            source: source.clone(),
            silence: Mutex::new(silence),
            count: metrics.absence.silences.with_label_values(&[source.as_str()]),
            is_silent,
        }
    }

    /// An event or a repeat came.
    pub(super) fn heard(&self, journal: &dyn Journal, now: Timestamp) {
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = silence.heard(now);
        if heard.note {
            self.note(journal, &silence);
        }
        if heard.ended {
            self.is_silent.set(0);
            drop(silence);
            tracing::info!(source = %self.source, "the source is heard of again");
        }
    }

    /// A silence that is to be told now.
    pub(super) fn look(&self, now: Timestamp) -> Option<OwnEvent> {
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let since = silence.poll(now)?;
        let every = silence.every();
        drop(silence);
        self.count.inc();
        self.is_silent.set(1);
        tracing::warn!(source = %self.source, %since, ?every,
            "nothing was heard of the source for longer than expected");
        Some(OwnEvent::of_silence(&self.source, every, since, now))
    }

    /// Remembers how it stands.
    pub(super) fn noted(&self, journal: &dyn Journal) {
        let silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        self.note(journal, &silence);
    }

    fn note(&self, journal: &dyn Journal, silence: &Silence) {
        let (topic, name) = (TOPIC.to_owned(), self.source.to_string());
        // It is taken at once; what is not costs at most one notice more after a restart.
        drop(journal.note(Note { topic, name, value: silence.memo() }));
    }
}
