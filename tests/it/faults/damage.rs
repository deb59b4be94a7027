//! A damaged journal is repaired in sight, or refused; it is never opened as if nothing were missing.
//!
//! A journal with some 2,000 pending webhooks, stopped cleanly or killed, is damaged at one random place and
//! started. It must deliver everything; or count what is damaged and make each delivery that is lost by it a dead
//! letter; or refuse with exit code 74, say what is wrong and what to do, and leave the original bytes somewhere
//! in the journal's directory. After a refusal the command that it names repairs the journal: what cannot be read is
//! counted and named, everything else is delivered, and the original bytes stay. 20 places in the short form; `EVERHOOK_DAMAGES=200` is the long one.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use super::ledger::{CLIENTS, Ledger, SOURCE};
use super::{extent, seed};
use crate::faultfs::Image;
use crate::harness::daemon::{Daemon, Ended, Home};
use crate::harness::receiver::{Act, Receiver};
use crate::harness::within;

/// Webhooks in the journal that is damaged.
const WEBHOOKS: u64 = 2_000;
/// `EX_IOERR`: the journal is damaged or unusable.
const EXIT_JOURNAL: i32 = 74;
/// Longest wait until everything that can be delivered is.
const DRAINED: Duration = Duration::from_secs(30);

/// What happens to one file.
#[derive(Clone, Debug)]
enum Damage {
    FlippedByte(usize),
    ZeroedPage(usize),
    Truncated(usize),
    Removed,
    /// What a kill in the middle of a snapshot leaves.
    HalfMadeSnapshot,
}

/// A journal at rest, and what was acknowledged into it.
struct Stage {
    image: Image,
    ledger: Arc<Ledger>,
}

/// How the daemon that left it ended.
#[derive(Clone, Copy, Debug)]
enum Left {
    Stopped,
    Killed,
}

impl Stage {
    async fn set(left: Left) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let busy = Receiver::scripted(|_, _| Act::Hang).await;
        let journal = folder.path().join("journal");
        let daemon = home(&journal, &busy, 1).start().await;
        let ledger = Arc::new(Ledger::default());
        let clients = ledger.load(&daemon, CLIENTS, WEBHOOKS / CLIENTS).await;
        within("every client ends", clients.join_all()).await;
        match left {
            Left::Killed => drop(daemon.killed().await),
            Left::Stopped => {
                daemon.terminate();
                assert!(daemon.ended().await.success());
            }
        }
        assert_eq!(ledger.acknowledged().len(), usize::try_from(WEBHOOKS).expect("small"));
        Self { image: Image::of(&journal), ledger }
    }

    /// Damages a copy and starts on it: how it went, or what is wrong with how it went.
    async fn run(&self, case: &mut StdRng) -> (String, Result<&'static str, String>) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let journal = folder.path().join("journal");
        self.image.write_to(&journal);
        let (path, damage) = choose(&journal, case);
        let name = path.strip_prefix(&journal).expect("inside").display().to_string();
        inflict(&path, &damage, case);
        let before = contents(&journal);
        let receiver = Receiver::good().await;
        let outcome = match home(&journal, &receiver, 64).try_start().await {
            Ok(daemon) => self.opened(daemon, &receiver).await,
            Err(ended) => match refused(&ended, &journal, &before) {
                Ok(lost) => {
                    if ended.log.iter().any(|line| line.contains("rename it")) {
                        fs::rename(&path, path.with_extension("damaged")).expect("renamed");
                    }
                    self.repaired(&journal, &receiver, lost, &before).await
                }
                Err(wrong) => Err(wrong),
            },
        };
        (format!("{damage:?} of {name}"), outcome)
    }

    /// It started: nothing may be gone without a word.
    async fn opened(&self, daemon: Daemon, receiver: &Receiver) -> Result<&'static str, String> {
        let begun = Instant::now();
        while pending(&daemon).await > 0.0 {
            if begun.elapsed() > DRAINED {
                return Err(format!("{} are still pending", pending(&daemon).await));
            }
        }
        let damaged = daemon.metric("everhook_journal_damaged_records_total").await;
        let dead = daemon.metric("everhook_dead_letters{target=\"all\"}").await;
        let reason = "everhook_dead_letters_total{reason=\"damaged\",target=\"all\"}";
        let by_damage = daemon.metric(reason).await;
        let missing = self.ledger.undelivered(&receiver.seen());
        drop(daemon.killed().await);
        let figures = format!(
            "{} missing, {damaged} records counted as damaged, {dead} dead letters kept, {by_damage} of this \
             run with the reason damaged: {:.3?}",
            missing.len(),
            missing.iter().take(3).collect::<Vec<_>>()
        );
        let wrong = missing.iter().any(|finding| !finding.ends_with("was not delivered"));
        if missing.is_empty() {
            return Ok(if damaged > 0.0 { "counted, nothing missing" } else { "all there" });
        }
        let accounted = u32::try_from(missing.len()).is_ok_and(|gone| f64::from(gone) <= dead);
        if accounted && damaged > 0.0 && by_damage > 0.0 && !wrong {
            return Ok("dead letters");
        }
        Err(figures)
    }
}

