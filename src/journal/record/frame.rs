//! One record as bytes: who it is, how long it is, and a checksum over both.

use bytes::{Buf as _, BufMut as _, BytesMut};

/// The version this code writes, and the newest it reads.
pub(in crate::journal) const VERSION: u8 = 1;
/// Length and checksum.
pub(in crate::journal) const PREFIX: usize = 8;
/// Everything before the payload: prefix, version, kind, commit, ordinal.
pub(in crate::journal) const HEAD: usize = PREFIX + 2 + 8 + 4;

pub(in crate::journal) const KIND_EVENT: u8 = 1;
pub(in crate::journal) const KIND_SETTLED: u8 = 2;
pub(in crate::journal) const KIND_DEDUP: u8 = 3;
pub(in crate::journal) const KIND_CONTENT: u8 = 4;
pub(in crate::journal) const KIND_NAME: u8 = 5;
pub(in crate::journal) const KIND_COMMIT: u8 = 6;
pub(in crate::journal) const KIND_CHUNK: u8 = 7;
pub(in crate::journal) const KIND_NOTE: u8 = 8;
pub(in crate::journal) const KIND_REJECTED: u8 = 9;
pub(in crate::journal) const KIND_DROPPED: u8 = 10;
/// The newest kind.
const KIND_LAST: u8 = KIND_DROPPED;

/// Versions beyond ours that are recognised as such, and how long such a frame may be to be looked at.
const NEXT_VERSIONS: u8 = 15;
const NEWER_LENGTH: usize = 64 * 1024;

/// Which record it is: its commit, and its number among that commit's small records or content frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::journal) struct Mark {
    pub(in crate::journal) commit: u64,
    pub(in crate::journal) ordinal: u32,
}

/// A frame whose checksum matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Frame<'a> {
    /// Above [`VERSION`] only from [`find`].
    pub(in crate::journal) version: u8,
    pub(in crate::journal) kind: u8,
    pub(in crate::journal) mark: Mark,
    pub(in crate::journal) checksum: u32,
    pub(in crate::journal) payload: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::journal) enum Damage {
    #[error("it is shorter than it says")]
    Short,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it is of a version this release does not read")]
    Version,
    #[error("its content does not fit its kind")]
    Shape,
}

/// Appends one frame to `out`.
pub(in crate::journal) fn put(
    out: &mut BytesMut,
    kind: u8,
    mark: Mark,
    payload: impl FnOnce(&mut BytesMut),
) {
    let begin = out.len();
    out.put_bytes(0, PREFIX);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u64(mark.commit);
    out.put_u32(mark.ordinal);
    payload(out);
    let Some((prefix, counted)) =
        out.get_mut(begin..).and_then(|frame| frame.split_first_chunk_mut::<PREFIX>())
    else {
        return;
    };
    let (length, checksum) = prefix.split_at_mut(4);
    let counted_len = u32::try_from(counted.len()).unwrap_or(u32::MAX);
    length.copy_from_slice(&counted_len.to_be_bytes());
    checksum.copy_from_slice(&crc32c::crc32c(counted).to_be_bytes());
}

/// Takes one frame off `bytes`. On damage that leaves the next one's place unknown, `bytes` is emptied.
pub(in crate::journal) fn take<'a>(bytes: &mut &'a [u8]) -> Result<Frame<'a>, Damage> {
    let frame = take_any(bytes)?;
    if frame.version > VERSION { Err(Damage::Version) } else { Ok(frame) }
}

/// Takes one frame of any version off `bytes`.
fn take_any<'a>(bytes: &mut &'a [u8]) -> Result<Frame<'a>, Damage> {
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
    let ([version, kind], mut counted) = counted.split_first_chunk::<2>().ok_or(Damage::Shape)?;
    let commit = counted.try_get_u64().map_err(|_short| Damage::Shape)?;
    let ordinal = counted.try_get_u32().map_err(|_short| Damage::Shape)?;
    let mark = Mark { commit, ordinal };
    Ok(Frame { version: *version, kind: *kind, mark, checksum, payload: counted })
}

/// How long the frame at the beginning of these bytes says it is.
pub(in crate::journal) fn length(bytes: &[u8]) -> Option<usize> {
    let counted = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
    Some(PREFIX.saturating_add(usize::try_from(counted).ok()?))
}

/// The number that the frame at the beginning of these bytes says it has.
pub(in crate::journal) fn ordinal(bytes: &[u8]) -> Option<u32> {
    let mark = bytes.get(..HEAD)?;
    Some(u32::from_be_bytes(*mark.last_chunk::<4>()?))
}

/// The first whole frame at or after `from` in bytes of any kind, and where it begins. It may be of a newer version.
///
/// Length, version and kind are looked at before the checksum, so that a scan costs little more than a walk.
pub(in crate::journal) fn find(bytes: &[u8], from: usize) -> Option<(usize, Frame<'_>)> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        let head = rest.first_chunk::<HEAD>()?;
        let [a, b, c, d, _, _, _, _, version, kind, ..] = *head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let known = version == VERSION && (KIND_EVENT..=KIND_LAST).contains(&kind);
        let newer = (VERSION.saturating_add(1)..=VERSION.saturating_add(NEXT_VERSIONS))
            .contains(&version)
            && length <= NEWER_LENGTH;
        let plausible = (known || newer) && length >= HEAD - PREFIX && length <= rest.len();
        if plausible {
            let mut candidate = rest;
            if let Ok(frame) = take_any(&mut candidate) {
                return Some((at, frame));
            }
        }
        at = at.saturating_add(1);
    }
}
