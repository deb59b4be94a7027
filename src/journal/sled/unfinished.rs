//! Events that memory knows, which are those with a delivery that is pending, dead or discarded: lists of them, and counts
//! of dead letters. Only what a query asks of contents and attempts is read from the disk.

use std::collections::BTreeMap;
use std::time::Duration;

use super::library::{Library, PATIENCE};
use super::shared::Memory;
use super::store::StoreError;
use crate::journal::index::{Entry, Number, Slot, State};
use crate::journal::record::content::Place;
use crate::journal::{Ask, Group, Listed, MAX_PAGE, Page, Stage, Tally};
use crate::model::DeadReason;
use crate::rules::query::{DeliveryOutline, Outline, Query};
use crate::time::Stopwatch;

/// Events that are looked at in memory without letting others at it.
const AT_ONCE: usize = 2_048;
/// How long others are let at it then. A lock that is only let go is mostly taken again by the one who let it go.
const OTHERS: Duration = Duration::from_micros(100);

impl Library<'_> {
    /// A page of them.
    pub(super) fn unfinished(&self, ask: &Ask) -> Result<Page, StoreError> {
        let began = Stopwatch::start();
        let limit = ask.limit.clamp(1, MAX_PAGE);
        let mut page = Page::default();
        let mut before = ask.before.unwrap_or(u64::MAX);
        loop {
            let missing = limit.saturating_sub(page.items.len());
            let (candidates, next) = self.candidates(&ask.query, before, missing);
            for (mut listed, place) in candidates {
                before = listed.sequence;
                if listed.source.is_empty() {
                    self.name(&mut listed, place);
                }
                self.turn.look();
                if self.fits(&ask.query, &listed, place)? {
                    page.items.push(listed);
                }
                if page.items.len() >= limit || began.elapsed() > PATIENCE {
                    page.next = Some(before);
                    return Ok(page);
                }
            }
            let Some(next) = next else { return Ok(page) };
            before = next;
            if began.elapsed() > PATIENCE {
                page.next = Some(before);
                return Ok(page);
            }
            std::thread::park_timeout(OTHERS);
        }
    }

    /// Dead letters by target and reason.
    pub(super) fn tally(&self, ask: &Ask) -> Result<Tally, StoreError> {
        let query = &ask.query;
        if query.needs_attempts() || query.needs_content() {
            return self.tally_read(ask);
        }
        let began = Stopwatch::start();
        let mut counts = Counts::default();
        let mut unnamed = Vec::new();
        let mut before = ask.before.unwrap_or(u64::MAX);
        let next = loop {
            let next = self.walk(before, |memory, sequence, entry| {
                match fits_event(memory, entry, query) {
                    Some(false) => {}
                    Some(true) => counts.count(memory, entry, query),
                    None => unnamed.push(listed(memory, sequence, entry)),
                }
                true
            });
            let Some(next) = next else { break None };
            if began.elapsed() > PATIENCE {
                break Some(next);
            }
            before = next;
            std::thread::park_timeout(OTHERS);
        };
        let mut tally = Tally { next, ..Tally::default() };
        for ((number, reason), group) in counts.0 {
            let target = self.shared.memory().index.name(number).cloned();
            if let Some(target) = target {
                tally.add(target, reason, group);
            }
        }
        for (mut listed, place) in unnamed {
            self.name(&mut listed, place);
            if listed.fits(query) {
                count(&mut tally, &listed, query);
            }
        }
        Ok(tally)
    }

    /// The same for a query that asks something of contents or attempts.
    fn tally_read(&self, ask: &Ask) -> Result<Tally, StoreError> {
        let page = self.unfinished(&Ask { limit: MAX_PAGE, ..ask.clone() })?;
        let mut tally = Tally { next: page.next, ..Tally::default() };
        for mut listed in page.items {
            self.turn.look();
            if ask.query.needs_attempts() {
                let latest = self.latest(&listed)?;
                listed.deliveries.retain(|it| ask.query.fits_attempt(latest.get(&it.target)));
            }
            count(&mut tally, &listed, &ask.query);
        }
        Ok(tally)
    }

    /// The next that may fit, at most so many, and where to go on if there are more.
    fn candidates(
        &self,
        query: &Query,
        before: u64,
        most: usize,
    ) -> (Vec<(Listed, Place)>, Option<u64>) {
        let mut found = Vec::new();
        let next = self.walk(before, |memory, sequence, entry| {
            let fits = |slot: Slot| fits(memory, slot, query);
            let may_fit = fits_event(memory, entry, query).unwrap_or(true);
            if may_fit && entry.deliveries.iter().any(fits) {
                found.push(listed(memory, sequence, entry));
            }
            found.len() < most
        });
        (found, next)
    }

    /// Shows the next ones, the latest first, until `visit` has seen enough or others are to be let at memory. Answers where to go
    /// on; `None` when there are no more.
    fn walk(
        &self,
        before: u64,
        mut visit: impl FnMut(&Memory, u64, &Entry<Place>) -> bool,
    ) -> Option<u64> {
        let memory = self.shared.memory();
        let mut looked = 0usize;
        for (sequence, entry) in memory.index.iter_back(before) {
            looked = looked.saturating_add(1);
            if !visit(&memory, sequence, entry) || looked == AT_ONCE {
                return Some(sequence);
            }
        }
        None
    }

    /// Names an event that has no label in memory. What cannot be read stays without one.
    fn name(&self, listed: &mut Listed, place: Place) {
        if let Ok(content) = self.generations.content(place) {
            listed.source = content.source;
            listed.name = content.name;
        }
    }
}

