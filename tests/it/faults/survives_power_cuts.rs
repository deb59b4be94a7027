//! Nothing acknowledged is lost when the power goes, at any moment, whatever of the un-synced survives.
//!
//! Each round starts the daemon on what the cut before it left, so that recovered journals are cut again and again.
//! 30 cuts in the short form; `EVERHOOK_CUTS=300` is the long one, and `EVERHOOK_SEED` repeats a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::ledger::{CLIENTS, Ledger, SOURCE};
use super::{extent, seed};
use crate::faultfs::{FaultFs, Image, Op, Side, Survival};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::{Act, OK, Receiver};
use crate::harness::within;

/// Most webhooks that one connection posts in one round.
const EACH: u64 = 60;
/// Most cuts of one journal: its pending webhooks grow with every cut.
const CHAIN: u64 = 60;
/// Longest wait for a cut beside an operation that may not come.
const LONGEST: Duration = Duration::from_secs(2);

/// When the power goes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While the daemon starts, beside its nth operation of this kind.
    Starting(Op, u64, Side),
    /// Under load, beside the nth operation of this kind.
    Beside(Op, u64, Side),
    /// Under load, after this time.
    After(Duration),
}

impl Moment {
    fn random(rng: &mut StdRng) -> Self {
        let side = if rng.random_bool(0.5) { Side::Before } else { Side::After };
        match rng.random_range(0..8) {
            0 => Self::Starting(Op::Sync, rng.random_range(1..12), side),
            1 => Self::Starting(Op::Write, rng.random_range(1..12), side),
            2 | 3 => Self::Beside(Op::Sync, rng.random_range(1..40), side),
            4 => Self::Beside(Op::Write, rng.random_range(1..80), side),
            _ => Self::After(Duration::from_millis(rng.random_range(10..400))),
        }
    }
}

/// The two targets and whether the second one answers.
struct Targets {
    /// Has everything soon, but closes every third request unanswered.
    flaky: Receiver,
    /// Answers nothing until the end, so that all is pending over every cut.
    held: Receiver,
    open: Arc<AtomicBool>,
}

impl Targets {
    async fn start() -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&open);
        let flaky =
            Receiver::scripted(|number, _| if number % 3 == 0 { Act::Close } else { OK }).await;
        let held = Receiver::scripted(
            move |_, _| {
                if gate.load(Ordering::Relaxed) { OK } else { Act::Hang }
            },
        )
        .await;
        Self { flaky, held, open }
    }

    /// The configuration of a daemon on a disk.
    fn home(&self, disk: &FaultFs) -> Home {
        let retry = "retry = { initial = \"20ms\", factor = 1.0, max = \"20ms\", attempts = 1000 }";
        let concurrency = if self.open.load(Ordering::Relaxed) { 64 } else { 1 };
        let body = format!(
            "{SOURCE}[target.flaky]\nurl = {:?}\n{retry}\n[target.held]\nurl = {:?}\n\
             concurrency = {concurrency}\ntimeout = \"10m\"\n{retry}\n",
            self.flaky.url(),
            self.held.url()
        );
        Home::with_journal(&disk.join("journal"), &body)
    }
}

/// Loads the daemon, cuts the power and kills it.
async fn cut(disk: &FaultFs, daemon: Daemon, ledger: &Arc<Ledger>, moment: Moment) {
    if let Moment::Beside(op, nth, side) = moment {
        disk.cut_nth(op, nth, side);
    }
    let mut clients = ledger.load(&daemon, CLIENTS, EACH).await;
    let patience = if let Moment::After(time) = moment { time } else { LONGEST };
    drop(tokio::time::timeout(patience, disk.is_cut()).await);
    disk.cut();
    daemon.killed().await;
    while let Some(client) = within("clients end with the daemon", clients.join_next()).await {
        client.expect("an answer is 200 or 503");
    }
}

