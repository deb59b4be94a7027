//! `everhook journal verify`.

use everhook::journal::sled::{Options, SledJournal};
use serde_json::json;

use super::super::{Common, EXIT_JOURNAL, Failure, complain, print};
use super::unusable;

pub(super) fn run(options: &Options, common: &Common) -> Result<(), Failure> {
    let path = &options.path;
    let found = SledJournal::diagnose(path).map_err(|error| unusable(&error))?;
    let counts = found.counts;
    if common.json {
        print(&json!({
            "path": path,
            "sound": found.is_sound(),
            "generations": found.generations,
            "records": { "expected": counts.records_expected, "readable": counts.records_readable },
            "contents": { "expected": counts.contents_expected, "readable": counts.contents_readable },
            "lost": counts.lost(),
            "problems": found.problems,
        }))?;
    } else {
        print(&format!("{}: {counts}", path.display()))?;
    }
    if found.is_sound() {
        return Ok(());
    }
    if !common.json {
        for problem in &found.problems {
            complain(problem);
        }
    }
    complain(&format!(
        "the journal is damaged; `everhook journal repair{}` goes on with what can be read",
        accept(counts.lost())
    ));
    Err(Failure::Told(EXIT_JOURNAL))
}

/// The flag that accepts this loss.
pub(super) fn accept(lost: u64) -> String {
    if lost == 0 { String::new() } else { format!(" --accept-loss {lost}") }
}
