//! The journal's directory: who owns it, which store in it counts, and every plain file call of the engine.
//!
//! ```text
//! <path>/lock                    held while a process uses the journal; holds its pid
//! <path>/MANIFEST                {"format":1,"generations":[1]}; written last, replaced atomically
//! <path>/generations/00000001/   one sled directory
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::OpenError;

/// The directory format this release writes, and the newest it opens.
const FORMAT: u32 = 1;
/// The generation in use.
const GENERATION: u32 = 1;

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
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(OpenError::io("locking", &path, error.into()));
            }
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            let pid = pid.trim().parse().ok();
            return Err(OpenError::Locked { path: root.to_owned(), pid });
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

/// Creates what is missing of the directory itself; its own entry is durable afterwards.
pub(super) fn create_root(root: &Path) -> Result<(), OpenError> {
    let generations = root.join("generations");
    fs::create_dir_all(&generations)
        .map_err(|source| OpenError::io("creating", &generations, source))?;
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    for path in [root, parent.unwrap_or(Path::new("."))] {
        sync_dir(path).map_err(|source| OpenError::io("syncing", path, source))?;
    }
    Ok(())
}

/// The sled directory to open. `create` makes a new one at the path it is given; a new one is made under
/// another name and takes its own only when it is complete and durable.
pub(super) fn store(
    root: &Path,
    create: impl FnOnce(&Path) -> Result<(), OpenError>,
) -> Result<PathBuf, OpenError> {
    let manifest_path = root.join("MANIFEST");
    let path = root.join("generations").join(format!("{GENERATION:08}"));
    let manifest = match fs::read(&manifest_path) {
        Ok(bytes) => Some(parse(&manifest_path, &bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(OpenError::io("reading", &manifest_path, source)),
    };
    if manifest.is_some() {
        let db = path.join("db");
        let present = fs::metadata(&db).is_ok_and(|db| db.is_file() && db.len() > 0);
        if !present {
            let what = format!("{} is missing or empty, though it has been in use", db.display());
            return Err(OpenError::Damaged { path: root.to_owned(), what });
        }
        return Ok(path);
    }
    if !path.exists() {
        let new = path.with_extension("new");
        let failed = |source| OpenError::io("creating", &new, source);
        if new.exists() {
            fs::remove_dir_all(&new).map_err(failed)?;
        }
        create(&new)?;
        sync_tree(&new).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)?;
        let parent = root.join("generations");
        sync_dir(&parent).map_err(|source| OpenError::io("syncing", &parent, source))?;
    }
    let manifest = Manifest { format: FORMAT, generations: vec![GENERATION] };
    replace(&manifest_path, &serde_json::to_vec(&manifest).unwrap_or_default())
        .map_err(|source| OpenError::io("writing", &manifest_path, source))?;
    Ok(path)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|error| damaged(format!("{} cannot be read: {error}", path.display())))?;
    if manifest.format > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), format: manifest.format });
    }
    if manifest.generations != [GENERATION] {
        return Err(damaged(format!("{} names generations that are not there", path.display())));
    }
    Ok(manifest)
}

/// Removes snapshots that a crash left half-made: sled would take one for a whole one. They only speed up an
/// open, so nothing is lost.
pub(super) fn remove_half_made_snapshots(store: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
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

/// Replaces a small file so that a crash leaves the old one or the new one, never half of either.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Bytes free for us on the file system of `path`.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether sled has put a value into a file of its own, which it would not sync.
pub(super) fn has_blobs(store: &Path) -> bool {
    fs::read_dir(store.join("blobs")).is_ok_and(|mut entries| entries.next().is_some())
}
