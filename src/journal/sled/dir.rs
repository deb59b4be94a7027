//! The journal's directory: who owns it, which generations count, and every plain file call of the engine.
//!
//! ```text
//! <path>/lock                    held while a process uses the journal; holds its pid
//! <path>/MANIFEST                {"format":1,"generations":[3,4]}; oldest first, replaced atomically
//! <path>/LEDGER                  what each generation holds, kept outside of them
//! <path>/ballast                 bytes given up when the disk is full
//! <path>/generations/00000003/   one sled directory
//! <path>/aside/00000004/         a copy of a generation while it is opened and looked through
//! <path>/repairing/              a repaired journal while it is built
//! <path>/damaged-<time>/         the files that a repair has replaced
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use serde::{Deserialize, Serialize};

use super::OpenError;

/// The directory format this release writes, and the newest it opens.
const FORMAT: u32 = 1;

/// The mode of directories that are made: for their owner alone.
const OWNER_ONLY: u32 = 0o700;
/// How long an open waits for an earlier one of the same process to let go of the lock: 1 s at most.
const RELEASE_WAIT: std::time::Duration = std::time::Duration::from_millis(10);
const RELEASE_TRIES: u32 = 100;
/// How long a file system may take to turn read-only after it failed: 300 ms.
const TURNS_TRIES: u32 = 30;

/// Which generations count.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    generations: Vec<u32>,
}

/// The right to use a journal; given back when dropped, or when the process ends in any way.
#[derive(Debug)]
pub(super) struct Lock {
    _held: File,
}

impl Lock {
    /// Takes the directory, or says who has it.
    pub(super) fn take(root: &Path) -> Result<Self, OpenError> {
        let path = root.join("lock");
        let failed = |source| OpenError::io("opening", &path, source);
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let mut tries = RELEASE_TRIES;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(OpenError::io("locking", &path, error.into()));
            }
            let mut pid = String::new();
            file.rewind().and_then(|()| file.read_to_string(&mut pid)).map_err(failed)?;
            let pid = pid.trim().parse().ok();
            // An earlier open of this process may just be letting go: a child that was forked meanwhile holds the
            // file until it runs its own program.
            if pid != Some(std::process::id()) || tries == 0 {
                return Err(OpenError::Locked { path: root.to_owned(), pid });
            }
            tries -= 1;
            std::thread::park_timeout(RELEASE_WAIT);
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|source| OpenError::io("writing", &path, source))?;
        Ok(Self { _held: file })
    }
}

impl Lock {
    /// Keeps others from taking a directory, as long as it is only read; `None` where nobody has ever taken it. Changes
    /// nothing.
    pub(super) fn share(root: &Path) -> Result<Option<Self>, OpenError> {
        let path = root.join("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::io("opening", &path, source)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(Self { _held: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(OpenError::Locked { path: root.to_owned(), pid: owner(root) })
            }
            Err(error) => Err(OpenError::io("locking", &path, error.into())),
        }
    }
}

/// The process that holds a directory's lock, if any does and said so. Creates nothing.
pub(super) fn owner(root: &Path) -> Option<u32> {
    let mut file = File::open(root.join("lock")).ok()?;
    // A shared lock is free to have only while nobody holds the directory; it is given back at once.
    flock(&file, FlockOperation::NonBlockingLockShared).err()?;
    let mut pid = String::new();
    file.read_to_string(&mut pid).ok()?;
    pid.trim().parse().ok()
}

/// Creates what is missing of the directory itself; its own entry is durable afterwards. Webhooks are nobody's business but
/// their owner's; a directory that is there already is left as the operator made it.
pub(super) fn create_root(root: &Path) -> Result<(), OpenError> {
    let generations = root.join("generations");
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY)
        .create(&generations)
        .map_err(|source| OpenError::io("creating", &generations, source))?;
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    for path in [root, parent.unwrap_or(Path::new("."))] {
        sync_dir(path).map_err(|source| OpenError::io("syncing", path, source))?;
    }
    Ok(())
}

/// Where a generation is.
pub(super) fn generation(root: &Path, number: u32) -> PathBuf {
    root.join("generations").join(format!("{number:08}"))
}

/// Where a repaired journal is built.
pub(super) fn repairing(root: &Path) -> PathBuf {
    root.join("repairing")
}

/// Where the ledger is.
pub(super) fn ledger(root: &Path) -> PathBuf {
    root.join("LEDGER")
}

