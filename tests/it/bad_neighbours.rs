//! What one target's deliveries lose while a dozen others misbehave: their latency alone and beside them, and the memory
//! that the misbehaviour takes.
//!
//! The short form only sees that nothing is far off. The long form prints the figures of docs/delivery.md:
//! `EVERHOOK_LONG=1 EVERHOOK_BINARY=target/release/everhook cargo test --test it -- bad_neighbours --nocapture`.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::hostile::{Bad, Hostile};
use crate::harness::receiver::Receiver;

const NEIGHBOURS: [(&str, Bad); 11] = [
    ("hang", Bad::Hang),
    ("mute", Bad::Mute),
    ("drip-head", Bad::DripHead),
    ("drip-body", Bad::DripBody),
    ("reset", Bad::Reset),
    ("half-close", Bad::HalfClose),
    ("garbage", Bad::Garbage),
    ("endless-head", Bad::EndlessHead),
    ("endless-body", Bad::EndlessBody),
    ("bomb", Bad::Bomb),
    ("redirect", Bad::Redirect),
];
/// Attempts at once at each neighbour.
const EACH: usize = 16;

fn sockets(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("Linux").count()
}

/// Its attempts are spread, and never end for good.
fn neighbour_text(name: &str, url: &str) -> String {
    format!(
        "[target.{name}]\nurl = {url:?}\nfrom = [\"noisy\"]\ntimeout = \"10s\"\n\
         concurrency = {EACH}\nrate = \"5/s\"\nburst = {EACH}\nbreaker = \"none\"\n\
         retry = {{ initial = \"1s\", max = \"1s\", attempts = 1000 }}\n"
    )
}

