//! A file system that forgets: it keeps apart what was written and what was synced, and can lose power.
//!
//! It lives in memory and is mounted through `/dev/fuse`, so that the real binary runs on it unchanged. A file's bytes
//! are durable after its `fsync` or `fdatasync`; a name is durable after the `fsync` of its directory. `sync_file_range`
//! never reaches a FUSE file system and so makes nothing durable, as on a real disk with a volatile cache. The
//! kernel's write-back cache stays off: every write arrives here before it returns to the writer.
//!
//! Mounting needs root, or the setuid program `fusermount3` (Debian: `apt-get install fuse3`).

mod pages;
mod plan;
mod serve;
mod stories;
mod tree;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use fuser::{BackgroundSession, Config, Errno, MountOption};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;
use tokio::sync::watch;

pub use self::plan::{Op, Point, Side, Times};

use self::plan::{Plan, Verdict};
use self::tree::{Ino, Node, Tree};
use crate::harness::within;

/// Free space unless a test says otherwise.
const FREE_BYTES: u64 = 4 << 30;

/// What of the un-synced outlives a power cut. Un-synced creations, renames and removals survive or not at
/// random, except in the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Synced,
    /// Half of the pages, at random.
    Pages,
    /// Of each page some leading sectors of 512 bytes, from none to all.
    Torn,
}

impl Survival {
    pub const ALL: [Self; 3] = [Self::Synced, Self::Pages, Self::Torn];
}

/// What is left of a file system after a power cut.
#[derive(Clone)]
pub struct Image(Tree);

impl Image {
    /// A plain directory as it is.
    pub fn of(folder: &Path) -> Self {
        Self(Tree::copy_of(folder))
    }

    /// Writes it into a plain directory.
    pub fn write_to(&self, folder: &Path) {
        self.0.write_to(folder);
    }
}

/// A mounted file system; unmounted when dropped.
pub struct FaultFs {
    disk: Arc<Disk>,
    session: Option<BackgroundSession>,
    folder: TempDir,
}

struct Disk {
    state: Mutex<State>,
    /// Set when the power is gone.
    cut: watch::Sender<bool>,
    /// Set while an operation is held.
    held: watch::Sender<bool>,
    /// How it goes on, once that is known.
    gate: Mutex<Option<Onward>>,
    opened: Condvar,
}

/// How an operation goes on that was held before it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    Done,
    /// It never took effect.
    Undone,
}

struct State {
    tree: Tree,
    plan: Plan,
    capacity: u64,
}

impl FaultFs {
    /// An empty one.
    pub fn empty() -> Self {
        Self::mount(Image(Tree::empty()))
    }

