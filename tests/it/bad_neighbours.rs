//! What one target's deliveries lose while a dozen others misbehave: their latency alone and beside them, and the memory
//! that the misbehaviour takes.
//!
//! The short form only sees that nothing is far off. The long form prints the figures of docs/delivery.md:
//! `EVERHOOK_LONG=1 EVERHOOK_BINARY=target/release/everhook cargo test --test it -- bad_neighbours --nocapture`.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::harness::api::{Api, nothing};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::hostile::{Bad, Hostile};
use crate::harness::receiver::Receiver;
use crate::harness::within;

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
/// Rounds of the long form, each of 10 seconds alone and 10 beside them.
const ROUNDS: usize = 12;

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

/// Lets the neighbours misbehave, or none of them do anything.
async fn switch(api: &Api, on: bool) {
    let word = if on { "resume" } else { "pause" };
    for (name, _) in NEIGHBOURS {
        assert_eq!(api.post(&format!("targets/{name}/{word}"), nothing()).await.0, 200);
    }
    within("nothing is under way at a neighbour that is paused", async {
        loop {
            let targets = api.get("targets").await;
            let items = targets["items"].as_array().expect("a list");
            let busy = |item: &&Value| item["target"] != "live" && item["in_flight"] != 0;
            if on || items.iter().filter(busy).count() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The two halves of each round.
#[derive(Default)]
struct Rounds([Vec<Histogram<u64>>; 2]);

impl Rounds {
    fn add(&mut self, beside: bool, half: &Histogram<u64>) {
        self.0[usize::from(beside)].push(half.clone());
    }

    /// A quantile over all rounds, alone and beside.
    fn all(&self, quantile: f64) -> (u64, u64) {
        let of = |halves: &[Histogram<u64>]| {
            let mut all = Histogram::<u64>::new(3).expect("three digits");
            for half in halves {
                all.add(half).expect("alike");
            }
            all.value_at_quantile(quantile)
        };
        (of(&self.0[0]), of(&self.0[1]))
    }

    /// The median of each half's quantile, alone and beside, and of the ratio of the two in each round.
    fn medians(&self, quantile: f64) -> (f64, f64, f64) {
        let of = |half: &Histogram<u64>| {
            f64::from(u32::try_from(half.value_at_quantile(quantile)).expect("below an hour"))
        };
        let [alone, beside] = [0, 1].map(|half| self.0[half].iter().map(of).collect::<Vec<_>>());
        let ratios = alone.iter().zip(&beside).map(|(alone, beside)| beside / alone).collect();
        (median(alone), median(beside), median(ratios))
    }
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rounds", self.0[0].len())?;
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let (alone, beside, ratio) = self.medians(quantile);
            let (all_alone, all_beside) = self.all(quantile);
            write!(
                f,
                ", {name} {alone:.0} us alone, {beside:.0} beside, ratio {ratio:.2} (medians), {all_alone} and {all_beside} \
                 over all",
            )?;
        }
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_target_keeps_its_latency_beside_a_dozen_that_misbehave() {
    let long = std::env::var_os("EVERHOOK_LONG").is_some();
    let count = if long { 1_000 } else { 200 };
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
    let api = Api::of(daemon.admin).await;
    deliver(&daemon, &mut live, 100).await;
    for number in 0..2 * EACH {
        daemon.post("/in/noisy", &[], format!("{number}").as_bytes()).await.ack();
    }
    let (mut rounds, mut grown) = (Rounds::default(), 0);
    for round in 0..if long { ROUNDS } else { 1 } {
        // Each half comes first in every other round, so that what the machine does besides is shared.
        for beside in [round % 2 == 0, round % 2 != 0] {
            switch(&api, beside).await;
            let before = daemon.memory("VmRSS:");
            let half = deliver(&daemon, &mut live, count).await;
            if beside {
                grown = grown.max(daemon.memory("VmRSS:").saturating_sub(before) / 1024);
            }
            rounds.add(beside, &half);
        }
    }
    let attempts: usize = neighbours.iter().map(Hostile::accepted).sum();
    let most = NEIGHBOURS.len() * EACH;
    println!(
        "{rounds}; {attempts} attempts at the neighbours, at most {most} at once, memory grown by {grown} KiB in a half \
         beside them, {} descriptors",
        sockets(&daemon),
    );
    let (alone, beside) = rounds.all(0.99);
    let bound = 3 * alone + 100_000;
    assert!(beside < bound, "p99 is above {bound} us");
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
