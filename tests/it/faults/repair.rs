//! A repair can be broken off at any moment: what was readable is there afterwards, and so are the damaged files.
//!
//! The power goes beside the nth operation of a kind while a damaged journal is repaired, for n = 1, 3, 9 and on until a
//! repair meets none. `EVERHOOK_LONG=1` takes more kinds, and n from the Fibonacci numbers. Then a daemon must refuse to start on what is left, or find everything; a second
//! repair brings the first one to its end.

use std::fs;
use std::sync::Arc;

use super::damage::contents;
use super::is_long;
use super::ledger::{Ledger, SOURCE};
use crate::faultfs::{FaultFs, Image, Op, Side, Survival};
use crate::harness::daemon::Home;
use crate::harness::receiver::{Act, Receiver};
use crate::harness::within;

const WEBHOOKS: u64 = 40;
/// Kinds of operations that a repair has.
const OPS: [Op; 5] = [Op::Sync, Op::Rename, Op::Write, Op::Create, Op::Remove];
/// Those of them that the short form takes.
const SHORT: usize = 2;

/// A damaged journal, and how much of it is lost.
struct Stage {
    image: Image,
    receiver: Receiver,
    lost: u64,
    originals: std::collections::BTreeSet<Vec<u8>>,
}

fn home(receiver: &Receiver, disk: &FaultFs) -> Home {
    let body = format!("{SOURCE}[target.all]\nurl = {:?}\nconcurrency = 1\n", receiver.url());
    Home::with_journal(&disk.join("journal"), &body)
}

impl Stage {
    async fn set() -> Self {
        let receiver = Receiver::scripted(|_, _| Act::Hang).await;
        let disk = FaultFs::empty();
        let daemon = home(&receiver, &disk).start().await;
        let ledger = Arc::new(Ledger::default());
        let clients = ledger.load(&daemon, 1, WEBHOOKS).await;
        within("every client ends", clients.join_all()).await;
        daemon.killed().await;
        // Every copy of it.
        for name in ["db", "intake.0", "intake.1"] {
            let file = disk.join("journal/generations/00000001").join(name);
            let mut bytes = fs::read(&file).expect("readable");
            let body = b"webhook 7 ";
            for at in 0..bytes.len().saturating_sub(body.len()) {
                if bytes[at..].starts_with(body) {
                    bytes[at] ^= 1;
                }
            }
            fs::write(&file, bytes).expect("writable");
        }
        let refused = home(&receiver, &disk).tool(&["journal", "verify"]).await;
        let lost = refused.report["lost"].as_u64().expect("a number");
        assert_eq!(lost, 1, "{refused:?}");
        let originals = contents(&disk.join("journal"));
        // All of it is durable.
        let folder = tempfile::tempdir().expect("a temporary directory");
        disk.image_without_cut().write_to(folder.path());
        Self { image: Image::of(folder.path()), receiver, lost, originals }
    }

    /// Cuts the power beside the nth operation of a repair; false when there was none.
    async fn cut(&self, op: Op, nth: u64, side: Side, survival: Survival) -> bool {
        let what = format!("{side:?} {op:?} {nth}, {survival:?}");
        let disk = FaultFs::mount(self.image.clone());
        disk.cut_nth(op, nth, side);
        let said = home(&self.receiver, &disk).repair(self.lost).await;
        let was_cut = said.code != Some(0);
        disk.cut();
        let disk = FaultFs::mount(disk.image(survival, nth));
        let home = home(&self.receiver, &disk);
        match home.try_start().await {
            Ok(daemon) => drop(daemon.killed().await),
            Err(ended) => {
                assert_eq!(ended.status.code(), Some(74), "{what}: {ended:?}");
                let again = home.repair(self.lost).await;
                assert_eq!(again.code, Some(0), "{what}: {said:?}, {again:?}, after {ended:?}");
            }
        }
        let stats = home.tool(&["journal", "stats"]).await.report;
        assert_eq!(stats["targets"][0]["pending"], WEBHOOKS - 1, "{what}: {stats}");
        assert_eq!(home.tool(&["journal", "verify"]).await.code, Some(0), "{what}");
        let there = contents(&disk.join("journal"));
        let gone = self.originals.difference(&there).count();
        // The ballast is given back and taken again.
        assert!(gone <= 1, "{what}: {gone} of the original files are gone");
        was_cut
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_is_broken_off_is_brought_to_its_end_by_the_next_one() {
    let stage = Stage::set().await;
    let mut cuts = 0;
    let kinds = if is_long() { OPS.len() } else { SHORT };
    for op in &OPS[..kinds] {
        let (mut nth, mut next) = (1, 2);
        for turn in 0.. {
            let side = if turn % 2 == 0 { Side::Before } else { Side::After };
            if !stage.cut(*op, nth, side, Survival::ALL[turn % 3]).await {
                break;
            }
            cuts += 1;
            (nth, next) = if is_long() { (next, nth + next) } else { (nth * 3, nth * 9) };
        }
    }
    println!("{cuts} repairs were broken off");
    assert!(cuts >= 6, "only {cuts}");
}
