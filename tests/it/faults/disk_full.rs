//! A full disk, or one that turns read-only, stops acknowledgements and nothing else.
//!
//! The disk is an ext4 on a loop device, so that allocation, reservation and errors are the real ones; and once the file
//! system of the tests, on which space ends between two writes, before any free-space mark can be noticed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ext4::Ext4;
use super::ledger::{Ledger, SOURCE};
use crate::faultfs::FaultFs;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Connection;
use crate::harness::receiver::{Act, OK, Receiver};
use crate::harness::within;

/// Connections that post at once.
const CLIENTS: u64 = 4;
/// Webhooks before anything happens.
const BEFORE: u64 = 200;
/// A refusal is promised within 100 ms; a busy machine may need longer, but never as long as a commit may wait.
const REFUSAL: Duration = Duration::from_secs(1);
/// Resumption is promised within 5 s; the rest is for a busy machine.
const RESUMPTION: Duration = Duration::from_secs(10);
/// Leaving at the start is promised within 2 s.
const LEAVING: Duration = Duration::from_secs(5);
/// Refusals that are timed.
const PROBES: u32 = 20;

/// The disk under the journal.
enum Disk {
    Ext4(Ext4),
    Sudden(FaultFs),
}

impl Disk {
    fn path(&self) -> PathBuf {
        match self {
            Self::Ext4(disk) => disk.path(),
            Self::Sudden(disk) => disk.path().to_owned(),
        }
    }

    fn fill(&self) {
        match self {
            Self::Ext4(disk) => disk.fill(),
            Self::Sudden(disk) => disk.set_free_bytes(0),
        }
    }

    fn free(&self) {
        match self {
            Self::Ext4(disk) => disk.free(),
            Self::Sudden(disk) => disk.set_free_bytes(1 << 30),
        }
    }
}

/// A disk, a target that has everything at once, and one that has nothing until it is opened.
struct Stage {
    disk: Disk,
    good: Receiver,
    late: Receiver,
    open: Arc<AtomicBool>,
    ledger: Arc<Ledger>,
}

impl Stage {
    async fn set(disk: Disk) -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&open);
        let late = move |_, _: &_| if gate.load(Ordering::Relaxed) { OK } else { Act::Close };
        Self {
            disk,
            good: Receiver::good().await,
            late: Receiver::scripted(late).await,
            open,
            ledger: Arc::default(),
        }
    }

    fn home(&self) -> Home {
        let body = format!(
            "{SOURCE}[target.good]\nurl = {:?}\n[target.late]\nurl = {:?}\nretry = {{ initial = \"200ms\", \
             factor = 1.0, max = \"200ms\", attempts = 1000 }}\n",
            self.good.url(),
            self.late.url()
        );
        Home::with_journal(&self.disk.path().join("journal"), &body)
    }

    /// A running daemon that has acknowledged some webhooks.
    async fn loaded(&self) -> Daemon {
        let daemon = self.home().start().await;
        let clients = self.ledger.load(&daemon, CLIENTS, BEFORE / CLIENTS).await;
        within("every client ends", clients.join_all()).await;
        assert_eq!(self.ledger.acknowledged().len(), usize::try_from(BEFORE).expect("small"));
        daemon
    }

    /// Posts until the answer has this status, under the load of the other clients.
    async fn post_until(&self, daemon: &mut Daemon, wanted: u16) {
        within(&format!("an answer is {wanted}"), async {
            let mut connection = connect(daemon).await;
            loop {
                let status = self.ledger.post_one(&mut connection).await;
                assert!(status.is_some(), "it has left: {:#?}", daemon.complaints());
                if status == Some(wanted) {
                    return;
                }
            }
        })
        .await;
        assert!(!daemon.has_ended(), "it has left: {:#?}", daemon.complaints());
    }

    /// Every refusal comes at once and says when to come back.
    async fn refuses_at_once(&self, daemon: &Daemon) {
        let mut connection = connect(daemon).await;
        let mut slowest = Duration::ZERO;
        for _ in 0..PROBES {
            let asked = Instant::now();
            let status = self.ledger.post_one(&mut connection).await;
            slowest = slowest.max(asked.elapsed());
            assert_eq!(status, Some(503), "{:#?}", daemon.complaints());
        }
        println!("the slowest of {PROBES} refusals took {slowest:?}");
        assert!(slowest < REFUSAL, "a refusal took {slowest:?}");
        for (number, reply) in self.ledger.refused() {
            assert_eq!(reply.status, 503, "{number}");
            assert!(reply.headers.contains_key("retry-after"), "{number}: {reply:?}");
        }
        assert_eq!(daemon.admin_get("/readyz").await.status, 503);
        assert_eq!(daemon.admin_get("/livez").await.status, 200);
    }

    /// Both targets get everything that was acknowledged.
    async fn delivers_everything(&self, daemon: &Daemon) {
        self.open.store(true, Ordering::Relaxed);
        for name in ["good", "late"] {
            for state in ["ready", "waiting", "in_flight"] {
                let series = format!("everhook_deliveries{{state=\"{state}\",target=\"{name}\"}}");
                daemon.metric_becomes(&series, 0.0).await;
            }
        }
        for receiver in [&self.good, &self.late] {
            let wrong = self.ledger.undelivered(&receiver.seen());
            assert!(wrong.is_empty(), "{} findings: {wrong:#?}", wrong.len());
        }
    }

    /// A daemon that starts now knows everything.
    async fn is_all_known_after_a_kill(&self, daemon: Daemon) {
        drop(daemon.killed().await);
        let daemon = self.home().start().await;
        let lost = self.ledger.lost(&daemon, 0).await;
        assert!(lost.is_empty(), "{} lost: {lost:#?}", lost.len());
        self.delivers_everything(&daemon).await;
        drop(daemon.killed().await);
    }
}

