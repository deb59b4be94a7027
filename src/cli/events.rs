//! `everhook events`: what came, what became of it, and once more.

use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::bulk::{self, Deed, text};
use super::event::page;
use super::filters::{Filters, States, event_id};
use super::reach::{Operator, Reach, part};
use super::table::Table;
use super::tail::{self, Tail};
use super::terminal::safe_lines;
use super::{Common, Failure, many, print};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List events, the latest first.
    List(List),
    /// Show one event: header fields, body, deliveries and attempts.
    Show(Show),
    /// Show what happens from now on.
    Tail(Tail),
    /// Deliver events again: settled deliveries become due, pending ones are left as they are.
    Replay(Replay),
    /// Attempt pending deliveries of an event now instead of at their time.
    Retry(Retry),
    /// Make a new event of an old one, with another body or name.
    Resend(Resend),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    states: States,
    /// Most events.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Show {
    /// The event's id.
    #[arg(value_parser = event_id)]
    id: String,
    /// Write its body alone, byte for byte; on a terminal as text that cannot steer it.
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Replay {
    #[command(flatten)]
    states: States,
    #[command(flatten)]
    bulk: bulk::Arguments,
}

#[derive(Args)]
pub(super) struct Retry {
    /// The event's id.
    #[arg(value_parser = event_id)]
    id: String,
    /// Only at this target; may be repeated.
    #[arg(long, value_name = "TARGET")]
    to: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Resend {
    /// The old event's id.
    #[arg(value_parser = event_id)]
    id: String,
    /// The new body; the old one when not given.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The new name.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only to this target; may be repeated.
    #[arg(long, value_name = "TARGET")]
    to: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    match command {
        Command::List(list) => self::list(list, common),
        Command::Show(show) => self::show(show, common),
        Command::Tail(tail) => tail::run(tail, common),
        Command::Replay(replay) => {
            let deed = Deed { path: "replay", verb: "replay", force: false };
            bulk::run(&deed, &replay.bulk, &replay.states, common)
        }
        Command::Retry(retry) => self::retry(retry, common),
        Command::Resend(resend) => self::resend(resend, common),
    }
}

fn list(list: &List, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&list.reach, common)?;
    let query = list.filters.parameters(&list.states.state);
    let asked = query.clone();
    let mut table = Table::new(&["ID", "RECEIVED", "SOURCE", "EVENT", "DELIVERIES"]);
    listed(&operator, ("events", query), list.limit, common, |item| {
        table.row(&[
            text(item, "id").to_owned(),
            text(item, "received_at").to_owned(),
            text(item, "source").to_owned(),
            text(item, "event").to_owned(),
            states(item),
        ]);
    })?;
    shown(&table, common, "no event fits")?;
    hinted(&operator, &table, &asked, common)
}

/// Shows so many items of a list: each as a line of JSON, or as `row` takes it up.
pub(super) fn listed(
    operator: &Operator,
    (path, mut query): (&str, Vec<(String, String)>),
    limit: usize,
    common: &Common,
    mut row: impl FnMut(&Value),
) -> Result<(), Failure> {
    let mut left = limit;
    if left == 0 {
        return Ok(());
    }
    query.push(("limit".to_owned(), left.clamp(1, 200).to_string()));
    operator.pages(path, &query, |item| {
        if common.json {
            print(&item)?;
        } else {
            row(&item);
        }
        left = left.saturating_sub(1);
        Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
}

/// Prints a table, or says that it is empty.
pub(super) fn shown(table: &Table, common: &Common, empty: &str) -> Result<(), Failure> {
    if common.json {
        return Ok(());
    }
    if table.is_empty() {
        super::complain(&empty);
        return Ok(());
    }
    print(&table.text())
}

/// Tells of misspelt names when a table is empty.
pub(super) fn hinted(
    operator: &Operator,
    table: &Table,
    asked: &[(String, String)],
    common: &Common,
) -> Result<(), Failure> {
    if table.is_empty() && !common.json { operator.hint(asked) } else { Ok(()) }
}

/// How the deliveries of an event stand, in a few words.
fn states(item: &Value) -> String {
    let deliveries = item.get("deliveries").and_then(Value::as_array);
    let all: Vec<_> = deliveries.into_iter().flatten().map(|it| text(it, "state")).collect();
    match all.split_first() {
        None => "no target".to_owned(),
        Some((first, rest)) if rest.iter().all(|state| state == first) => (*first).to_owned(),
        Some(_) => {
            let deliveries = deliveries.into_iter().flatten();
            let word = |it: &Value| format!("{} {}", text(it, "target"), text(it, "state"));
            deliveries.map(word).collect::<Vec<_>>().join(", ")
        }
    }
}

fn show(show: &Show, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&show.reach, common)?;
    let id = part(&show.id);
    if show.body {
        let body = operator.bytes(&format!("events/{id}/body"))?;
        if std::io::stdout().is_terminal() {
            return print(&safe_lines(&String::from_utf8_lossy(&body)));
        }
        return std::io::stdout()
            .write_all(&body)
            .context("cannot write to stdout")
            .map_err(Failure::from);
    }
    let event = operator.get(&format!("events/{id}"))?;
    if common.json { print(&event) } else { print(&page(&event).join("\n")) }
}

fn retry(retry: &Retry, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&retry.reach, common)?;
    let body = if retry.to.is_empty() { json!({}) } else { json!({ "targets": retry.to }) };
    let said = operator.post(&format!("events/{}/retry", part(&retry.id)), &body)?;
    if common.json {
        return print(&said);
    }
    for held in said.get("held").and_then(Value::as_array).into_iter().flatten() {
        let (target, reason) = (text(held, "target"), text(held, "reason"));
        super::complain(&format!("{target} cannot be attempted now: {reason}"));
    }
    let deliveries = said.get("deliveries").and_then(Value::as_u64).unwrap_or(0);
    let are = if deliveries == 1 { "is" } else { "are" };
    print(&format!("{} {are} due now", many(deliveries, "delivery")))
}

fn resend(resend: &Resend, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&resend.reach, common)?;
    let mut body = json!({});
    if let Some(path) = &resend.file {
        use base64::Engine as _;
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        body = json!({ "body": { "encoding": "base64", "data": data } });
    }
    if let Value::Object(members) = &mut body {
        members.extend(resend.event.iter().map(|name| ("event".to_owned(), json!(name))));
        if !resend.to.is_empty() {
            members.insert("targets".to_owned(), json!(resend.to));
        }
    }
    let made = operator.post(&format!("events/{}/resend", part(&resend.id)), &body)?;
    if common.json { print(&made) } else { print(&text(&made, "id")) }
}
