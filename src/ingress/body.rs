//! Bodies on their way in: each within its own bounds, and all together within one.
//!
//! Anybody who can connect can begin bodies and leave them unfinished, before anything is verified. So the bytes
//! of all bodies that are being read or decided about are taken from one store, as they arrive and not as they are
//! promised; when it is used up, a request is refused with 503 and its bytes are given back. Whoever holds
//! bytes loses them with the body's timeout.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Cause;
use crate::time::in_time;

/// Most bytes of all bodies together; more only where a few of the largest bodies would not fit.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How many of the largest bodies fit at least.
const LARGEST: usize = 4;
/// Most bytes of bodies from addresses that are not allowed; more only where the largest body would not fit.
const STRANGERS_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The bytes that bodies may take up.
#[derive(Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// A complete body, and the room it takes up until this is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    /// Given back when dropped.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Room for bodies of at most `max_body` bytes each.
    pub(super) fn new(max_body: usize) -> Self {
        let bytes = max_body.saturating_mul(LARGEST).clamp(MAX_BYTES, Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Room for bodies that are read only to be kept as refused.
    pub(super) fn for_strangers(max_body: usize) -> Self {
        let bytes = max_body.clamp(STRANGERS_MAX_BYTES, Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// The whole body within its bounds. What claims to be larger is refused before it is read.
    pub(super) async fn read(
        &self,
        body: Incoming,
        most: usize,
        within: Duration,
    ) -> Result<Whole, Cause> {
        let claimed = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if claimed > most {
            return Err(Cause::TooLarge);
        }
        let read = in_time(within, self.collect(body, most)).await;
        read.unwrap_or(Err(Cause::BodyTimeout))
    }

    async fn collect(&self, mut body: Incoming, most: usize) -> Result<Whole, Cause> {
        let mut bytes = Vec::new();
        let mut room = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| Cause::Malformed)?;
            let Ok(data) = frame.into_data() else { continue };
            let length = data.len().saturating_add(bytes.len());
            if length > most {
                return Err(Cause::TooLarge);
            }
            if bytes.is_empty() && body.is_end_stream() {
                // It came in one piece, as most do. Copied as well, and what it was read into serves the next request.
                self.take(data.len(), &mut room)?;
                return Ok(Whole { bytes: Bytes::copy_from_slice(&data), room });
            }
            if length > bytes.capacity() {
                // Twice as much each time, and what is taken is what the memory is.
                let capacity = length.max(bytes.capacity().saturating_mul(2)).min(most);
                self.take(capacity.saturating_sub(bytes.capacity()), &mut room)?;
                bytes.reserve_exact(capacity.saturating_sub(bytes.len()));
            }
            // Copied: a small piece would keep the whole buffer that it was read into.
            bytes.extend_from_slice(&data);
        }
        Ok(Whole { bytes: bytes.into(), room })
    }

    /// Takes so many bytes more, if there are so many.
    fn take(&self, bytes: usize, room: &mut Option<OwnedSemaphorePermit>) -> Result<(), Cause> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more =
            Arc::clone(&self.0).try_acquire_many_owned(count).map_err(|_full| Cause::Busy)?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}
