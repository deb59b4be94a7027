//! How the relay's targets are replaced while it runs.

use tokio::sync::{mpsc, oneshot};

use super::{Relay, RelayTarget, memo};
use crate::model::Name;
use crate::rules::dispatch::Renewed;

/// Whoever replaces the targets.
#[derive(Clone, Debug)]
pub struct RelayReload(mpsc::Sender<Replacement>);

/// The relay's end.
#[derive(Debug)]
pub struct Replacements(mpsc::Receiver<Replacement>);

/// All targets, and how many attempts may be made at once over all of them.
pub(super) struct Replacement {
    targets: Vec<RelayTarget>,
    pool: usize,
    done: oneshot::Sender<()>,
}

/// The relay has stopped, or is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay has stopped")]
pub struct RelayStopped;

/// Both ends.
pub fn replacements() -> (RelayReload, Replacements) {
    // One at a time: whoever replaces waits until it is done.
    let (sender, receiver) = mpsc::channel(1);
    (RelayReload(sender), Replacements(receiver))
}

impl RelayReload {
    /// Resolves when the relay has taken these targets in place of the ones before.
    pub async fn replace(
        &self,
        targets: Vec<RelayTarget>,
        pool: usize,
    ) -> Result<(), RelayStopped> {
        let (done, replaced) = oneshot::channel();
        let replacement = Replacement { targets, pool, done };
        self.0.send(replacement).await.map_err(|_closed| RelayStopped)?;
        replaced.await.map_err(|_closed| RelayStopped)
    }
}

impl Replacements {
    /// The next one; never resolves once there can be none.
    pub(super) async fn next(&mut self) -> Replacement {
        match self.0.recv().await {
            Some(replacement) => replacement,
            None => std::future::pending().await,
        }
    }
}

impl Relay {
    /// Takes these targets in place of the ones before. How one that is new here stood earlier is taken up again.
    pub(super) fn replace(&mut self, replacement: Replacement) {
        let Replacement { targets, pool, done } = replacement;
        let renewed = |target: &RelayTarget| {
            let before = self.addresses.get(&target.policy.name);
            let moved = before.is_some_and(|address| *address != target.address);
            Renewed { policy: target.policy.clone(), moved }
        };
        let renewed: Vec<_> = targets.iter().map(renewed).collect();
        let is_new = |name: &Name| !self.addresses.contains_key(name);
        let names = targets.iter().map(|target| &target.policy.name);
        let new: Vec<Name> = names.filter(|name| is_new(name)).cloned().collect();
        self.dispatcher.handle_reload(renewed, pool, self.clock.now());
        let split = |target: RelayTarget| {
            let name = target.policy.name;
            ((name.clone(), target.client), (name, target.address))
        };
        (self.clients, self.addresses) = targets.into_iter().map(split).unzip();
        let is_configured = |name: &Name| self.addresses.contains_key(name);
        self.observer.follow(self.dispatcher.names(), is_configured);
        for (name, state) in memo::recall(&*self.journal, |name| {
            new.contains(name).then(|| self.addresses.get(name).cloned()).flatten()
        }) {
            self.observer.recalled(&name, state);
            self.dispatcher.restore(&name, state);
        }
        if done.send(()).is_err() {
            tracing::debug!("whoever replaced the targets has left");
        }
    }
}
