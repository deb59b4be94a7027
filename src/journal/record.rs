//! Records as bytes: versioned, checksummed one by one, so that damage is found where it is and the rest is read.
//!
//! A frame is `length u32 | crc32c u32 | version u8 | kind u8 | payload`, integers big-endian; the length counts
//! from the version on, and the checksum covers what the length counts. Version 1.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::index::{Number, Slot, State};
use crate::model::{Answer, Attempt, DeadReason, DedupKey, ErrorClass, EventId, Headers};
use crate::time::Timestamp;

/// The version this code writes, and the newest it reads.
const VERSION: u8 = 1;
/// Length and checksum.
const PREFIX: usize = 8;

const KIND_EVENT: u8 = 1;
const KIND_SETTLED: u8 = 2;
const KIND_DEDUP: u8 = 3;
const KIND_CONTENT: u8 = 4;
const KIND_NAME: u8 = 5;
const KIND_COMMIT: u8 = 6;

/// Where the content of an event is: a range of its commit's content stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) commit: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// What recovery folds, in the order it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// An event and its deliveries as they stood then.
    Event {
        sequence: u64,
        id: EventId,
        received_at: Timestamp,
        place: Place,
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
    /// The first record of each commit: when it was written.
    Commit { at: Timestamp },
    /// Dedup keys whose event is no longer kept.
    Dedup { id: EventId, at: Timestamp, keys: Vec<DedupKey> },
}

/// An event's own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) id: EventId,
    pub(super) received_at: Timestamp,
    pub(super) source: String,
    pub(super) name: String,
    pub(super) order_key: Option<String>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("it is shorter than it says")]
    Short,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it is of a version this release does not read")]
    Version,
    #[error("its content does not fit its kind")]
    Shape,
}

/// Appends one record to `out`.
pub(super) fn put_record(out: &mut BytesMut, record: &Record) {
    match record {
        Record::Event { sequence, id, received_at, place, dedup, deliveries } => {
            frame(out, KIND_EVENT, |out| {
                out.put_u64(*sequence);
                out.put_slice(&id.to_bytes());
                out.put_i64(received_at.as_micros());
                out.put_u64(place.commit);
                out.put_u64(place.offset);
                out.put_u32(place.length);
                put_keys(out, dedup);
                out.put_u16(short(deliveries.len()));
                for slot in deliveries {
                    out.put_u16(slot.target);
                    out.put_u32(slot.attempts);
                    put_state(out, slot.state);
                }
            });
        }
        Record::Settled { sequence, target, attempts, state, at, attempt } => {
            frame(out, KIND_SETTLED, |out| {
                out.put_u64(*sequence);
                out.put_u16(*target);
                out.put_u32(*attempts);
                put_state(out, *state);
                out.put_i64(at.as_micros());
                put_attempt(out, attempt.as_ref());
            });
        }
        Record::Commit { at } => frame(out, KIND_COMMIT, |out| out.put_i64(at.as_micros())),
        Record::Dedup { id, at, keys } => frame(out, KIND_DEDUP, |out| {
            out.put_slice(&id.to_bytes());
            out.put_i64(at.as_micros());
            put_keys(out, keys);
        }),
    }
}

/// Takes one record off `bytes`. On damage that leaves the next record's place unknown, `bytes` is emptied.
pub(super) fn take_record(bytes: &mut &[u8]) -> Result<Record, Damage> {
    let (kind, mut payload) = take_frame(bytes)?;
    let record = match kind {
        KIND_EVENT => take_event(&mut payload),
        KIND_SETTLED => take_settled(&mut payload),
        KIND_COMMIT => take_time(&mut payload).map(|at| Record::Commit { at }),
        KIND_DEDUP => take_id(&mut payload).and_then(|id| {
            let (at, keys) = (take_time(&mut payload)?, take_keys(&mut payload)?);
            Some(Record::Dedup { id, at, keys })
        }),
        _ => None,
    };
    record.filter(|_| payload.is_empty()).ok_or(Damage::Shape)
}

/// Appends an event's content to `out`.
pub(super) fn put_content(out: &mut BytesMut, content: &Content) {
    frame(out, KIND_CONTENT, |out| {
        out.put_slice(&content.id.to_bytes());
        out.put_i64(content.received_at.as_micros());
        put_text(out, &content.source);
        put_text(out, &content.name);
        out.put_u8(u8::from(content.order_key.is_some()));
        put_text(out, content.order_key.as_deref().unwrap_or_default());
        out.put_u32(long(content.headers.packed().len()));
        out.put_slice(content.headers.packed());
        out.put_slice(&content.body);
    });
}