impl Stage {
    /// The journal is repaired as the refusal says, and everything that can be read is delivered then.
    async fn repaired(
        &self,
        journal: &Path,
        receiver: &Receiver,
        lost: u64,
        before: &BTreeSet<Vec<u8>>,
    ) -> Result<&'static str, String> {
        let home = home(journal, receiver, 64);
        let refused = home.repair(lost + 1).await;
        if lost > 0 && refused.code != Some(EXIT_JOURNAL) {
            return Err(format!("a loss that was not accepted: {refused:?}"));
        }
        let done =
            if lost > 0 || refused.code != Some(0) { home.repair(lost).await } else { refused };
        let report = &done.report;
        if done.code != Some(0) || report["lost"] != lost {
            return Err(format!("{lost} were lost: {done:?}"));
        }
        let gone = before.difference(&contents(journal)).count();
        if gone > 0 {
            return Err(format!("{gone} files of the original are nowhere any more: {done:?}"));
        }
        let verified = home.tool(&["journal", "verify"]).await;
        if verified.code != Some(0) {
            return Err(format!("after the repair: {verified:?}"));
        }
        let named = |list: &str| report[list].as_array().map_or(0, Vec::len);
        let named = named("events_without_content") + named("events_without_record");
        let daemon = home.try_start().await.map_err(|ended| format!("repaired: {ended:?}"))?;
        let begun = Instant::now();
        while pending(&daemon).await > 0.0 {
            if begun.elapsed() > DRAINED {
                return Err(format!("{} are still pending", pending(&daemon).await));
            }
        }
        drop(daemon.killed().await);
        let missing = self.ledger.undelivered(&receiver.seen());
        // A record that is lost with its content is nobody's any more: it is counted, not named.
        let wrong = missing.iter().any(|finding| !finding.ends_with("was not delivered"));
        let accounted = missing.len() <= named + usize::try_from(lost).expect("small");
        if wrong || !accounted {
            return Err(format!("{} missing of {lost} lost: {done:?}", missing.len()));
        }
        Ok(if missing.is_empty() { "repaired, nothing missing" } else { "repaired with its loss" })
    }
}

fn home(journal: &Path, receiver: &Receiver, concurrency: u32) -> Home {
    let body = format!(
        "{SOURCE}[target.all]\nurl = {:?}\nconcurrency = {concurrency}\ntimeout = \"10m\"\n",
        receiver.url()
    );
    Home::with_journal(journal, &body)
}

async fn pending(daemon: &Daemon) -> f64 {
    let mut sum = 0.0;
    for state in ["ready", "waiting", "in_flight"] {
        let series = format!("everhook_deliveries{{state=\"{state}\",target=\"all\"}}");
        sum += daemon.metric(&series).await;
    }
    sum
}

/// It refused: with the right code and words, and without having touched the evidence. How much it says is lost.
fn refused(ended: &Ended, journal: &Path, before: &BTreeSet<Vec<u8>>) -> Result<u64, String> {
    if ended.status.code() != Some(EXIT_JOURNAL) {
        return Err(format!("{ended:?}"));
    }
    let told: Vec<_> = ended.log.iter().filter(|line| line.starts_with("everhook: ")).collect();
    let told = format!("{told:?}");
    for word in [journal.to_str().expect("text"), "everhook journal"] {
        if !told.contains(word) {
            return Err(format!("the message does not name {word}: {told}"));
        }
    }
    let gone = before.difference(&contents(journal)).count();
    if gone > 0 {
        return Err(format!("{gone} files of the original are nowhere any more: {told}"));
    }
    let Some((_, command)) = told.split_once("`everhook journal repair") else {
        return Err(format!("the message does not say what to run: {told}"));
    };
    let command = command.split('`').next().unwrap_or_default();
    let lost = command.strip_prefix(" --accept-loss ").unwrap_or("0");
    lost.parse().map_err(|error| format!("{lost}: {error}"))
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What must outlive a refusal: every file by its digest, save the lock and what is only a cache.
pub fn contents(folder: &Path) -> BTreeSet<Vec<u8>> {
    let counts = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name != "lock" && !name.starts_with("snap.")
    };
    let digests = files(folder)
        .into_iter()
        .filter(counts)
        .map(|path| digest(&SHA256, &fs::read(path).expect("readable")).as_ref().to_vec());
    digests.collect()
}