/// What is wrong with a daemon that was started after a cut.
async fn findings(daemon: &Daemon, ledger: &Ledger, from: u64) -> Vec<String> {
    let mut found = ledger.lost(daemon, from).await;
    if daemon.metric("everhook_journal_damaged_records_total").await > 0.0 {
        found.push("a power cut was taken for damage".into());
    }
    if daemon.log().iter().any(|line| line.contains("panicked")) {
        found.push(format!("the daemon panicked: {:#?}", daemon.complaints()));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_known_and_delivered_over_many_power_cuts() {
    let begun = Instant::now();
    let (cuts, seed) = (extent("EVERHOOK_CUTS", 30, 300), seed("power cuts"));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut sum = Figures::default();
    while sum.cuts < cuts {
        chain((cuts - sum.cuts).min(CHAIN), &mut rng, &mut sum).await;
        println!("{sum:?}, 0 lost, in {:?}", begun.elapsed());
    }
}

/// What was done so far.
#[derive(Debug, Default)]
struct Figures {
    cuts: u64,
    /// Those of them that struck a daemon that was starting.
    while_starting: u64,
    posted: u64,
    acknowledged: usize,
}

/// Cuts one journal again and again; at the end everything that was acknowledged into it must be delivered.
async fn chain(cuts: u64, rng: &mut StdRng, sum: &mut Figures) {
    let targets = Targets::start().await;
    let ledger = Arc::new(Ledger::default());
    let mut disk = FaultFs::empty();
    let mut from = 0;
    for _ in 0..cuts {
        let moment = Moment::random(rng);
        let survival = Survival::ALL[rng.random_range(0..Survival::ALL.len())];
        let what = format!("cut {}, {moment:?}, {survival:?}", sum.cuts);
        sum.cuts += 1;
        let home = targets.home(&disk);
        if let Moment::Starting(op, nth, side) = moment {
            disk.cut_nth(op, nth, side);
            sum.while_starting += 1;
            match home.try_start().await {
                Ok(daemon) => drop(daemon.killed().await),
                Err(ended) => assert!(ended.left_with_an_error(), "{what}: {ended:?}"),
            }
            disk.cut();
        } else {
            let daemon = home.try_start().await;
            let daemon = daemon.unwrap_or_else(|ended| panic!("before {what}: {ended:?}"));
            let found = findings(&daemon, &ledger, from).await;
            assert!(found.is_empty(), "before {what}: {} findings: {found:#?}", found.len());
            from = ledger.next();
            cut(&disk, daemon, &ledger, moment).await;
        }
        disk = FaultFs::mount(disk.image(survival, rng.random()));
    }
    let posted = ledger.next();
    targets.open.store(true, Ordering::Relaxed);
    let daemon = targets.home(&disk).start().await;
    let found = findings(&daemon, &ledger, 0).await;
    assert!(found.is_empty(), "after the last cut: {} findings: {found:#?}", found.len());
    delivered(&daemon, &ledger, &targets).await;
    assert_eq!(posted, ledger.next(), "a repeat is not a new webhook");
    sum.posted += posted;
    sum.acknowledged += ledger.acknowledged().len();
    daemon.terminate();
    assert!(daemon.ended().await.success());
}

/// Waits until nothing is pending and compares what the targets got.
async fn delivered(daemon: &Daemon, ledger: &Ledger, targets: &Targets) {
    for (name, receiver) in [("flaky", &targets.flaky), ("held", &targets.held)] {
        for state in ["ready", "waiting", "in_flight"] {
            let series = format!("everhook_deliveries{{state=\"{state}\",target=\"{name}\"}}");
            daemon.metric_becomes(&series, 0.0).await;
        }
        let wrong = ledger.undelivered(&receiver.seen());
        assert!(wrong.is_empty(), "{name}: {} findings: {wrong:#?}", wrong.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_about_sync_is_caught() {
    // What a build that forgets its fdatasync would do: everything is written, nothing is durable.
    let targets = Targets::start().await;
    let ledger = Arc::new(Ledger::default());
    let disk = FaultFs::empty();
    let daemon = targets.home(&disk).start().await;
    disk.lie_about_sync();
    let clients = ledger.load(&daemon, CLIENTS, 8).await;
    within("every client ends", clients.join_all()).await;
    let acknowledged = ledger.acknowledged().len();
    assert_eq!(acknowledged, 128, "the daemon believed the disk");
    disk.cut();
    daemon.killed().await;
    let disk = FaultFs::mount(disk.image(Survival::Synced, 0));
    let daemon = targets.home(&disk).start().await;
    let found = findings(&daemon, &ledger, 0).await;
    assert_eq!(found.len(), acknowledged, "every loss is found");
}

#[test]
fn an_image_on_a_plain_directory_is_the_same_image() {
    let disk = FaultFs::empty();
    std::fs::write(disk.join("file"), "text").expect("writable");
    let folder = tempfile::tempdir().expect("a temporary directory");
    disk.image_without_cut().write_to(folder.path());
    let again = FaultFs::mount(Image::of(folder.path()));
    assert_eq!(std::fs::read(again.join("file")).expect("readable"), b"text");
}
