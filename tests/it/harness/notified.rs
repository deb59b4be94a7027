//! The service manager's side of a daemon that notifies it.

use std::path::PathBuf;

use tokio::net::UnixDatagram;
use tokio::process::Command;

use super::daemon::Home;
use super::within;

/// A socket that hears what the daemon says of itself.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// Beside the configuration.
    pub fn of(home: &Home) -> Self {
        let path = home.config().with_file_name("notify");
        Self { socket: UnixDatagram::bind(&path).expect("a socket"), path }
    }

    /// `everhook serve`, told to whom to speak.
    pub fn serve(&self, home: &Home) -> Command {
        let mut command = home.command(&["serve"]);
        command.env("NOTIFY_SOCKET", &self.path);
        command
    }

    /// The next message in which this stands.
    pub async fn hears(&self, what: &str) -> String {
        within(what, async {
            loop {
                let mut message = [0; 1024];
                let length = self.socket.recv(&mut message).await.expect("a message");
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if text.contains(what) {
                    return text;
                }
            }
        })
        .await
    }
}
