//! An event's own bytes as frames: one if it is short enough, otherwise a chain of chunks.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::frame::{self, Damage, Frame, HEAD, KIND_CHUNK, KIND_CONTENT, Mark};
use crate::model::{Event, EventId, Headers};
use crate::time::Timestamp;

/// Most bytes of one frame: what is longer is a chain of chunks.
pub(in crate::journal) const FRAME: usize = 8 * 1024;
/// Most bytes of one part, which is one value of the store: nine of them stand on a shelf, whose page has to stay below the
/// bound above which sled would write it to a file of its own and never sync it. The longer, the fewer values and shelves.
pub(in crate::journal) const PART: usize = 13 * 1024;
/// Event id, number and count of a chunk.
const CHUNK_HEAD: usize = 16 + 2 + 2;
/// Most content bytes of one chunk.
const CHUNK: usize = FRAME - HEAD - CHUNK_HEAD;

/// Where the content of an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Place {
    pub(in crate::journal) commit: u64,
    /// Its first frame among the content frames of the commit.
    pub(in crate::journal) ordinal: u32,
    /// Bytes of its frames; more than [`FRAME`] means a chain of chunks, each in a part of its own.
    pub(in crate::journal) length: u32,
}

impl Place {
    /// How many frames it has.
    pub(in crate::journal) fn frames(self) -> u32 {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        if length <= FRAME { 1 } else { long(length.div_ceil(FRAME)) }
    }

    /// The ordinals of its frames.
    pub(in crate::journal) fn ordinals(self) -> std::ops::Range<u32> {
        self.ordinal..self.ordinal.saturating_add(self.frames())
    }
}

/// An event's own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Content {
    pub(in crate::journal) id: EventId,
    pub(in crate::journal) received_at: Timestamp,
    pub(in crate::journal) source: String,
    pub(in crate::journal) name: String,
    pub(in crate::journal) order_key: Option<String>,
    pub(in crate::journal) headers: Headers,
    pub(in crate::journal) body: Bytes,
}

/// The same where it stands, to be written.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) struct View<'a> {
    id: EventId,
    received_at: Timestamp,
    source: &'a str,
    name: &'a str,
    order_key: Option<&'a str>,
    headers: &'a [u8],
    body: &'a [u8],
}

impl<'a> From<&'a Event> for View<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            id: event.id,
            received_at: event.received_at,
            source: event.source.as_str(),
            name: &event.name,
            order_key: event.order_key.as_deref(),
            headers: event.headers.packed(),
            body: &event.body,
        }
    }
}

impl<'a> From<&'a Content> for View<'a> {
    fn from(content: &'a Content) -> Self {
        Self {
            id: content.id,
            received_at: content.received_at,
            source: &content.source,
            name: &content.name,
            order_key: content.order_key.as_deref(),
            headers: content.headers.packed(),
            body: &content.body,
        }
    }
}

/// The contents of one commit, cut into parts of at most [`PART`] bytes. No frame crosses the border of a part.
#[derive(Debug)]
pub(in crate::journal) struct Parts {
    commit: u64,
    frames: u32,
    /// Each with the ordinal of its first frame.
    cut: Vec<(u32, Bytes)>,
    /// The last one, while there may be room in it.
    open: Option<(u32, BytesMut)>,
}

impl Parts {
    pub(in crate::journal) fn new(commit: u64) -> Self {
        Self { commit, frames: 0, cut: Vec::new(), open: None }
    }

    /// Frames so far.
    pub(in crate::journal) fn frames(&self) -> u32 {
        self.frames
    }

    /// Bytes so far.
    pub(in crate::journal) fn len(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |(_, part)| part.len());
        self.cut.iter().map(|(_, part)| part.len()).fold(open, usize::saturating_add)
    }

    /// Nothing is added to the last part any more.
    pub(in crate::journal) fn finish(&mut self) {
        if let Some((first, part)) = self.open.take() {
            // What is kept for a while is not to take the room of a part that is full.
            let is_small = part.len() < PART / 2;
            let part = if is_small { Bytes::copy_from_slice(&part) } else { part.freeze() };
            self.cut.push((first, part));
        }
    }

    /// The parts, in order, each with the ordinal of its first frame. Of what is finished, all.
    pub(in crate::journal) fn iter(&self) -> impl Iterator<Item = (u32, &Bytes)> {
        self.cut.iter().map(|(first, part)| (*first, part))
    }

    /// Adds an event's content and says where it will be.
    pub(in crate::journal) fn put<'a>(&mut self, content: impl Into<View<'a>>) -> Place {
        let content = &content.into();
        let length = HEAD.saturating_add(payload_len(content));
        if length > FRAME {
            return self.put_chunks(content);
        }
        let mark = self.mark();
        frame::put(self.room_for(length, mark), KIND_CONTENT, mark, |out| {
            put_payload(out, content);
        });
        Place { commit: mark.commit, ordinal: mark.ordinal, length: long(length) }
    }

    fn put_chunks(&mut self, content: &View<'_>) -> Place {
        self.finish();
        let mut payload = BytesMut::with_capacity(payload_len(content));
        put_payload(&mut payload, content);
        let count = short(payload.len().div_ceil(CHUNK));
        let (first, mut length) = (self.frames, 0usize);
        for (number, chunk) in payload.chunks(CHUNK).enumerate() {
            let mark = self.mark();
            let mut part = BytesMut::with_capacity(FRAME);
            frame::put(&mut part, KIND_CHUNK, mark, |out| {
                out.put_slice(&content.id.to_bytes());
                out.put_u16(short(number));
                out.put_u16(count);
                out.put_slice(chunk);
            });
            length = length.saturating_add(part.len());
            self.open = Some((mark.ordinal, part));
            self.finish();
        }
        Place { commit: self.commit, ordinal: first, length: long(length) }
    }

    fn mark(&mut self) -> Mark {
        let mark = Mark { commit: self.commit, ordinal: self.frames };
        self.frames = self.frames.saturating_add(1);
        mark
    }

    /// The last part if it has room, or a new one that begins with this frame.
    fn room_for(&mut self, length: usize, mark: Mark) -> &mut BytesMut {
        if self.open.as_ref().is_some_and(|(_, part)| part.len().saturating_add(length) > PART) {
            self.finish();
        }
        let new = || (mark.ordinal, BytesMut::with_capacity(PART));
        &mut self.open.get_or_insert_with(new).1
    }
}