async fn connect(daemon: &Daemon) -> Connection {
    let connection = Connection::open(daemon.ingress).await;
    connection.unwrap_or_else(|_refused| panic!("it has left: {:#?}", daemon.complaints()))
}

async fn runs_full(disk: Disk) {
    let stage = Stage::set(disk).await;
    let mut daemon = stage.loaded().await;
    let clients = stage.ledger.load(&daemon, CLIENTS, 2_000).await;
    stage.disk.fill();
    stage.post_until(&mut daemon, 503).await;
    within("every client ends", clients.join_all()).await;
    stage.refuses_at_once(&daemon).await;
    stage.delivers_everything(&daemon).await;
    assert_eq!(daemon.admin_get("/readyz").await.status, 503, "still full");

    stage.disk.free();
    let freed = Instant::now();
    stage.post_until(&mut daemon, 200).await;
    println!("resumed {:?} after space returned", freed.elapsed());
    assert!(freed.elapsed() < RESUMPTION, "resumed after {:?}", freed.elapsed());
    assert_eq!(daemon.admin_get("/readyz").await.status, 200);
    assert!(!daemon.log().iter().any(|line| line.contains("panicked")));
    stage.is_all_known_after_a_kill(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_delivers_and_resumes_by_itself() {
    runs_full(Disk::Ext4(Ext4::mount())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_that_ends_between_two_writes_costs_nothing_acknowledged() {
    runs_full(Disk::Sudden(FaultFs::empty())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_turns_read_only_is_shown_and_loses_nothing() {
    let stage = Stage::set(Disk::Ext4(Ext4::mount())).await;
    let Disk::Ext4(disk) = &stage.disk else { unreachable!("it was just made") };
    let mut daemon = stage.loaded().await;
    let clients = stage.ledger.load(&daemon, CLIENTS, 200).await;
    disk.abort();
    stage.post_until(&mut daemon, 503).await;
    within("every client ends", clients.join_all()).await;
    stage.refuses_at_once(&daemon).await;
    drop(daemon.killed().await);
    disk.mount_again("loop");
    let daemon = stage.home().start().await;
    stage.is_all_known_after_a_kill(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_is_refused_at_the_start_and_left_as_it_is() {
    let stage = Stage::set(Disk::Ext4(Ext4::mount())).await;
    let Disk::Ext4(disk) = &stage.disk else { unreachable!("it was just made") };
    drop(stage.loaded().await.killed().await);
    disk.mount_again("loop,ro");
    let begun = Instant::now();
    let ended = stage.home().try_start().await.err().expect("it does not start");
    println!("left {:?} after it was started on a read-only disk", begun.elapsed());
    assert!(begun.elapsed() < LEAVING, "left after {:?}", begun.elapsed());
    assert_eq!(ended.status.code(), Some(74), "{ended:?}");
    let told = ended.log.join("\n").to_lowercase();
    assert!(told.contains("read-only") && !ended.panicked(), "{ended:?}");
    disk.mount_again("loop");
    let daemon = stage.home().start().await;
    stage.is_all_known_after_a_kill(daemon).await;
}
