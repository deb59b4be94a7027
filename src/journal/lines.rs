//! Order per key: of each key one delivery at a time may go, the oldest first; the others stand in line behind it.
//!
//! Only keys that have a delivery under way, or waiting for its next attempt, have a line, so what costs memory is
//! what stands in the way of others. A delivery without a key stands in no line.

use std::collections::{BTreeSet, HashMap};

use crate::model::OnDead;

/// The lines of one target.
#[derive(Debug)]
pub(super) struct Lines {
    on_dead: OnDead,
    of: HashMap<u64, Line>,
    standing: u64,
}

#[derive(Debug)]
struct Line {
    /// The one that may go.
    head: u64,
    /// Those behind it.
    behind: BTreeSet<u64>,
}

/// What leaving a line meant for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It stood in none.
    Nothing,
    /// It stood behind another one, and had no turn.
    Behind,
    /// It was the head. The next one may go now, if there is one.
    Head(Option<u64>),
}

impl Lines {
    pub(super) fn new(on_dead: OnDead) -> Self {
        Self { on_dead, of: HashMap::new(), standing: 0 }
    }

    pub(super) fn on_dead(&self) -> OnDead {
        self.on_dead
    }

    /// How many stand behind another one.
    pub(super) fn standing(&self) -> u64 {
        self.standing
    }

    /// A delivery that waits, or is held, is the head of its key from now on; the older one of two.
    pub(super) fn lead(&mut self, key: u64, sequence: u64) {
        if key == 0 {
            return;
        }
        let line = self.of.entry(key).or_insert(Line { head: sequence, behind: BTreeSet::new() });
        line.head = line.head.min(sequence);
    }

    /// Whether a delivery whose turn it is may go; otherwise it stands in line from now on.
    pub(super) fn may_go(&mut self, key: u64, sequence: u64) -> bool {
        if key == 0 {
            return true;
        }
        let new = || Line { head: sequence, behind: BTreeSet::new() };
        let line = self.of.entry(key).or_insert_with(new);
        if line.head == sequence {
            return true;
        }
        if line.behind.insert(sequence) {
            self.standing = self.standing.saturating_add(1);
        }
        false
    }

    /// A delivery is over, or taken out.
    pub(super) fn leave(&mut self, key: u64, sequence: u64) -> Left {
        let Some(line) = self.of.get_mut(&key) else { return Left::Nothing };
        if line.head != sequence {
            if line.behind.remove(&sequence) {
                self.standing = self.standing.saturating_sub(1);
                return Left::Behind;
            }
            return Left::Nothing;
        }
        let next = line.behind.pop_first();
        match next {
            Some(next) => {
                line.head = next;
                self.standing = self.standing.saturating_sub(1);
            }
            None => drop(self.of.remove(&key)),
        }
        Left::Head(next)
    }

    /// Everyone who stands behind another one: the lines are given up.
    pub(super) fn into_standing(self) -> BTreeSet<u64> {
        self.of.into_values().flat_map(|line| line.behind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_key_goes_at_a_time_and_the_oldest_is_next() {
        let mut lines = Lines::new(OnDead::Continue);
        assert!(lines.may_go(7, 1) && lines.may_go(7, 1), "the head may go again");
        assert!(lines.may_go(0, 2) && lines.may_go(0, 3), "without a key nothing is in the way");
        assert!(lines.may_go(8, 4), "another key");
        assert!(!lines.may_go(7, 9) && !lines.may_go(7, 5) && !lines.may_go(7, 5));
        assert_eq!(lines.standing(), 2);
        assert_eq!(lines.leave(7, 1), Left::Head(Some(5)));
        assert!(lines.may_go(7, 5) && !lines.may_go(7, 6));
        assert_eq!(lines.leave(7, 9), Left::Behind);
        assert_eq!(lines.leave(7, 5), Left::Head(Some(6)));
        assert_eq!(lines.leave(7, 6), Left::Head(None));
        assert_eq!(lines.leave(7, 6), Left::Nothing);
        assert_eq!((lines.standing(), lines.of.len()), (0, 1));
    }

    #[test]
    fn the_oldest_of_those_that_wait_leads() {
        let mut lines = Lines::new(OnDead::Hold);
        lines.lead(7, 5);
        lines.lead(7, 3);
        lines.lead(0, 1);
        assert!(lines.may_go(7, 3) && !lines.may_go(7, 5));
        assert_eq!(lines.into_standing(), BTreeSet::from([5]));
    }
}
