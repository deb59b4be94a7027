//! What is done to many events at once, step by step.

use serde::{Deserialize, Serialize};

/// What a job does to each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Its settled deliveries become due again.
    Replay,
    /// Its dead letters become due again.
    Retry,
    /// Its dead letters are given up.
    Discard,
}
