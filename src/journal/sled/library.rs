//! Looking things up: every event inside its retention, from the records on the disk and what is known in memory.
//!
//! Memory knows how each delivery that is pending, dead or discarded stands; every other one has been delivered. The
//! records say the rest. Everything here blocks, and none of it is on the way of an append or a delivery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::generations::Generations;
use super::history::{At, Block, Blocks};
use super::operate;
use super::sealed::Sealed;
use super::shared::Shared;
use super::store::{Store, StoreError};
use super::yielding::Yielding;
use crate::journal::index::{Number, Slot, State};
use crate::journal::record::content::{Content, Place};
use crate::journal::record::frame::Mark;
use crate::journal::record::{self, Label, Record};
use crate::journal::slot::Slots;
use crate::journal::{Ask, DeliveryState, Found, Listed, LoadError, MAX_PAGE, Page};
use crate::model::{Attempt, DedupKey, Event, EventId, Name};
use crate::rules::query::{Outline, Query};
use crate::time::{Stopwatch, Timestamp};

/// How far the moment in an event's id and the one at which it was received are apart at most, as a rule.
const NEAR: Duration = Duration::from_secs(60);
/// How long one page may be looked for.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// One generation, open for reading.
pub(super) struct Chapter {
    pub(super) blocks: Blocks,
    pub(super) reader: Reader,
}

/// How a generation is read.
pub(super) enum Reader {
    Store(Arc<Store>),
    Sealed(Arc<Sealed>),
}

/// Every generation as it is at one moment, the oldest first.
pub(super) struct Library<'a> {
    pub(super) shared: &'a Shared,
    pub(super) generations: &'a Generations,
    pub(super) chapters: Vec<Chapter>,
    pub(super) retention: Duration,
    pub(super) turn: Yielding,
}

/// An event as a record says it was.
pub(super) struct Recorded {
    commit: u64,
    pub(super) sequence: u64,
    pub(super) id: EventId,
    received_at: Timestamp,
    label: Arc<Label>,
    pub(super) place: Place,
    pub(super) dedup: Vec<DedupKey>,
    pub(super) deliveries: Vec<Slot>,
}

/// A settlement as a record says it was.
struct Settled {
    slot: Slot,
    attempt: Option<Attempt>,
}

