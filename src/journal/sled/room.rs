//! The waiting room: what the next commits will hold, in the order in which it came, and bounded.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::keep::Keeping;
use super::operate::Wish;
use super::restore::Restored;
use crate::journal::record::Record;
use crate::journal::record::content::Place;
use crate::journal::{Append, AppendError, Appended};
use crate::model::RejectionId;

/// Most appends that wait for a commit.
const MAX_WAITING: usize = 16 * 1024;
/// Most bytes that wait for a commit.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Most appends in one commit.
const MAX_COMMIT: usize = 1024;
/// Most bytes in one commit, unless one event alone is larger.
const MAX_COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// Settlements that wait force a commit of their own at this number.
const ENOUGH_SETTLEMENTS: usize = 4 * 1024;
/// Most settlements that wait while nothing can be written. One more is dropped: it costs a repeat after a restart.
const MAX_SETTLEMENTS: usize = 256 * 1024;
/// Most decisions of an operator that wait for a commit.
const MAX_WISHES: usize = 4 * 1024;
/// Most changes of the quarantine that wait for a commit, and their bytes.
const MAX_KEEPING: usize = 1024;
const MAX_KEEPING_BYTES: usize = 16 * 1024 * 1024;

/// Someone who waits for an append.
pub(super) type Answer = oneshot::Sender<Result<Appended, AppendError>>;

/// An append in the waiting room.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) work: Work,
    pub(super) answer: Answer,
    /// The rejection that the event takes the place of.
    pub(super) releases: Option<RejectionId>,
}

/// What waits.
#[derive(Debug)]
pub(super) enum Work {
    Append(Append),
    /// Something that another journal held.
    Restore(Box<Restored>),
}

/// How the writer is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Commit what waits, then end.
    Close,
    /// End at once.
    Abandon,
}

/// A small record, and the place of its event, if it is about one.
type Settlement = (Record, Option<Place>);

/// What waits for the next commit.
#[derive(Default)]
pub(super) struct Room {
    appends: VecDeque<Waiting>,
    bytes: usize,
    settlements: Vec<Settlement>,
    wishes: Vec<Wish>,
    keeping: Vec<Keeping>,
    keeping_bytes: usize,
    ending: Option<Ending>,
}

/// What one commit takes.
pub(super) struct Taken {
    pub(super) appends: VecDeque<Waiting>,
    pub(super) settlements: Vec<Settlement>,
    pub(super) wishes: Vec<Wish>,
    pub(super) keeping: Vec<Keeping>,
    pub(super) ending: Option<Ending>,
}

impl Room {
    /// Lets an append wait, or says why not.
    pub(super) fn append(&mut self, waiting: Waiting) -> Result<(), AppendError> {
        self.is_open()?;
        let bytes = self.bytes.saturating_add(weight(&waiting));
        if self.appends.len() >= MAX_WAITING || (bytes > MAX_WAITING_BYTES && self.bytes > 0) {
            return Err(AppendError::Full);
        }
        self.bytes = bytes;
        self.appends.push_back(waiting);
        Ok(())
    }

    /// Lets a settlement, or a note, wait; false when it cannot.
    pub(super) fn settle(&mut self, record: Record, place: Option<Place>) -> bool {
        let is_taken = self.ending.is_none() && self.settlements.len() < MAX_SETTLEMENTS;
        if is_taken {
            self.settlements.push((record, place));
        }
        is_taken
    }

    /// Whether a writer that waits has to hear of the settlement that came last.
    pub(super) fn has_news(&self) -> bool {
        self.settlements.len() == 1 || self.settlements.len() >= ENOUGH_SETTLEMENTS
    }

    /// Lets an operator's decision wait, or says why not.
    pub(super) fn wish(&mut self, wish: Wish) -> Result<(), AppendError> {
        self.is_open()?;
        if self.wishes.len() >= MAX_WISHES {
            return Err(AppendError::Full);
        }
        self.wishes.push(wish);
        Ok(())
    }

