//! What follows when a request is durable, also when its sender has left by then: its build has had its step, and a
//! repeat is noted and compared with what it repeats.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::SourceState;
use super::caller::Caller;
use crate::journal::{Appended, Repeat};
use crate::model::{EventId, Headers, Refusal, Rejection, RejectionId};
use crate::time::Timestamp;

/// What is to be done then.
pub(super) struct Afterwards {
    pub(super) caller: Arc<Caller>,
    pub(super) source: Arc<SourceState>,
    /// The build and the step, when builds are watched.
    pub(super) step: Option<(String, String)>,
    /// The id it gets if it is no repeat.
    pub(super) id: EventId,
    pub(super) received_at: Timestamp,
    pub(super) client: IpAddr,
    /// Present when a repeat may say something else.
    pub(super) said: Option<Said>,
}

/// What came.
pub(super) struct Said {
    pub(super) query: Option<String>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

impl Afterwards {
    pub(super) fn follow(self, appended: &Appended) {
        let Self { caller, source, .. } = self;
        let shared = &caller.shared;
        if let Some(quiet) = &source.quiet {
            quiet.heard(&*shared.journal, self.received_at);
        }
        let first = match appended {
            Appended::New(_) => {
                if let (Some(watch), Some((build, name))) = (&source.watch, self.step) {
                    watch.stored(&*shared.journal, &build, &name, self.received_at);
                }
                return;
            }
            Appended::Duplicate(first) => *first,
        };
        shared.journal.repeated(first, Repeat { at: self.received_at, client: self.client });
        let Some(Said { query, headers, body }) = self.said else { return };
        let copy = Rejection {
            // The id of the event that it is not.
            id: RejectionId::from_bytes(self.id.to_bytes()),
            source: source.name.clone(),
            cause: Refusal::Conflict,
            received_at: self.received_at,
            client: self.client,
            held: false,
            query,
            headers,
            body,
        };
        source.conflicts.look(&shared.journal, &shared.tasks, first, copy);
    }
}