/// Every generation's directory that is there, listed in the manifest or not, by number.
pub(super) fn found_generations(root: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    let entries = match fs::read_dir(root.join("generations")) {
        // Of a journal whose folder is gone the rest still says what is missing.
        Err(error) if error.kind() == io::ErrorKind::NotFound && root.join("MANIFEST").exists() => {
            return Ok(numbers);
        }
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let digits = name.to_str().filter(|name| name.len() == 8);
        numbers.extend(digits.and_then(|digits| digits.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The generations that count, oldest first; `None` when the journal has no manifest.
pub(super) fn manifest(root: &Path) -> Result<Option<Vec<u32>>, OpenError> {
    let path = root.join("MANIFEST");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::io("reading", &path, source)),
    };
    let damaged = |what: String| OpenError::damaged(root, what);
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| damaged(format!("{} cannot be read: {error}", path.display())))?;
    if manifest.format > FORMAT {
        return Err(OpenError::Newer { path, format: manifest.format });
    }
    let ascending = manifest.generations.is_sorted_by(|a, b| a < b);
    if manifest.generations.is_empty() || !ascending {
        return Err(damaged(format!("{} lists no generations in order", path.display())));
    }
    Ok(Some(manifest.generations))
}

/// Says which generations count from now on. Durable when it returns.
pub(super) fn write_manifest(root: &Path, generations: &[u32]) -> io::Result<()> {
    let manifest = Manifest { format: FORMAT, generations: generations.to_vec() };
    replace(&root.join("MANIFEST"), &serde_json::to_vec(&manifest).unwrap_or_default())
}

/// Makes a new generation: under another name first, under its own when it is complete and durable.
pub(super) fn make_generation<E>(
    root: &Path,
    number: u32,
    create: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E>
where
    E: From<io::Error>,
{
    let path = generation(root, number);
    let new = path.with_extension("new");
    for leftover in [&new, &path] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    create(&new)?;
    sync_tree(&new)?;
    fs::rename(&new, &path)?;
    sync_dir(&root.join("generations"))?;
    Ok(path)
}

/// Removes a generation that no longer counts.
pub(super) fn remove_generation(root: &Path, number: u32) -> io::Result<()> {
    fs::remove_dir_all(generation(root, number))?;
    sync_dir(&root.join("generations"))
}

/// Removes sled's snapshots. They only speed up an open; without them every open reads the whole log and checks it,
/// and one that a crash left half-made cannot be taken for a whole one.
pub(super) fn remove_snapshots(store: &Path) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Makes every file and entry of a sled directory durable.
pub(super) fn sync_tree(store: &Path) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(store)
}

/// Makes every file of a sled directory durable and has the system forget what it remembers of them, so that what is
/// read next is read from the disk: after a sync that failed, pages that were never written count as written.
pub(super) fn read_anew(store: &Path) -> io::Result<()> {
    sync_tree(store)?;
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if entry.file_type()?.is_file()
            && let Err(error) = fadvise(File::open(entry.path())?, 0, None, Advice::DontNeed)
        {
            tracing::debug!(%error, path = %entry.path().display(), "a file may be read from memory");
        }
    }
    Ok(())
}

/// Removes a directory with everything in it, if it is there.
pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a directory with everything in it durable, at whatever depth.
pub(super) fn sync_all(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(path)
}

/// Replaces a small file so that a crash leaves the old one or the new one, never half of either.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Bytes free for us on the file system of `path`.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes of the whole file system of `path`.
pub(super) fn total_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Whether the file system of `path` has turned read-only; false when that cannot be told. The error that makes it do
/// so may be reported a moment before, so this waits for that moment.
pub(super) fn has_turned_read_only(path: &Path) -> bool {
    (0..TURNS_TRIES).any(|_| {
        let flags = rustix::fs::statvfs(path).map(|stat| stat.f_flag);
        let is_so = flags.is_ok_and(|it| it.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        if !is_so {
            std::thread::park_timeout(RELEASE_WAIT);
        }
        is_so
    })
}

/// Bytes that the files of one directory occupy on the disk. Files come and go while it is read.
pub(super) fn occupied(path: &Path) -> io::Result<u64> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(path) {
        Err(error) if gone(&error) => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0u64;
    for entry in entries {
        match entry?.metadata() {
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
            Ok(file) if file.is_file() => {
                bytes = bytes.saturating_add(file.blocks().saturating_mul(512));
            }
            Ok(_) => {}
        }
    }
    Ok(bytes)
}

/// Whether sled has put a value into a file of its own, which it would not sync.
pub(super) fn has_blobs(store: &Path) -> bool {
    fs::read_dir(store.join("blobs")).is_ok_and(|mut entries| entries.next().is_some())
}
