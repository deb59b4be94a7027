//! The journal's contract, kept by this engine: each call enters memory or the writer's waiting room.

use std::collections::BTreeMap;

use tokio::sync::broadcast;

use super::keep::{self, Keeping};
use super::{Ending, SledJournal};
use crate::journal::index::Slot;
use crate::journal::record::Record;
use crate::journal::{
    Append, AppendError, Appended, Ask, BoxFuture, Changed, Claimed, Depth, Found, Happening,
    Health, Journal, Latest, Lease, LoadError, MAX_PAGE, Note, NoteError, OperateError, Page,
    RejectionAsk, Repeat, Scope, SettleError, Tally, wait_for_due,
};
use crate::model::{
    Attempt, Event, EventId, Name, Rejection, RejectionId, RejectionOutline, Settlement, Wanted,
};

impl Journal for SledJournal {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.enter(append, None)
    }

    fn repeated(&self, event: EventId, repeat: Repeat) {
        self.shared.memory().repeated.note(event, repeat);
    }

    fn demand(&self, wanted: Vec<Wanted>) {
        let mut memory = self.shared.memory();
        for wanted in wanted {
            memory.index.demand(wanted);
        }
        drop(memory);
        self.shared.changed.notify_waiters();
    }

    fn claim(&self) -> BoxFuture<'_, Vec<Claimed>> {
        Box::pin(wait_for_due(&self.shared.clock, &self.shared.changed, move |now| {
            let mut memory = self.shared.memory();
            let claimed = memory.index.take(now);
            (claimed, memory.index.next_due())
        }))
    }

    fn load(&self, lease: Lease) -> BoxFuture<'_, Result<Event, LoadError>> {
        Box::pin(self.load_event(lease))
    }

    fn settle(
        &self,
        lease: Lease,
        settlement: Settlement,
        attempt: Option<Attempt>,
    ) -> BoxFuture<'_, Result<(), SettleError>> {
        let settled = {
            let mut memory = self.shared.memory();
            let settled = memory.index.settle(lease, settlement, attempt.is_some());
            if let Some(settled) = settled.filter(|settled| settled.forgotten) {
                memory.usage.released(settled.place);
            }
            settled
        };
        let taken = settled.is_none_or(|settled| {
            self.shared.changed.notify_waiters();
            self.shared.settled(lease.target, &settled);
            if settlement == Settlement::Released && attempt.is_none() {
                // On the disk it was never leased.
                return true;
            }
            let record = Record::Settled {
                sequence: lease.sequence,
                target: lease.target,
                attempts: settled.attempts,
                state: settled.state,
                at: self.shared.clock.now(),
                attempt,
            };
            self.shared.ride_along(record, Some(settled.place))
        });
        Box::pin(async move { if taken { Ok(()) } else { Err(SettleError::Closed) } })
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Found>, LoadError>> {
        Box::pin(async move { self.look_up(move |library| library.find(id)).await? })
    }

    fn list(&self, ask: Ask) -> BoxFuture<'_, Result<Page, LoadError>> {
        Box::pin(async move {
            self.look_up(move |library| library.list(&ask).map_err(LoadError::from)).await?
        })
    }

    fn tally(&self, ask: Ask) -> BoxFuture<'_, Result<Tally, LoadError>> {
        Box::pin(async move {
            self.look_up(move |library| library.tally(&ask).map_err(LoadError::from)).await?
        })
    }

    fn replay(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        Box::pin(self.wish(id, scope, true))
    }

    fn hasten(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        Box::pin(async move {
            let sequence = self.newest(id).await?.sequence;
            let (hastened, place) = {
                let mut memory = self.shared.memory();
                let hastened = memory.index.hasten_all(sequence, &scope);
                let place = memory.index.get(sequence).map(|entry| entry.place);
                for slot in &hastened {
                    self.shared.changed_delivery(&memory, sequence, slot.target);
                }
                (hastened, place)
            };
            self.shared.changed.notify_waiters();
            for Slot { target, attempts, state } in &hastened {
                let (target, attempts, state) = (*target, *attempts, *state);
                let at = self.shared.clock.now();
                let record =
                    Record::Settled { sequence, target, attempts, state, at, attempt: None };
                self.shared.ride_along(record, place);
            }
            Ok(Changed { deliveries: hastened.len() })
        })
    }

    fn discard(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        Box::pin(self.wish(id, scope, false))
    }

    fn watch(&self) -> broadcast::Receiver<Happening> {
        self.shared.watch()
    }

    fn latest(&self) -> BTreeMap<Name, Latest> {
        self.shared.memory().latest.clone()
    }

    fn reject(&self, rejection: Rejection) -> BoxFuture<'_, Result<(), AppendError>> {
        let kept = self.keep(|answer| Keeping::Reject(Box::new(rejection), answer));
        Box::pin(async move { kept.await.map(|_one| ()) })
    }

    fn rejections(&self, ask: &RejectionAsk) -> Vec<RejectionOutline> {
        let memory = self.shared.memory();
        let limit = ask.limit.clamp(1, MAX_PAGE);
        memory.quarantine.list(ask.before, |outline| ask.fits(outline), limit)
    }

    fn rejection(&self, id: RejectionId) -> BoxFuture<'_, Result<Option<Rejection>, LoadError>> {
        Box::pin(async move {
            let known = || self.shared.memory().quarantine.get(id).cloned();
            let Some(mut kept) = known() else { return Ok(None) };
            // It is known while it is being written.
            self.shared.durable(kept.place.commit).await;
            loop {
                let read = self.read(kept.place).await;
                // It may have been moved to another generation while it was being read.
                match known() {
                    None => return Ok(None),
                    Some(now) if read.is_err() && now.place != kept.place => kept = now,
                    Some(_) => return Ok(Some(keep::whole(id, &kept, read?))),
                }
            }
        })
    }

    fn release(
        &self,
        id: RejectionId,
        append: Append,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.enter(append, Some(id))
    }

    fn drop_rejections(&self, ids: Vec<RejectionId>) -> BoxFuture<'_, Result<usize, AppendError>> {
        self.keep(|answer| Keeping::Drop(ids, answer))
    }

    fn quarantined(&self) -> BTreeMap<Name, u64> {
        self.shared.memory().quarantine.counts()
    }

    fn note(&self, note: Note) -> BoxFuture<'_, Result<(), NoteError>> {
        let taken = self.take_note(note);
        Box::pin(async move { taken })
    }

    fn notes(&self, topic: &str) -> Vec<(String, Vec<u8>)> {
        self.shared.memory().notes.of(topic)
    }

    fn depth(&self) -> Vec<Depth> {
        let now = self.shared.clock.now();
        self.shared.memory().index.depth(now)
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    fn failed(&self) -> BoxFuture<'_, String> {
        Box::pin(self.shared.failed())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        // Joining the writer blocks for one commit; this runs once, when everything else has ended.
        Box::pin(async move { self.end(Ending::Close) })
    }
}
