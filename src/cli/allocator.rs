//! The settings of the system's allocator under which it gives back what a backlog took.
//!
//! glibc keeps one arena for each thread and stops giving large blocks back once some were freed; with a million events
//! waiting that is several hundred megabytes. It reads its settings when a process begins, so the daemon sets them and begins
//! again in place: same process, same descriptors.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// See mallopt(3).
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Begins again with the settings, unless one of them is there already: then they are the operator's, or ours.
pub(super) fn settle() {
    let is_set = |(name, _): &(&str, &str)| std::env::var_os(name).is_some();
    if !cfg!(target_env = "gnu") || SETTINGS.iter().any(is_set) {
        return;
    }
    let Ok(own) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(own);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It comes back only with an error, and without the settings all is as well, but for the memory.
    drop(command.args(arguments).envs(SETTINGS).exec());
}