/// Reads an event's content back.
pub(super) fn content(bytes: &Bytes) -> Result<Content, Damage> {
    let mut rest: &[u8] = bytes;
    let (kind, payload) = take_frame(&mut rest)?;
    let mut payload = bytes.slice_ref(payload);
    if kind != KIND_CONTENT {
        return Err(Damage::Shape);
    }
    take_content(&mut payload).ok_or(Damage::Shape)
}

/// A name as a record of its own.
pub(super) fn put_name(out: &mut BytesMut, name: &str) {
    frame(out, KIND_NAME, |out| out.put_slice(name.as_bytes()));
}

/// Reads a name back.
pub(super) fn name(mut bytes: &[u8]) -> Result<String, Damage> {
    match take_frame(&mut bytes)? {
        (KIND_NAME, text) => String::from_utf8(text.to_vec()).map_err(|_invalid| Damage::Shape),
        (_, _) => Err(Damage::Shape),
    }
}

fn frame(out: &mut BytesMut, kind: u8, payload: impl FnOnce(&mut BytesMut)) {
    let begin = out.len();
    out.put_bytes(0, PREFIX);
    out.put_u8(VERSION);
    out.put_u8(kind);
    payload(out);
    let Some((prefix, counted)) =
        out.get_mut(begin..).and_then(|frame| frame.split_first_chunk_mut::<PREFIX>())
    else {
        return;
    };
    let (length, checksum) = prefix.split_at_mut(4);
    length.copy_from_slice(&long(counted.len()).to_be_bytes());
    checksum.copy_from_slice(&crc32c::crc32c(counted).to_be_bytes());
}

fn take_frame<'a>(bytes: &mut &'a [u8]) -> Result<(u8, &'a [u8]), Damage> {
    let whole = std::mem::take(bytes);
    let (prefix, rest) = whole.split_first_chunk::<PREFIX>().ok_or(Damage::Short)?;
    let mut prefix = prefix.as_slice();
    let (length, checksum) = (prefix.get_u32(), prefix.get_u32());
    let length = usize::try_from(length).map_err(|_wide| Damage::Short)?;
    let (counted, rest) = rest.split_at_checked(length).ok_or(Damage::Short)?;
    *bytes = rest;
    if crc32c::crc32c(counted) != checksum {
        return Err(Damage::Checksum);
    }
    let ([version, kind], payload) = counted.split_first_chunk::<2>().ok_or(Damage::Shape)?;
    if *version > VERSION {
        return Err(Damage::Version);
    }
    Ok((*kind, payload))
}

fn put_keys(out: &mut BytesMut, keys: &[DedupKey]) {
    out.put_u8(u8::try_from(keys.len()).unwrap_or(u8::MAX));
    for key in keys.iter().take(usize::from(u8::MAX)) {
        let (tag, first, second, window) = match key {
            DedupKey::Exact { key, window } => (0, *key, 0, *window),
            DedupKey::Latest { subject, digest, window } => (1, *subject, *digest, *window),
        };
        out.put_u8(tag);
        out.put_u128(first);
        out.put_u128(second);
        out.put_u64(u64::try_from(window.as_micros()).unwrap_or(u64::MAX));
    }
}

fn take_keys(bytes: &mut &[u8]) -> Option<Vec<DedupKey>> {
    let count = bytes.try_get_u8().ok()?;
    let mut keys = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let tag = bytes.try_get_u8().ok()?;
        let (first, second) = (bytes.try_get_u128().ok()?, bytes.try_get_u128().ok()?);
        let window = Duration::from_micros(bytes.try_get_u64().ok()?);
        keys.push(match tag {
            0 => DedupKey::Exact { key: first, window },
            1 => DedupKey::Latest { subject: first, digest: second, window },
            _ => return None,
        });
    }
    Some(keys)
}

fn put_state(out: &mut BytesMut, state: State) {
    let (tag, value) = match state {
        // A lease does not outlive the process: what was in flight is ready again.
        State::Ready | State::InFlight(_) => (0, 0),
        State::Waiting(due) => (1, due.as_micros()),
        State::Delivered => (2, 0),
        State::Dead(reason) => (3, dead_reason(reason)),
    };
    out.put_u8(tag);
    out.put_i64(value);
}

