//! Records as bytes: versioned, checksummed one by one, so that damage is found where it is and the rest is read.
//!
//! A frame is `length u32 | crc32c u32 | version u8 | kind u8 | commit u64 | ordinal u32 | payload`, integers
//! big-endian; the length counts from the version on, and the checksum covers what the length counts. Version 1.
//!
//! Commit and ordinal name the record: its commit, and its number among the small records, or among the content
//! frames, of that commit. So a record that is found anywhere, even in a file that no engine can open any more,
//! says by itself which one it is, and what is missing can be counted.

mod attempt;
pub(super) mod content;
pub(super) mod frame;
mod rejection;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};

use self::attempt::{put_attempt, take_attempt};
use self::content::Place;
use self::frame::{
    Damage, Frame, KIND_COMMIT, KIND_DEDUP, KIND_DROPPED, KIND_EVENT, KIND_NAME, KIND_NOTE,
    KIND_REJECTED, KIND_SETTLED, Mark,
};
use super::index::{Number, Slot, State};
use super::quarantine::Kept;
use crate::model::{Attempt, DeadReason, DedupKey, EventId, RejectionId};
use crate::time::Timestamp;

/// What recovery folds, in the order it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// An event and its deliveries as they stood then. Its content is in the same commit.
    Event {
        sequence: u64,
        id: EventId,
        received_at: Timestamp,
        /// Groups events that belong together; 0 for none.
        order: u64,
        place: Place,
        label: Arc<Label>,
        dedup: Vec<DedupKey>,
        deliveries: Vec<Slot>,
    },
    /// A delivery whose lease ended.
    Settled {
        sequence: u64,
        target: Number,
        attempts: u32,
        state: State,
        at: Timestamp,
        attempt: Option<Attempt>,
    },
    /// Dedup keys whose event is no longer kept, each with the event's id and receive time.
    Dedup { entries: Vec<(EventId, Timestamp, DedupKey)> },
    /// What a target's number means. Each generation says it before the number is used there.
    Name { number: Number, name: String },
    /// Something small that outlives the process; the latest of one topic and name counts, and an empty value is none.
    Note { topic: String, name: String, value: Vec<u8> },
    /// A request that was refused. Its content is in the same commit.
    Rejected { id: RejectionId, kept: Kept<Place> },
    /// Rejections that are kept no longer: released, given up, or dropped by an operator.
    Dropped { ids: Vec<RejectionId> },
    /// The last small record of each commit: when it was written, which commit came before it, and how many records
    /// it has, itself included. Numbers are skipped, so that none is given twice; the commits are a chain.
    Commit { at: Timestamp, after: u64, records: u32, contents: u32 },
}

/// What a list shows of an event, so that it need not read the content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label {
    /// The name of the source.
    pub(super) source: String,
    /// The provider's name for what happened, its first [`MAX_LABEL`] bytes.
    pub(super) name: String,
}

/// Most bytes of a source's or an event's name in a label.
pub(super) const MAX_LABEL: usize = 128;

/// What goes into a label of two names: both, cut where they are too long.
pub(super) fn label<'a>(source: &'a str, name: &'a str) -> (&'a str, &'a str) {
    (cut(source, MAX_LABEL), cut(name, MAX_LABEL))
}