impl Library<'_> {
    /// A page of events.
    pub(super) fn list(&self, ask: &Ask) -> Result<Page, StoreError> {
        if ask.query.is_of_unfinished() { self.unfinished(ask) } else { self.recorded(ask) }
    }

    /// One event whole.
    pub(super) fn find(&self, id: EventId) -> Result<Option<Found>, LoadError> {
        let Some(recorded) = self.newest(id)? else { return Ok(None) };
        let Some((deliveries, place)) = self.standing(&recorded)? else {
            return Ok(None);
        };
        let sequence = recorded.sequence;
        let content = match self.generations.content(place) {
            Ok(content) => content,
            // It was moved to another generation while it was being looked for.
            Err(error) => match self.place(sequence).filter(|now| *now != place) {
                Some(place) => self.generations.content(place)?,
                None => return Err(error.into()),
            },
        };
        let mut attempts = Vec::new();
        let begun = self.first_commit(recorded.received_at);
        self.settlements(sequence, begun, |settled| {
            let due = settled.slot.state.due();
            let target = self.shared.memory().index.name(settled.slot.target).cloned();
            attempts
                .extend(target.zip(settled.attempt).map(|(name, attempt)| (name, attempt, due)));
            true
        })?;
        let event = event(content)?;
        let repeats = self.shared.memory().repeated.of(id);
        Ok(Some(Found { sequence, event, deliveries, attempts, repeats }))
    }

    /// The newest record of an event by its id.
    ///
    /// An event was mostly received when its id was made, and all its records say when: the stretches of that time are asked
    /// first. One that was released from quarantine was received before.
    pub(super) fn newest(&self, id: EventId) -> Result<Option<Recorded>, StoreError> {
        let (since, until) = (id.made_at().minus(NEAR), id.made_at().plus(NEAR));
        let is_near = |block: &Block| block.may_be_of(Some(since), Some(until));
        for near in [true, false] {
            for chapter in self.chapters.iter().rev() {
                let blocks = chapter.blocks.iter().rev().inspect(|_| self.turn.step());
                let asked = blocks.filter(|block| is_near(block) == near);
                for block in asked.filter(|block| block.may_record(id)) {
                    let recorded = chapter.recorded(block)?;
                    self.turn.look();
                    if let Some(found) = recorded.into_iter().rev().find(|it| it.id == id) {
                        return Ok(Some(found));
                    }
                }
            }
        }
        Ok(None)
    }

    /// A commit before which nothing is recorded of an event that was received then: that of the first stretch that may
    /// record it.
    fn first_commit(&self, received_at: Timestamp) -> u64 {
        let until = Some(received_at.plus(Duration::from_micros(1)));
        let mut blocks = self.chapters.iter().flat_map(|chapter| &chapter.blocks);
        let first = blocks.find(|block| block.may_be_of(Some(received_at), until));
        first.map_or(0, |block| block.commit)
    }

    /// An event as a replay needs it; `None` when its retention is over.
    pub(super) fn settled(
        &self,
        recorded: &Recorded,
    ) -> Result<Option<operate::Settled>, LoadError> {
        let Some((_, place)) = self.standing(recorded)? else {
            return Ok(None);
        };
        let event = event(self.generations.content(place)?)?;
        let deliveries = self.final_slots(recorded)?;
        Ok(Some(operate::Settled { event, dedup: recorded.dedup.clone(), deliveries }))
    }

    /// How an event's deliveries stand, and where its content is; `None` when its retention is over.
    pub(super) fn standing(
        &self,
        recorded: &Recorded,
    ) -> Result<Option<(Vec<DeliveryState>, Place)>, StoreError> {
        let memory = self.shared.memory();
        if let Some(entry) = memory.index.get(recorded.sequence) {
            return Ok(Some((memory.index.states(&entry.deliveries), entry.place)));
        }
        drop(memory);
        if recorded.received_at.plus(self.retention) <= self.shared.clock.now() {
            return Ok(None);
        }
        let slots = self.final_slots(recorded)?;
        let states = self.shared.memory().index.states(&Slots::new(&slots));
        Ok(Some((states, recorded.place)))
    }

    /// The deliveries of an event that memory does not know any more: every target has it, after so many attempts.
    pub(super) fn final_slots(&self, recorded: &Recorded) -> Result<Vec<Slot>, StoreError> {
        let delivered = |slot: &Slot| Slot { state: State::Delivered, ..*slot };
        let mut slots: Vec<_> = recorded.deliveries.iter().map(delivered).collect();
        let mut missing: Vec<Number> = recorded
            .deliveries
            .iter()
            .filter(|slot| slot.state != State::Delivered)
            .map(|slot| slot.target)
            .collect();
        if missing.is_empty() {
            return Ok(slots);
        }
        self.settlements(recorded.sequence, recorded.commit, |settled| {
            let Slot { target, attempts, state } = settled.slot;
            if let Some(slot) = slots.iter_mut().find(|slot| slot.target == target) {
                slot.attempts = attempts;
            }
            if state == State::Delivered {
                missing.retain(|number| *number != target);
            }
            !missing.is_empty()
        })?;
        Ok(slots)
    }

    /// Shows the settlements of one event from a commit on, the oldest first, until `visit` has seen enough.
    fn settlements(
        &self,
        sequence: u64,
        commit: u64,
        mut visit: impl FnMut(Settled) -> bool,
    ) -> Result<(), StoreError> {
        for chapter in &self.chapters {
            // A commit may fill several stretches, and begin at the end of the one before them.
            let from = chapter.blocks.partition_point(|block| block.commit < commit);
            let blocks = chapter.blocks.get(from.saturating_sub(1)..).unwrap_or_default();
            let blocks = blocks.iter().inspect(|_| self.turn.step());
            for block in blocks.filter(|block| block.may_concern(sequence)) {
                self.turn.look();
                for (mark, record) in chapter.reader.records(block.at)? {
                    match record {
                        Record::Settled {
                            sequence: it, target, attempts, state, attempt, ..
                        } if it == sequence && mark.commit >= commit => {
                            let slot = Slot { target, attempts, state };
                            if !visit(Settled { slot, attempt }) {
                                return Ok(());
                            }
                        }
                        Record::Settled { .. }
                        | Record::Event { .. }
                        | Record::Dedup { .. }
                        | Record::Name { .. }
                        | Record::Note { .. }
                        | Record::Rejected { .. }
                        | Record::Dropped { .. }
                        | Record::Commit { .. } => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Every event, from the records.
    fn recorded(&self, ask: &Ask) -> Result<Page, StoreError> {
        let began = Stopwatch::start();
        let before = ask.before.unwrap_or(u64::MAX);
        let (since, until) = (ask.query.since, ask.query.until);
        let mut blocks: Vec<_> = self
            .chapters
            .iter()
            .flat_map(|chapter| chapter.blocks.iter().map(move |block| (chapter, block)))
            .inspect(|_| self.turn.step())
            .filter_map(|(chapter, block)| Some((block.events?, chapter, block)))
            .filter(|((low, _), _, block)| *low < before && block.may_be_of(since, until))
            .collect();
        blocks.sort_unstable_by_key(|((_, high), ..)| *high);
        let mut page = Page::default();
        let mut gathered: BTreeMap<u64, Recorded> = BTreeMap::new();
        loop {
            // Whatever may come later than what was gathered must be gathered first.
            while let Some(((_, high), chapter, block)) = blocks.last()
                && gathered.last_key_value().is_none_or(|(latest, _)| latest <= high)
            {
                self.turn.look();
                for found in chapter.recorded(block)? {
                    let newer = |it: &Recorded| it.commit < found.commit;
                    let sequence = found.sequence;
                    if sequence < before && gathered.get(&sequence).is_none_or(newer) {
                        gathered.insert(sequence, found);
                    }
                }
                blocks.pop();
            }
            let Some((sequence, recorded)) = gathered.pop_last() else { return Ok(page) };
            page.items.extend(self.listed(ask, &recorded)?);
            self.turn.look();
            if page.items.len() >= ask.limit.clamp(1, MAX_PAGE) || began.elapsed() > PATIENCE {
                page.next = Some(sequence);
                return Ok(page);
            }
        }
    }

    /// A recorded event as a list shows it, if it fits.
    fn listed(&self, ask: &Ask, recorded: &Recorded) -> Result<Option<Listed>, StoreError> {
        let outline = Outline {
            id: recorded.id,
            source: &recorded.label.source,
            name: &recorded.label.name,
            received_at: recorded.received_at,
        };
        if !ask.query.fits(outline) {
            return Ok(None);
        }
        let Some((deliveries, place)) = self.standing(recorded)? else { return Ok(None) };
        let listed = Listed {
            sequence: recorded.sequence,
            id: recorded.id,
            source: recorded.label.source.clone(),
            name: recorded.label.name.clone(),
            received_at: recorded.received_at,
            bytes: u64::from(place.length),
            deliveries,
        };
        Ok(self.fits(&ask.query, &listed, place)?.then_some(listed))
    }

    /// Every step of the query, the cheap ones first.
    pub(super) fn fits(
        &self,
        query: &Query,
        listed: &Listed,
        place: Place,
    ) -> Result<bool, StoreError> {
        if !listed.fits(query) {
            return Ok(false);
        }
        if query.needs_attempts() {
            let latest = self.latest(listed)?;
            let fits = |it: &DeliveryState| {
                query.fits_delivery(it.outline()) && query.fits_attempt(latest.get(&it.target))
            };
            if !listed.deliveries.iter().any(fits) {
                return Ok(false);
            }
        }
        if !query.needs_content() {
            return Ok(true);
        }
        // What cannot be read, or has just been moved, does not fit.
        let content = self.generations.content(place).ok().and_then(|it| event(it).ok());
        Ok(content.is_some_and(|event| query.fits_content(&event)))
    }

    /// The latest recorded attempt of an event at each target.
    pub(super) fn latest(&self, listed: &Listed) -> Result<BTreeMap<Name, Attempt>, StoreError> {
        let mut latest: BTreeMap<Number, Attempt> = BTreeMap::new();
        let begun = self.first_commit(listed.received_at);
        self.settlements(listed.sequence, begun, |settled| {
            latest.extend(settled.attempt.map(|attempt| (settled.slot.target, attempt)));
            true
        })?;
        let memory = self.shared.memory();
        let named = |(number, attempt)| Some((memory.index.name(number)?.clone(), attempt));
        Ok(latest.into_iter().filter_map(named).collect())
    }

    fn place(&self, sequence: u64) -> Option<Place> {
        self.shared.memory().index.get(sequence).map(|entry| entry.place)
    }
}

impl Chapter {
    /// The events that a stretch records.
    fn recorded(&self, block: &Block) -> Result<Vec<Recorded>, StoreError> {
        let records = self.reader.records(block.at)?.into_iter();
        Ok(records.filter_map(|(mark, record)| Recorded::of(mark, record)).collect())
    }
}

impl Reader {
    /// The records of one stretch. One that is damaged is left out: it is counted where it is needed.
    fn records(&self, at: At) -> Result<Vec<(Mark, Record)>, StoreError> {
        let bytes = match (self, at) {
            (Self::Store(store), At::Pack { commit, number }) => store.pack(commit, number)?,
            (Self::Sealed(sealed), At::File { start, length }) => sealed.stretch(start, length)?,
            (Self::Store(_), At::File { .. }) | (Self::Sealed(_), At::Pack { .. }) => {
                return Err(StoreError::Missing);
            }
        };
        let (mut rest, mut records): (&[u8], _) = (&bytes, Vec::new());
        while !rest.is_empty() {
            records.extend(record::take_record(&mut rest).ok());
        }
        Ok(records)
    }
}

impl Recorded {
    fn of(mark: Mark, record: Record) -> Option<Self> {
        match record {
            Record::Event {
                sequence, id, received_at, label, place, dedup, deliveries, ..
            } => {
                let commit = mark.commit;
                Some(Self { commit, sequence, id, received_at, label, place, dedup, deliveries })
            }
            Record::Settled { .. }
            | Record::Dedup { .. }
            | Record::Name { .. }
            | Record::Note { .. }
            | Record::Rejected { .. }
            | Record::Dropped { .. }
            | Record::Commit { .. } => None,
        }
    }
}

/// An event from its content.
pub(super) fn event(content: Content) -> Result<Event, LoadError> {
    let Content { id, received_at, source, name, order_key, headers, body } = content;
    let detail = "its source's name is not one".to_owned();
    let source = Name::parse(&source).ok_or(LoadError::Damaged { detail })?;
    Ok(Event { id, source, name, order_key, received_at, headers, body })
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Damaged(_) | StoreError::Missing => Self::Damaged { detail },
            StoreError::Sled(_) | StoreError::Sync(_) | StoreError::Closed => {
                Self::Unreadable { detail }
            }
        }
    }
}
