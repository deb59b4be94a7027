//! Refused requests that become events after all, when an operator says so.
//!
//! The decision is that of `rules::intake`, as for a request that comes now; the journal puts the event in the place of
//! the rejection in one commit.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Ingress, Shared, SourceState, conflict};
use crate::control::{Release, ReleaseError, Released, Releasing};
use crate::journal::{Append, AppendError, Appended, BoxFuture};
use crate::model::{Event, EventId, Rejection, RejectionId};
use crate::rules::intake::{Admission, Inbound, Method, Refusal};
use crate::rules::origin;
use crate::time::Timestamp;

/// Most rejections whose commit is waited for at once, and most bytes of them.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Makes events of rejections by the sources as they are configured now.
pub struct Releaser {
    shared: Arc<Shared>,
    /// One release after the other: each holds a batch in memory.
    turn: Arc<Semaphore>,
}

impl Ingress {
    /// What makes events of rejections.
    pub fn releaser(&self) -> Releaser {
        Releaser { shared: Arc::clone(&self.shared), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Release for Releaser {
    fn release(&self, ids: Vec<RejectionId>, force: bool) -> Releasing<'_> {
        Box::pin(async move {
            // Nobody closes the semaphore.
            let turn = Arc::clone(&self.turn).acquire_owned().await;
            let (shared, all) = (Arc::clone(&self.shared), ids.clone());
            // In a task of its own, so that what was begun is counted and told whoever has left by then.
            let task = self.shared.tasks.spawn(async move {
                let released = shared.release(ids, force).await;
                drop(turn);
                released
            });
            let failed = |id| (id, Released::Failed(ReleaseError::Stopped));
            task.await.unwrap_or_else(|_ended| all.into_iter().map(failed).collect())
        })
    }
}

/// One rejection on its way.
enum Begun<'a> {
    /// It needs no commit.
    Over(Released),
    /// Its commit is waited for.
    Committing(Committing<'a>),
}

struct Committing<'a> {
    source: Arc<SourceState>,
    appended: BoxFuture<'a, Result<Appended, AppendError>>,
    /// The build and the step, when builds are watched.
    step: Option<(String, String)>,
}

impl Shared {
    async fn release(
        &self,
        mut ids: Vec<RejectionId>,
        force: bool,
    ) -> Vec<(RejectionId, Released)> {
        // They sort by the time of receipt: what happened first is told first.
        ids.sort_unstable();
        ids.dedup();
        let mut released = Vec::with_capacity(ids.len());
        let (mut batch, mut bytes) = (Vec::new(), 0_usize);
        for id in ids {
            let (begun, weight) = self.begin(id, force).await;
            batch.push((id, begun));
            bytes = bytes.saturating_add(weight);
            if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                self.finish(&mut batch, &mut released).await;
                bytes = 0;
            }
        }
        self.finish(&mut batch, &mut released).await;
        tell(&released, force);
        released
    }

    /// Decides about one and hands it to the journal, and says how many bytes of it are under way.
    async fn begin(&self, id: RejectionId, force: bool) -> (Begun<'_>, usize) {
        let over = |released| (Begun::Over(released), 0);
        if self.is_draining() {
            return over(Released::Failed(ReleaseError::Stopped));
        }
        let rejection = match self.journal.rejection(id).await {
            Ok(Some(rejection)) => rejection,
            Ok(None) => return over(Released::Gone),
            Err(error) => {
                tracing::warn!(%id, %error, "a refused request cannot be read");
                return over(Released::Failed(ReleaseError::Unreadable));
            }
        };
        let settings = self.settings.load_full();
        let mut sources = settings.routes.sources();
        let Some(source) = sources.find(|source| source.name == rejection.source) else {
            return over(Released::NoSource);
        };
        let bytes = rejection.body.len().saturating_add(rejection.headers.packed().len());
        let client =
            origin::client(rejection.client, &rejection.headers, &settings.trusted_proxies);
        if !force && !source.gate.admits(client) {
            return over(Released::Refused(Refusal::NotAllowed));
        }
        match decide(source, &rejection, force, self.clock.now()) {
            Ok(admission) => (Begun::Committing(self.commit(source, rejection, admission)), bytes),
            Err(cause) => over(Released::Refused(cause)),
        }
    }

    fn commit(
        &self,
        source: &Arc<SourceState>,
        rejection: Rejection,
        admission: Admission,
    ) -> Committing<'_> {
        let Admission { event: name, order_key, dedup, targets, .. } = admission;
        let headers = conflict::original(&rejection);
        let Rejection { id, received_at, body, .. } = rejection;
        let step = order_key.clone().map(|build| (build, name.clone()));
        let event = Event {
            // The same digits, so that it can be told what it was.
            id: EventId::from_bytes(id.to_bytes()),
            source: source.name.clone(),
            name,
            order_key,
            received_at,
            headers,
            body,
        };
        let appended = self.journal.release(id, Append { event, targets, dedup });
        Committing { source: Arc::clone(source), appended, step }
    }

    async fn finish(
        &self,
        batch: &mut Vec<(RejectionId, Begun<'_>)>,
        released: &mut Vec<(RejectionId, Released)>,
    ) {
        for (id, begun) in batch.drain(..) {
            let outcome = match begun {
                Begun::Over(outcome) => outcome,
                Begun::Committing(committing) => self.committed(committing).await,
            };
            released.push((id, outcome));
        }
    }

    async fn committed(&self, committing: Committing<'_>) -> Released {
        let Committing { source, appended, step } = committing;
        let appended = match appended.await {
            Ok(appended) => appended,
            Err(AppendError::NotKept) => return Released::Gone,
            Err(AppendError::Full | AppendError::TooLarge) => {
                return Released::Failed(ReleaseError::Full);
            }
            Err(AppendError::Closed | AppendError::Failed) => {
                return Released::Failed(ReleaseError::Stopped);
            }
        };
        source.outcomes.count(&appended);
        self.metrics.quarantine.released.with_label_values(&[source.name.as_str()]).inc();
        match appended {
            Appended::New(event) => {
                if let (Some(watch), Some((build, name))) = (&source.watch, step) {
                    watch.stored(&*self.journal, &build, &name, self.clock.now());
                }
                Released::Accepted(event)
            }
            Appended::Duplicate(event) => Released::Duplicate(event),
        }
    }
}

fn decide(
    source: &SourceState,
    rejection: &Rejection,
    force: bool,
    now: Timestamp,
) -> Result<Admission, Refusal> {
    let Rejection { received_at, query, headers, body, .. } = rejection;
    // With GET there are only handshakes, and those are not kept.
    let request = Inbound { method: Method::Post, query: query.as_deref(), headers, body };
    let is_conflict = rejection.cause == Refusal::Conflict;
    if force {
        let mut admission = source.intake.admit_anyway(&request, *received_at, now);
        if is_conflict {
            // That it has the key of another event is what it was kept for.
            admission.dedup.clear();
        }
        return Ok(admission);
    }
    let admission = source.intake.reconsider(&request, *received_at, now)?;
    if is_conflict && admission.may_conflict { Err(Refusal::Conflict) } else { Ok(admission) }
}

/// Says what a release came to: it is an operator's act.
fn tell(released: &[(RejectionId, Released)], force: bool) {
    let count = |word| released.iter().filter(|(_, released)| released.as_str() == word).count();
    let (accepted, duplicate) = (count("accepted"), count("duplicate"));
    tracing::info!(
        rejections = released.len(),
        accepted,
        duplicate,
        refused = count("refused"),
        failed = count("failed"),
        force,
        "refused requests were released"
    );
}
