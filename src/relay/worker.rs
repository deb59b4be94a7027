//! One attempt from start to end: read the event, send it, say what happened.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::journal::{Journal, Lease, LoadError};
use crate::model::{Answer, Attempt, ErrorClass, Seen};
use crate::rules::dispatch::{Finished, Job};
use crate::rules::trace::SpanId;
use crate::target::{Call, Exchange, TargetClient};
use crate::time::Clock;
use crate::trace::{Span, Spans};

/// What every attempt needs.
pub(super) struct Worker {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Clock,
    pub(super) spans: Spans,
}

impl Worker {
    /// The body is read here, when the attempt begins, so that only what is in flight is in memory.
    pub(super) async fn attempt(
        self: Arc<Self>,
        job: Job<Lease>,
        client: Arc<TargetClient>,
        span: SpanId,
        interrupt: CancellationToken,
    ) -> Finished {
        let event = match self.journal.load(job.lease).await {
            Ok(event) => event,
            Err(error @ LoadError::Damaged { .. }) => {
                tracing::error!(event = %job.event, %error, "a stored event is damaged");
                return Finished::Damaged;
            }
            Err(error @ LoadError::Unreadable { .. }) => {
                tracing::error!(event = %job.event, %error, "a stored event could not be read");
                return Finished::NotAttempted;
            }
        };
        let number = job.attempts.saturating_add(1);
        let started_at = self.clock.now();
        let record = |answer, seen| {
            let duration = self.clock.now().since(started_at);
            Attempt { number, started_at, duration, answer, seen: Box::new(seen) }
        };
        let body = match client.body().render(&event, number) {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(event = %job.event, target_name = %job.target, %error,
                    "no body can be made for this event");
                let seen = Seen { detail: Some(error.to_string()), ..Seen::default() };
                let answer = Answer::Failed(ErrorClass::Template);
                return Finished::Unrenderable(record(answer, seen));
            }
        };
        let trace = self.spans.trace(event.id, &event.headers);
        let call = Call { event: &event, body, number, wall: self.clock.wall(), trace, span };
        let Exchange { answer, seen } = tokio::select! {
            exchange = client.attempt(call) => exchange,
            () = interrupt.cancelled() => Exchange::interrupted(),
        };
        let attempt = record(answer, seen);
        self.spans.record(&trace, || Span::attempt(trace, span, &event, &job.target, &attempt));
        Finished::Attempted(attempt)
    }
}
