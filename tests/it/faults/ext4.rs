//! A small ext4 in a file, mounted over a loop device: a real disk that runs full.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

/// Bytes of the file that holds it.
const SIZE: u64 = 96 * 1024 * 1024;

/// Mounted until it is dropped.
pub struct Ext4 {
    folder: TempDir,
}

impl Ext4 {
    pub fn mount() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let image = File::create(folder.path().join("image")).expect("writable");
        image.set_len(SIZE).expect("writable");
        std::fs::create_dir(folder.path().join("disk")).expect("writable");
        let disk = Self { folder };
        run("mkfs.ext4", &["-q", "-F", "-m", "0"], &[&disk.image()]);
        run("mount", &["-o", "loop"], &[&disk.image(), &disk.path()]);
        disk
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Writes into a file of its own until nothing fits any more.
    pub fn fill(&self) {
        let mut filler = File::create(self.path().join("filler")).expect("space for a name");
        for size in [1 << 20, 4096, 512] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
        // Until this, the space is only promised.
        drop(filler.sync_all());
    }

    pub fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).expect("it was filled");
    }

    /// Turns it read-only as ext4 itself does after an error, files that are being written to included.
    pub fn abort(&self) {
        run("mount", &["-o", "remount,abort"], &[&self.path()]);
    }

    /// Mounts it anew.
    pub fn mount_again(&self, options: &str) {
        unmount(self.path(), UnmountFlags::empty()).expect("nobody uses it");
        run("mount", &["-o", options], &[&self.image(), &self.path()]);
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // Detached: a process that is just ending may still hold a file. A mount that failed leaves nothing here.
        if let Err(error) = unmount(self.path(), UnmountFlags::DETACH) {
            println!("{} was not unmounted: {error}", self.path().display());
        }
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) {
    let output = Command::new(program).args(options).args(paths).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program} cannot be run: {error} (Debian: apt-get install e2fsprogs mount)")
    });
    assert!(
        output.status.success(),
        "{program} {options:?} {paths:?} failed; it needs root and loop devices (in a container: --privileged): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
