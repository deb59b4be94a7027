//! Copies of generations that are put aside while an open looks at them.
//!
//! The engine may change a file merely by opening it. As long as an open has not come to its end, the copy is the only
//! thing that is certainly untouched: it is never removed before that, and when the open broke off, the next one puts it
//! back first. A copy counts only if its bytes are those that were copied, which `<number>.sum` beside it says: after a
//! power loss it may be half a copy, and then the original is all there is.
//!
//! ```text
//! <path>/aside/00000004/        the copy, under this name when it is complete
//! <path>/aside/00000004.part/   while it is made
//! <path>/aside/00000004.sum     {"db": [length, crc32c], ..}
//! <path>/aside.over/            copies that are not needed any more, while they are removed
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::dir;

/// Bytes that are copied at once.
const BLOCK: usize = 1024 * 1024;

/// Length and checksum of each file.
type Sums = BTreeMap<String, (u64, u32)>;

/// Where the copy of a generation stands.
pub(super) fn of(root: &Path, number: u32) -> PathBuf {
    folder(root).join(format!("{number:08}"))
}

fn folder(root: &Path) -> PathBuf {
    root.join("aside")
}

fn sums(copy: &Path) -> PathBuf {
    copy.with_extension("sum")
}

/// Copies a generation aside.
pub(super) fn copy(root: &Path, number: u32) -> io::Result<()> {
    let (from, whole) = (dir::generation(root, number), of(root, number));
    // Half a copy must never be taken for a whole one.
    let part = whole.with_extension("part");
    fs::create_dir_all(&part)?;
    let mut copied = Sums::new();
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let sum = copy_file(&entry.path(), &part.join(&name))?;
            copied.insert(name, sum);
        }
    }
    fs::write(sums(&whole), serde_json::to_vec(&copied).unwrap_or_default())?;
    fs::rename(&part, &whole)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<(u64, u32)> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    sum(&mut from, |bytes| to.write_all(bytes))
}

/// Reads a file to its end: its length and its checksum.
fn sum(file: &mut File, mut visit: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u64, u32)> {
    let mut block = vec![0; BLOCK];
    let (mut length, mut checksum) = (0u64, 0);
    loop {
        let count = file.read(&mut block)?;
        let bytes = block.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok((length, checksum));
        }
        visit(bytes)?;
        length = length.saturating_add(u64::try_from(count).unwrap_or(0));
        checksum = crc32c::crc32c_append(checksum, bytes);
    }
}

/// Whether a copy is what was copied.
fn is_whole(copy: &Path) -> io::Result<bool> {
    let stated = match fs::read(sums(copy)) {
        Ok(bytes) => serde_json::from_slice::<Sums>(&bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let Some(stated) = stated else { return Ok(false) };
    for (name, stated) in &stated {
        let mut file = match File::open(copy.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if sum(&mut file, |_| Ok(()))? != *stated {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts back what an open that broke off had put aside.
pub(super) fn recover(root: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder(root)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut copies = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| name.len() == 8);
        copies.extend(name.and_then(|name| name.parse::<u32>().ok()));
    }
    for number in copies {
        if is_whole(&of(root, number))? {
            tracing::warn!(
                generation = number,
                "the last start broke off while it looked at a generation; it is put back as it was"
            );
            restore(root, number)?;
        }
    }
    clear(root)
}

/// Removes every copy: nothing of them is needed any more. They are gone for good before anything else is written, so
/// that none is ever put back over something newer.
pub(super) fn clear(root: &Path) -> io::Result<()> {
    let over = root.join("aside.over");
    dir::remove_all(&over)?;
    match fs::rename(folder(root), &over) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    dir::sync_dir(root)?;
    dir::remove_all(&over)
}

/// Removes half a copy of a generation.
pub(super) fn clear_part(root: &Path, number: u32) -> io::Result<()> {
    dir::remove_all(&of(root, number).with_extension("part"))
}

/// Puts the untouched copy of a generation back in its place.
pub(super) fn restore(root: &Path, number: u32) -> io::Result<()> {
    let (path, copy) = (dir::generation(root, number), of(root, number));
    let changed = path.with_extension("changed");
    // The copy and its name are durable before anything else happens, and at every moment one of both has its place.
    dir::sync_tree(&copy)?;
    dir::sync_dir(&folder(root))?;
    dir::sync_dir(root)?;
    if path.exists() {
        dir::remove_all(&changed)?;
        fs::rename(&path, &changed)?;
    }
    if let Err(error) = fs::rename(&copy, &path) {
        fs::rename(&changed, &path)?;
        return Err(error);
    }
    dir::sync_dir(&root.join("generations"))?;
    dir::sync_dir(&folder(root))?;
    dir::remove_all(&changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal's directory with one generation, copied aside, and then changed by its engine.
    fn looked_at() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let generation = dir::generation(root.path(), 1);
        fs::create_dir_all(&generation).unwrap();
        fs::write(generation.join("db"), "untouched").unwrap();
        fs::write(generation.join("conf"), "conf").unwrap();
        copy(root.path(), 1).unwrap();
        fs::write(generation.join("db"), "changed").unwrap();
        root
    }

    fn db(root: &tempfile::TempDir) -> String {
        fs::read_to_string(dir::generation(root.path(), 1).join("db")).unwrap()
    }

    #[test]
    fn an_open_that_broke_off_is_undone_by_the_next_one() {
        let root = looked_at();
        recover(root.path()).unwrap();
        assert_eq!(db(&root), "untouched");
        assert!(!folder(root.path()).exists());
    }

    #[test]
    fn a_crash_amid_putting_back_is_made_good() {
        let root = looked_at();
        let path = dir::generation(root.path(), 1);
        fs::rename(&path, path.with_extension("changed")).unwrap();
        recover(root.path()).unwrap();
        assert_eq!(db(&root), "untouched");
        assert!(!path.with_extension("changed").exists());
    }

    #[test]
    fn what_is_no_whole_copy_is_not_put_back() {
        let half = looked_at();
        let copy = of(half.path(), 1);
        fs::rename(&copy, copy.with_extension("part")).unwrap();
        let torn = looked_at();
        fs::write(of(torn.path(), 1).join("db"), "untouc").unwrap();
        let unnamed = looked_at();
        fs::remove_file(sums(&of(unnamed.path(), 1))).unwrap();
        for root in [half, torn, unnamed] {
            recover(root.path()).unwrap();
            assert_eq!(db(&root), "changed");
            assert!(!folder(root.path()).exists());
        }
    }

    #[test]
    fn a_copy_that_is_being_removed_is_not_put_back() {
        let root = looked_at();
        fs::rename(folder(root.path()), root.path().join("aside.over")).unwrap();
        recover(root.path()).unwrap();
        assert_eq!(db(&root), "changed");
    }
}