/// One file, the store's own every other time, and what is done to it.
fn choose(journal: &Path, rng: &mut StdRng) -> (PathBuf, Damage) {
    let files = files(journal);
    let stores: Vec<_> = files.iter().filter(|path| path.ends_with("db")).collect();
    let path = if rng.random_bool(0.5) && !stores.is_empty() {
        stores[rng.random_range(0..stores.len())]
    } else {
        &files[rng.random_range(0..files.len())]
    };
    let size = usize::try_from(fs::metadata(path).expect("there").len()).expect("small");
    let damage = match rng.random_range(0..10) {
        0..4 if size > 0 => Damage::FlippedByte(rng.random_range(0..size)),
        4..6 if size > 0 => Damage::ZeroedPage(rng.random_range(0..size) / 4096 * 4096),
        6..8 if size > 0 => Damage::Truncated(rng.random_range(0..size)),
        8 => return (stores[0].clone(), Damage::HalfMadeSnapshot),
        _ => Damage::Removed,
    };
    (path.clone(), damage)
}

fn inflict(path: &Path, damage: &Damage, rng: &mut StdRng) {
    let file = || OpenOptions::new().read(true).write(true).open(path).expect("there");
    let wide = |size: usize| u64::try_from(size).expect("small");
    match *damage {
        Damage::FlippedByte(at) => {
            let mut byte = [0];
            file().read_exact_at(&mut byte, wide(at)).expect("inside");
            byte[0] ^= 1 << rng.random_range(0..8);
            file().write_all_at(&byte, wide(at)).expect("writable");
        }
        Damage::ZeroedPage(at) => {
            let len = fs::metadata(path).expect("there").len();
            let size = (len - wide(at)).min(4096);
            let zeros = vec![0; usize::try_from(size).expect("small")];
            file().write_all_at(&zeros, wide(at)).expect("writable");
        }
        Damage::Truncated(len) => file().set_len(wide(len)).expect("writable"),
        Damage::Removed => fs::remove_file(path).expect("there"),
        Damage::HalfMadeSnapshot => {
            let name = format!("snap.{:016X}.generating", rng.random_range(0..1u64 << 32));
            let bytes: Vec<u8> = (0..1_000).map(|_| rng.random()).collect();
            fs::write(path.with_file_name(name), bytes).expect("writable");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_never_opened_as_if_nothing_were_missing() {
    let begun = Instant::now();
    let (places, seed) = (extent("EVERHOOK_DAMAGES", 20, 200), seed("damage"));
    let stages = [Stage::set(Left::Stopped).await, Stage::set(Left::Killed).await];
    let (mut outcomes, mut failures) = (std::collections::BTreeMap::new(), Vec::new());
    for place in 0..places {
        let mut case = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(place));
        let stage = &stages[usize::try_from(place % 2).expect("0 or 1")];
        let (what, outcome) = stage.run(&mut case).await;
        match outcome {
            Ok(outcome) => *outcomes.entry(outcome).or_insert(0) += 1,
            Err(wrong) => failures.push(format!("place {place} of seed {seed}, {what}: {wrong}")),
        }
    }
    println!(
        "damage at {places} places: {outcomes:?}, {} wrong, in {:?}",
        failures.len(),
        begun.elapsed()
    );
    assert!(failures.is_empty(), "{} of {places}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_file_that_was_changed_counts_as_gone() {
    let folder = TempDir::new().expect("a temporary directory");
    fs::write(folder.path().join("db"), "original").expect("writable");
    let before = contents(folder.path());
    fs::create_dir(folder.path().join("aside")).expect("writable");
    fs::rename(folder.path().join("db"), folder.path().join("aside/db")).expect("writable");
    assert_eq!(before.difference(&contents(folder.path())).count(), 0);
    fs::write(folder.path().join("aside/db"), "originaL").expect("writable");
    assert_eq!(before.difference(&contents(folder.path())).count(), 1);
}