    /// Lets a change of the quarantine of so many bytes wait, or says why not.
    pub(super) fn keep(&mut self, keeping: Keeping, bytes: usize) -> Result<(), AppendError> {
        self.is_open()?;
        let bytes = self.keeping_bytes.saturating_add(bytes);
        // Nobody waits for what is not held, so it leaves half of the room to the rest.
        let is_held = !matches!(&keeping, Keeping::Reject(rejection, _) if !rejection.held);
        let part = if is_held { 1 } else { 2 };
        let is_full = bytes > MAX_KEEPING_BYTES / part && self.keeping_bytes > 0;
        if self.keeping.len() >= MAX_KEEPING / part || is_full {
            return Err(AppendError::Full);
        }
        self.keeping_bytes = bytes;
        self.keeping.push(keeping);
        Ok(())
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.has_only_settlements() && self.settlements.is_empty()
    }

    /// Whether nothing waits, and the writer is not told to end.
    pub(super) fn is_idle(&self) -> bool {
        self.is_empty() && self.ending.is_none()
    }

    /// Whether settlements may wait for something whose commit they can ride on.
    pub(super) fn may_linger(&self) -> bool {
        let few = (1..ENOUGH_SETTLEMENTS).contains(&self.settlements.len());
        few && self.has_only_settlements() && self.ending.is_none()
    }

    fn has_only_settlements(&self) -> bool {
        self.appends.is_empty() && self.wishes.is_empty() && self.keeping.is_empty()
    }

    /// Tells the writer to end; what comes after this is refused.
    pub(super) fn end(&mut self, how: Ending) {
        self.ending = Some(how);
    }

    /// How the writer is to end, if it is.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Ends at once, and says who waits for an append that is not to be. Whoever waits for something else is told by its
    /// end.
    pub(super) fn give_up(&mut self) -> VecDeque<Waiting> {
        self.ending = Some(Ending::Abandon);
        (self.wishes, self.keeping) = (Vec::new(), Vec::new());
        std::mem::take(&mut self.appends)
    }

    /// Takes what one commit may hold. What waits is mostly taken as a whole, and as much room is left for what will come
    /// until the next commit: nothing is moved while others wait for the room.
    pub(super) fn take(&mut self) -> Taken {
        let appends = self.take_appends();
        let next = Vec::with_capacity(self.settlements.len().min(ENOUGH_SETTLEMENTS));
        let settlements = std::mem::replace(&mut self.settlements, next);
        let (wishes, keeping) =
            (std::mem::take(&mut self.wishes), std::mem::take(&mut self.keeping));
        self.keeping_bytes = 0;
        Taken { appends, settlements, wishes, keeping, ending: self.ending }
    }

    fn take_appends(&mut self) -> VecDeque<Waiting> {
        if self.appends.len() <= MAX_COMMIT && self.bytes <= MAX_COMMIT_BYTES {
            self.bytes = 0;
            let next = VecDeque::with_capacity(self.appends.len());
            return std::mem::replace(&mut self.appends, next);
        }
        let (mut count, mut bytes) = (0, 0_usize);
        for size in self.appends.iter().take(MAX_COMMIT).map(weight) {
            let more = bytes.saturating_add(size);
            if more > MAX_COMMIT_BYTES && count > 0 {
                break;
            }
            (count, bytes) = (count + 1, more);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        self.appends.drain(..count).collect()
    }

    fn is_open(&self) -> Result<(), AppendError> {
        if self.ending.is_some() { Err(AppendError::Closed) } else { Ok(()) }
    }
}

/// What an append occupies while it waits.
fn weight(waiting: &Waiting) -> usize {
    let event = match &waiting.work {
        Work::Append(append) => &append.event,
        Work::Restore(restored) => return restored.weight().saturating_add(512),
    };
    event.body.len().saturating_add(event.headers.packed().len()).saturating_add(512)
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Event, EventId, Headers, Name};
    use crate::time::Timestamp;

