//! The durable queue: its contract in the words of a queue.
//!
//! Ingress and relay meet only here, so a restart takes the same path as normal running. The contract
//! names no file, key or transaction, so that another engine can stand beside the embedded one; every engine
//! passes the one suite in `tests/it/journal_contract.rs`.

mod agenda;
mod dedup;
mod ends;
mod index;
mod labels;
mod lines;
mod lookup;
mod notes;
mod quarantine;
mod queue;
mod repeats;
pub mod memory;
mod record;
pub mod sled;
mod slot;
mod table;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use std::time::Duration;

use tokio::sync::{Notify, broadcast};

use crate::model::{
    Attempt, DedupKey, Event, EventId, Name, Rejection, RejectionId, RejectionOutline, Settlement,
    Wanted,
};
use crate::time::{Clock, Timestamp};

pub use self::lookup::{
    Ask, Changed, Found, Group, Happening, Latest, Listed, MAX_PAGE, OperateError, Page,
    PastAttempt, RejectionAsk, Scope, Tally, What,
};
pub(crate) use self::quarantine::AMPLE as QUARANTINE_AMPLE;
pub use self::repeats::{MAX_TOLD, Repeat, Repeats};

/// A boxed future, so that the trait can be used as `dyn Journal`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The durable store of events and deliveries. Methods take `&self` and may be called from many tasks at once.
pub trait Journal: Send + Sync + 'static {
    /// Stores an event, its fan-out to `targets` and its dedup keys as one atomic commit.
    ///
    /// Resolves only when the commit is on stable storage; for a duplicate, when the *first* copy is. Dropping
    /// the future does not cancel the append: the event may be committed all the same, and is then
    /// delivered once, and its repeat is a duplicate. After a crash the event is there with all its
    /// deliveries and dedup keys, or not at all.
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>>;

    /// Remembers that an event was repeated, for [`Journal::find`] to tell: in memory, and a bounded number of them.
    fn repeated(&self, event: EventId, repeat: Repeat);

    /// Says how many deliveries of these targets may be leased from now on, in place of what was said of them before.
    /// What was said of others stays; of a target of which nothing was said nothing is leased. It lives in memory.
    fn demand(&self, wanted: Vec<Wanted>);

    /// Waits until at least one delivery that the demand allows is due, then leases what is due, the longest due
    /// first, at most as many per target as the demand says. What is leased lowers the demand.
    ///
    /// A delivery is leased at most once at a time. Dropping the future before it resolves leases
    /// nothing. Leases live in memory: after a crash every unsettled delivery is due again, with the same
    /// number of attempts.
    fn claim(&self) -> BoxFuture<'_, Vec<Claimed>>;

    /// Reads the event of a lease back, byte for byte.
    fn load(&self, lease: Lease) -> BoxFuture<'_, Result<Event, LoadError>>;

    /// Ends a lease. Resolves when the journal has taken the settlement; it becomes durable with a later commit.
    ///
    /// Idempotent: settling a lease that has ended already changes nothing. A settlement lost in a crash costs
    /// one repeat of the attempt, never a loss. `attempt` is what happened, unless nothing was tried.
    fn settle(
        &self,
        lease: Lease,
        settlement: Settlement,
        attempt: Option<Attempt>,
    ) -> BoxFuture<'_, Result<(), SettleError>>;

    /// What is known of one event, its deliveries and their attempts; `None` when it was never there or its retention
    /// is over.
    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Found>, LoadError>>;

    /// Events that fit a query, the latest first. Events that arrive meanwhile do not move the pages after this one.
    ///
    /// A page may hold fewer events than asked for, or none, before the end is reached: looking takes at most about
    /// 50 ms at a time, and [`Page::next`] says where to go on.
    fn list(&self, ask: Ask) -> BoxFuture<'_, Result<Page, LoadError>>;

    /// Counts dead letters that fit a query, by target and by why they are dead, from the latest event on.
    ///
    /// Counting takes at most about 50 ms at a time, and [`Tally::next`] says where to go on; [`Ask::limit`] bounds
    /// nothing. Each is counted once, also while events arrive, unless it changes meanwhile.
    fn tally(&self, ask: Ask) -> BoxFuture<'_, Result<Tally, LoadError>>;

    /// Makes settled deliveries of an event due again, with no attempts counted and no age, and resolves when that is durable.
    /// Deliveries that are pending are left as they are, so that repeating this does nothing more.
    fn replay(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>>;

    /// Makes pending deliveries of an event due at once, with the attempts that they have had, and before all others of
    /// their target unless it keeps an order. What is in flight or settled is left as it is. It becomes durable with a
    /// later commit: lost in a crash, they are due when they were.
    fn hasten(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>>;

    /// Gives up deliveries of an event that are dead or pending, and resolves when that is durable. One that is in
    /// flight is left alone.
    fn discard(&self, id: EventId, scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>>;

    /// What happens from now on, for whoever watches. A watcher that is too slow misses some of it and is told.
    fn watch(&self) -> broadcast::Receiver<Happening>;

    /// The latest event of each source since the start.
    fn latest(&self) -> BTreeMap<Name, Latest>;

    /// Keeps a refused request in the bounded quarantine. Resolves when it is on stable storage.
    ///
    /// [`AppendError::Full`] when there is no room for it, or its source has had too many lately. Dropping the future
    /// does not cancel it.
    fn reject(&self, rejection: Rejection) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Rejections that are kept, the latest first.
    fn rejections(&self, ask: &RejectionAsk) -> Vec<RejectionOutline>;

    /// One rejection whole; `None` when it is kept no longer.
    fn rejection(&self, id: RejectionId) -> BoxFuture<'_, Result<Option<Rejection>, LoadError>>;

    /// Stores the event that a rejection was, in place of it, as one atomic commit. [`AppendError::NotKept`] when the
    /// rejection is kept no longer: it has been released already, or given up. It stays when the event is not stored.
    fn release(
        &self,
        id: RejectionId,
        append: Append,
    ) -> BoxFuture<'_, Result<Appended, AppendError>>;

    /// Gives rejections up, and says how many of them were kept. Resolves when that is durable.
    fn drop_rejections(&self, ids: Vec<RejectionId>) -> BoxFuture<'_, Result<usize, AppendError>>;

    /// How many rejections each source has that has any.
    fn quarantined(&self) -> BTreeMap<Name, u64>;

    /// Remembers something small over restarts: the latest value of a topic and name counts, and an empty value
    /// forgets it. Resolves when the journal has taken it; it becomes durable with a later commit.
    fn note(&self, note: Note) -> BoxFuture<'_, Result<(), NoteError>>;

    /// Every name and value of a topic, by name.
    fn notes(&self, topic: &str) -> Vec<(String, Vec<u8>)>;

    /// How much is queued per target, those included that only the journal still knows.
    fn depth(&self) -> Vec<Depth>;

    /// Whether an append can be expected to succeed now.
    fn health(&self) -> Health;

    /// Resolves with what the engine reported when the journal fails, and at once when it has: see [`Health::Failed`].
    fn failed(&self) -> BoxFuture<'_, String>;

    /// Makes every settlement taken so far durable and stops. Appends after this are refused with
    /// [`AppendError::Closed`]; what was waiting is committed first.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What one [`Journal::append`] stores.
#[derive(Clone, Debug)]
pub struct Append {
    /// The event; its id must be new.
    pub event: Event,
    /// One delivery for each; may be empty, then the event is kept as history only.
    pub targets: Vec<Name>,
    /// The append is a duplicate when any of these is already known.
    pub dedup: Vec<DedupKey>,
}

/// How an append ended. Both mean that the webhook is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// A new event.
    New(EventId),
    /// A repeat of this earlier event; nothing was stored.
    Duplicate(EventId),
}

/// Why an append was refused. In each case except [`AppendError::Failed`] nothing of it was or will be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The waiting room, the configured size or the disk is full.
    #[error("the journal is full")]
    Full,
    /// The event is larger than one commit may be.
    #[error("the event is larger than a journal record may be")]
    TooLarge,
    /// The journal is stopping.
    #[error("the journal is closed")]
    Closed,
    /// The rejection that was to be released is kept no longer.
    #[error("the rejection is kept no longer")]
    NotKept,
    /// The commit failed; whether it is on the disk is not known, and nothing was acknowledged.
    #[error("the journal could not make the event durable")]
    Failed,
}

/// The right to attempt one delivery once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The event's place in the journal.
    pub sequence: u64,
    /// The journal's number of the target.
    pub target: u16,
    /// Tells this lease from an earlier one of the same delivery.
    pub turn: u32,
}

