//! `everhook dead-letters`: deliveries that were given up, once more or for good.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::bulk::{self, Deed, text};
use super::events::{hinted, listed, shown};
use super::filters::{Filters, States};
use super::reach::{Operator, Reach};
use super::table::Table;
use super::{Common, Failure};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List dead letters, those of the latest event first.
    List(List),
    /// Make dead letters due again.
    Retry(bulk::Arguments),
    /// Give dead letters up. They can be replayed while their retention lasts.
    Discard(Discard),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    filters: Filters,
    /// Count them by target and reason instead.
    #[arg(long)]
    groups: bool,
    /// Most dead letters.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Discard {
    /// Pending deliveries, too: those of a target that left the configuration, for example.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    bulk: bulk::Arguments,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    match command {
        Command::List(list) if list.groups => groups(list, common),
        Command::List(list) => self::list(list, common),
        Command::Retry(arguments) => {
            let deed = Deed { path: "dead-letters/retry", verb: "retry", force: false };
            bulk::run(&deed, arguments, &States::default(), common)
        }
        Command::Discard(Discard { force, bulk: arguments }) => {
            let deed = Deed { path: "dead-letters/discard", verb: "discard", force: *force };
            bulk::run(&deed, arguments, &States::default(), common)
        }
    }
}

fn list(list: &List, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&list.reach, common)?;
    let mut query = list.filters.parameters(&[]);
    let asked = query.clone();
    query.push(("latest".to_owned(), "true".to_owned()));
    let mut table =
        Table::new(&["ID", "RECEIVED", "TARGET", "REASON", "LAST", "EVENT", "ATTEMPTS"]);
    listed(&operator, ("dead-letters", query), list.limit, common, |item| {
        table.row(&[
            text(item, "id").to_owned(),
            text(item, "received_at").to_owned(),
            text(item, "target").to_owned(),
            text(item, "reason").to_owned(),
            last(item.get("latest")),
            text(item, "event").to_owned(),
            item.get("attempts").map(ToString::to_string).unwrap_or_default(),
        ]);
    })?;
    shown(&table, common, "there are no dead letters that fit")?;
    hinted(&operator, &table, &asked, common)
}

/// What the latest attempt brought.
fn last(latest: Option<&Value>) -> String {
    let Some(latest) = latest else { return String::new() };
    let status = latest.get("status").and_then(Value::as_u64).map(|status| status.to_string());
    status.unwrap_or_else(|| text(latest, "error").to_owned())
}

fn groups(list: &List, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&list.reach, common)?;
    let mut sums: BTreeMap<(String, String), Value> = BTreeMap::new();
    let asked = list.filters.parameters(&[]);
    // A filter that reads bodies is counted in parts.
    operator.pages("dead-letters/groups", &asked, |group| {
        let key = (text(&group, "target").to_owned(), text(&group, "reason").to_owned());
        let sum = match sums.get(&key) {
            Some(sum) => added(sum, &group),
            None => group,
        };
        sums.insert(key, sum);
        Ok(ControlFlow::Continue(()))
    })?;
    if common.json {
        let items: Vec<_> = sums.into_values().collect();
        return super::print(&json!({ "items": items, "next": null, "complete": true }));
    }
    let mut table = Table::new(&["TARGET", "REASON", "COUNT", "OLDEST", "NEWEST"]);
    for group in sums.values() {
        table.row(&[
            text(group, "target").to_owned(),
            text(group, "reason").to_owned(),
            group.get("count").map(ToString::to_string).unwrap_or_default(),
            text(group, "oldest").to_owned(),
            text(group, "newest").to_owned(),
        ]);
    }
    shown(&table, common, "there are no dead letters that fit")?;
    hinted(&operator, &table, &asked, common)
}

/// A group whose dead letters were counted in two parts. Its moments are as long as each other, and in order as texts.
fn added(sum: &Value, group: &Value) -> Value {
    let count = |of: &Value| of.get("count").and_then(Value::as_u64).unwrap_or(0);
    json!({
        "target": text(sum, "target"),
        "reason": text(sum, "reason"),
        "count": count(sum).saturating_add(count(group)),
        "oldest": text(sum, "oldest").min(text(group, "oldest")),
        "newest": text(sum, "newest").max(text(group, "newest")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_count_are_one_count() {
        let part = |count: u64, oldest: &str, newest: &str| json!({ "target": "t", "reason": "gone", "count": count, "oldest": oldest, "newest": newest });
        let (late, early) = ("2026-03-29T13:00:00.000Z", "2026-03-28T13:00:00.000Z");
        let sum = added(&part(2, late, late), &part(3, early, early));
        assert_eq!(sum, part(5, early, late));
    }
}
