//! The bytes of one connection, through the real ingress on loopback.
#![no_main]

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;

use arbitrary::Arbitrary;
use everhook::config::{Config, LoadOptions};
use everhook::ingress::Ingress;
use everhook::journal::Journal;
use everhook::journal::memory::MemoryJournal;
use everhook::lifecycle::Tasks;
use everhook::metrics::Metrics;
use everhook::time::Clock;
use everhook::trace::Spans;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A part of what is sent. Requests are put together from parts, because a fuzzer does not guess a request line.
#[derive(Arbitrary, Debug)]
enum Part {
    Line,
    Host,
    Length(u8),
    Chunked,
    Chunk(u8, u8),
    LastChunk,
    EndOfHead,
    Header(u8),
    Bytes(Vec<u8>),
}

/// Fields about which readers of HTTP disagree.
const FIELDS: [&str; 8] = [
    "Content-Length: +1\r\n",
    "Content-Length: 1, 1\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding : chunked\r\n",
    "X: a\r\n b\r\n",
    "Content-Encoding: gzip\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
];

impl Part {
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Line => bytes.extend_from_slice(b"POST /in/a HTTP/1.1\r\n"),
            Self::Host => bytes.extend_from_slice(b"Host: a\r\n"),
            Self::Length(length) => bytes.extend(format!("Content-Length: {length}\r\n").bytes()),
            Self::Chunked => bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Self::Chunk(told, real) => {
                bytes.extend(format!("{told:x}\r\n").bytes());
                bytes.resize(bytes.len() + usize::from(*real), b'x');
                bytes.extend_from_slice(b"\r\n");
            }
            Self::LastChunk => bytes.extend_from_slice(b"0\r\n\r\n"),
            Self::EndOfHead => bytes.extend_from_slice(b"\r\n"),
            Self::Header(which) => {
                bytes.extend_from_slice(FIELDS[usize::from(*which) % FIELDS.len()].as_bytes());
            }
            Self::Bytes(own) => bytes.extend_from_slice(own),
        }
    }
}

/// A running ingress.
struct Relay {
    runtime: Runtime,
    address: SocketAddr,
    metrics: Metrics,
}

thread_local! {
    static RELAY: OnceCell<Relay> = const { OnceCell::new() };
}

fn start() -> Relay {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let file = std::env::temp_dir().join(format!("everhook-fuzz-{}.toml", std::process::id()));
    std::fs::write(
        &file,
        "[source.a]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n[target.t]\nurl = \"http://127.0.0.1:9/\"\n",
    )
    .expect("writable");
    let options = LoadOptions { file: Some(file.clone()), flags: Vec::new() };
    let config = Config::load(&options).expect("a configuration");
    std::fs::remove_file(file).expect("ours");
    let clock = Clock::system();
    let metrics = Metrics::new("0", "0").expect("metrics");
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(clock.clone()));
    let tasks = Tasks::new();
    let (limits, sources) = (&config.ingress, &config.sources);
    let ingress =
        Ingress::new(limits, sources, journal, clock, (&metrics, Spans::default()), 7, &tasks);
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        drop(tasks.spawn(ingress.run(listener, tasks.clone())));
        address
    });
    Relay { runtime, address, metrics }
}

fuzz_target!(|parts: Vec<Part>| {
    let mut bytes = Vec::new();
    parts.iter().for_each(|part| part.write(&mut bytes));
    RELAY.with(|relay| {
        let relay = relay.get_or_init(start);
        let accepted = relay.metrics.events_accepted.with_label_values(&["a"]);
        let before = accepted.get();
        let answer = relay.runtime.block_on(async {
            let mut socket = TcpStream::connect(relay.address).await.expect("it listens");
            // The relay may close while we send.
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer).await;
            answer
        });
        let events = accepted.get() - before;
        let told = answer.windows(21).filter(|w| w == b"\"status\":\"accepted\"}\n").count();
        assert!(events >= u64::try_from(told).expect("few"), "told {told}, stored {events}");
    });
});
