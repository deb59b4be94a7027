//! One delivery of an event, and all of an event's deliveries in little memory.

use crate::model::DeadReason;
use crate::time::Timestamp;

/// A target's number inside one journal.
pub(super) type Number = u16;

/// The number of attempts of a delivery that an operator made due again: none, and a mark that stays with it, since the
/// age of the event says nothing any more about when to give up. The mark is in the number so that it takes no room in
/// memory and no form of its own on the disk: a reader that does not know it gives up after one attempt.
pub(super) const REVIVED: u32 = 1 << 31;

/// One delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) target: Number,
    /// Attempts counted so far, with the mark of [`REVIVED`].
    pub(super) attempts: u32,
    pub(super) state: State,
}

impl Slot {
    /// Due, with no attempts counted, because an operator wants it.
    pub(super) fn revived(target: Number) -> Self {
        Self { target, attempts: REVIVED, state: State::Ready }
    }

    /// Attempts counted so far.
    pub(super) fn tries(self) -> u32 {
        self.attempts & !REVIVED
    }

    /// Whether an operator made it due again.
    pub(super) fn is_revived(self) -> bool {
        self.attempts & REVIVED != 0
    }
}

/// `Ready -> InFlight -> Delivered | Dead | Waiting | Ready`, `Waiting -> Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Due.
    Ready,
    /// Due later.
    Waiting(Timestamp),
    /// Leased in this turn.
    InFlight(u32),
    /// Final.
    Delivered,
    /// Final until an operator retries it.
    Dead(DeadReason),
    /// Given up by an operator. Final until it is replayed.
    Discarded,
}

impl State {
    /// When it is due, if that is later.
    pub(super) fn due(self) -> Option<Timestamp> {
        match self {
            Self::Waiting(due) => Some(due),
            Self::Ready | Self::InFlight(_) | Self::Delivered | Self::Dead(_) | Self::Discarded => {
                None
            }
        }
    }

    /// What a replay makes of it; `None` leaves it as it is.
    pub(super) fn replayed(self) -> Option<Self> {
        self.is_final().then_some(Self::Ready)
    }

    /// What giving it up makes of it; `None` leaves it as it is.
    pub(super) fn given_up(self) -> Option<Self> {
        match self {
            Self::Ready | Self::Waiting(_) | Self::Dead(_) => Some(Self::Discarded),
            Self::InFlight(_) | Self::Delivered | Self::Discarded => None,
        }
    }

    /// Whether nothing more happens by itself.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Dead(_) | Self::Discarded)
    }
}

/// A slot in 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Cell {
    value: i64,
    attempts: u32,
    target: Number,
    tag: Tag,
}

#[derive(Clone, Copy, Debug)]
enum Tag {
    Ready,
    Waiting,
    InFlight,
    Delivered,
    Dead(DeadReason),
    Discarded,
}

/// The deliveries of one event. Most events have one, which needs no allocation.
#[derive(Clone, Debug)]
pub(super) struct Slots(Cells);

#[derive(Clone, Debug)]
enum Cells {
    One(Cell),
    Many(Box<[Cell]>),
}

impl Slots {
    /// From every delivery.
    pub(super) fn new(slots: &[Slot]) -> Self {
        match slots {
            [one] => Self(Cells::One(Cell::of(*one))),
            many => Self(Cells::Many(many.iter().map(|slot| Cell::of(*slot)).collect())),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.cells().iter().map(|cell| cell.slot())
    }

    /// The delivery to one target.
    pub(super) fn get(&self, target: Number) -> Option<Slot> {
        self.cells().iter().find(|cell| cell.target == target).map(|cell| cell.slot())
    }

    /// Gives the delivery to one target another state, and answers how it stands then.
    pub(super) fn set(&mut self, target: Number, state: State) -> Option<Slot> {
        let slot = Slot { state, ..self.get(target)? };
        self.put(slot);
        Some(slot)
    }

    /// Replaces the delivery to the slot's target, if there is one.
    pub(super) fn put(&mut self, slot: Slot) {
        let cells = match &mut self.0 {
            Cells::One(cell) => std::slice::from_mut(cell),
            Cells::Many(cells) => cells,
        };
        if let Some(cell) = cells.iter_mut().find(|cell| cell.target == slot.target) {
            *cell = Cell::of(slot);
        }
    }

    fn cells(&self) -> &[Cell] {
        match &self.0 {
            Cells::One(cell) => std::slice::from_ref(cell),
            Cells::Many(cells) => cells,
        }
    }
}

impl Cell {
    fn of(slot: Slot) -> Self {
        let (tag, value) = match slot.state {
            State::Ready => (Tag::Ready, 0),
            State::Waiting(due) => (Tag::Waiting, due.as_micros()),
            State::InFlight(turn) => (Tag::InFlight, i64::from(turn)),
            State::Delivered => (Tag::Delivered, 0),
            State::Dead(reason) => (Tag::Dead(reason), 0),
            State::Discarded => (Tag::Discarded, 0),
        };
        Self { value, attempts: slot.attempts, target: slot.target, tag }
    }

    fn slot(self) -> Slot {
        let state = match self.tag {
            Tag::Ready => State::Ready,
            Tag::Waiting => State::Waiting(Timestamp::from_micros(self.value)),
            Tag::InFlight => State::InFlight(u32::try_from(self.value).unwrap_or(u32::MAX)),
            Tag::Delivered => State::Delivered,
            Tag::Dead(reason) => State::Dead(reason),
            Tag::Discarded => State::Discarded,
        };
        Slot { target: self.target, attempts: self.attempts, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_takes_sixteen_bytes_and_comes_back_as_it_was() {
        assert_eq!(size_of::<Cell>(), 16);
        let states = [
            State::Ready,
            State::Waiting(Timestamp::from_micros(i64::MAX)),
            State::InFlight(u32::MAX),
            State::Delivered,
            State::Discarded,
        ];
        for state in states.into_iter().chain(DeadReason::ALL.map(State::Dead)) {
            let slot = Slot { target: 9, attempts: u32::MAX, state };
            assert_eq!(Slots::new(&[slot]).get(9), Some(slot));
            let revived = Slot { state, ..Slot::revived(9) };
            let back = Slots::new(&[revived]).get(9).unwrap();
            assert_eq!((back.tries(), back.is_revived(), back.state), (0, true, state));
            let other = Slot { target: 1, ..slot };
            assert_eq!(Slots::new(&[other, slot]).iter().collect::<Vec<_>>(), [other, slot]);
        }
    }
}
