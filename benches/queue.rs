//! What one event costs in the queue: the scheduler core's decisions, and an append with its commit.
//!
//! `cargo bench --bench queue`

#![expect(clippy::expect_used, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use everhook::journal::memory::MemoryJournal;
use everhook::journal::sled::{Options, SledJournal};
use everhook::journal::{Append, Journal};
use everhook::metrics::JournalMetrics;
use everhook::model::{Answer, Attempt, Event, EventId, Headers, Name, Order};
use everhook::rules::breaker::BreakerPolicy;
use everhook::rules::dispatch::{Dispatcher, Finished, Job, TargetPolicy};
use everhook::rules::rate::Rate;
use everhook::rules::retry::{Jitter, Moment, RetryPolicy};
use everhook::time::{Clock, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Bytes of each event's body.
const BODY: usize = 1024;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn dispatcher(targets: usize) -> Dispatcher<u64> {
    let policy = |number: usize| TargetPolicy {
        name: name(&format!("target-{number}")),
        concurrency: 16,
        order: Order::None,
        retry: RetryPolicy {
            delays: [Duration::from_secs(5)].into(),
            jitter: Jitter::Proportional(0.2),
            give_up: [].into(),
            expire: Duration::from_secs(3_600),
        },
        rate: Some(Rate { interval: Duration::from_micros(10), burst: 100_000 }),
        breaker: Some(BreakerPolicy {
            failures: 10,
            failure_rate: 0.8,
            probe_every: Duration::from_secs(10),
        }),
        was: Vec::new(),
    };
    let policies = (0..targets).map(policy).collect();
    Dispatcher::new(policies, 1_024, StdRng::seed_from_u64(1), Timestamp::from_secs(9))
}

/// Claimed, started, answered, settled: everything the core does for one delivery.
fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("dispatch one delivery");
    for targets in [1, 100] {
        let mut core = dispatcher(targets);
        let moment = Moment { now: Timestamp::from_secs(10), wall: Timestamp::from_secs(10) };
        let mut lease = 0;
        group.bench_function(format!("{targets} targets"), |b| {
            b.iter(|| {
                lease += 1;
                core.handle_claimed(
                    vec![Job {
                        lease,
                        target: name("target-0"),
                        event: EventId::new(Timestamp::EPOCH, [0; 10]),
                        attempts: 0,
                        received_at: Timestamp::from_secs(9),
                        revived: false,
                    }],
                    moment.now,
                );
                while let Some(action) = core.poll_action() {
                    black_box(action);
                }
                let answer = Answer::Status { status: 200, retry_after: None };
                let (started_at, duration) = (moment.now, Duration::ZERO);
                let attempt =
                    Attempt { number: 1, started_at, duration, answer, seen: Box::default() };
                core.handle_finished(lease, Finished::Attempted(attempt), moment);
                while let Some(action) = core.poll_action() {
                    black_box(action);
                }
            });
        });
    }
    group.finish();
}

fn append(number: u64, clock: &Clock) -> Append {
    let mut random = [0; 10];
    for (to, from) in random.iter_mut().zip(number.to_be_bytes()) {
        *to = from;
    }
    let event = Event {
        id: EventId::new(clock.now(), random),
        source: name("source"),
        name: "build.approved".into(),
        order_key: None,
        received_at: clock.now(),
        headers: Headers::from_pairs([("content-type", &b"application/json"[..])]),
        body: Bytes::from(vec![b'x'; BODY]),
    };
    Append { event, targets: vec![name("target")], dedup: Vec::new() }
}

/// Durable appends at 1, 64 and 256 waiting; the memory engine shows what the queue alone costs.
fn appends(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Clock::system();
    let options = Options {
        path: dir.path().to_owned(),
        retention: Duration::from_secs(3_600),
        max_bytes: u64::MAX,
        min_free: 0,
        quarantine_max_bytes: 64 << 20,
    };
    let metrics = JournalMetrics::detached().expect("metrics");
    let (sled, _) = SledJournal::open(&options, &clock, metrics).expect("opens");
    let memory = MemoryJournal::new(clock.clone());
    let engines: [(&str, &dyn Journal); 2] = [("memory", &memory), ("sled", &sled)];
    let mut number = 0;
    let mut group = c.benchmark_group("append");
    group.sample_size(20);
    for (engine, journal) in engines {
        for waiting in [1u64, 64, 256] {
            group.throughput(Throughput::Elements(waiting));
            group.bench_function(format!("{engine}, {waiting} waiting"), |b| {
                b.iter(|| {
                    // Each append enters the waiting room when it is called; the answers come together.
                    let answers: Vec<_> = (0..waiting)
                        .map(|_| {
                            number += 1;
                            journal.append(append(number, &clock))
                        })
                        .collect();
                    runtime.block_on(async {
                        for answer in answers {
                            answer.await.expect("stored");
                        }
                    });
                });
            });
        }
    }
    group.finish();
    runtime.block_on(sled.close());
}

criterion_group!(benches, decisions, appends);
criterion_main!(benches);
