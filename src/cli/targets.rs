//! `everhook targets`: how targets stand; pauses, resumes and tries one.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::bulk::text;
use super::events::shown;
use super::reach::{Operator, Reach, part};
use super::table::Table;
use super::{Common, EXIT_FAILURE, Failure, complain, print};

/// How often the outcome of a test is looked for, and how long.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: usize = 300;
/// How often it is looked why there is none.
const LOOKS_BETWEEN: usize = 10;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List targets with their queues and health.
    List(List),
    /// Begin nothing more at a target until it is resumed. Its deliveries are kept, also over a restart.
    Pause(Arguments),
    /// Attempt a target again: one that was paused, or that answered 410.
    Resume(Arguments),
    /// Send a target the event everhook.test and wait for the outcome of its first attempt.
    Test(Arguments),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    reach: Reach,
}

/// Which target.
#[derive(Args)]
pub(super) struct Arguments {
    /// The target, by its name in the configuration.
    target: String,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    match command {
        Command::List(list) => self::list(list, common),
        Command::Pause(arguments) => tell(arguments, "pause", common),
        Command::Resume(arguments) => tell(arguments, "resume", common),
        Command::Test(arguments) => test(arguments, common),
    }
}

fn list(list: &List, common: &Common) -> Result<(), Failure> {
    let page = Operator::of(&list.reach, common)?.get("targets")?;
    let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut table = Table::new(&[
        "TARGET",
        "STATE",
        "READY",
        "WAITING",
        "IN FLIGHT",
        "DEAD",
        "OLDEST",
        "LAST FAILURE",
    ]);
    for item in &items {
        if common.json {
            print(item)?;
            continue;
        }
        let count = |name: &str| item.get(name).map(ToString::to_string).unwrap_or_default();
        let oldest = item.get("oldest_age_seconds").and_then(Value::as_u64);
        table.row(&[
            text(item, "target").to_owned(),
            state(item),
            count("ready"),
            count("waiting"),
            count("in_flight"),
            count("dead"),
            oldest.map(age).unwrap_or_default(),
            failure(item.get("last_failure")),
        ]);
    }
    shown(&table, common, "no target is configured")
}

fn state(item: &Value) -> String {
    let is = |name: &str| item.get(name).and_then(Value::as_bool);
    if is("configured") == Some(false) {
        return "orphaned".to_owned();
    }
    if item.get("paused").is_some_and(Value::is_object) {
        return "paused".to_owned();
    }
    match text(item, "breaker") {
        "off" => "no breaker".to_owned(),
        breaker => breaker.to_owned(),
    }
}

fn failure(last: Option<&Value>) -> String {
    let Some(last) = last.filter(|last| last.is_object()) else { return String::new() };
    let status = last.get("status").and_then(Value::as_u64).map(|status| status.to_string());
    let what = status.unwrap_or_else(|| text(last, "error").to_owned());
    format!("{what} at {}", text(last, "at"))
}

/// A number of seconds in its largest unit.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn tell(arguments: &Arguments, what: &str, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&arguments.reach, common)?;
    operator.known("targets", "target", &arguments.target)?;
    let told = operator.post(&format!("targets/{}/{what}", part(&arguments.target)), &json!({}))?;
    if common.json {
        return print(&told);
    }
    let paused = told.get("paused").and_then(Value::as_bool).unwrap_or_default();
    print(&if paused { "paused" } else { "resumed" })
}

fn test(arguments: &Arguments, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&arguments.reach, common)?;
    operator.known("targets", "target", &arguments.target)?;
    let path = format!("targets/{}/test", part(&arguments.target));
    let made = operator.post(&path, &json!({}))?;
    let path = format!("events/{}", part(text(&made, "id")));
    let mut held = None;
    for look in 0..LOOKS {
        if look % LOOKS_BETWEEN == 1 {
            held = self::held(&operator, &arguments.target)?;
            if held.as_ref().is_some_and(|(_, is_paused)| *is_paused) {
                break;
            }
        }
        let event = operator.get(&path)?;
        let attempt = event.get("attempts").and_then(|attempts| attempts.get(0));
        if let Some(attempt) = attempt {
            return outcome(attempt, common);
        }
        operator.wait(LOOK);
    }
    let (id, target) = (text(&made, "id"), &arguments.target);
    let why = held.map(|(why, _)| format!(": {why}")).unwrap_or_default();
    complain(&format!("{id} is queued for {target}; no attempt was made yet{why}"));
    Err(Failure::Told(EXIT_FAILURE))
}

/// Why a target is not attempted now, and whether that lasts until an operator ends it.
fn held(operator: &Operator, target: &str) -> Result<Option<(String, bool)>, Failure> {
    let page = operator.get("targets")?;
    let items = page.get("items").and_then(Value::as_array).into_iter().flatten();
    let Some(item) = items.into_iter().find(|item| text(item, "target") == target) else {
        return Ok(None);
    };
    Ok(match state(item).as_str() {
        "paused" => Some((format!("it is paused; everhook targets resume {target}"), true)),
        "open" | "probing" => {
            Some(("its breaker is open, and what waits longer is probed first".to_owned(), false))
        }
        _ => None,
    })
}

fn outcome(attempt: &Value, common: &Common) -> Result<(), Failure> {
    let status = attempt.get("status").and_then(Value::as_u64).map(|status| status.to_string());
    let what = status.unwrap_or_else(|| text(attempt, "error").to_owned());
    let took = attempt.get("duration_ms").and_then(Value::as_f64).unwrap_or(0.0);
    if common.json {
        print(attempt)?;
    } else {
        let detail = super::terminal::safe(text(attempt, "detail"));
        let line = format!("{}: {what} after {took:.0} ms  {detail}", text(attempt, "outcome"));
        print(&line.trim_end())?;
    }
    if text(attempt, "outcome") == "delivered" { Ok(()) } else { Err(Failure::Told(EXIT_FAILURE)) }
}
