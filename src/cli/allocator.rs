//! The allocator, and the settings under which it gives back what a backlog took.
//!
//! What an event is made of is taken by one thread and given back by another, and jemalloc is quicker at that than the
//! system's allocator (docs/performance.md).
//!
//! Left to itself it has four arenas for each core, each of which keeps pages for ten seconds that nobody needs any more,
//! and keeps large blocks as well, which it must wipe before they are used again. It reads its settings when a
//! process begins, so the daemon sets them and begins again in place: same process, same descriptors.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// See jemalloc(3), "TUNING".
const VARIABLE: &str = "_RJEM_MALLOC_CONF";
const SETTINGS: &str = "narenas:1,oversize_threshold:1048576,dirty_decay_ms:1000,muzzy_decay_ms:0";

/// Begins again with the settings, unless the variable is there already: then they are the operator's, or ours.
pub(super) fn settle() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(own) = std::env::current_exe() else { return };
    // Whoever calls the dynamic loader by its name runs that, and it would take our first argument for a program.
    let name = own.file_name().unwrap_or_default().as_encoded_bytes();
    if name.starts_with(b"ld-") || name.starts_with(b"ld.so") {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut command = Command::new(own);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It comes back only with an error, and without the settings all is as well, but for the memory.
    drop(command.args(arguments).env(VARIABLE, SETTINGS).exec());
}