/// At most so many bytes of a text, whole characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Appends one record to `out`.
pub(super) fn put_record(out: &mut BytesMut, mark: Mark, record: &Record) {
    match record {
        Record::Event { sequence, id, received_at, order, place, label, dedup, deliveries } => {
            frame::put(out, KIND_EVENT, mark, |out| {
                out.put_u64(*sequence);
                out.put_slice(&id.to_bytes());
                out.put_i64(received_at.as_micros());
                out.put_u64(*order);
                out.put_u32(place.ordinal);
                out.put_u32(place.length);
                put_text(out, &label.source);
                put_text(out, &label.name);
                out.put_u8(u8::try_from(dedup.len()).unwrap_or(u8::MAX));
                for key in dedup.iter().take(usize::from(u8::MAX)) {
                    put_key(out, key);
                }
                out.put_u16(u16::try_from(deliveries.len()).unwrap_or(u16::MAX));
                for slot in deliveries.iter().take(usize::from(u16::MAX)) {
                    out.put_u16(slot.target);
                    put_state(out, slot.state, slot.attempts);
                }
            });
        }
        Record::Settled { sequence, target, attempts, state, at, attempt } => {
            frame::put(out, KIND_SETTLED, mark, |out| {
                out.put_u64(*sequence);
                out.put_u16(*target);
                put_state(out, *state, *attempts);
                out.put_i64(at.as_micros());
                put_attempt(out, attempt.as_ref());
            });
        }
        Record::Dedup { entries } => frame::put(out, KIND_DEDUP, mark, |out| {
            for (id, at, key) in entries {
                out.put_slice(&id.to_bytes());
                out.put_i64(at.as_micros());
                put_key(out, key);
            }
        }),
        Record::Name { number, name } => frame::put(out, KIND_NAME, mark, |out| {
            out.put_u16(*number);
            out.put_slice(name.as_bytes());
        }),
        Record::Note { topic, name, value } => frame::put(out, KIND_NOTE, mark, |out| {
            put_text(out, topic);
            put_text(out, name);
            out.put_slice(value);
        }),
        Record::Rejected { id, kept } => frame::put(out, KIND_REJECTED, mark, |out| {
            out.put_slice(&id.to_bytes());
            rejection::put(out, kept);
        }),
        Record::Dropped { ids } => frame::put(out, KIND_DROPPED, mark, |out| {
            for id in ids {
                out.put_slice(&id.to_bytes());
            }
        }),
        Record::Commit { at, after, records, contents } => {
            frame::put(out, KIND_COMMIT, mark, |out| {
                out.put_i64(at.as_micros());
                out.put_u64(*after);
                out.put_u32(*records);
                out.put_u32(*contents);
            });
        }
    }
}

/// Takes one record off `bytes`. On damage that leaves the next record's place unknown, `bytes` is emptied.
pub(super) fn take_record(bytes: &mut &[u8]) -> Result<(Mark, Record), Damage> {
    let frame = frame::take(bytes)?;
    Ok((frame.mark, record(&frame)?))
}

/// Reads a frame as a small record.
pub(super) fn record(frame: &Frame<'_>) -> Result<Record, Damage> {
    let mut payload = frame.payload;
    let record = match frame.kind {
        KIND_EVENT => take_event(&mut payload, frame.mark.commit),
        KIND_SETTLED => take_settled(&mut payload),
        KIND_DEDUP => take_entries(&mut payload),
        KIND_NAME => take_name(&mut payload),
        KIND_NOTE => take_note(&mut payload),
        KIND_REJECTED => rejection::take(&mut payload, frame.mark.commit),
        KIND_DROPPED => take_dropped(&mut payload),
        KIND_COMMIT => take_commit(&mut payload),
        _ => None,
    };
    record.filter(|_| payload.is_empty()).ok_or(Damage::Shape)
}

fn take_event(bytes: &mut &[u8], commit: u64) -> Option<Record> {
    let sequence = bytes.try_get_u64().ok()?;
    let id = take_id(bytes)?;
    let received_at = take_time(bytes)?;
    let order = bytes.try_get_u64().ok()?;
    let place =
        Place { commit, ordinal: bytes.try_get_u32().ok()?, length: bytes.try_get_u32().ok()? };
    let label = Arc::new(Label { source: take_text(bytes)?, name: take_text(bytes)? });
    let count = bytes.try_get_u8().ok()?;
    let dedup = (0..count).map(|_| take_key(bytes)).collect::<Option<_>>()?;
    let count = bytes.try_get_u16().ok()?;
    let slot = |bytes: &mut &[u8]| {
        let target = bytes.try_get_u16().ok()?;
        let (state, attempts) = take_state(bytes)?;
        Some(Slot { target, attempts, state })
    };
    let deliveries = (0..count).map(|_| slot(bytes)).collect::<Option<_>>()?;
    Some(Record::Event { sequence, id, received_at, order, place, label, dedup, deliveries })
}

fn take_settled(bytes: &mut &[u8]) -> Option<Record> {
    let sequence = bytes.try_get_u64().ok()?;
    let target = bytes.try_get_u16().ok()?;
    let (state, attempts) = take_state(bytes)?;
    let at = take_time(bytes)?;
    let attempt = match bytes.try_get_u8().ok()? {
        0 => None,
        _ => Some(take_attempt(bytes)?),
    };
    Some(Record::Settled { sequence, target, attempts, state, at, attempt })
}

fn take_entries(bytes: &mut &[u8]) -> Option<Record> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        entries.push((take_id(bytes)?, take_time(bytes)?, take_key(bytes)?));
    }
    Some(Record::Dedup { entries })
}

