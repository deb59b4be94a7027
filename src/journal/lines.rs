//! Order per key: of each key one delivery at a time may go, the oldest first; the others stand in line behind it.
//!
//! Only keys that have a delivery under way, or waiting for its next attempt, have a line, so what costs memory is
//! what stands in the way of others. A delivery without a key stands in no line.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::model::OnDead;

/// The lines of one target.
#[derive(Debug)]
pub(super) struct Lines {
    on_dead: OnDead,
    of: HashMap<u64, Line>,
    standing: u64,
    /// Those in a line that wait for their next attempt, or are dead: they are not due.
    absent: HashSet<u64>,
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
        Self { on_dead, of: HashMap::new(), standing: 0, absent: HashSet::new() }
    }

    pub(super) fn on_dead(&self) -> OnDead {
        self.on_dead
    }

    /// How many stand behind another one.
    pub(super) fn standing(&self) -> u64 {
        self.standing
    }

    /// A delivery that waits, or is dead and holds the others up, takes its place in the line of its key.
    pub(super) fn hold(&mut self, key: u64, sequence: u64) {
        if key == 0 {
            return;
        }
        self.absent.insert(sequence);
        let line = self.of.entry(key).or_insert(Line { head: sequence, behind: BTreeSet::new() });
        if sequence < line.head {
            line.behind.insert(std::mem::replace(&mut line.head, sequence));
        } else if sequence > line.head {
            line.behind.insert(sequence);
        }
    }

    /// One that is due takes its place in the line of its key, if there is one. True when it may go.
    pub(super) fn join(&mut self, key: u64, sequence: u64) -> bool {
        let Some(line) = self.of.get_mut(&key) else { return true };
        if sequence < line.head {
            line.behind.insert(std::mem::replace(&mut line.head, sequence));
            return true;
        }
        line.behind.insert(sequence);
        self.standing = self.standing.saturating_add(1);
        false
    }

    /// One that waited is due. False when it stands behind another one and gets its turn from there.
    pub(super) fn is_due(&mut self, key: u64, sequence: u64) -> bool {
        let was_absent = self.absent.remove(&sequence);
        let is_head = self.of.get(&key).is_none_or(|line| line.head == sequence);
        if was_absent && !is_head {
            self.standing = self.standing.saturating_add(1);
        }
        is_head || !was_absent
    }

    /// Whether a delivery whose turn it is may go; otherwise it stands in line from now on.
    pub(super) fn may_go(&mut self, key: u64, sequence: u64) -> bool {
        if key == 0 {
            return true;
        }
        let was_absent = self.absent.remove(&sequence);
        let new = || Line { head: sequence, behind: BTreeSet::new() };
        let line = self.of.entry(key).or_insert_with(new);
        if line.head == sequence {
            return true;
        }
        if line.behind.insert(sequence) || was_absent {
            self.standing = self.standing.saturating_add(1);
        }
        false
    }

    /// A delivery is over, or taken out.
    pub(super) fn leave(&mut self, key: u64, sequence: u64) -> Left {
        let was_absent = self.absent.remove(&sequence);
        let Some(line) = self.of.get_mut(&key) else { return Left::Nothing };
        if line.head != sequence {
            if !line.behind.remove(&sequence) || was_absent {
                return Left::Nothing;
            }
            self.standing = self.standing.saturating_sub(1);
            return Left::Behind;
        }
        let Some(next) = line.behind.pop_first() else {
            self.of.remove(&key);
            return Left::Head(None);
        };
        line.head = next;
        if self.absent.contains(&next) {
            return Left::Head(None);
        }
        self.standing = self.standing.saturating_sub(1);
        Left::Head(Some(next))
    }

    /// Everyone who is due and stands behind another one: the lines are given up.
    pub(super) fn into_standing(self) -> BTreeSet<u64> {
        let behind = self.of.into_values().flat_map(|line| line.behind);
        behind.filter(|sequence| !self.absent.contains(sequence)).collect()
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
    fn what_waits_or_is_dead_keeps_its_place_and_is_passed_by_nobody() {
        let mut lines = Lines::new(OnDead::Hold);
        for sequence in [5, 3, 8] {
            lines.hold(7, sequence);
        }
        lines.hold(0, 1);
        assert_eq!(lines.standing(), 0);
        assert!(!lines.may_go(7, 4) && !lines.may_go(7, 9), "3 leads");
        assert!(lines.is_due(7, 3) && lines.may_go(7, 3));
        assert!(!lines.is_due(7, 8), "it is due, and gets its turn from where it stands");
        assert_eq!(lines.standing(), 3);
        assert_eq!(lines.leave(7, 3), Left::Head(Some(4)));
        assert_eq!(lines.leave(7, 4), Left::Head(None), "5 is not due yet and holds the others");
        assert!(!lines.may_go(7, 9));
        assert!(lines.is_due(7, 5) && lines.may_go(7, 5));
        assert_eq!(lines.leave(7, 5), Left::Head(Some(8)));
        assert_eq!(lines.into_standing(), BTreeSet::from([9]));
    }
}
