//! What the targets can take, stated only where it changed.
//!
//! A lane is looked at when something happened to it, when a moment that it waits for has come, or when the pool has room
//! again that it lacked. All others stay as they were stated, so that what an event costs does not grow with the number of
//! targets that have nothing to do. What is stated may be more than the pool has in the end: what is claimed above it is
//! handed back, and the lane looked at again. It is never nothing while there is room.

use std::collections::BTreeSet;

use super::lane::Lane;
use super::room;
use crate::model::Wanted;
use crate::rules::pool::Pool;
use crate::time::Timestamp;

/// The demand as it was stated, and the lanes for which it may be another now.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    /// Lanes to look at.
    touched: Vec<usize>,
    /// When a lane has room by the passing of time alone.
    due: BTreeSet<(Timestamp, usize)>,
    /// Lanes that would have room if the pool had, by how much they hold of it.
    crowded: BTreeSet<(usize, usize)>,
    /// Lanes looked at so far.
    #[cfg(test)]
    pub(super) looked: usize,
}

/// One lane.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    is_touched: bool,
    /// What was stated and has not been claimed; `None` when that is not known.
    stated: Option<usize>,
    due: Option<Timestamp>,
    crowded: Option<usize>,
}

impl Ledger {
    /// So many lanes of which nothing has been stated; all are to be looked at.
    pub(super) fn begin(&mut self, lanes: usize) {
        self.entries = vec![Entry { stated: Some(0), ..Entry::default() }; lanes];
        (self.due, self.crowded) = (BTreeSet::new(), BTreeSet::new());
        self.touched.clear();
        (0..lanes).for_each(|lane| self.touch(lane));
    }

    /// Something happened to a lane.
    pub(super) fn touch(&mut self, lane: usize) {
        if let Some(entry) = self.entries.get_mut(lane)
            && !std::mem::replace(&mut entry.is_touched, true)
        {
            self.touched.push(lane);
        }
    }

    /// One delivery was claimed of a lane that is asked for by so many names.
    pub(super) fn claimed(&mut self, lane: usize, names: usize) {
        self.touch(lane);
        if let Some(entry) = self.entries.get_mut(lane) {
            // Of several names the demand for one only is lower now.
            let only = entry.stated.filter(|_stated| names == 1);
            entry.stated = only.map(|stated| stated.saturating_sub(1));
        }
    }

    /// Time has passed.
    pub(super) fn passed(&mut self, now: Timestamp) {
        while let Some((due, lane)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, lane));
            if let Some(entry) = self.entries.get_mut(lane) {
                entry.due = None;
            }
            self.touch(lane);
        }
    }

    /// The pool has more room: those that have some of it now are looked at.
    pub(super) fn freed(&mut self, pool: &Pool) {
        let has_room = |held: usize| pool.room(held) > 0;
        while let Some((held, lane)) = self.crowded.first().copied().filter(|it| has_room(it.0)) {
            self.crowded.remove(&(held, lane));
            if let Some(entry) = self.entries.get_mut(lane) {
                entry.crowded = None;
            }
            self.touch(lane);
        }
    }

    /// When the first lane has room by the passing of time alone.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _lane)| *due)
    }

    /// What is to be stated, since it is not what was stated before.
    pub(super) fn changes(&mut self, lanes: &[Lane], pool: &Pool, now: Timestamp) -> Vec<Wanted> {
        let mut changes = Vec::new();
        for index in std::mem::take(&mut self.touched) {
            let (Some(lane), Some(entry)) = (lanes.get(index), self.entries.get_mut(index)) else {
                continue;
            };
            #[cfg(test)]
            (self.looked += 1);
            let most = room(lane, pool, now);
            let due = lane.opens_at(now);
            let is_crowded = most == 0 && lane.room(now) > 0;
            let crowded = is_crowded.then_some(lane.in_flight);
            if entry.stated != Some(most) {
                changes.extend(wanted(lane, most));
            }
            let before = std::mem::replace(
                entry,
                Entry { is_touched: false, stated: Some(most), due, crowded },
            );
            relist(&mut self.due, index, before.due, due);
            relist(&mut self.crowded, index, before.crowded, crowded);
        }
        changes
    }

    /// Everything that was stated, taken back.
    pub(super) fn withdrawal(&self, lanes: &[Lane]) -> Vec<Wanted> {
        let stated = lanes.iter().zip(&self.entries).filter(|(_, it)| it.stated != Some(0));
        stated.flat_map(|(lane, _)| wanted(lane, 0)).collect()
    }
}

/// So much for each name of a lane.
fn wanted(lane: &Lane, most: usize) -> impl Iterator<Item = Wanted> {
    let order = lane.policy.order;
    let names = [&lane.policy.name].into_iter().chain(&lane.policy.was);
    names.map(move |name| Wanted { target: name.clone(), most, order })
}

/// A lane stands in a list under another key, or no longer.
fn relist<K: Ord>(list: &mut BTreeSet<(K, usize)>, lane: usize, old: Option<K>, new: Option<K>) {
    if old == new {
        return;
    }
    if let Some(key) = old {
        list.remove(&(key, lane));
    }
    if let Some(key) = new {
        list.insert((key, lane));
    }
}
