//! How the process lives: who owns its tasks, where its sockets come from, how it is told to stop and how it
//! speaks with systemd.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections the kernel keeps for us while we are busy or starting.
const BACKLOG: u32 = 4096;

/// A group of tasks with one owner, who can ask them to stop and wait until they have.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Group>);

#[derive(Debug, Default)]
struct Group {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// A group with no task.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that is also asked to stop when this one is.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(Group { tracker: TaskTracker::new(), stop: self.0.stop.child_token() }))
    }

    /// Runs a task in this group.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.tracker.spawn(task)
    }

    /// Cancelled when the group is asked to stop.
    pub fn stop_token(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Asks every task to stop.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Resolves when every task of the group has ended.
    pub async fn ended(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }
}

/// The sockets systemd handed over (socket activation), or none when it handed over nothing.
///
/// While systemd holds them, connections queue in the kernel over a restart instead of being refused.
pub fn adopted_sockets() -> io::Result<Vec<TcpListener>> {
    let mut handed_over = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed_over.len() {
        if let Some(socket) = handed_over.take_tcp_listener(index)? {
            socket.set_nonblocking(true)?;
            sockets.push(TcpListener::from_std(socket)?);
        }
    }
    Ok(sockets)
}

/// A listening socket of our own.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Raises the limit on open files to what the system allows, and says what it is then.
pub fn raise_file_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The signals the daemon listens to.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// From here on, these signals no longer end the process by themselves.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves when the daemon is asked for something.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To stop; with the name of the signal.
    Stop(&'static str),
    /// To read the configuration again.
    Reload,
}

/// Tells the service manager that the daemon takes requests. Without one, nothing happens.
pub fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells the service manager that the daemon reads its configuration again; [`notify_ready`] ends that.
pub fn notify_reloading() {
    // The moment tells this reload from one before (systemd's Type=notify-reload asks for it).
    let states = NotifyState::monotonic_usec_now().map(|now| [NotifyState::Reloading, now]);
    match states {
        Ok(states) => notify(&states),
        Err(error) => tracing::debug!(%error, "the service manager could not be told"),
    }
}

/// Tells the service manager that the daemon is stopping.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight")]);
}

/// Tells the service manager what the daemon is doing.
pub fn notify_status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Tells the service manager's watchdog that the daemon is alive.
pub fn notify_alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often the watchdog wants to hear from us: half its limit. `None` when there is none.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
