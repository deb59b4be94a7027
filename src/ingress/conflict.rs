//! Repeats whose body is not that of the event they repeat: counted, and their bodies kept.
//!
//! Looked for beside the request and after its answer: the sender was told that it is a repeat, which it is by its
//! provider's own key. What was sent is kept in the quarantine, and names the event.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::journal::Journal;
use crate::lifecycle::Tasks;
use crate::metrics::{Counter, Metrics};
use crate::model::{EventId, Headers, Name, REPEATS, Refusal, Rejection};

/// Most repeats of one source that are compared at once; further ones are not, so that a flood of them costs little.
const MAX_COMPARED: usize = 16;

/// The conflicts of one source.
pub(super) struct Conflicts {
    count: Counter,
    room: Arc<Semaphore>,
}

impl Conflicts {
    pub(super) fn new(source: &Name, metrics: &Metrics) -> Self {
        Self {
            count: metrics.events_conflict.with_label_values(&[source.as_str()]),
            room: Arc::new(Semaphore::new(MAX_COMPARED)),
        }
    }

    /// Looks whether a copy of `first` says something else. The copy comes as it would be kept.
    pub(super) fn look(
        self: &Arc<Self>,
        journal: &Arc<dyn Journal>,
        tasks: &Tasks,
        first: EventId,
        copy: Rejection,
    ) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else { return };
        let (conflicts, journal) = (Arc::clone(self), Arc::clone(journal));
        drop(tasks.spawn(async move {
            conflicts.compare(&*journal, first, copy).await;
            drop(permit);
        }));
    }

    async fn compare(&self, journal: &dyn Journal, first: EventId, copy: Rejection) {
        let found = match journal.find(first).await {
            Ok(Some(found)) if found.event.body != copy.body => found,
            // Equal, or gone: its retention may be shorter than the window.
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(event = %first, %error, "an event cannot be compared with its repeat");
                return;
            }
        };
        self.count.inc();
        tracing::warn!(source = %copy.source, event = %first, rejection = %copy.id, name = found.event.name,
            "a repeat says something else than the event it repeats; it is kept with the refused requests");
        let id = first.to_string();
        let fields = copy.headers.iter().chain([(REPEATS, id.as_bytes())]);
        let headers = Headers::from_pairs(fields);
        let kept = journal.reject(Rejection { headers, ..copy }).await;
        if let Err(error) = kept {
            tracing::debug!(event = %first, %error, "a conflicting repeat was not kept");
        }
    }
}

/// The header fields as the provider sent them.
pub(super) fn original(rejection: &Rejection) -> Headers {
    if rejection.cause != Refusal::Conflict {
        return rejection.headers.clone();
    }
    Headers::from_pairs(rejection.headers.iter().filter(|(name, _)| *name != REPEATS))
}
