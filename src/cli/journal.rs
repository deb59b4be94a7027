//! `everhook journal verify`: looks at a journal without opening it.

use anyhow::Context as _;
use clap::Subcommand;
use everhook::config::Config;
use everhook::journal::sled::SledJournal;
use serde_json::json;

use super::{Common, EXIT_JOURNAL, Failure, complain, print};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Count what of the configured journal can be read, against what must be in it. Changes nothing, and can be run
    /// beside the daemon.
    Verify,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    match command {
        Command::Verify => verify(common),
    }
}

fn verify(common: &Common) -> Result<(), Failure> {
    let path = Config::load(&common.load_options())?.journal.path;
    let assess = || SledJournal::assess(&path);
    let found = assess().with_context(|| format!("reading the journal at {}", path.display()))?;
    if common.json {
        print(&json!({
            "path": path,
            "records": { "expected": found.records_expected, "readable": found.records_readable },
            "contents": { "expected": found.contents_expected, "readable": found.contents_readable },
            "lost": found.lost(),
        }))?;
    } else {
        print(&format!("{}: {found}", path.display()))?;
    }
    if found.lost() == 0 {
        return Ok(());
    }
    complain(&"the journal is damaged: keep a copy of its directory before anything else");
    Err(Failure::Told(EXIT_JOURNAL))
}
