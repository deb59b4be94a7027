//! Who sent an event again, and when: kept in memory for whoever looks at the event.
//!
//! It decides nothing, so it is bounded and forgotten at a restart: what must not be is the dedup key.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::model::EventId;
use crate::time::Timestamp;

/// Most repeats of one event that are told one by one; the rest are counted.
pub const MAX_TOLD: usize = 20;
/// Most events whose repeats are remembered; the one that was repeated first is forgotten first.
const MAX_EVENTS: usize = 4_096;

/// One repeat of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// When it was received.
    pub at: Timestamp,
    /// Where it came from.
    pub client: IpAddr,
}

/// The repeats of an event since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    /// All of them.
    pub count: u64,
    /// The latest ones, oldest first; at most [`MAX_TOLD`].
    pub latest: VecDeque<Repeat>,
}

/// The repeats of every event that has had one lately.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    events: HashMap<EventId, Repeats>,
    order: VecDeque<EventId>,
}

impl Repeated {
    /// An event was repeated.
    pub(super) fn note(&mut self, event: EventId, repeat: Repeat) {
        if !self.events.contains_key(&event) {
            self.order.push_back(event);
            if self.order.len() > MAX_EVENTS
                && let Some(oldest) = self.order.pop_front()
            {
                self.events.remove(&oldest);
            }
        }
        let repeats = self.events.entry(event).or_default();
        repeats.count = repeats.count.saturating_add(1);
        repeats.latest.push_back(repeat);
        if repeats.latest.len() > MAX_TOLD {
            repeats.latest.pop_front();
        }
    }

    /// The repeats of one event.
    pub(super) fn of(&self, event: EventId) -> Repeats {
        self.events.get(&event).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> EventId {
        EventId::from_bytes(u128::from(number).to_be_bytes())
    }

    #[test]
    fn the_latest_are_told_all_are_counted_and_the_oldest_event_is_forgotten() {
        let mut repeated = Repeated::default();
        let repeat =
            |second| Repeat { at: Timestamp::from_secs(second), client: [192, 0, 2, 1].into() };
        for second in 0..25 {
            repeated.note(id(0), repeat(second));
        }
        let repeats = repeated.of(id(0));
        assert_eq!((repeats.count, repeats.latest.len()), (25, MAX_TOLD));
        assert_eq!((repeats.latest[0], repeats.latest[19]), (repeat(5), repeat(24)));
        for number in 1..=4_096 {
            repeated.note(id(number), repeat(0));
        }
        assert_eq!(repeated.of(id(0)), Repeats::default());
        assert_eq!(repeated.of(id(1)).count, 1);
        assert_eq!((repeated.events.len(), repeated.order.len()), (MAX_EVENTS, MAX_EVENTS));
    }
}
