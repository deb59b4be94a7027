//! What the requests of one connection share, so that a request takes nothing that those of other connections take as well
//! if it can do without: cores that count in the same place wait for each other.

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use crate::time::{Timer, deadline};

/// Whoever is at the other end of a connection.
pub(super) struct Caller {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: IpAddr,
    pub(super) patience: Patience,
}

impl Caller {
    pub(super) fn new(shared: Arc<Shared>, peer: IpAddr) -> Arc<Self> {
        Arc::new(Self { shared, peer, patience: Patience::default() })
    }
}

/// How long is waited, with one timer for one request after the other.
#[derive(Debug, Default)]
pub(super) struct Patience(Mutex<Timer>);

impl Patience {
    /// What `work` resolves with, unless it takes longer.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        // Of those of HTTP/2, which are many at once, each but one makes its own.
        let mut timer = std::mem::take(&mut *self.timer());
        let done = timer.by(deadline(limit), work).await;
        *self.timer() = timer;
        done
    }

    fn timer(&self) -> MutexGuard<'_, Timer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_that_come_at_once_have_their_time_each() {
        let (patience, limit) = (Patience::default(), Duration::from_secs(10));
        let takes = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        for _ in 0..2 {
            let both = (patience.within(limit, takes(9)), patience.within(limit, takes(11)));
            let both = tokio::join!(both.0, both.1);
            assert!(both.0.is_some() && both.1.is_none());
        }
    }
}
