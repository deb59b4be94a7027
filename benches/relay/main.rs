//! What durability and delivery cost, as ratios in one run; ../README.md says what each figure means.
//!
//! `cargo bench --bench relay` takes a few minutes and needs nothing outside. `EVERHOOK_BENCH_SECONDS` (2) is the length
//! of each turn, `EVERHOOK_BENCH_ROUNDS` (5) the number of rounds, `EVERHOOK_BENCH_BACKLOG` (100,000) the events that wait
//! for the figures about a backlog, `EVERHOOK_BENCH_ONLY` (all) parts of the names of turns, separated by ";",
//! `EVERHOOK_BENCH_JSON` (target/bench/relay.json) where the figures go, and `EVERHOOK_BINARY` another build to measure.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench reports on stdout, stops at the first surprise, and measures with the real clock"
)]

mod load;
mod machine;
mod plain;
mod report;
mod servers;
mod webhooks;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use load::{Plan, Turn, float, post};
use machine::{pauses, sync};
use report::{Bound, Goal, Ratio, Report};
use servers::{Home, Server, down, filtered, up};
use webhooks::Kind;

/// The daemon's: what is compared is to differ in what it does, not in how it takes memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MIB: f64 = 1024.0 * 1024.0;
/// After a load, before the memory that stays is looked at.
const SETTLES: Duration = Duration::from_secs(3);
/// After a start, before a daemon counts as idle: it makes a spare generation, and looks after its files for ten seconds.
const BEGINS: Duration = Duration::from_secs(12);
/// Connections of most turns.
const MANY: u64 = 64;

/// The length of everything.
struct Extent {
    turn: Duration,
    rounds: u64,
    backlog: u64,
    only: Option<String>,
    json: PathBuf,
}

impl Extent {
    /// `cargo test --benches` passes `--test`: then one short round shows that the bench works.
    fn of(short: bool) -> Self {
        let number = |name: &str, usual: u64, shortest: u64| {
            let set = std::env::var(name).ok().and_then(|n| n.parse().ok());
            set.unwrap_or(if short { shortest } else { usual })
        };
        Self {
            turn: Duration::from_millis(
                number("EVERHOOK_BENCH_SECONDS", 2, 0).saturating_mul(1000).max(200),
            ),
            rounds: number("EVERHOOK_BENCH_ROUNDS", 5, 1),
            backlog: number("EVERHOOK_BENCH_BACKLOG", 100_000, 500),
            only: std::env::var("EVERHOOK_BENCH_ONLY").ok(),
            json: std::env::var("EVERHOOK_BENCH_JSON")
                .map_or_else(|_unset| PathBuf::from("target/bench/relay.json"), PathBuf::from),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.split(';').any(|part| name.contains(part)))
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some([_, what, config]) = arguments.windows(3).find(|it| it[0] == servers::SERVE) {
        return servers::serve(what, config);
    }
    webhooks::check();
    let extent = Extent::of(arguments.iter().any(|argument| argument == "--test"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut bench = Bench { report: Report::default(), extent, series: 0 };
    runtime.block_on(async {
        for round in 1..=bench.extent.rounds {
            println!("round {round}");
            bench.round().await;
        }
        println!("once");
        bench.backlog().await;
        bench.idle().await;
    });
    let about = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "turn_seconds": bench.extent.turn.as_secs_f64(),
        "rounds": bench.extent.rounds,
        "backlog": bench.extent.backlog,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
    });
    let figures = bench.report.finish(&ratios(), &bounds(bench.extent.backlog), &about);
    write(&bench.extent.json, &format!("{figures:#}\n"));
}

fn write(path: &Path, text: &str) {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).expect("a folder for the figures");
    }
    std::fs::write(path, text).expect("writable");
    println!("\n{}", path.display());
}

fn rate_of(what: &str, kind: Kind, connections: u64) -> String {
    format!("{what}, {}, {connections} conn", kind.name())
}