fn take_name(bytes: &mut &[u8]) -> Option<Record> {
    let number = bytes.try_get_u16().ok()?;
    let name = String::from_utf8(std::mem::take(bytes).to_vec()).ok()?;
    Some(Record::Name { number, name })
}

fn take_dropped(bytes: &mut &[u8]) -> Option<Record> {
    let mut ids = Vec::new();
    while !bytes.is_empty() {
        ids.push(RejectionId::from_bytes(take_id(bytes)?.to_bytes()));
    }
    Some(Record::Dropped { ids })
}

fn take_note(bytes: &mut &[u8]) -> Option<Record> {
    let (topic, name) = (take_text(bytes)?, take_text(bytes)?);
    Some(Record::Note { topic, name, value: std::mem::take(bytes).to_vec() })
}

fn take_commit(bytes: &mut &[u8]) -> Option<Record> {
    let at = take_time(bytes)?;
    let after = bytes.try_get_u64().ok()?;
    let (records, contents) = (bytes.try_get_u32().ok()?, bytes.try_get_u32().ok()?);
    Some(Record::Commit { at, after, records, contents })
}

/// A text of at most 255 bytes; what is longer is cut.
fn put_text(out: &mut BytesMut, text: &str) {
    let text = cut(text, usize::from(u8::MAX));
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text.as_bytes());
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::from(bytes.try_get_u8().ok()?);
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

fn put_key(out: &mut BytesMut, key: &DedupKey) {
    let micros = |window: &Duration| u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
    match key {
        DedupKey::Exact { key, window } => {
            out.put_u8(0);
            out.put_u64(micros(window));
            out.put_u128(*key);
        }
        DedupKey::Latest { subject, digest, window } => {
            out.put_u8(1);
            out.put_u64(micros(window));
            out.put_u128(*subject);
            out.put_u128(*digest);
        }
    }
}

fn take_key(bytes: &mut &[u8]) -> Option<DedupKey> {
    let tag = bytes.try_get_u8().ok()?;
    let window = Duration::from_micros(bytes.try_get_u64().ok()?);
    let first = bytes.try_get_u128().ok()?;
    match tag {
        0 => Some(DedupKey::Exact { key: first, window }),
        1 => {
            let digest = bytes.try_get_u128().ok()?;
            Some(DedupKey::Latest { subject: first, digest, window })
        }
        _ => None,
    }
}

/// The state's tag; from here on the attempts follow it.
const TRIED: u8 = 0x80;

/// A delivery as it is born, ready and never tried, takes one byte.
fn put_state(out: &mut BytesMut, state: State, attempts: u32) {
    let (tag, value) = match state {
        // A lease does not outlive the process: what was in flight is ready again.
        State::Ready | State::InFlight(_) => (0, None),
        State::Waiting(due) => (1, Some(due.as_micros())),
        State::Delivered => (2, None),
        State::Dead(reason) => (3, Some(dead_reason(reason))),
        State::Discarded => (4, None),
    };
    out.put_u8(if attempts > 0 { tag | TRIED } else { tag });
    if attempts > 0 {
        out.put_u32(attempts);
    }
    if let Some(value) = value {
        out.put_i64(value);
    }
}

fn take_state(bytes: &mut &[u8]) -> Option<(State, u32)> {
    let tag = bytes.try_get_u8().ok()?;
    let attempts = if tag & TRIED == 0 { 0 } else { bytes.try_get_u32().ok()? };
    let state = match tag & !TRIED {
        0 => State::Ready,
        1 => State::Waiting(take_time(bytes)?),
        2 => State::Delivered,
        3 => {
            let value = bytes.try_get_i64().ok()?;
            State::Dead(DeadReason::ALL.into_iter().find(|r| dead_reason(*r) == value)?)
        }
        4 => State::Discarded,
        _ => return None,
    };
    Some((state, attempts))
}

fn dead_reason(reason: DeadReason) -> i64 {
    match reason {
        DeadReason::Attempts => 1,
        DeadReason::Expired => 2,
        DeadReason::Gone => 3,
        DeadReason::Damaged => 4,
        DeadReason::Refused => 5,
        DeadReason::Template => 6,
    }
}

fn take_id(bytes: &mut &[u8]) -> Option<EventId> {
    let mut id = [0; 16];
    bytes.try_copy_to_slice(&mut id).ok()?;
    Some(EventId::from_bytes(id))
}

fn take_time(bytes: &mut &[u8]) -> Option<Timestamp> {
    bytes.try_get_i64().ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests;
