//! How a running daemon is told to read its configuration again, and what it answers.
//!
//! Requests go through a small bounded queue to the one task that reloads, so there is one reload at a time, and each
//! reads the files after it was asked for.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Change, ConfigError};

/// Requests that wait.
const MAX_REQUESTS: usize = 16;

/// Whoever asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReloadControl(mpsc::Sender<Request>);

/// The end of the one that reloads.
#[derive(Debug)]
pub struct Requests(mpsc::Receiver<Request>);

/// A wish to reload.
#[derive(Debug)]
pub struct Request(oneshot::Sender<Outcome>);

/// How a reload ended.
pub type Outcome = Result<Reloaded, ReloadError>;

/// The configuration is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// What differs from the one before, by key.
    pub changes: Vec<Change>,
    /// Keys that differ from what the daemon runs with and take effect at its next start.
    pub needs_restart: Vec<String>,
    /// What is allowed but unwise.
    pub warnings: Vec<String>,
}

/// The configuration before stays in effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// It has mistakes.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// It has none, and yet cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// Nobody reloads: the daemon is starting or stopping.
    #[error("the daemon is starting or stopping")]
    Stopped,
}

/// Both ends.
pub fn reload_control() -> (ReloadControl, Requests) {
    let (sender, receiver) = mpsc::channel(MAX_REQUESTS);
    (ReloadControl(sender), Requests(receiver))
}

impl ReloadControl {
    /// Reloads, and resolves with how that ended. Whoever does not wait for it changes nothing by that.
    pub async fn reload(&self) -> Outcome {
        let (answer, answered) = oneshot::channel();
        self.0.send(Request(answer)).await.map_err(|_closed| ReloadError::Stopped)?;
        answered.await.unwrap_or(Err(ReloadError::Stopped))
    }

    /// Has it reloaded soon. When the queue is full, what waits there does that as well.
    pub fn ask(&self) {
        drop(self.0.try_send(Request(oneshot::channel().0)));
    }
}

impl Requests {
    /// The next request; `None` when there can be none any more.
    pub async fn next(&mut self) -> Option<Request> {
        self.0.recv().await
    }
}

impl Request {
    /// Tells whoever asked, if they are still there.
    pub fn answer(self, outcome: Outcome) {
        drop(self.0.send(outcome));
    }
}