fn ratios() -> Vec<Ratio> {
    let ratio = |name, above: &str, below: &str, goal| Ratio {
        name,
        above: above.to_owned(),
        below: below.to_owned(),
        goal,
    };
    let (small, signed) = (Kind::Streampixel, Kind::Buildpixel);
    let bare = |kind, connections| rate_of(BARE, kind, connections);
    let ingest = |kind, connections| rate_of(INGEST, kind, connections);
    let plain = |connections| rate_of(PLAIN, small, connections);
    let at = Goal::AtLeast;
    vec![
        ratio("ingest / bare, 230 B, 64", &ingest(small, 64), &bare(small, 64), at(0.30)),
        ratio("ingest / bare, 230 B, 256", &ingest(small, 256), &bare(small, 256), at(0.45)),
        ratio("ingest / bare, signed 1 KiB, 64", &ingest(signed, 64), &bare(signed, 64), at(0.27)),
        ratio("ingest / plain file, 230 B, 64", &ingest(small, 64), &plain(64), at(0.80)),
        ratio("ingest / plain file, 230 B, 256", &ingest(small, 256), &plain(256), at(0.80)),
        ratio("with delivery to one / bare, 64", ONE, &bare(small, 64), at(0.18)),
        ratio("with 50 targets / one target", FIFTY, &ingest(small, 64), at(0.9)),
        ratio(
            "ack p99 at half rate / write + fdatasync p99",
            HALF_P99,
            SYNC_P99,
            Goal::AtMost(5.0),
        ),
        ratio("ack median at 1 / write + fdatasync median", SINGLE, SYNC_P50, Goal::AtMost(2.5)),
        ratio("ingest with the backlog / empty", LOADED, EMPTY, at(0.8)),
    ]
}

fn bounds(backlog: u64) -> Vec<Bound> {
    let most = |figure: &str, most| Bound { figure: figure.to_owned(), goal: Goal::AtMost(most) };
    let start = if backlog > 100_000 { 10_000.0 } else { 2_000.0 };
    vec![
        most(WRITTEN, 3072.0),
        most(IDLE_RSS, 30.0),
        most(LOADED_RSS, 120.0),
        most(BACKLOG_RSS, 300.0),
        most(IDLE_CPU, 0.5),
        most(START, start),
    ]
}

const BARE: &str = "bare";
const INGEST: &str = "ingest";
const PLAIN: &str = "plain file";
const ONE: &str = "with delivery to one";
const TEN: &str = "with delivery to ten";
const FIFTY: &str = "ingest with 50 targets";
const SYNC_P50: &str = "write + fdatasync, median";
const SYNC_P99: &str = "write + fdatasync, p99";
const SINGLE: &str = "ack at 1 connection, median";
const HALF_P50: &str = "ack at half the rate, median";
const HALF_P99: &str = "ack at half the rate, p99";
const LOADED: &str = "ingest with the backlog";
const EMPTY: &str = "ingest before the backlog";
const WRITTEN: &str = "written per event with delivery";
const IDLE_RSS: &str = "RSS idle";
const LOADED_RSS: &str = "RSS under full load, 256 conn";
const CROWDED_RSS: &str = "RSS under full load, 1024 conn";
const BACKLOG_RSS: &str = "RSS with the backlog";
const IDLE_CPU: &str = "CPU idle";
const START: &str = "ready after a kill with the backlog";

struct Bench {
    report: Report,
    extent: Extent,
    series: u64,
}

impl Bench {
    async fn post(&mut self, server: &Server, kind: Kind, connections: u64, plan: Plan) -> Turn {
        self.series += 1;
        post(server.address, kind, connections, plan, self.series).await
    }

    /// Every turn once.
    async fn round(&mut self) {
        for kind in Kind::ALL {
            for connections in [1, 16, 64, 256, 1024] {
                self.bare(kind, connections).await;
                self.ingest(kind, connections).await;
                if kind == Kind::Streampixel && [64, 256].contains(&connections) {
                    self.plain(kind, connections).await;
                }
            }
        }
        self.filtered().await;
        self.relay(ONE, 1).await;
        self.relay(TEN, 10).await;
        self.latency().await;
    }

