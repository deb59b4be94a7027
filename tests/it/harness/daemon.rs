//! The real binary as a child process on free ports, in a directory of its own.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::http::{Connection, Reply};
use super::within;

/// A configuration and a journal that outlive the processes that use them.
pub struct Home {
    dir: TempDir,
    journal: PathBuf,
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    pub ingress: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    /// Its stdout as JSON; null when it is none.
    pub report: serde_json::Value,
    pub complaints: String,
}

/// A daemon that has ended.
pub struct Ended {
    pub status: ExitStatus,
    /// Every line it wrote to stderr.
    pub log: Vec<String>,
}

impl std::fmt::Debug for Ended {
    /// How it ended and its last words, not what it said every day before.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:#?}", self.status, complaints(&self.log))
    }
}

/// The last lines that are errors, or no log lines at all.
fn complaints(log: &[String]) -> Vec<&String> {
    let everyday = |line: &&String| {
        ["DEBUG", "INFO", "WARN"]
            .iter()
            .any(|level| line.contains(&format!("\"level\":\"{level}\"")))
    };
    let mut last: Vec<_> = log.iter().rev().filter(|line| !everyday(line)).take(20).collect();
    last.reverse();
    last
}

/// The binary of this build, or the one that `EVERHOOK_BINARY` names, such as a release.
fn binary() -> String {
    std::env::var("EVERHOOK_BINARY").unwrap_or_else(|_unset| env!("CARGO_BIN_EXE_everhook").into())
}

impl Ended {
    /// Whether it left by itself and said with its exit code that something is wrong.
    pub fn left_with_an_error(&self) -> bool {
        self.status.signal().is_none() && !self.status.success()
    }

    /// Whether it ended itself with SIGABRT, as a watchdog does that cannot wait for a thread.
    pub fn aborted(&self) -> bool {
        self.status.signal() == Some(rustix::process::Signal::ABORT.as_raw())
    }

    pub fn panicked(&self) -> bool {
        self.log.iter().any(|line| line.contains("panicked"))
    }
}

impl Home {
    /// A directory with a configuration; `body` holds the sources and targets.
    pub fn new(body: &str) -> Self {
        Self::with_ingress("", body)
    }

    /// The same with further keys of `[ingress]`.
    pub fn with_ingress(ingress: &str, body: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Self { journal: dir.path().join("journal"), dir };
        home.write(ingress, body);
        home
    }

    /// A configuration whose journal is somewhere else; `body` may begin with further keys of `[journal]`.
    pub fn with_journal(journal: &Path, body: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Self { journal: journal.to_owned(), dir };
        home.write("", body);
        home
    }

    /// Replaces the configuration.
    pub fn configure(&self, body: &str) {
        self.write("", body);
    }

    /// The same with further keys of `[ingress]`.
    pub fn configure_ingress(&self, ingress: &str, body: &str) {
        self.write(ingress, body);
    }

    fn write(&self, ingress: &str, body: &str) {
        let journal = self.journal().display().to_string();
        let text = format!(
            "[ingress]\nlisten = [\"127.0.0.1:0\"]\n{ingress}[admin]\nlisten = \"127.0.0.1:0\"\n\
             [log]\nformat = \"json\"\n[journal]\npath = {journal:?}\nmin_free = \"1MiB\"\n{body}"
        );
        std::fs::write(self.config(), text).expect("a writable directory");
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("everhook.toml")
    }

    pub fn journal(&self) -> PathBuf {
        self.journal.clone()
    }

