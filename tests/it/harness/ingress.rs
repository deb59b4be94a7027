//! The real ingress on a socket, in this process, with a clock that a test moves and the journal in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use everhook::config::{Config, LoadOptions};
use everhook::ingress;
use everhook::journal::Journal;
use everhook::journal::memory::MemoryJournal;
use everhook::lifecycle::Tasks;
use everhook::metrics::Metrics;
use everhook::time::{Clock, Timestamp};
use everhook::trace::Spans;
use tokio::net::TcpListener;

use super::daemon::Home;
use super::http::Connection;

/// It runs until it is dropped.
pub struct Ingress {
    pub address: SocketAddr,
    running: ingress::Ingress,
    clock: Clock,
    home: Home,
    tasks: Tasks,
}

impl Ingress {
    /// `sources` are written as in a configuration.
    pub async fn start(now: i64, sources: &str) -> Self {
        let home = Home::new("");
        let config = load(&home, sources);
        let (clock, tasks) = (Clock::manual(Timestamp::from_secs(now)), Tasks::new());
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(clock.clone()));
        let metrics = Metrics::new("0", "0").expect("metrics");
        let running = ingress::Ingress::new(
            &config.ingress,
            &config.sources,
            journal,
            clock.clone(),
            (&metrics, Spans::default()),
            7,
            &tasks,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        drop(tasks.spawn(running.clone().run(listener, tasks.clone())));
        Self { address, running, clock, home, tasks }
    }

    /// Replaces the sources.
    pub fn configure(&self, sources: &str) {
        let config = load(&self.home, sources);
        self.running.reload(&config.ingress, &config.sources);
    }

    /// Moves the clock forward.
    pub fn move_to(&self, now: i64) {
        let ahead = u64::try_from(now - self.clock.wall().as_secs()).expect("no way back");
        self.clock.advance(Duration::from_secs(ahead));
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await.expect("it listens")
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// With a target, without which no source is of any use. Nothing is sent there.
fn load(home: &Home, sources: &str) -> Config {
    home.configure(&format!("{sources}[target.t]\nurl = \"http://127.0.0.1:9/\"\n"));
    let options = LoadOptions { file: Some(home.config()), flags: Vec::new() };
    Config::load(&options).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}
