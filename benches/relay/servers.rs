//! What is measured, each in a process of its own, so that what it takes of the machine can be told from what the load
//! takes: the bare server, everhook's front before a plain file, and the daemon itself.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use everhook::config::{Config, LoadOptions};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::load::{Connection, float};
use crate::webhooks::{BUILDKITE_TOKEN, BUILDPIXEL_SECRET, STREAMPIXEL_TOKEN};

/// The allocator's settings are the daemon's, which sets them itself (src/cli/allocator.rs).
const ALLOCATOR: &str = "narenas:1,oversize_threshold:1048576,dirty_decay_ms:1000,muzzy_decay_ms:0";
/// The argument that makes the bench serve instead.
pub const SERVE: &str = "--serve";

/// A server in a process of its own; it is killed with this.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

/// What a process has taken so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    /// Bytes sent to the disk.
    pub written: u64,
    /// Resident now.
    pub resident: u64,
    /// Resident at most.
    pub peak: u64,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// The HTTP library alone: it reads the body and answers.
    pub fn bare() -> Self {
        Self::own("bare", Path::new("127.0.0.1:0"))
    }

    /// The same on an address that was one's before.
    pub fn bare_on(address: SocketAddr) -> Self {
        Self::own("bare", Path::new(&address.to_string()))
    }

    /// everhook's front before the plain file.
    pub fn plain(config: &Path) -> Self {
        Self::own("plain", config)
    }

    fn own(what: &str, config: &Path) -> Self {
        let own = std::env::current_exe().expect("a path");
        let mut command = Command::new(own);
        command.args([SERVE, what]).arg(config).stdout(Stdio::piped());
        command.env("_RJEM_MALLOC_CONF", ALLOCATOR);
        let mut child = command.spawn().expect("started");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines().next();
        let said = said.expect("an address").expect("a line");
        Self { child, address: said.parse().expect("an address") }
    }

    /// The daemon, ready: of this build, or the one that `EVERHOOK_BINARY` names.
    pub fn daemon(config: &Path) -> Self {
        let binary = std::env::var("EVERHOOK_BINARY");
        let binary = binary.unwrap_or_else(|_unset| env!("CARGO_BIN_EXE_everhook").to_owned());
        let mut command = Command::new(binary);
        command.args(["serve", "--log-format", "json", "--config"]).arg(config);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (mut address, mut admin) = (None, None);
        for line in lines.by_ref() {
            let line = line.expect("a line");
            let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            address = address.or_else(|| find(&said, "ingress"));
            admin = admin.or_else(|| find(&said, "admin"));
            if address.is_some() && admin.is_some() {
                break;
            }
            assert!(said["level"] != "ERROR", "{line}");
        }
        // Whatever it says must be read, or it would wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("it says where it listens") }
    }

    /// What it has taken so far.
    pub fn usage(&self) -> Usage {
        let of = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
        };
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or_default()
        };
        let (stat, io, status) = (of("stat"), of("io"), of("status"));
        // After the name, in parentheses, utime and stime are the 12th and 13th field, in hundredths of a second.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        let ticks = after.split(' ').skip(11).take(2).filter_map(|it| it.parse::<u64>().ok());
        Usage {
            cpu: Duration::from_millis(ticks.sum::<u64>() * 10),
            written: field(&io, "write_bytes: "),
            resident: field(&status, "VmRSS:") * 1024,
            peak: field(&status, "VmHWM:") * 1024,
        }
    }

    /// How many requests a bare server has answered.
    pub async fn count(&self) -> u64 {
        let mut connection = Connection::open(self.address).await.expect("listening");
        connection.exchange(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").await.expect("an answer");
        let count = std::str::from_utf8(connection.body()).ok().and_then(|it| it.parse().ok());
        count.expect("a number")
    }
}

/// An address under this key, however deep.
fn find(said: &serde_json::Value, key: &str) -> Option<SocketAddr> {
    let object = said.as_object()?;
    let here = object.get(key).and_then(|it| it.as_str()?.parse().ok());
    here.or_else(|| object.values().find_map(|inner| find(inner, key)))
}

impl Usage {
    /// What was taken between `earlier` and this.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written: self.written.saturating_sub(earlier.written),
            ..self
        }
    }

    /// Microseconds for each of so many.
    pub fn micros_each(self, count: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / float(count.max(1))
    }
}

/// A configuration and a journal of its own.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    /// All three sources, and these targets.
    pub fn new(targets: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let text = format!(
            "[ingress]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [journal]\npath = {:?}\nmin_free = \"1MiB\"\n\
             [source.streampixel]\nprovider = \"streampixel\"\npath_token = \"plain:{STREAMPIXEL_TOKEN}\"\n\
             [source.buildpixel]\nprovider = \"buildpixel\"\nsecret = \"plain:{BUILDPIXEL_SECRET}\"\n\
             [source.buildkite]\nprovider = \"buildkite\"\nsecret = \"plain:{BUILDKITE_TOKEN}\"\n{targets}",
            dir.path().join("journal").display().to_string()
        );
        std::fs::write(dir.path().join("everhook.toml"), text).expect("writable");
        Self { dir }
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("everhook.toml")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A target that is down: each event waits for it.
pub fn down() -> String {
    "[target.down]\nurl = \"http://127.0.0.1:9/\"\n".to_owned()
}

/// Targets that take everything.
pub fn up(receivers: &[Server]) -> String {
    let target = |(number, receiver): (usize, &Server)| {
        format!("[target.up-{number}]\nurl = \"http://{}/\"\nconcurrency = 64\n", receiver.address)
    };
    receivers.iter().enumerate().map(target).collect()
}

/// One target that is down, and so many that want something else.
pub fn filtered(count: usize) -> String {
    let target = |number: usize| {
        format!(
            "[target.other-{number}]\nurl = \"http://127.0.0.1:9/\"\nevents = [\"build.other-{number}\"]\n"
        )
    };
    (0..count).map(target).fold(down(), |all, one| all + &one)
}

/// Serves, in a process of its own, until it is killed.
pub fn serve(what: &str, config: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let served = async {
        let address = if what == "plain" { "127.0.0.1:0" } else { config };
        let listener = TcpListener::bind(address).await.expect("a free port");
        println!("{}", listener.local_addr().expect("an address"));
        drop(std::io::stdout().flush());
        if what == "plain" {
            let options = LoadOptions { file: Some(config.into()), flags: Vec::new() };
            let config = Config::load(&options).expect("valid");
            crate::plain::serve(config, listener).await;
        } else {
            bare(listener).await;
        }
    };
    runtime.block_on(served);
}

async fn bare(listener: TcpListener) {
    let count = Arc::new(AtomicU64::new(0));
    while let Ok((socket, _)) = listener.accept().await {
        drop(socket.set_nodelay(true));
        let count = Arc::clone(&count);
        let answer = service_fn(move |request: Request<Incoming>| {
            let count = Arc::clone(&count);
            async move {
                let asks = request.method() == Method::GET;
                drop(request.into_body().collect().await);
                let body = if asks {
                    Bytes::from(count.load(Ordering::Relaxed).to_string())
                } else {
                    count.fetch_add(1, Ordering::Relaxed);
                    Bytes::from_static(b"{\"status\":\"accepted\"}")
                };
                Ok::<_, Infallible>(Response::new(Full::new(body)))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(socket), answer);
        tokio::task::spawn(connection);
    }
}