/// Latencies in microseconds, from the webhook being sent to the target having it, at 100 a second.
async fn deliver(daemon: &Daemon, live: &mut Receiver, count: usize) -> Histogram<u64> {
    let mut latencies = Histogram::new(3).expect("three digits");
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut connection = daemon.connect().await;
    for number in 0..count {
        ticks.tick().await;
        let began = Instant::now();
        let body = format!("{number}-{}", latencies.len());
        connection.post("/in/quiet", &[], body).await.expect("an answer").ack();
        live.next().await;
        let took = u64::try_from(began.elapsed().as_micros()).expect("small");
        latencies.record(took.max(1)).expect("within bounds");
    }
    latencies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_target_keeps_its_latency_beside_a_dozen_that_misbehave() {
    let long = std::env::var_os("EVERHOOK_LONG").is_some();
    let count = if long { 3_000 } else { 200 };
    let mut live = Receiver::good().await;
    let source = "provider = \"custom\"\nverify = { kind = \"none\" }\ndedup = \"none\"\n";
    let mut text = format!(
        "[source.quiet]\n{source}[source.noisy]\n{source}\
         [target.live]\nurl = {:?}\nfrom = [\"quiet\"]\n",
        live.url()
    );
    let mut neighbours = Vec::new();
    for (name, bad) in NEIGHBOURS {
        let neighbour = Hostile::start(bad).await;
        let url = format!("http://{}/hook", neighbour.address);
        text.push_str(&neighbour_text(name, &url));
        neighbours.push(neighbour);
    }
    let home = Home::new(&text);
    let daemon = home.start().await;
    deliver(&daemon, &mut live, 100).await;
    let at_first = daemon.memory("VmRSS:");
    let alone = deliver(&daemon, &mut live, count).await;
    let (before, open) = (daemon.memory("VmRSS:"), sockets(&daemon));
    for number in 0..2 * EACH {
        daemon.post("/in/noisy", &[], format!("{number}").as_bytes()).await.ack();
    }
    let beside = deliver(&daemon, &mut live, count).await;
    let grown = daemon.memory("VmHWM:").saturating_sub(before) / 1024;
    let attempts: usize = neighbours.iter().map(Hostile::accepted).sum();
    let most = NEIGHBOURS.len() * EACH;
    println!(
        "p50 {} us alone, {} beside; p99 {} alone, {} beside; {attempts} attempts at the neighbours, \
         at most {most} at once, memory grown by {} KiB alone and {grown} beside, descriptors {open} before, {} in between",
        alone.value_at_quantile(0.5),
        beside.value_at_quantile(0.5),
        alone.value_at_quantile(0.99),
        beside.value_at_quantile(0.99),
        before.saturating_sub(at_first) / 1024,
        sockets(&daemon),
    );
    let bound = 3 * alone.value_at_quantile(0.99) + 100_000;
    assert!(beside.value_at_quantile(0.99) < bound, "p99 is above {bound} us");
    let per_attempt = grown / most as u64;
    assert!(per_attempt < 1024, "{per_attempt} KiB for each attempt");
    assert!(!daemon.log().iter().any(|line| line.contains("panicked")));
}

/// Targets that are configured, and how many of them nobody listens at.
const MANY: (usize, usize) = (1_000, 100);
const FEW: (usize, usize) = (50, 5);

/// CPU time that its process has taken.
fn busy(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("Linux");
    let fields = stat.rsplit(')').next().expect("there").split_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(2).map(|n| n.parse().expect("a number")).collect();
    // The kernel counts in hundredths of a second for everybody who asks.
    Duration::from_millis(ticks.iter().sum::<u64>() * 10)
}

/// What the live target's deliveries take, with nothing but it.
async fn measured(
    daemon: &Daemon,
    live: &mut Receiver,
    count: usize,
) -> (Histogram<u64>, Duration) {
    deliver(daemon, live, count / 10).await;
    let before = busy(daemon);
    let latencies = deliver(daemon, live, count).await;
    let each = busy(daemon).saturating_sub(before) / u32::try_from(count).expect("small");
    (latencies, each)
}

/// `EVERHOOK_LONG=1` takes a thousand targets, a hundred of them dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_target_is_one_of_many_of_which_some_are_dead() {
    let long = std::env::var_os("EVERHOOK_LONG").is_some();
    let ((many, dead), count) = if long { (MANY, 3_000) } else { (FEW, 200) };
    let mut live = Receiver::good().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
    let nobody = nobody.expect("a port");
    let source = "provider = \"custom\"\nverify = { kind = \"none\" }\ndedup = \"none\"\n";
    let few = format!(
        "[source.quiet]\n{source}[source.noisy]\n{source}\
         [target.live]\nurl = {:?}\nfrom = [\"quiet\"]\n",
        live.url()
    );
    let home = Home::new(&few);
    let daemon = home.start().await;
    let (alone, cost_alone) = measured(&daemon, &mut live, count).await;
    let memory_alone = daemon.memory("VmRSS:") / 1024;
    daemon.terminate();
    assert!(daemon.ended().await.success());

    let mut text = few;
    for number in 1..many {
        // The dead ones are attempted again and again; the others have nothing to do.
        let from = if number <= dead { "noisy" } else { "quiet" };
        let events = if number <= dead { "*" } else { "nothing" };
        let target = format!(
            "[target.t{number}]\nurl = \"http://{nobody}/\"\nfrom = [{from:?}]\nevents = [{events:?}]\n\
             breaker = \"none\"\nretry = {{ initial = \"20s\", max = \"20s\", attempts = 1000 }}\n"
        );
        text.push_str(&target);
    }
    home.configure(&text);
    let daemon = home.start().await;
    for number in 0..20 {
        daemon.post("/in/noisy", &[], format!("{number}").as_bytes()).await.ack();
    }
    let (among, cost_among) = measured(&daemon, &mut live, count).await;
    println!(
        "{many} targets, {dead} of them dead with {} deliveries waiting: p50 {} us alone, {} among them; p99 {} alone, {} \
         among them; CPU {cost_alone:?} an event alone, {cost_among:?} among them; RSS {memory_alone} KiB alone, {} among them",
        dead * 20,
        alone.value_at_quantile(0.5),
        among.value_at_quantile(0.5),
        alone.value_at_quantile(0.99),
        among.value_at_quantile(0.99),
        daemon.memory("VmRSS:") / 1024,
    );
    let bound = 3 * alone.value_at_quantile(0.99) + 100_000;
    assert!(among.value_at_quantile(0.99) < bound, "p99 is above {bound} us");
    assert!(!daemon.log().iter().any(|line| line.contains("panicked")));
}
