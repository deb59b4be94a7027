//! Refused requests on their way into the quarantine, and what their senders are told.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::answer::{Answer, Cause, held};
use super::{Shared, SourceState};
use crate::metrics::{Counter, Metrics};
use crate::model::{Headers, Name, Refusal, Rejection, RejectionId};
use crate::time::Timestamp;

/// How often the log says that requests are being held.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A request that was read completely and refused.
pub(super) struct Whole<'a> {
    pub(super) cause: Refusal,
    pub(super) received_at: Timestamp,
    pub(super) client: IpAddr,
    pub(super) query: Option<&'a str>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

/// What is counted and told of a source that holds what it cannot verify.
pub(super) struct Holding {
    source: Name,
    count: Counter,
    told_at: Mutex<Option<Timestamp>>,
}

impl Holding {
    pub(super) fn new(source: &Name, metrics: &Metrics) -> Self {
        let count = metrics.quarantine.held.with_label_values(&[source.as_str()]);
        Self { source: source.clone(), count, told_at: Mutex::new(None) }
    }

    /// One more is held.
    fn held(&self, now: Timestamp) {
        self.count.inc();
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_some_and(|at| now.since(at) < TELL_EVERY) {
            return;
        }
        *told_at = Some(now);
        drop(told_at);
        tracing::warn!(source = %self.source, held_so_far = self.count.get(),
            "requests that cannot be verified are answered 200 and held; check the source's secret, then release them");
    }
}

/// Keeps a refused request. Its sender does not wait for that, unless it is to be told that it is held.
pub(super) async fn keep(
    shared: &Shared,
    source: &SourceState,
    refused: Whole<'_>,
) -> Result<Answer, Cause> {
    let Whole { cause, received_at, client, query, headers, body } = refused;
    let holding = source.holding.as_ref().filter(|_| cause == Refusal::Unverified);
    let id = RejectionId::new(received_at, shared.entropy());
    let rejection = Rejection {
        id,
        source: source.name.clone(),
        cause,
        received_at,
        client,
        held: holding.is_some(),
        query: query.map(str::to_owned),
        headers,
        body,
    };
    let Some(holding) = holding else {
        // It is taken at once.
        drop(shared.journal.reject(rejection));
        return Err(cause.into());
    };
    hold(shared, holding, rejection).await?;
    Ok(held(id))
}

/// Resolves when a request that is held is on stable storage.
async fn hold(shared: &Shared, holding: &Arc<Holding>, rejection: Rejection) -> Result<(), Cause> {
    let (journal, clock) = (Arc::clone(&shared.journal), shared.clock.clone());
    let holding = Arc::clone(holding);
    // In a task of its own: the sender may leave, and it is held all the same.
    let keeping = shared.tasks.spawn(async move {
        journal.reject(rejection).await?;
        holding.held(clock.now());
        Ok(())
    });
    let patience = shared.settings.load().ack_timeout;
    match tokio::time::timeout(patience, keeping).await {
        Err(_elapsed) => Err(Cause::AckTimeout),
        Ok(Err(_ended)) => Err(Cause::JournalFailed),
        Ok(Ok(kept)) => kept.map_err(Cause::of_journal),
    }
}
