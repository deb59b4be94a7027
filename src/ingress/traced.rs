//! The two spans of a request that was to be stored: its receipt, and the commit inside it.

use super::answer::Cause;
use crate::journal::Appended;
use crate::model::{EventId, Name};
use crate::rules::trace::{SpanId, Trace};
use crate::time::Timestamp;
use crate::trace::{Span, Spans, Work};

/// A request that is being stored, of which will be told.
pub(super) struct Traced {
    pub(super) trace: Trace,
    /// The id it has if it is no repeat.
    pub(super) event: EventId,
    pub(super) source: Name,
    pub(super) name: String,
    /// When its head was there.
    pub(super) arrived: Timestamp,
    /// When it was complete.
    pub(super) begun: Timestamp,
}

impl Traced {
    /// Tells of it once it is stored, or will not be.
    pub(super) fn ended(self, spans: &Spans, stored: &Result<Appended, Cause>, now: Timestamp) {
        let Self { trace, event, source, name, arrived, begun } = self;
        let fault = stored.as_ref().err().map(|cause| cause.as_str());
        let status = stored.as_ref().err().map_or(200, |cause| cause.status());
        let span = |work, id, parent, began| {
            let source = source.clone();
            Span { trace, id, parent, work, began, ended: now, event, source, fault }
        };
        let received = trace.received;
        spans.record(&trace, || span(Work::Commit, within(received), Some(received), begun));
        let receive = Work::Receive { name, status };
        spans.record(&trace, || span(receive, received, trace.parent, arrived));
    }
}

/// The id of the commit in a receipt: another one, as random as the receipt's own.
fn within(received: SpanId) -> SpanId {
    received.map(|byte| !byte)
}
