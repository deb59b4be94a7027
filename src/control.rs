//! Where operator and relay meet: the admin side tells the relay to pause or resume a target and asks how targets
//! stand. Neither knows the other.
//!
//! Commands go through a small bounded queue to the one loop that decides, so an answer is always what that loop knows.

use tokio::sync::{mpsc, oneshot};

use crate::model::Name;
use crate::rules::dispatch::TargetView;

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
