//! What an operator asks of the journal and is answered: lists, one event whole, replay and discard.

use std::collections::BTreeMap;

use super::repeats::Repeats;
use super::slot::State;
use super::{DeliveryState, Stage};
use crate::model::{
    Attempt, DeadReason, Event, EventId, Name, Refusal, RejectionId, RejectionOutline,
};
use crate::rules::query::{DeliveryOutline, Outline, Query, StateWord};
use crate::time::Timestamp;

/// Most events in one page.
pub const MAX_PAGE: usize = 1_000;

/// A page of events that is wanted.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// What they must be like.
    pub query: Query,
    /// Only events before this place, which an earlier page named; `None` begins with the latest.
    pub before: Option<u64>,
    /// Most events; at most [`MAX_PAGE`].
    pub limit: usize,
}

/// Events that fit, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The events.
    pub items: Vec<Listed>,
    /// Where the next page begins; `None` when there is nothing more.
    pub next: Option<u64>,
}

/// One event in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its place in the order of all events; higher is later. What [`Ask::before`] takes.
    pub sequence: u64,
    /// The event.
    pub id: EventId,
    /// The source that received it.
    pub source: String,
    /// The provider's name for what happened.
    pub name: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// Bytes of its body and header fields, roughly.
    pub bytes: u64,
    /// One for each target it was routed to.
    pub deliveries: Vec<DeliveryState>,
}

/// Dead letters that were counted, by target and by why they are dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What was counted.
    pub groups: BTreeMap<(Name, DeadReason), Group>,
    /// Where to go on counting; `None` when there is nothing more.
    pub next: Option<u64>,
}

/// Dead letters of one target that are dead for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many there are.
    pub count: u64,
    /// When the event of the oldest was received.
    pub oldest: Timestamp,
    /// When the event of the newest was received.
    pub newest: Timestamp,
}

/// A recorded attempt with its target and when the delivery was due again, if it was.
pub type PastAttempt = (Name, Attempt, Option<Timestamp>);

/// One event with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its place in the order of all events.
    pub sequence: u64,
    /// The event as it came.
    pub event: Event,
    /// One for each target it was routed to.
    pub deliveries: Vec<DeliveryState>,
    /// Every recorded attempt, oldest first.
    pub attempts: Vec<PastAttempt>,
    /// Its repeats since the process began.
    pub repeats: Repeats,
}

/// Which deliveries of an event are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those that are dead letters.
    Dead,
    /// Those to these targets. A replay makes a delivery to a target that had none.
    Targets(Vec<Name>),
    /// Those to these targets that are dead letters.
    DeadOf(Vec<Name>),
}

/// Rejections that are wanted, the latest first.
#[derive(Clone, Debug, Default)]
pub struct RejectionAsk {
    /// Of these sources; empty asks for all.
    pub source: Vec<Name>,
    /// Refused for these causes; empty asks for all.
    pub cause: Vec<Refusal>,
    /// Only those that are held, or only those that are not.
    pub held: Option<bool>,
    /// Received at or after this moment.
    pub since: Option<Timestamp>,
    /// Received before this moment.
    pub until: Option<Timestamp>,
    /// Only those before this one.
    pub before: Option<RejectionId>,
    /// Most of them; at most [`MAX_PAGE`].
    pub limit: usize,
}

impl RejectionAsk {
    /// Whether one is wanted.
    pub(super) fn fits(&self, outline: &RejectionOutline) -> bool {
        (self.source.is_empty() || self.source.contains(&outline.source))
            && (self.cause.is_empty() || self.cause.contains(&outline.cause))
            && self.held.is_none_or(|held| held == outline.held)
            && self.since.is_none_or(|since| outline.received_at >= since)
            && self.until.is_none_or(|until| outline.received_at < until)
    }
}

/// How many deliveries were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Deliveries that are in the wanted state now and were not before.
    pub deliveries: usize,
}

