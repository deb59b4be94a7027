//! What durability and delivery cost, as ratios in one run: a bare HTTP server, durable ingest, and ingest with
//! delivery, measured in turn with the same clients on the same machine.
//!
//! `cargo bench --bench relay`; `EVERHOOK_BENCH_SECONDS` (3) is the length of each turn, `EVERHOOK_BENCH_ROUNDS`
//! (3) the number of rounds. Clients, server and receiver share the machine, so only ratios mean anything.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench reports on stdout, stops at the first surprise, and measures with the real clock"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use everhook::app::{Daemon, Sockets};
use everhook::config::{Config, LoadOptions};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

/// Keep-alive connections that post one request after the other.
const CONNECTIONS: usize = 64;
/// Bytes of each body.
const BODY: usize = 1024;

/// What one turn measured.
struct Turn {
    requests: u64,
    elapsed: Duration,
    micros: Histogram<u64>,
}

fn main() {
    // `cargo test --benches` passes --test: then one short turn shows that the bench works.
    let short = std::env::args().any(|argument| argument == "--test");
    let number = |name: &str, value: u64| {
        std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(value)
    };
    let turn = if short {
        Duration::from_millis(200)
    } else {
        seconds(number("EVERHOOK_BENCH_SECONDS", 3))
    };
    let rounds = if short { 1 } else { number("EVERHOOK_BENCH_ROUNDS", 3) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for round in 1..=rounds {
        let turns =
            runtime.block_on(async { [bare(turn).await, ingest(turn).await, relay(turn).await] });
        for ((name, turn), rates) in NAMES.iter().zip(&turns).zip(&mut rates) {
            let rate = rate(turn);
            rates.push(rate);
            println!(
                "round {round}: {name:<24} {rate:>9.0} requests/s   p50 {:>6} us   p99 {:>6} us",
                turn.micros.value_at_quantile(0.5),
                turn.micros.value_at_quantile(0.99)
            );
        }
    }
    let medians = rates.map(median);
    for (name, rate) in NAMES.iter().zip(medians) {
        println!(
            "median: {name:<24} {rate:>9.0} requests/s   {:.2} of the bare server",
            rate / medians[0]
        );
    }
}

const NAMES: [&str; 3] = ["bare hyper server", "durable ingest", "ingest with delivery"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts of one short run")]
fn rate(turn: &Turn) -> f64 {
    turn.requests as f64 / turn.elapsed.as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The floor: the same HTTP library, reads the body, answers 200.
async fn bare(turn: Duration) -> Turn {
    let (address, server) = serve(Arc::default()).await;
    let measured = load(address, turn).await;
    server.abort();
    measured
}

/// Stores and acknowledges; no target wants the event.
async fn ingest(turn: Duration) -> Turn {
    everhook(turn, "http://127.0.0.1:9/", "events = [\"never\"]", |_| true).await
}

/// Stores, acknowledges and delivers to a receiver in this process.
async fn relay(turn: Duration) -> Turn {
    let delivered = Arc::new(AtomicU64::new(0));
    let (address, server) = serve(Arc::clone(&delivered)).await;
    let counted = Arc::clone(&delivered);
    let all = move |requests| counted.load(Ordering::Relaxed) >= requests;
    let measured = everhook(turn, &format!("http://{address}/"), "concurrency = 64", all).await;
    server.abort();
    measured
}

/// The clock runs until `done` says that everything the turn began is finished.
async fn everhook(turn: Duration, url: &str, more: &str, done: impl Fn(u64) -> bool) -> Turn {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("everhook.toml");
    let journal = dir.path().join("journal");
    let text = format!(
        "[ingress]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [journal]\npath = {:?}\nmin_free = \"1MiB\"\n\
         [source.bench]\nprovider = \"custom\"\npath = \"/in\"\nverify = {{ kind = \"none\" }}\n\
         [target.bench]\nurl = {url:?}\n{more}\n",
        journal.display().to_string()
    );
    std::fs::write(&file, text).expect("writable");
    let options = LoadOptions { file: Some(file), flags: Vec::new() };
    let config = Config::load(&options).expect("valid");
    let sockets = Sockets::open(&config).expect("free ports");
    let address = sockets.ingress_addresses()[0];
    let daemon = Daemon::start(config, sockets).await.expect("starts");
    let begun = Instant::now();
    let mut measured = load(address, turn).await;
    while !done(measured.requests) {
        tokio::task::yield_now().await;
    }
    measured.elapsed = begun.elapsed();
    daemon.stop().await;
    measured
}

async fn serve(count: Arc<AtomicU64>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let accept = async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket.set_nodelay(true));
            let count = Arc::clone(&count);
            let answer = service_fn(move |request: Request<Incoming>| {
                let count = Arc::clone(&count);
                async move {
                    drop(request.into_body().collect().await);
                    count.fetch_add(1, Ordering::Relaxed);
                    let body = Full::new(Bytes::from_static(b"{\"status\":\"accepted\"}"));
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), answer);
            tokio::task::spawn(connection);
        }
    };
    (address, tokio::task::spawn(accept))
}

/// Posts from every connection, one request after the other, for the length of the turn.
async fn load(address: SocketAddr, turn: Duration) -> Turn {
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(client(address, begun + turn));
    }
    let mut micros = Histogram::new(3).expect("a histogram");
    while let Some(client) = clients.join_next().await {
        micros.add(client.expect("no panic")).expect("one range");
    }
    Turn { requests: micros.len(), elapsed: begun.elapsed(), micros }
}

async fn client(address: SocketAddr, until: Instant) -> Histogram<u64> {
    let socket = TcpStream::connect(address).await.expect("listening");
    drop(socket.set_nodelay(true));
    let io = TokioIo::new(socket);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.expect("a connection");
    tokio::task::spawn(connection);
    let body = Bytes::from(vec![b'x'; BODY]);
    let mut micros = Histogram::new(3).expect("a histogram");
    while Instant::now() < until {
        let request = Request::post("/in").header("host", "bench").body(Full::new(body.clone()));
        let sent = Instant::now();
        let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
        drop(answer.into_body().collect().await);
        let took = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        micros.record(took.max(1)).expect("within range");
    }
    micros
}
