//! `everhook stats`, `sources` and `jobs`: how everything goes.

use clap::{Args, Subcommand};
use everhook::model::JobId;
use everhook::rules::stages::Standing;
use serde_json::Value;

use super::bulk::{report, text};
use super::events::{hinted, listed, shown};
use super::filters::{id, words};
use super::reach::{Operator, Reach, part};
use super::table::Table;
use super::{Common, Failure, print};

/// Where the daemon is.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

#[derive(Subcommand)]
pub(super) enum Sources {
    /// List sources with where they listen and what came.
    List(Arguments),
}

#[derive(Subcommand)]
pub(super) enum Stages {
    /// List the builds that are watched, those heard of last first, with what they miss.
    List(ListStages),
}

/// Which builds.
#[derive(Args)]
pub(super) struct ListStages {
    /// Of this source; may be repeated.
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// In this state; may be repeated.
    #[arg(long, value_name = "STATE", value_parser = words(&Standing::ALL.map(Standing::as_str)))]
    state: Vec<String>,
    /// Only those of which a step never came.
    #[arg(long)]
    missing: bool,
    /// With this text in the build's order key.
    #[arg(short, long, value_name = "TEXT")]
    q: Option<String>,
    /// Most builds.
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    limit: usize,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Subcommand)]
pub(super) enum Jobs {
    /// List jobs: those that run and the last that ended.
    List(Arguments),
    /// Cancel one; what it has done stays done.
    Cancel(Cancel),
}

#[derive(Args)]
pub(super) struct Cancel {
    /// The job's id.
    #[arg(value_parser = job_id)]
    id: String,
    #[command(flatten)]
    reach: Reach,
}

fn job_id(text: &str) -> Result<String, String> {
    id(JobId::parse(text).is_some(), text, "job_")
}

pub(super) fn stats(arguments: &Arguments, common: &Common) -> Result<(), Failure> {
    let stats = Operator::of(&arguments.reach, common)?.get("stats")?;
    if common.json {
        return print(&stats);
    }
    let mut lines = Vec::new();
    for section in ["journal", "queue", "totals", "ack_seconds"] {
        let members = stats.get(section).and_then(Value::as_object);
        for (name, value) in members.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            lines.push(figure(section, name, value));
        }
    }
    print(&lines.join("\n"))
}

/// One figure with its unit.
fn figure(section: &str, name: &str, value: &Value) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let number = value.as_f64().unwrap_or_default();
    let (what, value) = match (section, name.strip_suffix("bytes"), name) {
        (_, Some(_), _) => (name, format!("{:.1} MiB", number / MIB)),
        ("ack_seconds", _, "p50" | "p90" | "p99") => (name, format!("{:.2} ms", number * 1000.0)),
        (_, _, "oldest_age_seconds") => ("oldest", format!("{number:.0} s")),
        _ => (name, value.as_str().map_or_else(|| value.to_string(), super::terminal::safe)),
    };
    let section = if section == "ack_seconds" { "acknowledged" } else { section };
    format!("{section} {}: {value}", what.replace('_', " "))
}

pub(super) fn sources(command: &Sources, common: &Common) -> Result<(), Failure> {
    let Sources::List(arguments) = command;
    let page = Operator::of(&arguments.reach, common)?.get("sources")?;
    let head = ["SOURCE", "PROVIDER", "URL", "ACCEPTED", "DUPLICATES", "REFUSED", "LAST EVENT"];
    let mut table = Table::new(&head);
    for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
        if common.json {
            print(item)?;
            continue;
        }
        let count = |name: &str| item.get(name).map(ToString::to_string).unwrap_or_default();
        let last = item.get("last_event").map(|last| text(last, "received_at"));
        table.row(&[
            text(item, "source").to_owned(),
            text(item, "provider").to_owned(),
            text(item, "url").to_owned(),
            count("accepted"),
            count("duplicates"),
            count("refused"),
            last.unwrap_or_default().to_owned(),
        ]);
    }
    shown(&table, common, "no source is configured")
}

pub(super) fn stages(command: &Stages, common: &Common) -> Result<(), Failure> {
    let Stages::List(list) = command;
    let operator = Operator::of(&list.reach, common)?;
    let mut table =
        Table::new(&["SOURCE", "BUILD", "STATE", "LAST STEP", "HEARD OF", "MISSING", "LATE"]);
    listed(&operator, ("stages", list.parameters()), list.limit, common, |item| {
        let all = |name: &str| {
            let events = item.get(name).and_then(Value::as_array).into_iter().flatten();
            events.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        };
        table.row(&[
            text(item, "source").to_owned(),
            text(item, "build").to_owned(),
            text(item, "state").to_owned(),
            text(item, "last").to_owned(),
            text(item, "heard_at").to_owned(),
            all("missing"),
            all("late"),
        ]);
    })?;
    shown(&table, common, "no build is watched that fits; a source watches them with `stages`")?;
    hinted(&operator, &table, &list.parameters(), common)
}

impl ListStages {
    fn parameters(&self) -> Vec<(String, String)> {
        let pair = |name: &str| {
            let name = name.to_owned();
            move |value: &String| (name.clone(), value.clone())
        };
        let missing = self.missing.then(|| ("missing".to_owned(), "true".to_owned()));
        let sources = self.source.iter().map(pair("source"));
        let states = self.state.iter().map(pair("state"));
        sources.chain(states).chain(self.q.iter().map(pair("q"))).chain(missing).collect()
    }
}

pub(super) fn jobs(command: &Jobs, common: &Common) -> Result<(), Failure> {
    match command {
        Jobs::List(arguments) => list_jobs(arguments, common),
        Jobs::Cancel(Cancel { id, reach }) => {
            let job = Operator::of(reach, common)?.delete(&format!("jobs/{}", part(id)))?;
            report(&job, common)
        }
    }
}

fn list_jobs(arguments: &Arguments, common: &Common) -> Result<(), Failure> {
    let page = Operator::of(&arguments.reach, common)?.get("jobs")?;
    let mut table = Table::new(&["ID", "KIND", "STATE", "EVENTS", "OF", "BEGAN", "DELIVERIES"]);
    for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
        if common.json {
            print(item)?;
            continue;
        }
        let count = |name: &str| match item.get(name) {
            Some(Value::Null) | None => String::new(),
            Some(count) => count.to_string(),
        };
        table.row(&[
            text(item, "id").to_owned(),
            text(item, "kind").to_owned(),
            text(item, "state").to_owned(),
            count("events"),
            count("expected"),
            text(item, "created_at").to_owned(),
            count("deliveries"),
        ]);
    }
    shown(&table, common, "no job runs")
}
