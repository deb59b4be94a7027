//! Walking through the files of a generation without the engine: every frame that is whole, wherever it stands.
//!
//! Each record says by itself which one it is, so it can be found whatever the engine has put around it. Nothing is
//! changed, and little of the store's file is in memory at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use super::files::Files;
use super::intake;
use super::yielding::Yielding;
use crate::journal::record::frame::{self, Frame, VERSION};

/// Bytes that are looked at at once; more than any frame has.
pub(super) const WINDOW: usize = 1024 * 1024;
/// Bytes that are read at once: during the call, nothing else runs on that processor.
const PIECE: usize = 64 * 1024;
/// The longest frame: an event's record with thousands of targets. Contents are far shorter.
const MAX_FRAME: usize = 512 * 1024;

/// The store's file as a whole; empty when it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) length: u64,
    pub(super) checksum: u32,
    /// Frames of a version that this release does not read, in any file; they are not shown.
    pub(super) newer: u64,
}

/// Shows every whole frame of the files with the place where it begins, in the order of places. What was written more
/// than once is found more than once.
pub(super) fn frames(
    files: &Files,
    turn: &Yielding,
    mut visit: impl FnMut(u64, Frame<'_>),
) -> io::Result<Whole> {
    let mut whole = Whole::default();
    if let Some(file) = files.of_store() {
        store(file, turn, &mut whole, &mut visit)?;
    }
    for (at, file) in files.of_intake() {
        log(file, *at, turn, &mut whole, &mut visit)?;
    }
    Ok(whole)
}

fn store(
    mut file: &File,
    turn: &Yielding,
    whole: &mut Whole,
    visit: &mut impl FnMut(u64, Frame<'_>),
) -> io::Result<()> {
    // Never cleared: what is read takes the place of what was there.
    let mut buffer = vec![0; MAX_FRAME.saturating_add(WINDOW)];
    let mut filled = 0;
    // Where the buffer begins in the file.
    let mut base = 0u64;
    file.rewind()?;
    loop {
        let end = window(file, turn, &mut buffer, &mut filled, whole)?;
        let read = buffer.get(..filled).unwrap_or_default();
        // A frame that begins further back may go on in the next window.
        let sure = if end { filled } else { filled.saturating_sub(MAX_FRAME) };
        let consumed = within((read, base, sure), turn, whole, visit).max(sure).min(filled);
        if end {
            return Ok(());
        }
        buffer.copy_within(consumed..filled, 0);
        filled = filled.saturating_sub(consumed);
        base = base.saturating_add(u64::try_from(consumed).unwrap_or(0));
    }
}

/// Fills the buffer; whether the file has ended.
fn window(
    mut file: &File,
    turn: &Yielding,
    buffer: &mut [u8],
    filled: &mut usize,
    whole: &mut Whole,
) -> io::Result<bool> {
    while let Some(room) = buffer.get_mut(*filled..).filter(|room| !room.is_empty()) {
        let piece = room.len().min(PIECE);
        let piece = room.get_mut(..piece).unwrap_or_default();
        let count = file.read(piece)?;
        let new = piece.get(..count).unwrap_or_default();
        whole.checksum = crc32c::crc32c_append(whole.checksum, new);
        whole.length = whole.length.saturating_add(u64::try_from(count).unwrap_or(0));
        *filled = filled.saturating_add(count);
        if count == 0 {
            return Ok(true);
        }
        turn.look();
    }
    Ok(false)
}

/// Of the log only what belongs to the last pass of its file is looked at: behind it stand pieces of what it held
/// before, and what is inside of them may be anything.
fn log(
    mut file: &File,
    at: u64,
    turn: &Yielding,
    whole: &mut Whole,
    visit: &mut impl FnMut(u64, Frame<'_>),
) -> io::Result<()> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    for span in intake::spans(&bytes) {
        let begin = at.saturating_add(u64::try_from(span.range.start).unwrap_or(0));
        let entry = bytes.get(span.range).unwrap_or_default();
        within((entry, begin, entry.len()), turn, whole, visit);
    }
    Ok(())
}

/// Shows the frames of a buffer that begin before `sure`, and says up to where it was looked at.
fn within(
    (buffer, base, sure): (&[u8], u64, usize),
    turn: &Yielding,
    whole: &mut Whole,
    visit: &mut impl FnMut(u64, Frame<'_>),
) -> usize {
    let mut at = 0;
    while let Some((begin, frame)) = frame::find(buffer, at) {
        turn.step();
        if begin >= sure {
            break;
        }
        if frame.version > VERSION {
            whole.newer = whole.newer.saturating_add(1);
        } else {
            visit(base.saturating_add(u64::try_from(begin).unwrap_or(0)), frame);
        }
        // What is inside a frame's payload was put there by a sender and is not looked at.
        at = begin.saturating_add(frame::HEAD).saturating_add(frame.payload.len());
    }
    at
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, BytesMut};

    use super::*;
    use crate::journal::record::frame::{KIND_CONTENT, Mark};

    #[test]
    fn frames_are_found_across_windows_and_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut bytes = BytesMut::new();
        let mut places = Vec::new();
        for ordinal in 0..600u32 {
            bytes.put_bytes(7, usize::try_from(ordinal % 97).unwrap());
            places.push((u64::try_from(bytes.len()).unwrap(), ordinal));
            let mark = Mark { commit: 1, ordinal };
            frame::put(&mut bytes, KIND_CONTENT, mark, |out| out.put_bytes(1, 8_000));
        }
        std::fs::write(&path, &bytes).unwrap();
        let mut found = Vec::new();
        let files = Files::store(dir.path()).unwrap();
        let whole =
            frames(&files, &Yielding::start(), |at, frame| found.push((at, frame.mark.ordinal)))
                .unwrap();
        assert_eq!(found, places);
        assert_eq!(whole.length, u64::try_from(bytes.len()).unwrap());
        assert_eq!(whole.checksum, crc32c::crc32c(&bytes));
    }
}
