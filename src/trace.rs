//! What is told of one event's way: a span for the request that brought it, for its commit and for each attempt.
//!
//! A span is made when its work has ended, and only where spans are kept; otherwise nothing is made and no clock is read.
//! A queue takes them without waiting: what it has no room for is dropped and counted, so nobody who delivers or receives
//! ever waits for a collector.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::metrics::SpanMetrics;
use crate::model::{Answer, Attempt, Event, EventId, Headers, Name};
use crate::rules::trace::{SpanId, Trace};
use crate::time::Timestamp;

/// Where spans go. Cheap to clone; the default keeps none.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    queue: mpsc::Sender<Span>,
    share: f64,
    metrics: SpanMetrics,
}

/// Work that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: Trace,
    /// Its own id.
    pub id: SpanId,
    /// The span that it is part of.
    pub parent: Option<SpanId>,
    /// What was done.
    pub work: Work,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The event.
    pub event: EventId,
    /// The source of the event.
    pub source: Name,
    /// Why it did not succeed, as a word of a closed set.
    pub fault: Option<&'static str>,
}

/// What a span tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A request was received and answered.
    Receive {
        /// The event's name.
        name: String,
        /// The answer's status code.
        status: u16,
    },
    /// The event was brought to stable storage.
    Commit,
    /// The event was sent to a target.
    Attempt {
        /// The target.
        target: Name,
        /// From 1.
        number: u32,
        /// The status code of the answer, if there was one.
        status: Option<u16>,
    },
}

impl Spans {
    /// Keeps spans in a queue for so many; of the traces that begin here this share is recorded.
    pub fn kept(room: usize, share: f64, metrics: SpanMetrics) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(room);
        (Self(Some(Arc::new(Kept { queue, share, metrics }))), spans)
    }

    /// Whether spans go anywhere at all.
    pub fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// The trace of an event.
    pub fn trace(&self, event: EventId, headers: &Headers) -> Trace {
        let share = self.0.as_ref().map_or(1.0, |kept| kept.share);
        Trace::of(event, headers, share)
    }

    /// Keeps a span of a trace that is recorded. Never waits.
    pub fn record(&self, trace: &Trace, span: impl FnOnce() -> Span) {
        let Some(kept) = self.0.as_ref().filter(|_| trace.is_sampled()) else { return };
        if kept.queue.try_send(span()).is_err() {
            kept.metrics.dropped.inc();
        }
    }
}

impl Span {
    /// An attempt that has ended.
    pub fn attempt(
        trace: Trace,
        id: SpanId,
        event: &Event,
        target: &Name,
        attempt: &Attempt,
    ) -> Self {
        let (status, fault) = match &attempt.answer {
            Answer::Status { status, .. } => (Some(*status), None),
            Answer::Failed(class) => (None, Some(class.as_str())),
            Answer::Interrupted => (None, Some("interrupted")),
        };
        let refused = status.filter(|status| !(200..300).contains(status)).map(|_| "status");
        Self {
            trace,
            id,
            parent: Some(trace.received),
            work: Work::Attempt { target: target.clone(), number: attempt.number, status },
            began: attempt.started_at,
            ended: attempt.started_at.plus(attempt.duration),
            event: event.id,
            source: event.source.clone(),
            fault: fault.or(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn span(trace: Trace) -> Span {
        let event = EventId::new(Timestamp::from_secs(1), [1; 10]);
        let source = Name::parse("a").unwrap();
        let (began, ended) = (Timestamp::from_secs(1), Timestamp::from_secs(2));
        let (id, parent, fault, work) = ([1; 8], None, None, Work::Commit);
        Span { trace, id, parent, work, began, ended, event, source, fault }
    }

    #[test]
    fn what_the_queue_has_no_room_for_is_dropped_and_counted() {
        let metrics = Metrics::new("1", "r").unwrap().spans().unwrap();
        let (spans, mut queue) = Spans::kept(2, 1.0, metrics.clone());
        let trace =
            spans.trace(EventId::new(Timestamp::from_secs(1), [1; 10]), &Headers::default());
        for _ in 0..5 {
            spans.record(&trace, || span(trace));
        }
        assert_eq!(metrics.dropped.get(), 3);
        assert!(queue.try_recv().is_ok() && queue.try_recv().is_ok() && queue.try_recv().is_err());
    }

    #[test]
    fn no_span_is_made_where_none_is_kept_or_the_trace_is_not_recorded() {
        let metrics = Metrics::new("1", "r").unwrap().spans().unwrap();
        let (spans, _queue) = Spans::kept(2, 0.0, metrics);
        let event = EventId::new(Timestamp::from_secs(1), [1; 10]);
        for spans in [spans, Spans::default()] {
            let mut trace = spans.trace(event, &Headers::default());
            trace.flags = u8::from(!spans.are_kept());
            spans.record(&trace, || panic!("a span was made"));
        }
    }
}