    async fn bare(&mut self, kind: Kind, connections: u64) {
        let name = rate_of(BARE, kind, connections);
        if self.extent.wants(&name) {
            let (server, plan) = (Server::bare(), Plan::Closed(self.extent.turn));
            let rate = self.post(&server, kind, connections, plan).await.rate();
            self.report.add(&name, "requests/s", rate);
        }
    }

    async fn ingest(&mut self, kind: Kind, connections: u64) {
        let name = rate_of(INGEST, kind, connections);
        if !self.extent.wants(&name) {
            return;
        }
        let home = Home::new(&down());
        let daemon = Server::daemon(&home.config());
        let before = daemon.usage();
        let turn = self.post(&daemon, kind, connections, Plan::Closed(self.extent.turn)).await;
        let used = daemon.usage().since(before);
        self.report.add(&name, "requests/s", turn.rate());
        if connections == MANY {
            let of = |what: &str| format!("{name}: {what}");
            self.report.add(&of("ack p99"), "us", turn.quantile(0.99));
            self.report.add(&of("CPU per event"), "us", used.micros_each(turn.requests));
            let written = float(used.written) / float(turn.requests.max(1));
            self.report.add(&of("written per event"), "B", written);
        }
        if kind == Kind::Streampixel && [256, 1024].contains(&connections) {
            let figure = if connections == 256 { LOADED_RSS } else { CROWDED_RSS };
            self.report.add(figure, "MiB", float(used.peak) / MIB);
        }
    }

    async fn plain(&mut self, kind: Kind, connections: u64) {
        let name = rate_of(PLAIN, kind, connections);
        if self.extent.wants(&name) {
            let home = Home::new(&down());
            let server = Server::plain(&home.config());
            let plan = Plan::Closed(self.extent.turn);
            let rate = self.post(&server, kind, connections, plan).await.rate();
            self.report.add(&name, "requests/s", rate);
        }
    }

    async fn filtered(&mut self) {
        if self.extent.wants(FIFTY) {
            let home = Home::new(&filtered(49));
            let daemon = Server::daemon(&home.config());
            let plan = Plan::Closed(self.extent.turn);
            let rate = self.post(&daemon, Kind::Streampixel, MANY, plan).await.rate();
            self.report.add(FIFTY, "requests/s", rate);
        }
    }

    /// Ingest and delivery together; the clock runs until each receiver has everything.
    async fn relay(&mut self, name: &str, count: usize) {
        if !self.extent.wants(name) {
            return;
        }
        let receivers: Vec<_> = (0..count).map(|_| Server::bare()).collect();
        let home = Home::new(&up(&receivers));
        let daemon = Server::daemon(&home.config());
        let (before, begun) = (daemon.usage(), Instant::now());
        let plan = Plan::Closed(self.extent.turn);
        let turn = self.post(&daemon, Kind::Streampixel, MANY, plan).await;
        everything(&receivers, turn.requests).await;
        let elapsed = begun.elapsed();
        self.report.add(name, "events/s", float(turn.requests) / elapsed.as_secs_f64());
        if count == 1 {
            // The settlements of the last deliveries are written with the next commit.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let used = daemon.usage().since(before);
            self.report.add(WRITTEN, "B", float(used.written) / float(turn.requests.max(1)));
            self.report.add("CPU per event with delivery", "us", used.micros_each(turn.requests));
        }
    }

