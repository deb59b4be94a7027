//! What follows when a request is durable, also when its sender has left by then: its build has had its step, and a
//! repeat is noted and compared with what it repeats.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::conflict::Conflicts;
use super::quiet::Quiet;
use super::watch::Watch;
use crate::journal::{Appended, Journal, Repeat};
use crate::lifecycle::Tasks;
use crate::model::{EventId, Headers, Name, Refusal, Rejection, RejectionId};
use crate::time::Timestamp;

/// What is to be done then.
pub(super) struct Afterwards {
    /// The build and the step, when builds are watched.
    pub(super) step: Option<(Arc<Watch>, String, String)>,
    /// Present when something is expected of the source.
    pub(super) quiet: Option<Arc<Quiet>>,
    /// Present when a repeat may say something else.
    pub(super) conflicts: Option<Arc<Conflicts>>,
    pub(super) source: Name,
    /// The id it gets if it is no repeat.
    pub(super) id: EventId,
    pub(super) received_at: Timestamp,
    pub(super) client: IpAddr,
    pub(super) query: Option<String>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
    pub(super) tasks: Tasks,
}

impl Afterwards {
    pub(super) fn follow(self, journal: &Arc<dyn Journal>, appended: &Appended) {
        if let Some(quiet) = &self.quiet {
            quiet.heard(&**journal, self.received_at);
        }
        let first = match appended {
            Appended::New(_) => {
                if let Some((watch, build, name)) = self.step {
                    watch.stored(&**journal, &build, &name, self.received_at);
                }
                return;
            }
            Appended::Duplicate(first) => *first,
        };
        journal.repeated(first, Repeat { at: self.received_at, client: self.client });
        let Some(conflicts) = self.conflicts else { return };
        let copy = Rejection {
            // The id of the event that it is not.
            id: RejectionId::from_bytes(self.id.to_bytes()),
            source: self.source,
            cause: Refusal::Conflict,
            received_at: self.received_at,
            client: self.client,
            held: false,
            query: self.query,
            headers: self.headers,
            body: self.body,
        };
        conflicts.look(journal, &self.tasks, first, copy);
    }
}
