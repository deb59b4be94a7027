//! `everhook journal repair`.

use clap::Args;
use everhook::journal::sled::{
    Diagnosis, Engine, Options, Repair, RepairError, RepairState, Repaired,
};
use everhook::time::Clock;
use serde_json::json;

use super::super::{Common, EXIT_JOURNAL, Failure, complain, print};
use super::verify::accept;
use super::{Progress, confirm, unusable};

/// Ids that are listed in text; the JSON has all of them.
const LISTED: usize = 20;

/// What may be lost, and whether to ask.
#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The number of records and contents that cannot be read any more, as `journal verify` counts them.
    #[arg(long, value_name = "N")]
    accept_loss: Option<u64>,
    /// Say what would be done and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    options: &Options,
    common: &Common,
) -> Result<(), Failure> {
    let engine = if arguments.dry_run { Engine::NotAsked } else { Engine::Asked };
    let clock = Clock::system();
    let repair = Repair::begin(options, &clock, engine).map_err(|error| unusable(&error))?;
    match repair.state() {
        RepairState::Sound(diagnosis) => {
            let report = json!({ "path": options.path, "sound": true, "lost": 0 });
            let text = format!(
                "the journal at {} is sound and was left alone: {}",
                options.path.display(),
                diagnosis.counts
            );
            return if common.json { print(&report) } else { print(&text) };
        }
        RepairState::Interrupted if arguments.dry_run => {
            complain(&"an earlier repair is complete and has only to be put in its place");
            return Err(Failure::Told(EXIT_JOURNAL));
        }
        RepairState::Interrupted => {
            complain(&"an earlier repair is complete and is put in its place now");
        }
        RepairState::Damaged(diagnosis, _) => {
            let diagnosis = diagnosis.clone();
            let foreseen = repair.foresee().map_err(|error| unusable(&error))?;
            for problem in &diagnosis.problems {
                complain(problem);
            }
            if arguments.dry_run {
                report(&foreseen, Some(&diagnosis), options, common)?;
                return Err(Failure::Told(EXIT_JOURNAL));
            }
            accepted(arguments, &diagnosis, &foreseen)?;
        }
    }
    let progress = Progress::new("carried over", None);
    let diagnosis = match repair.state() {
        RepairState::Damaged(diagnosis, _) => Some(diagnosis.clone()),
        RepairState::Sound(_) | RepairState::Interrupted => None,
    };
    let done = repair.run(|count| progress.at(count)).map_err(|error| match error {
        RepairError::Journal(error) => unusable(&error),
        error @ (RepairError::Restore(_) | RepairError::NoRoom { .. }) => {
            Failure::Other(anyhow::Error::new(error))
        }
    })?;
    drop(progress);
    report(&done, diagnosis.as_ref(), options, common)
}

/// The operator knows what is lost and wants to go on.
fn accepted(
    arguments: &Arguments,
    diagnosis: &Diagnosis,
    foreseen: &Repaired,
) -> Result<(), Failure> {
    let lost = diagnosis.counts.lost();
    let events = foreseen.lost.len();
    if arguments.accept_loss.unwrap_or(0) != lost {
        complain(&format!(
            "{}; {events} known events can never be delivered. To go on without them, run `everhook journal \
             repair{}`; nothing was changed",
            diagnosis.counts,
            accept(lost)
        ));
        return Err(Failure::Told(EXIT_JOURNAL));
    }
    let question = format!(
        "Carry {} events over and go on without {lost} records? The damaged files are kept.",
        foreseen.events
    );
    confirm(&question, arguments.yes)
}

fn report(
    done: &Repaired,
    diagnosis: Option<&Diagnosis>,
    options: &Options,
    common: &Common,
) -> Result<(), Failure> {
    let counts = diagnosis.map(|diagnosis| diagnosis.counts).unwrap_or_default();
    if common.json {
        let lost = |(id, pending): &(everhook::model::EventId, u64)| json!({ "id": id.to_string(), "pending": pending });
        return print(&json!({
            "path": options.path,
            "sound": false,
            "lost": counts.lost(),
            "records": { "expected": counts.records_expected, "readable": counts.records_readable },
            "contents": { "expected": counts.contents_expected, "readable": counts.contents_readable },
            "problems": diagnosis.map(|diagnosis| diagnosis.problems.clone()).unwrap_or_default(),
            "events": done.events,
            "pending": done.pending,
            "dead": done.dead,
            "settled": done.settled,
            "dedup_keys": done.keys,
            "rejections": done.rejections,
            "rejections_without_content": done.rejections_lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "events_without_content": done.lost.iter().map(lost).collect::<Vec<_>>(),
            "events_without_record": done.astray.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "originals": (!done.originals.as_os_str().is_empty()).then_some(&done.originals),
        }));
    }
    print(&format!(
        "{} events: {} deliveries pending, {} dead, {} ended; {} more dedup keys, {} rejections",
        done.events, done.pending, done.dead, done.settled, done.keys, done.rejections
    ))?;
    let lost: Vec<_> = done.lost.iter().map(|(id, _)| id.to_string()).collect();
    list("events cannot be delivered, their content is lost", &lost)?;
    let astray: Vec<_> = done.astray.iter().map(ToString::to_string).collect();
    list("events are kept as history, where they were to go is lost", &astray)?;
    let rejections: Vec<_> = done.rejections_lost.iter().map(ToString::to_string).collect();
    list("rejections are lost", &rejections)?;
    if done.originals.as_os_str().is_empty() {
        return Ok(());
    }
    print(&format!("the damaged files are in {}", done.originals.display()))
}

fn list(what: &str, ids: &[String]) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    print(&format!("{} {what}:", ids.len()))?;
    for id in ids.iter().take(LISTED) {
        print(&format!("  {id}"))?;
    }
    if ids.len() > LISTED {
        print(&format!("  and {} more, see --json", ids.len().saturating_sub(LISTED)))?;
    }
    Ok(())
}