/// Reads a content back from the part that each of its frames stands in.
pub(in crate::journal) fn read_at(place: Place, parts: &[Bytes]) -> Result<Content, Damage> {
    let frames = place.ordinals().zip(parts).map(|(ordinal, part)| frame_in(part, ordinal));
    read(&frames.collect::<Result<Vec<_>, _>>()?)
}

/// One frame of a part, which holds frames one after the other. Whether it is whole is looked at by whoever reads it.
pub(in crate::journal) fn frame_in(part: &Bytes, ordinal: u32) -> Result<Bytes, Damage> {
    let mut at = 0usize;
    loop {
        let rest = part.get(at..).unwrap_or_default();
        let length = frame::length(rest).filter(|it| *it >= HEAD).ok_or(Damage::Short)?;
        let end = at.saturating_add(length);
        if frame::ordinal(rest) == Some(ordinal) {
            return (end <= part.len()).then(|| part.slice(at..end)).ok_or(Damage::Short);
        }
        at = end;
    }
}

/// Reads a content back from its frames: a whole one, or each chunk of the chain.
pub(in crate::journal) fn read(parts: &[Bytes]) -> Result<Content, Damage> {
    let (first, more) = parts.split_first().ok_or(Damage::Short)?;
    let mut rest: &[u8] = first;
    let frame = frame::take(&mut rest)?;
    if frame.kind == KIND_CONTENT && more.is_empty() {
        return payload(first.slice_ref(frame.payload));
    }
    let mut whole = BytesMut::with_capacity(parts.len().saturating_mul(CHUNK));
    for (number, part) in parts.iter().enumerate() {
        let frame = frame::take(&mut &part[..])?;
        let chunk = chunk(&frame)?;
        if usize::from(chunk.number) != number || usize::from(chunk.count) != parts.len() {
            return Err(Damage::Shape);
        }
        whole.put_slice(chunk.bytes);
    }
    payload(whole.freeze())
}

/// Whose content a frame is, or is a part of.
pub(in crate::journal) fn owner(frame: &Bytes) -> Option<EventId> {
    let frame = frame::take(&mut &frame[..]).ok()?;
    let is_content = frame.kind == KIND_CONTENT || frame.kind == KIND_CHUNK;
    let id = frame.payload.first_chunk::<16>().filter(|_| is_content)?;
    Some(EventId::from_bytes(*id))
}

/// Whose content begins with this frame, and of how many frames it is.
pub(in crate::journal) fn beginning(bytes: &Bytes) -> Option<(EventId, u32)> {
    let frame = frame::take(&mut &bytes[..]).ok()?;
    let frames = match frame.kind {
        KIND_CONTENT => 1,
        _ => chunk(&frame).ok().filter(|chunk| chunk.number == 0).map(|chunk| chunk.count)?,
    };
    Some((owner(bytes)?, u32::from(frames)))
}

/// One link of a chain.
#[derive(Clone, Copy, Debug)]
struct Chunk<'a> {
    number: u16,
    count: u16,
    bytes: &'a [u8],
}

/// Reads a frame as a chunk.
fn chunk<'a>(frame: &Frame<'a>) -> Result<Chunk<'a>, Damage> {
    let (_id, mut rest) = frame.payload.split_first_chunk::<16>().ok_or(Damage::Shape)?;
    let number = rest.try_get_u16().map_err(|_short| Damage::Shape)?;
    let count = rest.try_get_u16().map_err(|_short| Damage::Shape)?;
    if frame.kind != KIND_CHUNK {
        return Err(Damage::Shape);
    }
    Ok(Chunk { number, count, bytes: rest })
}

fn payload_len(content: &View<'_>) -> usize {
    let texts = [content.source.len(), content.name.len()];
    let key = content.order_key.map_or(0, str::len);
    let fixed = 16 + 8 + 2 + 2 + 1 + 2 + 4;
    texts
        .into_iter()
        .chain([key, content.headers.len(), content.body.len()])
        .fold(fixed, usize::saturating_add)
}

fn put_payload(out: &mut BytesMut, content: &View<'_>) {
    out.put_slice(&content.id.to_bytes());
    out.put_i64(content.received_at.as_micros());
    put_text(out, content.source);
    put_text(out, content.name);
    out.put_u8(u8::from(content.order_key.is_some()));
    put_text(out, content.order_key.unwrap_or_default());
    out.put_u32(long(content.headers.len()));
    out.put_slice(content.headers);
    out.put_slice(content.body);
}

fn payload(mut bytes: Bytes) -> Result<Content, Damage> {
    take_payload(&mut bytes).ok_or(Damage::Shape)
}

fn take_payload(bytes: &mut Bytes) -> Option<Content> {
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

/// Numbers and lengths that the bounds of a commit keep far below 65,536.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Lengths that the configuration bounds far below 4 GiB.
fn long(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
