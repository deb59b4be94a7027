//! `everhook journal`: looks at a journal, carries it over and repairs it, without running anything.

mod attempts;
mod export;
mod import;
mod lines;
mod repair;
mod stats;
mod verify;

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Subcommand;
use everhook::config::Config;
use everhook::journal::sled::{OpenError, Options};

use super::{Common, EXIT_JOURNAL, EXIT_USAGE, Failure, complain};

/// How often the progress of long work is shown, in events.
const SHOWN_EVERY: u64 = 1_000;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Count what of the configured journal can be read, against what must be in it. Changes nothing, and can be run
    /// beside the daemon.
    Verify,
    /// Sum up sizes, events, what is pending and dead for each target, and what the next drain would give back. The
    /// daemon must not be running.
    Stats,
    /// Write every event with its deliveries and dedup keys as lines of JSON. The daemon must not be running.
    Export(export::Arguments),
    /// Take up what an export wrote: into a new journal, or beside what is in this one. The daemon must not be running.
    Import(import::Arguments),
    /// Carry everything that can be read of a damaged journal over into a fresh one, and keep the damaged files. The
    /// daemon must not be running.
    Repair(repair::Arguments),
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    let config = Config::load(&common.load_options())?;
    let options = Options {
        path: config.journal.path,
        retention: config.journal.retention,
        max_bytes: config.journal.max_bytes,
        min_free: config.journal.min_free,
        quarantine_max_bytes: config.journal.quarantine_max_bytes,
    };
    match command {
        Command::Verify => verify::run(&options, common),
        Command::Stats => stats::run(&options, common),
        Command::Export(arguments) => export::run(arguments, &options, common),
        Command::Import(arguments) => import::run(arguments, &options, common),
        Command::Repair(arguments) => repair::run(arguments, &options, common),
    }
}

/// Says why the journal could not be used: exit code 74.
fn unusable(error: &OpenError) -> Failure {
    complain(error);
    Failure::Told(EXIT_JOURNAL)
}

/// Asks at the terminal, unless it was answered with `--yes`.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        complain(&"this changes what is kept: it needs --yes where nobody can be asked");
        return Err(Failure::Told(EXIT_USAGE));
    }
    let mut stderr = std::io::stderr();
    drop(write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    complain(&"nothing was changed");
    Err(Failure::Told(super::EXIT_FAILURE))
}

/// Shows on a terminal how far long work has come.
struct Progress {
    what: &'static str,
    of: Option<u64>,
    shown: bool,
}

impl Progress {
    fn new(what: &'static str, of: Option<u64>) -> Self {
        Self { what, of, shown: std::io::stderr().is_terminal() }
    }

    fn at(&self, count: u64) {
        if !self.shown || !count.is_multiple_of(SHOWN_EVERY) {
            return;
        }
        let of = self.of.map(|of| format!(" of {of}")).unwrap_or_default();
        drop(write!(std::io::stderr(), "\r{} {count}{of} events", self.what));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}
