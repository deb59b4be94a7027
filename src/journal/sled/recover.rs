//! Rebuilding what lives in memory from the small records, oldest first. No body is kept.
//!
//! Every record is expected: each commit says how many it has, the ledger says how many a generation has, and the
//! frames are checked one by one. What is missing or damaged is counted, and the open is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ledger::{Holds, Known};
use super::sealed::Found;
use super::store::{Store, StoreError};
use super::usage::{Usage, Written};
use crate::journal::Note;
use crate::journal::dedup::{self, DedupIndex};
use crate::journal::index::{Entry, Index, Slot, State};
use crate::journal::labels::Labels;
use crate::journal::notes::Notes;
use crate::journal::quarantine::Quarantine;
use crate::journal::record::content::Place;
use crate::journal::record::{self, Record, frame};
use crate::journal::slot::Slots;
use crate::journal::table::Table;
use crate::model::{DedupKey, Name};
use crate::time::Timestamp;

/// The memory of a journal that was just opened.
pub(super) struct Recovered {
    pub(super) index: Index<Place>,
    pub(super) dedup: DedupIndex,
    pub(super) usage: Usage,
    pub(super) notes: Notes,
    pub(super) quarantine: Quarantine<Place>,
    pub(super) next_commit: u64,
    pub(super) last_commit: u64,
    pub(super) next_sequence: u64,
}

/// What looking through one generation found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// What it holds, up to its newest commit; `None` when it is empty.
    pub(super) holds: Option<Holds>,
    /// Its oldest commit.
    pub(super) first: Option<u64>,
    /// Small records and content frames that fail their check, and those that a commit says it has and has not.
    pub(super) damaged: u64,
    /// Events' records, copies included.
    pub(super) events: u64,
    /// Something was written by a later release.
    pub(super) newer: bool,
    /// What the ledger says is there, when that is more than what was found.
    pub(super) short_of: Option<Holds>,
}

impl Survey {
    pub(super) fn is_whole(&self) -> bool {
        self.damaged == 0 && self.short_of.is_none()
    }
}

/// Folds every record of every generation, one generation after the other.
pub(super) struct Fold {
    entries: Table<Entry<Place>>,
    names: BTreeMap<u16, String>,
    dedup: DedupIndex,
    usage: Usage,
    notes: Notes,
    quarantine: Quarantine<Place>,
    labels: Labels,
    /// One more than the newest commit.
    next_commit: u64,
    next_sequence: u64,
    now: Timestamp,
    retention: Duration,
}

impl Fold {
    pub(super) fn new(now: Timestamp, retention: Duration) -> Self {
        Self {
            entries: Table::new(),
            names: BTreeMap::new(),
            dedup: DedupIndex::default(),
            usage: Usage::default(),
            notes: Notes::default(),
            quarantine: Quarantine::new(u64::MAX),
            labels: Labels::default(),
            next_commit: 0,
            next_sequence: 0,
            now,
            retention,
        }
    }

    /// Looks through a generation that sled has open, contents included, and folds its records.
    pub(super) fn store(
        &mut self,
        number: u32,
        store: &Store,
        known: Known,
    ) -> Result<Survey, StoreError> {
        let mut tally = Tally::new(known);
        for pack in store.packs() {
            let pack = pack?;
            let mut rest: &[u8] = &pack;
            while !rest.is_empty() {
                match record::take_record(&mut rest) {
                    Ok((mark, record)) => self.take(number, mark, record, &mut tally),
                    Err(damage) => tally.damage(damage),
                }
            }
        }
        let mut contents = 0u64;
        for part in store.parts() {
            let part = part?;
            let mut rest: &[u8] = &part;
            while !rest.is_empty() {
                match frame::take(&mut rest) {
                    Ok(_) => contents = contents.saturating_add(1),
                    Err(damage) => tally.damage(damage),
                }
            }
        }
        Ok(tally.finish(contents))
    }

    /// Folds the records of a sealed generation.
    pub(super) fn sealed(
        &mut self,
        number: u32,
        found: &Found,
        known: Known,
    ) -> Result<Survey, StoreError> {
        let mut tally = Tally::new(known);
        for record in found.sealed.records(&found.records) {
            match record {
                Ok((mark, record)) => self.take(number, mark, record, &mut tally),
                Err(StoreError::Damaged(damage)) => tally.damage(damage),
                Err(error) => return Err(error),
            }
        }
        Ok(tally.finish(found.contents))
    }