/// A delivery that was leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// To be settled once, whatever happens.
    pub lease: Lease,
    /// Whose event it is.
    pub target: Name,
    /// The event.
    pub event: EventId,
    /// When the event was received: its age decides about `expire`, unless the delivery is `revived`.
    pub received_at: Timestamp,
    /// Attempts made and counted so far.
    pub attempts: u32,
    /// An operator made it due again, so that its event's age does not decide.
    pub revived: bool,
}

/// Why an event could not be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The stored bytes fail their check. The record is counted and kept; the delivery is dead.
    #[error("the stored event is damaged: {detail}")]
    Damaged {
        /// Which check failed.
        detail: String,
    },
    /// The store could not be read at all; a later try may succeed.
    #[error("the journal could not be read: {detail}")]
    Unreadable {
        /// What the engine reported.
        detail: String,
    },
}

/// Why a settlement was not taken. The delivery will be attempted once more after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The journal has stopped or failed.
    #[error("the journal no longer takes settlements")]
    Closed,
}

/// Something small that outlives the process, for example that a target is paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about; at most 255 bytes.
    pub topic: String,
    /// Whom it is about; at most 255 bytes.
    pub name: String,
    /// At most [`MAX_NOTE`] bytes; empty forgets the note.
    pub value: Vec<u8>,
}

