//! What never came, told: looked for once a second, and stored as events for the targets that ask for them.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::clean::note_stop;
use super::{Ingress, Shared};
use crate::journal::{Append, AppendError};
use crate::lifecycle::Tasks;
use crate::model::{Event, EventId, Headers, Name};
use crate::rules::notice::OwnEvent;
use crate::time::Timestamp;

/// How often silence is looked for: no patience that can be configured is shorter.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most events of our own that wait for a journal that takes nothing; further ones are only counted and logged.
const MAX_WAITING: usize = 1_000;

impl Ingress {
    /// Looks for builds that miss a step or got stuck, and for sources of which nothing is heard, until `tasks` is asked
    /// to stop.
    pub async fn watch(self, tasks: Tasks) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut waiting = VecDeque::new();
        loop {
            tokio::select! {
                _ = tick.tick(), if self.shared.is_watching() || !waiting.is_empty() => {
                    self.shared.look(&mut waiting).await;
                }
                () = self.shared.reloaded.notified() => {}
                () = tasks.stop_token().cancelled() => break,
            }
        }
        for source in self.shared.settings.load().routes.sources() {
            if let Some(quiet) = &source.quiet {
                quiet.noted(&*self.shared.journal);
            }
        }
        note_stop(&*self.shared.journal);
    }
}

impl Shared {
    /// Whether anything is expected of which it must be told when it does not come.
    fn is_watching(&self) -> bool {
        let settings = self.settings.load();
        settings.routes.sources().any(|source| source.watch.is_some() || source.quiet.is_some())
    }

    async fn look(&self, waiting: &mut VecDeque<Append>) {
        let (now, settings) = (self.clock.now(), self.settings.load_full());
        for source in settings.routes.sources() {
            let notices = source.watch.iter().flat_map(|watch| watch.look(now));
            let of_builds =
                notices.filter_map(|notice| OwnEvent::of_build(&source.name, &notice, now));
            let of_silence = source.quiet.iter().filter_map(|quiet| quiet.look(now));
            for own in of_builds.chain(of_silence).collect::<Vec<_>>() {
                let targets = source.intake.asking(own.name);
                if targets.is_empty() {
                    continue;
                }
                if waiting.len() >= MAX_WAITING {
                    tracing::warn!(source = %source.name, event = own.name, "too many events of our own wait; one is left out");
                    continue;
                }
                waiting.push_back(self.append(&source.name, own, targets, now));
            }
        }
        while let Some(append) = waiting.front().cloned() {
            match self.journal.append(append).await {
                Err(AppendError::Full) => break,
                Err(AppendError::Closed | AppendError::Failed) => return,
                Ok(_) | Err(AppendError::TooLarge | AppendError::NotKept) => {
                    waiting.pop_front();
                }
            }
        }
        // Only now: after a crash in between they are told again, and are repeats.
        for source in settings.routes.sources() {
            if let Some(watch) = &source.watch {
                watch.noted(&*self.journal);
            }
        }
    }

    fn append(&self, source: &Name, own: OwnEvent, targets: Vec<Name>, now: Timestamp) -> Append {
        let OwnEvent { name, order_key, body, dedup } = own;
        let event = Event {
            id: EventId::new(now, self.entropy()),
            source: source.clone(),
            name: name.to_owned(),
            order_key,
            received_at: now,
            headers: Headers::from_pairs([("content-type", &b"application/json"[..])]),
            body: body.into(),
        };
        Append { event, targets, dedup: vec![dedup] }
    }
}