    fn take(&mut self, number: u32, mark: frame::Mark, record: Record, tally: &mut Tally) {
        if tally.survey.first.is_none() {
            self.usage.begin(number, mark.commit, closing_time(&record).unwrap_or(self.now));
        }
        tally.record(mark, &record);
        self.apply(mark.commit, record);
    }

    /// The number of the first commit from now on: higher than any that was begun, also of those that were torn.
    ///
    /// One commit is written at a time. So whoever wrote before us began at most one that is not here: the one after the
    /// newest, or the one it began with.
    pub(super) fn first_commit(&self, given: Option<u64>) -> u64 {
        self.next_commit.max(given.unwrap_or(0)).saturating_add(1)
    }

    pub(super) fn usage(&mut self) -> &mut Usage {
        &mut self.usage
    }

    /// Everything that was folded, as it is used.
    pub(super) fn finish(mut self, first_commit: u64) -> Recovered {
        let mut index = Index::new();
        for (number, text) in &self.names {
            // A number whose name is gone keeps its place, so that the others keep theirs.
            let known = index.names().len();
            for known in known..usize::from(*number) {
                index.number(&placeholder(known));
            }
            index.number(&Name::parse(text).unwrap_or_else(|| placeholder(usize::from(*number))));
        }
        let over = |entry: &Entry<Place>| entry.received_at.plus(self.retention) <= self.now;
        self.entries.retain(|entry| !(over(entry) && entry.is_settled()));
        for (_, entry) in self.entries.iter() {
            self.usage.needed(entry.place);
        }
        for (_, kept) in self.quarantine.iter() {
            self.usage.needed(kept.place);
        }
        index.adopt(self.entries, self.labels);
        Recovered {
            index,
            dedup: self.dedup,
            usage: self.usage,
            notes: self.notes,
            quarantine: self.quarantine,
            next_commit: first_commit,
            last_commit: self.next_commit.saturating_sub(1),
            next_sequence: self.next_sequence,
        }
    }

    fn apply(&mut self, commit: u64, record: Record) {
        let mut written = Written { bytes: 64, ..Written::default() };
        self.next_commit = self.next_commit.max(commit.saturating_add(1));
        match record {
            Record::Event { sequence, id, received_at, order, place, dedup, deliveries, label } => {
                self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
                self.dedup.remember(&dedup, id, received_at);
                self.dedup.prune(self.now, dedup.len().saturating_add(1));
                note_keys(&mut written, received_at, &dedup);
                written.bytes = written.bytes.saturating_add(u64::from(place.length));
                let deliveries = Slots::new(&deliveries);
                if deliveries.iter().all(|slot| slot.state == State::Delivered) {
                    self.entries.remove(sequence);
                } else {
                    let label = self.labels.number(&label);
                    let entry = Entry { id, received_at, order, label, place, deliveries };
                    self.entries.insert(sequence, entry);
                }
            }
            Record::Settled { sequence, target, attempts, state, at, attempt: _ } => {
                self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
                let state = self.no_later(state, at);
                let Some(entry) = self.entries.get_mut(sequence) else { return };
                entry.deliveries.put(Slot { target, attempts, state });
                let place = entry.place;
                if entry.is_delivered() {
                    self.entries.remove(sequence);
                }
                if self.is_foreign(commit, place) {
                    written.foreign = 64;
                }
            }
            Record::Dedup { entries } => {
                for (id, at, key) in entries {
                    note_keys(&mut written, at, &[key]);
                    written.bytes = written.bytes.saturating_add(KEY_BYTES);
                    self.dedup.remember(&[key], id, at);
                }
            }
            Record::Name { number, name } => {
                self.names.insert(number, name);
            }
            Record::Rejected { id, kept } => {
                written.bytes = written.bytes.saturating_add(u64::from(kept.place.length));
                self.quarantine.put(id, kept);
            }
            Record::Dropped { ids } => {
                for id in ids {
                    let kept = self.quarantine.remove(id);
                    if kept.is_some_and(|kept| self.is_foreign(commit, kept.place)) {
                        written.foreign = 64;
                    }
                }
            }
            Record::Note { topic, name, value } => {
                if let Err(error) = self.notes.put(Note { topic, name, value }) {
                    tracing::warn!(%error, "a note of the journal was not taken up");
                }
            }
            Record::Commit { at, .. } => self.usage.wrote(commit, at, &Written::default()),
        }
        self.usage.wrote(commit, Timestamp::EPOCH, &written);
    }

    /// Whether an event stands in an older generation than this commit.
    fn is_foreign(&self, commit: u64, place: Place) -> bool {
        self.usage.share(commit).is_some_and(|share| place.commit < share.first)
    }

