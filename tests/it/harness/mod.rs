//! Starts the real binary on free ports, speaks HTTP to it, and plays the targets. Nothing here sleeps:
//! every wait is for an event, with a deadline that only a failure reaches.

pub mod api;
pub mod daemon;
pub mod hostile;
pub mod http;
pub mod ingress;
pub mod notified;
pub mod receiver;
pub mod sender;
pub mod sign;

use std::future::Future;
use std::time::Duration;

/// Longest wait for anything; far above what a slow machine needs, so that only a failure reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The value, or a panic that says what did not happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(tokio::time::error::Elapsed { .. }) => {
            panic!("did not happen within {PATIENCE:?}: {what}")
        }
    }
}
