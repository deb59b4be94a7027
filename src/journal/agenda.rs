//! Which queues a claim has to look at: those that are in demand and have something, and those that will when time passes.
//!
//! It is kept up to date as queues change, so that what a claim costs does not grow with the number of targets that have
//! nothing to do.

use std::collections::{BTreeMap, BTreeSet};

use super::slot::Number;
use crate::time::Timestamp;

/// The queues in demand, by what they have.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    ready: BTreeSet<Number>,
    waiting: BTreeSet<(Timestamp, Number)>,
    /// When each queue is due that stands in `waiting`.
    due_of: BTreeMap<Number, Timestamp>,
}

impl Agenda {
    /// A queue in demand: whether it has something ready, and when the first of what waits is due. A queue that is not in
    /// demand has neither.
    pub(super) fn arrange(&mut self, number: Number, is_ready: bool, due: Option<Timestamp>) {
        if is_ready {
            self.ready.insert(number);
        } else {
            self.ready.remove(&number);
        }
        let before = self.due_of.get(&number).copied();
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.waiting.remove(&(before, number));
            self.due_of.remove(&number);
        }
        if let Some(due) = due {
            self.waiting.insert((due, number));
            self.due_of.insert(number, due);
        }
    }

    /// The first queue from `from` on that has something ready.
    pub(super) fn ready_from(&self, from: Number) -> Option<Number> {
        self.ready.range(from..).next().copied()
    }

    /// The queue in which something waits that is due first, and when.
    pub(super) fn first_due(&self) -> Option<(Timestamp, Number)> {
        self.waiting.first().copied()
    }

    /// When there is something to lease; `None` when no time brings it.
    pub(super) fn next(&self) -> Option<Timestamp> {
        if self.ready.is_empty() {
            self.first_due().map(|(due, _number)| due)
        } else {
            Some(Timestamp::EPOCH)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_stands_where_it_belongs_and_nowhere_else() {
        let at = Timestamp::from_secs;
        let mut agenda = Agenda::default();
        assert_eq!(agenda.next(), None);
        agenda.arrange(3, false, Some(at(9)));
        agenda.arrange(1, false, Some(at(7)));
        agenda.arrange(3, false, Some(at(5)));
        assert_eq!((agenda.first_due(), agenda.next()), (Some((at(5), 3)), Some(at(5))));
        agenda.arrange(3, true, None);
        assert_eq!((agenda.first_due(), agenda.next()), (Some((at(7), 1)), Some(Timestamp::EPOCH)));
        assert_eq!([0, 3, 4].map(|from| agenda.ready_from(from)), [Some(3), Some(3), None]);
        agenda.arrange(3, false, None);
        agenda.arrange(1, false, None);
        assert_eq!((agenda.first_due(), agenda.ready_from(0), agenda.next()), (None, None, None));
    }
}
