//! What the scheduler core says of a target as a whole: to the operator, and to the next run.

use serde::{Deserialize, Serialize};

use crate::model::{Answer, ErrorClass, Name};
use crate::rules::breaker;
use crate::time::Timestamp;

/// What changed for a target as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It failed too often; single probes find out when it is back.
    BreakerOpened,
    /// It is back.
    BreakerClosed,
    /// It has no breaker any more, or another address, of which nothing is known.
    BreakerReset,
    /// It has too much to do; nothing begins before this moment.
    Held(Timestamp),
    /// Nothing begins until it is resumed.
    Paused(PauseReason),
    /// It is attempted again.
    Resumed,
}

/// Why a target is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// It answered 410: it will never want what is sent there.
    Gone,
    /// An operator paused it.
    Operator,
}

impl PauseReason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Operator => "operator",
        }
    }
}

/// A target that is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Why.
    pub reason: PauseReason,
    /// Since when.
    pub since: Timestamp,
}

/// What of a target must outlive the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// Set while it is paused.
    pub paused: Option<Pause>,
    /// When its breaker opened, if it is open.
    pub open_since: Option<Timestamp>,
    /// Until when it asked for quiet, if that was long.
    pub held_until: Option<Timestamp>,
}

/// How a target stands, for whoever looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetView {
    /// The target.
    pub target: Name,
    /// Set while it is paused.
    pub paused: Option<Pause>,
    /// How its breaker stands; `None` when it has none.
    pub breaker: Option<breaker::View>,
    /// When its breaker opened, if it is not closed.
    pub open_since: Option<Timestamp>,
    /// It asked to be left alone until then, or has too much to do.
    pub held_until: Option<Timestamp>,
    /// Attempts under way.
    pub in_flight: usize,
    /// Most attempts at once.
    pub concurrency: usize,
    /// The latest attempt that failed since the start.
    pub last_failure: Option<Last>,
    /// When it last took a delivery since the start.
    pub last_success: Option<Timestamp>,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// When.
    pub at: Timestamp,
    /// With which answer, if there was one.
    pub status: Option<u16>,
    /// Why there was none.
    pub error: Option<ErrorClass>,
}

impl Last {
    /// `None` when the answer says nothing about the target.
    pub(super) fn of(answer: &Answer, at: Timestamp) -> Option<Self> {
        match answer {
            Answer::Status { status, .. } => Some(Self { at, status: Some(*status), error: None }),
            Answer::Failed(class) => Some(Self { at, status: None, error: Some(*class) }),
            Answer::Interrupted => None,
        }
    }
}