/// Dead letters by their target's number and their reason.
#[derive(Default)]
struct Counts(BTreeMap<(Number, DeadReason), Group>);

impl Counts {
    fn count(&mut self, memory: &Memory, entry: &Entry<Place>, query: &Query) {
        for slot in entry.deliveries.iter() {
            let State::Dead(reason) = slot.state else { continue };
            if fits(memory, slot, query) {
                let one = Group::of_one(entry.received_at);
                let group = self.0.entry((slot.target, reason));
                group.and_modify(|group| group.add(one)).or_insert(one);
            }
        }
    }
}

fn count(tally: &mut Tally, listed: &Listed, query: &Query) {
    for state in &listed.deliveries {
        let outline = state.outline();
        if let Some(reason) = outline.reason.filter(|_| query.fits_delivery(outline)) {
            tally.add(state.target.clone(), reason, Group::of_one(listed.received_at));
        }
    }
}

fn fits(memory: &Memory, slot: Slot, query: &Query) -> bool {
    memory.index.name(slot.target).is_some_and(|target| {
        let (state, reason) = Stage::from(slot.state).word();
        let attempts = slot.tries();
        query.fits_delivery(DeliveryOutline { target, state, reason, attempts })
    })
}

/// Whether the event itself fits; `None` when its name is asked for and is not in memory.
fn fits_event(memory: &Memory, entry: &Entry<Place>, query: &Query) -> Option<bool> {
    let label = memory.index.label(entry.label);
    if label.is_none() && query.asks_name() {
        return None;
    }
    Some(query.fits(Outline {
        id: entry.id,
        source: label.map_or("", |label| &label.source),
        name: label.map_or("", |label| &label.name),
        received_at: entry.received_at,
    }))
}

fn listed(memory: &Memory, sequence: u64, entry: &Entry<Place>) -> (Listed, Place) {
    let label = memory.index.label(entry.label);
    let listed = Listed {
        sequence,
        id: entry.id,
        source: label.map_or_else(String::new, |label| label.source.clone()),
        name: label.map_or_else(String::new, |label| label.name.clone()),
        received_at: entry.received_at,
        bytes: u64::from(entry.place.length),
        deliveries: memory.index.states(&entry.deliveries),
    };
    (listed, entry.place)
}