    /// An append of an event of this name and so many bytes, which nobody waits for.
    pub(in super::super) fn append(name: &str, bytes: usize) -> Waiting {
        let event = Event {
            id: EventId::new(Timestamp::EPOCH, [0; 10]),
            source: Name::parse("a").unwrap(),
            name: name.into(),
            order_key: None,
            received_at: Timestamp::EPOCH,
            headers: Headers::default(),
            body: Bytes::from(vec![0; bytes]),
        };
        let work = Work::Append(Append { event, targets: Vec::new(), dedup: Vec::new() });
        Waiting { work, answer: oneshot::channel().0, releases: None }
    }

    fn names(taken: Taken) -> Vec<usize> {
        let name = |waiting: Waiting| match waiting.work {
            Work::Append(append) => append.event.name.parse().unwrap(),
            Work::Restore(_) => unreachable!("nothing is restored"),
        };
        taken.appends.into_iter().map(name).collect()
    }

    #[test]
    fn commits_take_what_they_may_hold_in_the_order_in_which_it_came() {
        let mut room = Room::default();
        for number in 0..2 * MAX_COMMIT + 3 {
            room.append(append(&number.to_string(), 0)).unwrap();
        }
        assert!(names(room.take()).into_iter().eq(0..MAX_COMMIT));
        room.append(append("9999", 0)).unwrap();
        assert!(names(room.take()).into_iter().eq(MAX_COMMIT..2 * MAX_COMMIT));
        let rest = (2 * MAX_COMMIT..2 * MAX_COMMIT + 3).chain([9999]);
        assert!(names(room.take()).into_iter().eq(rest));
        assert!(names(room.take()).is_empty() && room.is_empty() && room.bytes == 0);
    }

    #[test]
    fn a_commit_is_no_longer_than_it_may_be_unless_one_event_alone_is() {
        let mut room = Room::default();
        let half = MAX_COMMIT_BYTES / 2;
        for (number, bytes) in [half, half - 2_000, 500, MAX_COMMIT_BYTES, 1].iter().enumerate() {
            room.append(append(&number.to_string(), *bytes)).unwrap();
        }
        for expected in [vec![0, 1], vec![2], vec![3], vec![4], vec![]] {
            assert_eq!(names(room.take()), expected);
        }
        assert_eq!(room.bytes, 0);
    }

    #[test]
    fn what_there_is_no_room_for_and_what_comes_after_the_end_is_refused() {
        let mut room = Room::default();
        for _ in 0..MAX_WAITING {
            room.append(append("1", 0)).unwrap();
        }
        assert_eq!(room.append(append("1", 0)), Err(AppendError::Full));
        let mut room = Room::default();
        room.append(append("1", MAX_WAITING_BYTES)).unwrap();
        assert_eq!(
            room.append(append("1", 0)),
            Err(AppendError::Full),
            "that one alone may be longer"
        );
        room.end(Ending::Close);
        assert_eq!(room.append(append("1", 0)), Err(AppendError::Closed));
        assert!(!room.settle(Record::Dedup { entries: Vec::new() }, None));
        assert_eq!(room.take().ending, Some(Ending::Close));
    }

    #[test]
    fn settlements_linger_while_they_are_few_and_alone() {
        let mut room = Room::default();
        let record = || Record::Dedup { entries: Vec::new() };
        assert!(room.is_idle() && !room.may_linger());
        assert!(room.settle(record(), None) && room.has_news() && room.may_linger());
        assert!(room.settle(record(), None) && !room.has_news() && !room.is_idle());
        room.append(append("1", 0)).unwrap();
        assert!(!room.may_linger());
        room.take();
        for _ in 1..ENOUGH_SETTLEMENTS {
            room.settle(record(), None);
        }
        assert!(room.may_linger() && !room.has_news());
        room.settle(record(), None);
        assert!(!room.may_linger() && room.has_news());
    }
}
