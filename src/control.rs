//! Where the operator's side meets the others: it tells the relay to pause or resume a target and asks how targets
//! stand, and has the ingress admit what it had refused and say how builds stand. None of them knows the other.
//!
//! Commands to the relay go through a small bounded queue to the one loop that decides, so an answer is always what that
//! loop knows.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::{mpsc, oneshot};

use crate::model::{EventId, Name, Refusal, RejectionId};
use crate::rules::dispatch::TargetView;
use crate::rules::stages::{Standing, View};
use crate::time::Timestamp;

/// Commands that wait for the relay's loop.
const MAX_COMMANDS: usize = 64;

/// The operator's end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RelayControl {
    commands: mpsc::Sender<Command>,
}

/// The relay's end.
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Command>);

/// What the relay is told.
#[derive(Debug)]
pub enum Command {
    /// Begin nothing more at a target until it is resumed; true when the target is known.
    Pause(Name, oneshot::Sender<bool>),
    /// Attempt a target again; true when it is known.
    Resume(Name, oneshot::Sender<bool>),
    /// Attempt what is due at a target at once, if only its breaker stands against it; true when it is known.
    Hasten(Name, oneshot::Sender<bool>),
    /// Say how every target stands.
    View(oneshot::Sender<Vec<TargetView>>),
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No target of that name is configured.
    #[error("no target of that name is configured")]
    Unknown,
    /// The relay has stopped, or is stopping.
    #[error("the relay has stopped")]
    Stopped,
}

/// Whoever can make events of rejections.
pub trait Release: Send + Sync + 'static {
    /// Makes an event of each rejection, in the order in which they were received, and says what became of each, in
    /// that order. An id that is given twice counts once.
    ///
    /// They are verified again with today's secrets and configuration, but as fresh as they were when they came;
    /// `force` admits them whatever they prove. Repeating a release does nothing more: what was released is
    /// [`Released::Gone`] then. Any number of ids may be given; they are worked through in small batches, and one
    /// release waits for the one before it. Dropping the future does not stop a release that has begun.
    fn release(&self, ids: Vec<RejectionId>, force: bool) -> Releasing<'_>;
}

/// Whoever watches builds.
pub trait Builds: Send + Sync + 'static {
    /// Builds that are watched, those heard of last first; at the same moment, by source and order key downwards.
    fn builds(&self, ask: &BuildAsk) -> Vec<Build>;
}

/// Which builds are wanted; what is left empty is not asked.
#[derive(Clone, Debug, Default)]
pub struct BuildAsk {
    /// Of these sources.
    pub source: Vec<Name>,
    /// In one of these states.
    pub state: Vec<Standing>,
    /// Only those of which a step never came, or only the others.
    pub missing: Option<bool>,
    /// A text in the build's order key.
    pub q: Option<String>,
    /// Only those after this one in the order of the list.
    pub after: Option<BuildPlace>,
    /// Most of them.
    pub limit: usize,
}

/// A build's place in the order of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildPlace {
    /// When it was heard of last.
    pub heard_at: Timestamp,
    /// Its source.
    pub source: Name,
    /// Its order key.
    pub build: String,
}

/// A build of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The source.
    pub source: Name,
    /// How it stands.
    pub view: View,
}

impl Build {
    /// Its place in the order of a list.
    pub fn place(&self) -> BuildPlace {
        let View { build, heard_at, .. } = &self.view;
        BuildPlace { heard_at: *heard_at, source: self.source.clone(), build: build.clone() }
    }
}

/// A release under way.
pub type Releasing<'a> = Pin<Box<dyn Future<Output = Vec<(RejectionId, Released)>> + Send + 'a>>;

/// What became of one rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is an event now, on stable storage.
    Accepted(EventId),
    /// It repeats this event; the rejection is gone.
    Duplicate(EventId),
    /// It is refused again, for this cause, and stays.
    Refused(Refusal),
    /// It is kept no longer: it was released before, or given up.
    Gone,
    /// It stays: its source is not configured.
    NoSource,
    /// It stays, or whether it does is not known, because the journal could not be used.
    Failed(ReleaseError),
}

/// Why a rejection could not be released now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The journal takes nothing new now.
    #[error("the journal is full; release it again later")]
    Full,
    /// Its stored bytes cannot be read.
    #[error("the stored request cannot be read")]
    Unreadable,
    /// The journal has stopped or failed.
    #[error("the journal has stopped")]
    Stopped,
}

impl Released {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Duplicate(_) => "duplicate",
            Self::Refused(_) => "refused",
            Self::Gone => "gone",
            Self::NoSource => "no-source",
            Self::Failed(_) => "failed",
        }
    }
}

/// Both ends.
pub fn control() -> (RelayControl, Commands) {
    let (sender, receiver) = mpsc::channel(MAX_COMMANDS);
    (RelayControl { commands: sender }, Commands(receiver))
}

impl RelayControl {
    /// Pauses a target. Resolves when nothing more begins there; what is under way ends by itself.
    pub async fn pause(&self, target: &Name) -> Result<(), ControlError> {
        self.ask(|answer| Command::Pause(target.clone(), answer)).await.and_then(known)
    }

    /// Resumes a target. One that is not paused is left as it is.
    pub async fn resume(&self, target: &Name) -> Result<(), ControlError> {
        self.ask(|answer| Command::Resume(target.clone(), answer)).await.and_then(known)
    }

    /// Lets what is due at a target be attempted at once, though its breaker is open. A pause, a hold and a rate stand.
    pub async fn hasten(&self, target: &Name) -> Result<(), ControlError> {
        self.ask(|answer| Command::Hasten(target.clone(), answer)).await.and_then(known)
    }

    /// How every target stands.
    pub async fn view(&self) -> Result<Vec<TargetView>, ControlError> {
        self.ask(Command::View).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ControlError> {
        let (answer, answered) = oneshot::channel();
        let stopped = |_closed| ControlError::Stopped;
        self.commands.send(command(answer)).await.map_err(stopped)?;
        answered.await.map_err(|_closed| ControlError::Stopped)
    }
}

impl Commands {
    /// The next command; never resolves once there can be none.
    pub async fn next(&mut self) -> Command {
        match self.0.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}

fn known(is_known: bool) -> Result<(), ControlError> {
    if is_known { Ok(()) } else { Err(ControlError::Unknown) }
}