    /// One that begins with an image, all of it durable.
    pub fn mount(image: Image) -> Self {
        let capacity = image.0.used() + FREE_BYTES;
        let state = State { tree: image.0, plan: Plan::default(), capacity };
        let disk = Arc::new(Disk {
            state: Mutex::new(state),
            cut: watch::Sender::new(false),
            held: watch::Sender::new(false),
            gate: Mutex::new(None),
            opened: Condvar::new(),
        });
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("faultfs".into()), MountOption::NoAtime, MountOption::NoDev];
        let session = fuser::spawn_mount(serve::Served(Arc::clone(&disk)), folder.path(), &config);
        let session = session.unwrap_or_else(|error| {
            panic!(
                "the file system of this test cannot be mounted: {error}. It needs /dev/fuse, and root or \
                 the program fusermount3 (Debian: apt-get install fuse3); in a container: \
                 --device /dev/fuse --cap-add SYS_ADMIN"
            )
        });
        Self { disk, session: Some(session), folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Operations of a kind so far.
    pub fn count(&self, op: Op) -> u64 {
        self.disk.state().plan.count(op)
    }

    /// How often something failed that was arranged.
    pub fn struck(&self) -> u64 {
        self.disk.state().plan.struck
    }

    /// Fails the `nth` operation of a kind from now on, counted from 1.
    pub fn fail_nth(&self, op: Op, nth: u64, errno: Errno, times: Times) {
        self.disk.state().plan.fail_nth(op, nth, errno, times);
    }

    /// Writes only the first half of the `nth` write from now on, and says so.
    pub fn short_write_nth(&self, nth: u64) {
        self.disk.state().plan.short_write_nth(nth);
    }

    /// From now on a sync says that it succeeded and does nothing.
    pub fn lie_about_sync(&self) {
        self.disk.state().plan.lies_about_sync = true;
    }

    /// Refuses every change with EROFS.
    pub fn make_read_only(&self) {
        self.disk.state().plan.read_only = true;
    }

    /// No failure is arranged any more and changes are allowed.
    pub fn heal(&self) {
        self.disk.state().plan.heal();
    }

    /// This much can still be written; then ENOSPC.
    pub fn set_free_bytes(&self, free: u64) {
        let mut state = self.disk.state();
        state.capacity = state.tree.used() + free;
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.disk.state().plan.frozen = true;
        self.disk.cut.send_replace(true);
    }

    /// Cuts the power beside the `nth` operation of a kind from now on.
    pub fn cut_nth(&self, op: Op, nth: u64, side: Side) {
        self.disk.state().plan.cut_nth(op, nth, side);
    }

    /// Holds the operation at the nth passing of a point from now on, and everything after it.
    pub fn hold_nth(&self, point: Point, nth: u64) {
        self.disk.gate.lock().expect("no panic while it is held").take();
        self.disk.held.send_replace(false);
        self.disk.state().plan.hold = Some((point, nth));
    }

    /// Waits until an operation is held.
    pub async fn is_held(&self) {
        let mut held = self.disk.held.subscribe();
        within("an operation is held", held.wait_for(|held| *held))
            .await
            .expect("we hold the sender");
    }

    /// Lets an operation go on that is held, and the next one that would be.
    pub fn let_go(&self, onward: Onward) {
        *self.disk.gate.lock().expect("no panic while it is held") = Some(onward);
        self.disk.opened.notify_all();
    }

    /// Waits until the power is gone.
    pub async fn is_cut(&self) {
        let mut cut = self.disk.cut.subscribe();
        within("the power is cut", cut.wait_for(|cut| *cut)).await.expect("we hold the sender");
    }

    /// What is left after a power cut at this moment.
    pub fn image(&self, survival: Survival, seed: u64) -> Image {
        let mut rng = StdRng::seed_from_u64(seed);
        Image(self.disk.state().tree.survivor(survival, &mut rng))
    }

    /// Everything as it is visible now, as the next process sees it when the machine goes on running.
    pub fn image_without_cut(&self) -> Image {
        Image(self.disk.state().tree.clone())
    }
}

impl Drop for FaultFs {
    fn drop(&mut self) {
        self.let_go(Onward::Undone);
        // Detached, because a process that is just ending may still hold a file; the session ends with it.
        if let Err(error) = unmount(self.folder.path(), UnmountFlags::DETACH) {
            println!("{} stays mounted: {error}", self.folder.path().display());
        }
        drop(self.session.take());
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Does one counted operation, or fails it as arranged. `act` is told whether to do only half of it.
    fn perform<T>(
        &self,
        op: Op,
        at: (Ino, Option<&OsStr>),
        act: impl FnOnce(&mut State, bool) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut state = self.state();
        let State { plan, tree, .. } = &mut *state;
        let held = plan.holds(op, || tree.path_of(at));
        if held == Some(Side::Before) {
            drop(state);
            if self.hold() == Onward::Undone {
                return Err(Errno::EIO);
            }
            state = self.state();
        }
        let done = self.judged(&mut state, op, act);
        drop(state);
        if held == Some(Side::After) {
            self.hold();
        }
        done
    }

    /// Waits until it is said how to go on.
    fn hold(&self) -> Onward {
        self.held.send_replace(true);
        let gate = self.gate.lock().expect("no panic while it is held");
        let gate = self.opened.wait_while(gate, |onward| onward.is_none());
        gate.expect("no panic while it is held").unwrap_or(Onward::Undone)
    }

    fn judged<T>(
        &self,
        state: &mut State,
        op: Op,
        act: impl FnOnce(&mut State, bool) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let verdict = state.plan.judge(op);
        if state.plan.frozen {
            self.cut.send_if_modified(|cut| !std::mem::replace(cut, true));
        }
        match verdict {
            Verdict::Go => act(state, false),
            Verdict::Short => act(state, true),
            Verdict::GoAndCut => {
                drop(act(state, false));
                Err(Errno::EIO)
            }
            Verdict::Fail(errno) => Err(errno),
        }
    }

    /// Reads, unless the power is gone.
    fn look<T>(&self, look: impl FnOnce(&mut Tree) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut state = self.state();
        if state.plan.frozen { Err(Errno::EIO) } else { look(&mut state.tree) }
    }

    fn sync(&self, ino: Ino) -> Result<(), Errno> {
        let synced = self.perform(Op::Sync, (ino, None), |state, _| {
            if state.plan.lies_about_sync {
                return Ok(());
            }
            match state.tree.node(ino)? {
                Node::Dir { .. } => state.tree.sync_dir(ino),
                Node::File(_) => state.tree.file(ino)?.sync(),
            }
            Ok(())
        });
        let mut state = self.state();
        if synced.is_err()
            && !state.plan.frozen
            && let Ok(content) = state.tree.file(ino)
        {
            content.fail_sync();
        }
        synced
    }
}

impl State {
    /// ENOSPC unless this many pages more are free.
    fn require(&self, pages: usize) -> Result<(), Errno> {
        let more = u64::try_from(pages * pages::PAGE).expect("memory fits in 64 bits");
        let fits = pages == 0 || self.tree.used() + more <= self.capacity;
        if fits { Ok(()) } else { Err(Errno::ENOSPC) }
    }
}
