//! The quarantine's part in a commit: refused requests that are kept, released and given up.

use tokio::sync::oneshot;

use super::committer::{Committer, Outcome};
use super::store::Commit;
use crate::journal::AppendError;
use crate::journal::quarantine::{self, Kept};
use crate::journal::record::Record;
use crate::journal::record::content::{Content, Place};
use crate::model::{EventId, Rejection, RejectionId};
use crate::time::Timestamp;

/// Someone who waits for a change of the quarantine to be durable.
pub(super) type Verdict = oneshot::Sender<Result<usize, AppendError>>;

/// A change of the quarantine.
pub(super) enum Keeping {
    /// One more.
    Reject(Box<Rejection>, Verdict),
    /// These go.
    Drop(Vec<RejectionId>, Verdict),
}

impl Committer {
    /// Adds a change to the commit. What it counts is answered once that is durable.
    pub(super) fn keep(
        &self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        keeping: Keeping,
        now: Timestamp,
    ) {
        match keeping {
            Keeping::Reject(rejection, answer) => {
                let kept = self.reject(commit, outcome, &rejection, now);
                outcome.kept.push((answer, kept));
            }
            Keeping::Drop(ids, answer) => {
                let mut memory = self.shared.memory();
                let gone = ids.into_iter().filter_map(|id| {
                    let kept = memory.quarantine.remove(id)?;
                    Some((id, kept))
                });
                let gone: Vec<_> = gone.collect();
                drop(memory);
                outcome.kept.push((answer, Ok(gone.len())));
                self.gone(commit, outcome, gone);
            }
        }
    }

    fn reject(
        &self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        rejection: &Rejection,
        now: Timestamp,
    ) -> Result<usize, AppendError> {
        let Rejection { source, cause, held, .. } = rejection;
        let bytes = quarantine::weight(rejection);
        let admitted = self.shared.memory().quarantine.admit((source, *cause), *held, bytes, now);
        let given_up = admitted.map_err(|not_kept| {
            tracing::debug!(?not_kept, %source, "a refused request was not kept");
            AppendError::Full
        })?;
        self.gone(commit, outcome, given_up);
        self.put_rejection(commit, outcome, rejection);
        Ok(1)
    }

    /// Adds a rejection to the commit and to what is known.
    pub(super) fn put_rejection(
        &self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        rejection: &Rejection,
    ) {
        let id = rejection.id;
        let place = commit.put_content(&stored(rejection));
        let kept = Kept::of(rejection, place);
        commit.put(&Record::Rejected { id, kept: kept.clone() });
        self.shared.memory().quarantine.put(id, kept);
        outcome.needed.push(place);
    }

    /// Whether what is to be released, if something is, is still kept.
    pub(super) fn is_kept(&self, releases: Option<RejectionId>) -> bool {
        releases.is_none_or(|id| self.shared.memory().quarantine.get(id).is_some())
    }

    /// An event takes a rejection's place.
    pub(super) fn release(&self, commit: &mut Commit, outcome: &mut Outcome, id: RejectionId) {
        let kept = self.shared.memory().quarantine.remove(id);
        let gone = kept.map(|kept| (id, kept)).into_iter().collect();
        self.gone(commit, outcome, gone);
    }

    /// What is over goes.
    pub(super) fn prune_quarantine(
        &self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        now: Timestamp,
    ) {
        let retention = self.shared.limits().retention;
        let gone = self.shared.memory().quarantine.prune(now.minus(retention));
        self.gone(commit, outcome, gone);
    }

    fn gone(
        &self,
        commit: &mut Commit,
        outcome: &mut Outcome,
        gone: Vec<(RejectionId, Kept<Place>)>,
    ) {
        if gone.is_empty() {
            return;
        }
        let mut memory = self.shared.memory();
        for (_, kept) in &gone {
            memory.usage.released(kept.place);
        }
        drop(memory);
        let ids: Vec<_> = gone.into_iter().map(|(id, _)| id).collect();
        outcome.note_dropped(ids.len());
        for ids in ids.chunks(DROPPED_IN_RECORD) {
            commit.put(&Record::Dropped { ids: ids.to_vec() });
        }
    }
}

/// Ids in one record.
const DROPPED_IN_RECORD: usize = 256;

/// A rejection's own bytes, stored like an event's.
fn stored(rejection: &Rejection) -> Content {
    Content {
        id: EventId::from_bytes(rejection.id.to_bytes()),
        received_at: rejection.received_at,
        source: rejection.source.to_string(),
        name: rejection.cause.as_str().to_owned(),
        order_key: rejection.query.clone(),
        headers: rejection.headers.clone(),
        body: rejection.body.clone(),
    }
}

/// A rejection again, from its content and what is known of it in memory.
pub(super) fn whole(id: RejectionId, kept: &Kept<Place>, content: Content) -> Rejection {
    Rejection {
        id,
        source: kept.source.clone(),
        cause: kept.cause,
        received_at: kept.received_at,
        client: kept.client,
        held: kept.held,
        query: content.order_key,
        headers: content.headers,
        body: content.body,
    }
}
