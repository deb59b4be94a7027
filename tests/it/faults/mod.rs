//! Storage that fails, against the real binary. What each suite does, and how to run the long forms, is in
//! `tests/README.md`.
//!
//! A client keeps every 2xx and a target keeps every delivery; after the fault the daemon starts on what is left,
//! and whatever was acknowledged must be known to it and reach its targets.

mod damage;
mod disk_full;
mod ext4;
mod ledger;
mod named_points;
mod repair;
mod survives_power_cuts;
mod write_errors;

pub use self::damage::{contents, files};

/// How much a suite does: the variable of its own if it is set, else the long form if `EVERHOOK_LONG` is set,
/// else the short form.
pub fn extent(variable: &str, short: u64, long: u64) -> u64 {
    let own = number(variable);
    own.unwrap_or(if is_long() { long } else { short })
}

fn is_long() -> bool {
    std::env::var_os("EVERHOOK_LONG").is_some()
}

/// `EVERHOOK_SEED`, or one that differs from run to run; printed, so that a run can be repeated.
pub fn seed(suite: &str) -> u64 {
    let seed = number("EVERHOOK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{suite}: EVERHOOK_SEED={seed}");
    seed
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