    /// A command that runs the binary with this configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn tool(&self, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        command.arg("--json");
        let output = within("the command ends", command.output()).await.expect("the binary runs");
        Said {
            code: output.status.code(),
            report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            complaints: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Repairs the journal, accepting this loss.
    pub async fn repair(&self, accept: u64) -> Said {
        let accept = accept.to_string();
        let repair = ["journal", "repair", "--yes"];
        if accept == "0" {
            return self.tool(&repair).await;
        }
        self.tool(&[&repair[..], &["--accept-loss", &accept]].concat()).await
    }

    /// Starts the daemon and waits until it takes requests.
    pub async fn start(&self) -> Daemon {
        Self::started(self.command(&["serve"])).await
    }

    /// The same, or how it ended instead.
    pub async fn try_start(&self) -> Result<Daemon, Ended> {
        Self::spawned(self.command(&["serve"])).await
    }

    /// The same on a socket that outlives the daemon, handed over as systemd does.
    pub async fn start_on(&self, socket: &std::net::TcpListener) -> Daemon {
        let inherited = rustix::io::FdFlags::empty();
        rustix::io::fcntl_setfd(socket, inherited).expect("the socket can be inherited");
        let mut shell = Command::new("bash");
        let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" serve -c \"$1\" 3<&\"$2\"";
        shell.args(["-c", script, &binary()]).arg(self.config());
        shell.arg(socket.as_raw_fd().to_string());
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        shell.kill_on_drop(true);
        Self::started(shell).await
    }

    /// Starts what was made with [`Home::command`] and changed, and waits until it takes requests.
    pub async fn started(command: Command) -> Daemon {
        Self::spawned(command).await.unwrap_or_else(|ended| panic!("the daemon ended: {ended:#?}"))
    }

    async fn spawned(mut command: Command) -> Result<Daemon, Ended> {
        let mut child = command.spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("piped");
        let mut lines = BufReader::new(stderr).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut addresses = (None, None);
        while addresses.0.is_none() || addresses.1.is_none() {
            let line = within("the daemon says where it listens", lines.next_line()).await;
            let Some(line) = line.expect("readable") else {
                let status = within("the daemon ends", child.wait()).await.expect("a status");
                let log = log.lock().expect("no panic").clone();
                return Err(Ended { status, log });
            };
            let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let address = |name: &str| json["fields"][name].as_str().and_then(|a| a.parse().ok());
            addresses.0 = addresses.0.or_else(|| address("ingress"));
            addresses.1 = addresses.1.or_else(|| address("admin"));
            log.lock().expect("no panic").push(line);
        }
        let rest = Arc::clone(&log);
        let reader = tokio::task::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                rest.lock().expect("no panic").push(line);
            }
        });
        let (Some(ingress), Some(admin)) = addresses else { unreachable!("both were found") };
        Ok(Daemon { child, ingress, admin, log, reader })
    }
}

impl Daemon {
    pub async fn connect(&self) -> Connection {
        Connection::open(self.ingress).await.expect("the ingress listens")
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut connection = self.connect().await;
        let body = body.to_vec();
        within("an answer", connection.post(path, headers, body)).await.expect("an answer")
    }

    pub async fn admin_get(&self, path: &str) -> Reply {
        let mut connection = Connection::open(self.admin).await.expect("the admin side listens");
        within("an answer", connection.get(path)).await.expect("an answer")
    }

    pub async fn admin_post(&self, path: &str) -> Reply {
        self.admin_post_with(path, &[]).await
    }

    pub async fn admin_post_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut connection = Connection::open(self.admin).await.expect("the admin side listens");
        within("an answer", connection.post(path, headers, "")).await.expect("an answer")
    }

    /// The value of one series as the metrics page prints it; 0 when it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        // One that is written in another way than the page has it would read as 0 for ever.
        let labels = series.split_once('{').map_or("", |(_, labels)| labels);
        assert!(labels.split(',').is_sorted(), "labels stand in their order: {series}");
        let page = self.admin_get("/metrics").await;
        let text = String::from_utf8(page.body.to_vec()).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until a series has the value.
    pub async fn metric_becomes(&self, series: &str, value: f64) {
        within(&format!("{series} becomes {value}"), async {
            while (self.metric(series).await - value).abs() > f64::EPSILON {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until a series is above 0.
    pub async fn metric_grows(&self, series: &str) {
        within(&format!("{series} grows"), async {
            while self.metric(series).await < 1.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until it has said this, and gives the line.
    pub async fn logs(&self, what: &str) -> String {
        within(&format!("it says {what}"), async {
            loop {
                if let Some(line) = self.log().into_iter().find(|line| line.contains(what)) {
                    return line;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Every log line so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    /// What it complained about, for the message of a failing test.
    pub fn complaints(&self) -> Vec<String> {
        complaints(&self.log()).into_iter().cloned().collect()
    }

    /// Bytes that the kernel counts for its process, by the name of the line in its status.
    pub fn memory(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux");
        let line = status.lines().find(|line| line.starts_with(field)).expect("there");
        let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kib * 1024
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("running")
    }

    /// Kills it without warning, as kill -9 does.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it was running");
    }

    /// Sends SIGKILL and does not wait: it may be amid an operation that does not return.
    pub fn strike(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    /// The same, and what it said until then.
    pub async fn killed(mut self) -> Ended {
        // It may have ended by itself a moment ago.
        drop(self.child.start_kill());
        self.finished().await
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_some()
    }

    /// Waits for its end and for the last of what it said.
    pub async fn finished(mut self) -> Ended {
        let status = within("the daemon ends", self.child.wait()).await.expect("a status");
        within("its log ends", self.reader).await.expect("no panic");
        let log = self.log.lock().expect("no panic").clone();
        Ended { status, log }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().try_into().expect("a pid"));
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("it was running");
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> ExitStatus {
        within("the daemon ends", self.child.wait()).await.expect("a status")
    }
}

/// What a command prints, its complaints and its exit code.
pub async fn run(
    home: &Home,
    daemon: &Daemon,
    arguments: &[&str],
) -> (String, String, Option<i32>) {
    let admin = format!("http://{}", daemon.admin);
    let mut command = home.command(&[arguments, &["--admin", &admin]].concat());
    let output = within("the command ends", command.output()).await.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr), output.status.code())
}