fn take_state(bytes: &mut &[u8]) -> Option<State> {
    let (tag, value) = (bytes.try_get_u8().ok()?, bytes.try_get_i64().ok()?);
    Some(match tag {
        0 => State::Ready,
        1 => State::Waiting(Timestamp::from_micros(value)),
        2 => State::Delivered,
        3 => State::Dead(DeadReason::ALL.into_iter().find(|r| dead_reason(*r) == value)?),
        _ => return None,
    })
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

fn put_attempt(out: &mut BytesMut, attempt: Option<&Attempt>) {
    let Some(Attempt { number, started_at, duration, answer }) = attempt else {
        out.put_u8(0);
        return;
    };
    out.put_u8(1);
    out.put_u32(*number);
    out.put_i64(started_at.as_micros());
    out.put_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    let (status, class) = match answer {
        Answer::Status { status, .. } => (*status, 0),
        Answer::Failed(class) => (0, error_class(*class)),
        Answer::Interrupted => (0, 0),
    };
    out.put_u16(status);
    out.put_u8(class);
}

fn take_attempt(bytes: &mut &[u8]) -> Option<Attempt> {
    let number = bytes.try_get_u32().ok()?;
    let started_at = take_time(bytes)?;
    let duration = Duration::from_micros(bytes.try_get_u64().ok()?);
    let (status, class) = (bytes.try_get_u16().ok()?, bytes.try_get_u8().ok()?);
    let answer = match (status, class) {
        (0, 0) => Answer::Interrupted,
        (0, class) => Answer::Failed(CLASSES.into_iter().find(|c| error_class(*c) == class)?),
        (status, _) => Answer::Status { status, retry_after: None },
    };
    Some(Attempt { number, started_at, duration, answer })
}

const CLASSES: [ErrorClass; 7] = [
    ErrorClass::Dns,
    ErrorClass::Connect,
    ErrorClass::Tls,
    ErrorClass::Reset,
    ErrorClass::Timeout,
    ErrorClass::Protocol,
    ErrorClass::TooLarge,
];

fn error_class(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Dns => 1,
        ErrorClass::Connect => 2,
        ErrorClass::Tls => 3,
        ErrorClass::Reset => 4,
        ErrorClass::Timeout => 5,
        ErrorClass::Protocol => 6,
        ErrorClass::TooLarge => 7,
    }
}

fn take_event(bytes: &mut &[u8]) -> Option<Record> {
    let sequence = bytes.try_get_u64().ok()?;
    let id = take_id(bytes)?;
    let received_at = take_time(bytes)?;
    let place = Place {
        commit: bytes.try_get_u64().ok()?,
        offset: bytes.try_get_u64().ok()?,
        length: bytes.try_get_u32().ok()?,
    };
    let dedup = take_keys(bytes)?;
    let count = bytes.try_get_u16().ok()?;
    let mut deliveries = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (target, attempts) = (bytes.try_get_u16().ok()?, bytes.try_get_u32().ok()?);
        deliveries.push(Slot { target, attempts, state: take_state(bytes)? });
    }
    Some(Record::Event { sequence, id, received_at, place, dedup, deliveries })
}

fn take_settled(bytes: &mut &[u8]) -> Option<Record> {
    let sequence = bytes.try_get_u64().ok()?;
    let (target, attempts) = (bytes.try_get_u16().ok()?, bytes.try_get_u32().ok()?);
    let state = take_state(bytes)?;
    let at = take_time(bytes)?;
    let attempt = match bytes.try_get_u8().ok()? {
        0 => None,
        _ => Some(take_attempt(bytes)?),
    };
    Some(Record::Settled { sequence, target, attempts, state, at, attempt })
}

fn take_content(bytes: &mut Bytes) -> Option<Content> {
    let mut id = [0; 16];
    bytes.try_copy_to_slice(&mut id).ok()?;
    let received_at = Timestamp::from_micros(bytes.try_get_i64().ok()?);
    let (source, name) = (take_text(bytes)?, take_text(bytes)?);
    let has_order_key = bytes.try_get_u8().ok()? == 1;
    let order_key = take_text(bytes)?;
    let headers = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    if headers > bytes.len() {
        return None;
    }
    let headers = Headers::from_packed(bytes.split_to(headers))?;
    Some(Content {
        id: EventId::from_bytes(id),
        received_at,
        source,
        name,
        order_key: has_order_key.then_some(order_key),
        headers,
        body: bytes.clone(),
    })
}

fn take_id(bytes: &mut &[u8]) -> Option<EventId> {
    let mut id = [0; 16];
    bytes.try_copy_to_slice(&mut id).ok()?;
    Some(EventId::from_bytes(id))
}

fn take_time(bytes: &mut &[u8]) -> Option<Timestamp> {
    bytes.try_get_i64().ok().map(Timestamp::from_micros)
}

fn put_text(out: &mut BytesMut, text: &str) {
    let length = short(text.len());
    out.put_u16(length);
    out.put_slice(text.as_bytes().get(..usize::from(length)).unwrap_or_default());
}

fn take_text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::from(bytes.try_get_u16().ok()?);
    if length > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(length).to_vec()).ok()
}

/// Lengths that the rules bound far below 65,536.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Lengths that the configuration bounds far below 4 GiB.
fn long(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