/// Why an operator's wish was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperateError {
    /// There is no such event, or its retention is over.
    #[error("the journal holds no such event")]
    Unknown,
    /// The event cannot be read.
    #[error("the event cannot be read: {0}")]
    Unreadable(super::LoadError),
    /// The journal takes nothing now: it is full, closed or has failed.
    #[error("the change could not be made durable: {0}")]
    Refused(super::AppendError),
}

/// The latest event of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// The event.
    pub id: EventId,
    /// Its name.
    pub name: String,
    /// When it was received.
    pub received_at: Timestamp,
}

/// Something that happened to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// The event.
    pub id: EventId,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was accepted from this source under this name.
    Accepted {
        /// The source.
        source: Name,
        /// The event's name.
        name: String,
        /// When it was received.
        received_at: Timestamp,
    },
    /// A delivery of it changed.
    Delivery(DeliveryState),
}

impl Tally {
    /// Counts what was counted of one target and reason elsewhere.
    pub fn add(&mut self, target: Name, reason: DeadReason, group: Group) {
        self.groups.entry((target, reason)).and_modify(|it| it.add(group)).or_insert(group);
    }

    /// Takes up a count that goes on where this one ended.
    pub fn go_on(&mut self, later: Self) {
        self.next = later.next;
        for ((target, reason), group) in later.groups {
            self.add(target, reason, group);
        }
    }
}

impl Group {
    /// One dead letter, of an event that was received then.
    pub(super) fn of_one(received_at: Timestamp) -> Self {
        Self { count: 1, oldest: received_at, newest: received_at }
    }

    /// Takes another one in.
    pub(super) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.oldest = self.oldest.min(other.oldest);
        self.newest = self.newest.max(other.newest);
    }
}

impl Scope {
    /// Whether a delivery is meant.
    pub(super) fn includes(&self, target: &Name, is_dead: bool) -> bool {
        match self {
            Self::All => true,
            Self::Dead => is_dead,
            Self::Targets(targets) => targets.contains(target),
            Self::DeadOf(targets) => is_dead && targets.contains(target),
        }
    }

    /// Targets that a replay may make a delivery for.
    pub(super) fn new_targets(&self) -> &[Name] {
        match self {
            Self::Targets(targets) => targets,
            Self::All | Self::Dead | Self::DeadOf(_) => &[],
        }
    }
}

impl DeliveryState {
    /// What a query is asked about it.
    pub fn outline(&self) -> DeliveryOutline<'_> {
        let (state, reason) = self.stage.word();
        DeliveryOutline { target: &self.target, state, reason, attempts: self.attempts }
    }
}

impl Stage {
    /// The word for it, and why the delivery is dead if it is.
    pub fn word(self) -> (StateWord, Option<DeadReason>) {
        match self {
            Self::Ready => (StateWord::Ready, None),
            Self::Waiting(_) => (StateWord::Waiting, None),
            Self::InFlight => (StateWord::InFlight, None),
            Self::Delivered => (StateWord::Delivered, None),
            Self::Dead(reason) => (StateWord::Dead, Some(reason)),
            Self::Discarded => (StateWord::Discarded, None),
        }
    }
}

impl From<State> for Stage {
    fn from(state: State) -> Self {
        match state {
            State::Ready => Self::Ready,
            State::Waiting(due) => Self::Waiting(due),
            State::InFlight(_) => Self::InFlight,
            State::Delivered => Self::Delivered,
            State::Dead(reason) => Self::Dead(reason),
            State::Discarded => Self::Discarded,
        }
    }
}

impl Listed {
    /// Whether the first step of a query lets it through.
    pub(super) fn fits(&self, query: &Query) -> bool {
        let outline = Outline {
            id: self.id,
            source: &self.source,
            name: &self.name,
            received_at: self.received_at,
        };
        query.fits(outline)
            && (!query.asks_delivery()
                || self.deliveries.iter().any(|it| query.fits_delivery(it.outline())))
    }
}
