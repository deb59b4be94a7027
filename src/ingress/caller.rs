//! What the requests of one connection share, so that a request takes nothing that those of other connections take as well
//! if it can do without: cores that count in the same place wait for each other.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Sleep;

use super::Shared;
use crate::time::deadline;

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

/// How long is waited, with one timer for one request after the other: to put it off is cheap, to make one is not.
#[derive(Debug, Default)]
pub(super) struct Patience(Mutex<Option<Pin<Box<Sleep>>>>);

impl Patience {
    /// What `work` resolves with, unless it takes longer.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Those of HTTP/2 are many at once.
        let mut timer = match kept {
            Some(mut timer) => {
                timer.as_mut().reset(deadline(limit));
                timer
            }
            None => Box::pin(tokio::time::sleep(limit)),
        };
        let done = tokio::select! {
            biased;
            done = work => Some(done),
            () = &mut timer => None,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(timer);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_timer_of_one_request_serves_the_next_and_each_has_its_whole_time() {
        let (patience, limit) = (Patience::default(), Duration::from_secs(10));
        let takes = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        for _ in 0..3 {
            assert!(patience.within(limit, takes(9)).await.is_some());
            assert!(patience.within(limit, takes(11)).await.is_none());
        }
        // Two at once.
        let both =
            tokio::join!(patience.within(limit, takes(9)), patience.within(limit, takes(11)));
        assert!(both.0.is_some() && both.1.is_none());
    }
}