/// Most bytes of one note's value.
pub const MAX_NOTE: usize = 4 * 1024;
/// Most bytes of all notes together: each generation of the journal begins with them.
pub const MAX_NOTES: usize = 2 * 1024 * 1024;

/// Why a note was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is longer than a note may be, or all notes together would be.
    #[error("the note is too long, or there are too many of them")]
    TooLarge,
    /// The journal has stopped or failed.
    #[error("the journal no longer takes notes")]
    Closed,
}

/// One delivery as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryState {
    /// The target.
    pub target: Name,
    /// Where it is in its life.
    pub stage: Stage,
    /// Attempts made and counted so far.
    pub attempts: u32,
}

/// The life of a delivery: `Ready -> InFlight -> Delivered | Dead | Waiting`, `Waiting -> InFlight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Due, not leased.
    Ready,
    /// Due at the given moment.
    Waiting(Timestamp),
    /// Leased.
    InFlight,
    /// Final: the target has it.
    Delivered,
    /// Final until retried by an operator: a dead letter.
    Dead(crate::model::DeadReason),
    /// Final: an operator gave it up.
    Discarded,
}

/// The queue of one target in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The target.
    pub target: Name,
    /// Due and not leased.
    pub ready: u64,
    /// Waiting for their next attempt.
    pub waiting: u64,
    /// Leased.
    pub in_flight: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// When the oldest event that is still pending (ready, waiting or in flight) was received.
    pub oldest: Option<Timestamp>,
}

/// Whether the journal can be relied on to take the next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Appends are being committed.
    Healthy,
    /// Appends are refused for now; deliveries go on.
    Full {
        /// Which bound was reached.
        detail: String,
    },
    /// A commit failed. The process must end: only a new open can tell what is on the disk.
    Failed {
        /// What the engine reported.
        detail: String,
    },
}

/// Longest wait before the queue is looked at again, whatever was promised to wake the waiter.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Waits until `take` takes something, which it is asked to when something changes and when the next delivery
/// it knows of becomes due. Between the taking and the return nothing is awaited, so that dropping this future
/// never leaves a lease without an owner.
async fn wait_for_due<F>(clock: &Clock, changed: &Notify, mut take: F) -> Vec<Claimed>
where
    F: FnMut(Timestamp) -> (Vec<Claimed>, Option<Timestamp>),
{
    loop {
        let mut change = std::pin::pin!(changed.notified());
        // From here on no change is missed.
        change.as_mut().enable();
        let now = clock.now();
        let (claimed, next) = take(now);
        if !claimed.is_empty() {
            return claimed;
        }
        let again = now.plus(LOOK_AGAIN);
        tokio::select! {
            () = change => {}
            () = clock.sleep_until(next.map_or(again, |due| due.min(again))) => {}
        }
    }
}