    /// A clock that went back between two runs must not make a delivery wait longer than was decided.
    fn no_later(&self, state: State, decided_at: Timestamp) -> State {
        match state {
            State::Waiting(due) => State::Waiting(due.min(self.now.plus(due.since(decided_at)))),
            State::Ready
            | State::InFlight(_)
            | State::Delivered
            | State::Dead(_)
            | State::Discarded => state,
        }
    }
}

/// What a dedup key takes in a record of its own.
pub(super) const KEY_BYTES: u64 = 64;

/// Keys that will have to be kept when their event is not.
pub(super) fn note_keys(written: &mut Written, at: Timestamp, keys: &[DedupKey]) {
    for key in keys {
        written.dedup = written.dedup.saturating_add(KEY_BYTES);
        written.dedup_until = written.dedup_until.max(at.plus(dedup::window(key)));
    }
}

fn closing_time(record: &Record) -> Option<Timestamp> {
    match record {
        Record::Event { received_at, .. } => Some(*received_at),
        Record::Settled { at, .. } | Record::Commit { at, .. } => Some(*at),
        Record::Rejected { kept, .. } => Some(kept.received_at),
        Record::Dedup { .. }
        | Record::Name { .. }
        | Record::Note { .. }
        | Record::Dropped { .. } => None,
    }
}

pub(super) fn placeholder(number: usize) -> Name {
    let parsed = Name::parse(&format!("lost-{number}"));
    parsed.unwrap_or_else(|| placeholder(0))
}

/// Counts what is found against what each commit and the ledger say.
struct Tally {
    survey: Survey,
    known: Option<Holds>,
    sealed: bool,
    /// The commit before the one being read.
    last: Option<u64>,
    /// Of the commit being read.
    commit: Option<u64>,
    in_commit: u32,
    /// What all complete commits say they hold.
    stated: Holds,
    records: u64,
}

impl Tally {
    fn new(known: Known) -> Self {
        Self {
            survey: Survey::default(),
            known: known.holds,
            sealed: known.seal.is_some(),
            last: None,
            commit: None,
            in_commit: 0,
            stated: Holds::default(),
            records: 0,
        }
    }

    fn damage(&mut self, damage: frame::Damage) {
        self.survey.damaged = self.survey.damaged.saturating_add(1);
        self.survey.newer |= damage == frame::Damage::Version;
        tracing::error!(%damage, "a stored record fails its check");
    }

    fn missing(&mut self, count: u64) {
        self.survey.damaged = self.survey.damaged.saturating_add(count);
    }

    fn record(&mut self, mark: frame::Mark, record: &Record) {
        self.records = self.records.saturating_add(1);
        let is_event = matches!(record, Record::Event { .. });
        self.survey.events = self.survey.events.saturating_add(u64::from(is_event));
        if self.survey.first.is_none() {
            self.survey.first = Some(mark.commit);
        }
        if self.commit != Some(mark.commit) {
            self.leave_commit();
            self.commit = Some(mark.commit);
            self.in_commit = 0;
        }
        self.missing(u64::from(mark.ordinal.saturating_sub(self.in_commit)));
        self.in_commit = mark.ordinal.saturating_add(1);
        if let Record::Commit { after, records, contents, .. } = record {
            // Commits of a generation are a chain.
            self.missing(u64::from(self.last.is_some_and(|last| last != *after)));
            self.last = Some(mark.commit);
            self.missing(u64::from(records.saturating_sub(self.in_commit)));
            self.stated.commit = mark.commit;
            self.stated.records = self.stated.records.saturating_add(u64::from(*records));
            self.stated.contents = self.stated.contents.saturating_add(u64::from(*contents));
            self.commit = None;
            self.compare();
        }
    }

    /// A commit whose closing record did not come is not whole.
    fn leave_commit(&mut self) {
        if let Some(commit) = self.commit.take() {
            self.missing(1);
            self.last = Some(commit);
            self.stated.commit = commit;
        }
    }

    /// At the commit that the ledger knows, everything must be as it says.
    fn compare(&mut self) {
        if let Some(known) = self.known.filter(|known| known.commit == self.stated.commit) {
            if self.stated.records < known.records || self.stated.contents < known.contents {
                self.survey.short_of = Some(known);
            }
            self.known = None;
        }
    }

    fn finish(mut self, contents: u64) -> Survey {
        self.leave_commit();
        self.missing(self.stated.contents.saturating_sub(contents));
        if let Some(known) = self.known {
            self.survey.short_of = Some(known);
        }
        let empty = self.survey.first.is_none() && !self.sealed;
        self.survey.holds = (!empty).then_some(self.stated);
        self.survey
    }
}
