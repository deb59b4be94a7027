//! Commands that do something to many events: counted first, asked about, begun, and watched until they are done.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::filters::{Filters, States, event_id};
use super::journal::confirm;
use super::reach::{Operator, Reach, part};
use super::{Common, EXIT_FAILURE, Failure, complain, many, misused, print};

/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Width of the bar.
const BAR: usize = 30;

/// What a bulk command takes.
#[derive(Args, Clone, Debug)]
pub(super) struct Arguments {
    /// These events, by id.
    #[arg(value_name = "ID", conflicts_with = "all", value_parser = event_id)]
    ids: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// Every one.
    #[arg(long)]
    all: bool,
    /// Only deliveries to this target; a replay makes one where there is none. May be repeated.
    #[arg(long, value_name = "TARGET")]
    to: Vec<String>,
    /// Events a second at most; 500 when not given.
    #[arg(long, value_name = "COUNT")]
    rate: Option<u32>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    reach: Reach,
}

/// Whether it is done, and how far it is waited for.
#[derive(Args, Clone, Copy, Debug)]
struct How {
    /// Count only.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until it is done.
    #[arg(long)]
    detach: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// What is done, in words.
pub(super) struct Deed {
    /// Where it is asked for.
    pub(super) path: &'static str,
    /// "retry", for the question.
    pub(super) verb: &'static str,
    /// A discard of pending ones, too.
    pub(super) force: bool,
}

pub(super) fn run(
    deed: &Deed,
    arguments: &Arguments,
    states: &States,
    common: &Common,
) -> Result<(), Failure> {
    let operator = Operator::of(&arguments.reach, common)?;
    let mut body = chosen(arguments, states)?;
    if !arguments.to.is_empty() {
        set(&mut body, "targets", json!(arguments.to));
    }
    if let Some(rate) = arguments.rate {
        set(&mut body, "rate", json!(rate));
    }
    if deed.force {
        set(&mut body, "force", json!(true));
    }
    let mut dry = body.clone();
    set(&mut dry, "dry_run", json!(true));
    let How { dry_run, detach, yes } = arguments.how;
    if dry_run || !yes {
        let count = operator.post(deed.path, &dry)?;
        if dry_run && common.json {
            return print(&count);
        }
        let of = |name: &str| count.get(name).and_then(Value::as_u64).unwrap_or(0);
        let complete = count.get("complete").and_then(Value::as_bool).unwrap_or(false);
        let least = if complete { "" } else { "at least " };
        let told = format!("{least}{}", amounts(of("deliveries"), of("events")));
        if of("deliveries") == 0 {
            operator.hint(&arguments.filters.parameters(&states.state))?;
        }
        if dry_run {
            return print(&format!("would {} {told}", deed.verb));
        }
        confirm(&format!("{} {told}?", deed.verb), false)?;
    }
    let job = operator.post(deed.path, &body)?;
    let job = if detach { job } else { watched(&operator, job)? };
    if yes && job.get("deliveries").and_then(Value::as_u64) == Some(0) && !detach {
        operator.hint(&arguments.filters.parameters(&states.state))?;
    }
    report(&job, common)
}

fn amounts(deliveries: u64, events: u64) -> String {
    format!("{} of {}", many(deliveries, "delivery"), many(events, "event"))
}

fn chosen(arguments: &Arguments, states: &States) -> Result<Value, Failure> {
    if !arguments.ids.is_empty() {
        if !arguments.filters.is_empty() || !states.state.is_empty() {
            return Err(misused(&"give either ids or filters"));
        }
        return Ok(json!({ "ids": arguments.ids }));
    }
    let filter = arguments.filters.body(&states.state)?;
    if filter.as_object().is_some_and(serde_json::Map::is_empty) && !arguments.all {
        return Err(misused(&"say which: ids, filters, or --all"));
    }
    Ok(json!({ "filter": filter }))
}

fn set(body: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = body {
        members.insert(name.to_owned(), value);
    }
}

/// Waits for the end of a job and shows how far it is on a terminal.
fn watched(operator: &Operator, mut job: Value) -> Result<Value, Failure> {
    let shown = std::io::stderr().is_terminal();
    while text(&job, "state") == "running" {
        if shown {
            drop(write!(std::io::stderr(), "\r{}\x1b[K", bar(&job)));
        }
        operator.wait(LOOK);
        job = operator.get(&format!("jobs/{}", part(text(&job, "id"))))?;
    }
    if shown {
        drop(write!(std::io::stderr(), "\r\x1b[K"));
    }
    Ok(job)
}

fn bar(job: &Value) -> String {
    let of = |name: &str| job.get(name).and_then(Value::as_u64);
    let done = of("events").unwrap_or(0);
    match of("expected").filter(|expected| *expected > 0) {
        Some(expected) => {
            let percent = done.saturating_mul(100) / expected;
            let full = usize::try_from(percent.min(100)).unwrap_or(0).saturating_mul(BAR) / 100;
            let (full, rest) = ("#".repeat(full), "-".repeat(BAR.saturating_sub(full)));
            format!("[{full}{rest}] {done} of {expected} events")
        }
        None => format!("{done} events"),
    }
}

pub(super) fn report(job: &Value, common: &Common) -> Result<(), Failure> {
    if common.json {
        print(job)?;
    } else {
        let of = |name: &str| job.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (id, state) = (text(job, "id"), text(job, "state"));
        print(&format!("{id} {state}: {}", amounts(of("deliveries"), of("events"))))?;
    }
    let failed = job.get("failed").and_then(Value::as_u64).unwrap_or(0);
    if failed > 0 {
        let why = super::terminal::safe(text(job, "error"));
        complain(&format!("{} could not be changed, the latest: {why}", many(failed, "event")));
    }
    if failed > 0 || text(job, "state") == "failed" {
        Err(Failure::Told(EXIT_FAILURE))
    } else {
        Ok(())
    }
}

/// A member that is text.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_far_a_job_is() {
        let job = json!({ "events": 50, "expected": 200 });
        assert_eq!(bar(&job), "[#######-----------------------] 50 of 200 events");
        assert_eq!(bar(&json!({ "events": 7, "expected": null })), "7 events");
        assert!(bar(&json!({ "events": 9, "expected": 3 })).starts_with("[###"));
    }
}