    /// How long an acknowledgement takes when there is room to breathe, beside what the disk alone takes.
    async fn latency(&mut self) {
        if !self.extent.wants("ack at") {
            return;
        }
        let pauses = pauses(self.extent.turn);
        self.report.add("a busy core pauses, of its time", "%", pauses.share);
        self.report.add("the longest of these pauses", "us", pauses.longest.as_secs_f64() * 1e6);
        let home = Home::new(&down());
        let sync = sync(home.path(), self.extent.turn);
        self.report.add(SYNC_P50, "us", sync.quantile(0.5));
        self.report.add(SYNC_P99, "us", sync.quantile(0.99));
        let daemon = Server::daemon(&home.config());
        let kind = Kind::Streampixel;
        let closed = Plan::Closed(self.extent.turn);
        let single = self.post(&daemon, kind, 1, closed).await;
        self.report.add(SINGLE, "us", single.quantile(0.5));
        let most = self.post(&daemon, kind, MANY, closed).await.rate();
        let pace = Plan::Paced(self.extent.turn, most / 2.0);
        let half = self.post(&daemon, kind, MANY, pace).await;
        self.report.add(HALF_P50, "us", half.quantile(0.5));
        self.report.add(HALF_P99, "us", half.quantile(0.99));
        drop(daemon);
        // How much of that is the machine, which the load has to share.
        let bare = self.post(&Server::bare(), kind, MANY, pace).await;
        self.report.add("bare at the same pace, median", "us", bare.quantile(0.5));
        self.report.add("bare at the same pace, p99", "us", bare.quantile(0.99));
    }

    /// A backlog, made once: taking in beside it, the start after a kill, and how fast it drains.
    async fn backlog(&mut self) {
        if !self.extent.wants("backlog") {
            return;
        }
        let (kind, backlog) = (Kind::Buildpixel, self.extent.backlog);
        let plan = Plan::Closed(self.extent.turn);
        {
            let home = Home::new(&down());
            let daemon = Server::daemon(&home.config());
            let empty = self.post(&daemon, kind, MANY, plan).await.rate();
            self.report.add(EMPTY, "requests/s", empty);
        }
        let home = Home::new(&down());
        let daemon = Server::daemon(&home.config());
        self.post(&daemon, kind, MANY, Plan::Count(backlog)).await;
        // What was only on its way is given back within seconds.
        tokio::time::sleep(SETTLES).await;
        self.report.add(BACKLOG_RSS, "MiB", float(daemon.usage().resident) / MIB);
        let loaded = self.post(&daemon, kind, MANY, plan).await.rate();
        self.report.add(LOADED, "requests/s", loaded);
        drop(daemon);
        let begun = Instant::now();
        let daemon = Server::daemon(&home.config());
        self.report.add(START, "ms", begun.elapsed().as_secs_f64() * 1e3);
        drop(daemon);
        self.drain(backlog).await;
    }

    async fn drain(&mut self, backlog: u64) {
        let receivers = [Server::bare()];
        let home = Home::new(&up(&receivers));
        let address = receivers[0].address;
        let [receiver] = receivers;
        drop(receiver);
        let daemon = Server::daemon(&home.config());
        self.post(&daemon, Kind::Buildpixel, MANY, Plan::Count(backlog)).await;
        drop(daemon);
        let receivers = [Server::bare_on(address)];
        let daemon = Server::daemon(&home.config());
        let begun = Instant::now();
        everything(&receivers, backlog).await;
        let rate = float(backlog) / begun.elapsed().as_secs_f64();
        self.report.add("drain of the backlog", "events/s", rate);
        drop(daemon);
    }

    async fn idle(&mut self) {
        if !self.extent.wants("idle") {
            return;
        }
        let home = Home::new(&down());
        let daemon = Server::daemon(&home.config());
        let length = self.extent.turn * 5;
        tokio::time::sleep(BEGINS).await;
        let before = daemon.usage();
        tokio::time::sleep(length).await;
        let used = daemon.usage().since(before);
        self.report.add(IDLE_RSS, "MiB", float(used.resident) / MIB);
        let share = used.cpu.as_secs_f64() / length.as_secs_f64() * 100.0;
        self.report.add(IDLE_CPU, "% of a core", share);
    }
}

/// Resolves when each receiver has so many.
async fn everything(receivers: &[Server], count: u64) {
    for receiver in receivers {
        while receiver.count().await < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
