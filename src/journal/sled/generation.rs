//! One generation: the store that it is written to, then one file that nobody changes any more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::library::{Chapter, Reader};
use super::sealed::Sealed;
use super::store::{Store, StoreError, WriteError};
use super::yielding::Queue;
use crate::journal::record::content::{Content, Place};

/// How often it is looked whether the last reader of a generation is gone: 10 s at most.
const READER_WAIT: Duration = Duration::from_millis(5);
const READER_TRIES: u32 = 20;
const READER_TURNS: u32 = 100;

/// One generation.
pub(super) struct Generation {
    pub(super) number: u32,
    body: Mutex<Body>,
    /// Whoever waits for the body.
    queue: Arc<Queue>,
    changes: Changes,
}

/// Whether the store is being opened once more, and how often that has begun or ended.
#[derive(Default)]
struct Changes {
    under_way: AtomicBool,
    count: AtomicUsize,
}

/// `Written -> Sealed -> Closed`.
pub(super) enum Body {
    /// Written, or waiting to be sealed.
    Written(Arc<Store>),
    /// Not written any more.
    Sealed(Arc<Sealed>),
    Closed,
}

/// How a store was closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// All that it has is durable, and its intake log is not needed.
    Relieved,
    /// Something is in the intake log alone, or in memory.
    Logged,
    /// It was not: somebody reads it.
    Busy,
}

impl Generation {
    fn new(number: u32, body: Body) -> Arc<Self> {
        let (queue, changes) = (Arc::default(), Changes::default());
        Arc::new(Self { number, body: Mutex::new(body), queue, changes })
    }

    pub(super) fn written(number: u32, store: Store) -> Arc<Self> {
        Self::new(number, Body::Written(Arc::new(store)))
    }

    pub(super) fn sealed(number: u32, sealed: Sealed) -> Arc<Self> {
        Self::new(number, Body::Sealed(Arc::new(sealed)))
    }

    /// Its store, if it is written. Waits while the generation is being sealed.
    pub(super) fn store(&self) -> Result<Arc<Store>, StoreError> {
        match &*self.body() {
            Body::Written(store) => Ok(Arc::clone(store)),
            Body::Sealed(_) | Body::Closed => Err(StoreError::Closed),
        }
    }

    /// Whether it is not written any more and can be drained; not yet while it is being sealed, and nobody waits for that.
    pub(super) fn is_sealed(&self) -> bool {
        match self.body.try_lock() {
            Ok(body) => matches!(&*body, Body::Sealed(_)),
            Err(TryLockError::Poisoned(body)) => matches!(&**body.get_ref(), Body::Sealed(_)),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Whether nobody can read it.
    pub(super) fn is_closed(&self) -> bool {
        matches!(&*self.body(), Body::Closed)
    }

    /// Its body, whoever holds it now. Sealing then makes haste.
    pub(super) fn body(&self) -> MutexGuard<'_, Body> {
        match self.body.try_lock() {
            Ok(body) => body,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let _waiting = self.queue.join();
                self.body.lock().unwrap_or_else(PoisonError::into_inner)
            }
        }
    }

    /// Whoever waits for its body.
    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Whoever reads it now; the body is let go before anything is read.
    pub(super) fn reader(&self) -> Option<Reader> {
        match &*self.body() {
            Body::Written(store) => Some(Reader::Store(Arc::clone(store))),
            Body::Sealed(sealed) => Some(Reader::Sealed(Arc::clone(sealed))),
            Body::Closed => None,
        }
    }

    /// What is in it, for whoever looks something up.
    pub(super) fn chapter(&self) -> Option<Chapter> {
        let reader = self.reader()?;
        let blocks = match &reader {
            Reader::Store(store) => store.blocks(),
            Reader::Sealed(sealed) => sealed.blocks(),
        };
        Some(Chapter { blocks, reader })
    }

    pub(super) fn content(&self, place: Place) -> Result<Content, StoreError> {
        self.content_or_again(place, || ())
    }

    /// The same; `between` is when a first try has failed.
    pub(super) fn content_or_again(
        &self,
        place: Place,
        between: impl FnOnce(),
    ) -> Result<Content, StoreError> {
        let read = || match self.reader().ok_or(StoreError::Closed)? {
            Reader::Store(store) => store.content(place),
            Reader::Sealed(sealed) => sealed.content(place),
        };
        let before = self.changes.count.load(Ordering::SeqCst);
        // What is read from the log's files may be written over as soon as the store is open again, which has it then.
        let read = read().or_else(|_changed| {
            between();
            read()
        });
        // What has no whole body now will have one; nothing is known of the content before.
        let changed = self.changes.under_way.load(Ordering::SeqCst)
            || self.changes.count.load(Ordering::SeqCst) != before;
        read.map_err(|error| if changed { StoreError::Closed } else { error })
    }

    /// The store begins or ends to be opened once more.
    pub(super) fn changes(&self, under_way: bool) {
        self.changes.count.fetch_add(1, Ordering::SeqCst);
        self.changes.under_way.store(under_way, Ordering::SeqCst);
    }

    /// Lets go of the store without closing it: sled panics when it is closed after an error, and the process ends
    /// anyway.
    pub(super) fn forget(body: &mut Body) {
        if let Body::Written(store) = std::mem::replace(body, Body::Closed) {
            store.abandon();
            std::mem::forget(store);
        }
    }

    /// Closes the store when its last reader is gone, and gives the body that is left, locked. An error when what it wrote
    /// at last could not be synced.
    ///
    /// New readers are kept away for a moment, then let in: whoever reads may have to read more of it to end.
    pub(super) fn close(&self) -> (MutexGuard<'_, Body>, std::io::Result<Closed>) {
        for _ in 0..READER_TURNS {
            let mut body = self.body();
            for _ in 0..READER_TRIES {
                let closed = Self::close_body(&mut body);
                if !matches!(closed, Ok(Closed::Busy)) {
                    return (body, closed);
                }
                std::thread::park_timeout(READER_WAIT);
            }
            drop(body);
            std::thread::park_timeout(READER_WAIT);
        }
        (self.body(), Ok(Closed::Busy))
    }

    fn close_body(body: &mut Body) -> std::io::Result<Closed> {
        match std::mem::replace(body, Body::Closed) {
            Body::Written(store) => match Arc::try_unwrap(store).map(Store::close) {
                Ok(Ok(())) => Ok(Closed::Relieved),
                Ok(Err(WriteError::Write(_))) => Ok(Closed::Logged),
                Ok(Err(WriteError::Sync(error))) => Err(error),
                Err(shared) => {
                    *body = Body::Written(shared);
                    Ok(Closed::Busy)
                }
            },
            Body::Sealed(_) | Body::Closed => Ok(Closed::Relieved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> (tempfile::TempDir, Arc<Generation>) {
        let dir = tempfile::tempdir().unwrap();
        Store::create(dir.path()).unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, Generation::written(1, store))
    }

    #[test]
    fn whoever_reads_may_read_more_while_it_is_to_be_closed() {
        let (_dir, generation) = generation();
        let reader = generation.reader();
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| generation.close().1);
            while generation.body.try_lock().is_ok() {
                std::thread::yield_now();
            }
            assert!(generation.reader().is_some());
            drop(reader);
            assert_eq!(closing.join().unwrap().unwrap(), Closed::Relieved);
        });
    }

    #[test]
    fn what_somebody_left_behind_in_a_panic_is_seen() {
        let (_dir, generation) = generation();
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let (_body, _closed) = generation.close();
                panic!("amid of it");
            });
            assert!(panics.join().is_err());
        });
        assert!(generation.is_closed());
    }
}
