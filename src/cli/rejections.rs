//! `everhook rejections`: refused requests that are kept, and what becomes of them.

use clap::{Args, Subcommand};
use everhook::model::{Refusal, RejectionId};
use everhook::rules::moment::moment;
use everhook::time::Clock;
use serde_json::{Map, Value, json};

use super::bulk::text;
use super::event::{body, headers};
use super::events::{hinted, listed, shown};
use super::filters::{id, words};
use super::journal::confirm;
use super::reach::{Operator, Reach, part};
use super::table::Table;
use super::terminal::safe;
use super::{Common, EXIT_FAILURE, Failure, complain, many, misused, print};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List rejections, the latest first.
    List(List),
    /// Show one whole.
    Show(Show),
    /// Make events of rejections: they are verified again with today's secrets.
    Release(Release),
    /// Give rejections up.
    Discard(Discard),
}

#[derive(Args, Clone)]
struct Filters {
    /// Of this source; may be repeated.
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Refused for this cause; may be repeated.
    #[arg(long, value_name = "CAUSE", value_parser = words(&Refusal::ALL.map(Refusal::as_str)))]
    cause: Vec<String>,
    /// Only those whose sender was answered 200.
    #[arg(long)]
    held: bool,
    /// Received at or after this moment: 2026-03-29T13:00:00Z, or an age such as 15m, 2h, 7d.
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
    /// Received before this moment, written as --since.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    filters: Filters,
    /// Most rejections.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Show {
    /// The rejection's id.
    #[arg(value_parser = rejection_id)]
    id: String,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
struct Chosen {
    /// These rejections, by id.
    #[arg(value_name = "ID", value_parser = rejection_id)]
    ids: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// Every one.
    #[arg(long)]
    all: bool,
    /// Count only.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Release {
    #[command(flatten)]
    chosen: Chosen,
    /// Whatever they prove.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub(super) struct Discard {
    #[command(flatten)]
    chosen: Chosen,
}

fn rejection_id(text: &str) -> Result<String, String> {
    id(RejectionId::parse(text).is_some(), text, "rej_")
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    match command {
        Command::List(list) => self::list(list, common),
        Command::Show(show) => self::show(show, common),
        Command::Release(Release { chosen, force }) => release(chosen, *force, common),
        Command::Discard(Discard { chosen }) => discard(chosen, common),
    }
}

fn list(list: &List, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&list.reach, common)?;
    let mut table = Table::new(&["ID", "RECEIVED", "SOURCE", "CAUSE", "HELD", "CLIENT"]);
    let query = list.filters.parameters();
    let asked = query.clone();
    listed(&operator, ("rejections", query), list.limit, common, |item| {
        let held = item.get("held").and_then(Value::as_bool).unwrap_or(false);
        table.row(&[
            text(item, "id").to_owned(),
            text(item, "received_at").to_owned(),
            text(item, "source").to_owned(),
            text(item, "cause").to_owned(),
            if held { "held".to_owned() } else { String::new() },
            text(item, "client").to_owned(),
        ]);
    })?;
    shown(&table, common, "no rejection fits")?;
    hinted(&operator, &table, &asked, common)
}

fn show(show: &Show, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&show.reach, common)?;
    let it = operator.get(&format!("rejections/{}", part(&show.id)))?;
    if common.json {
        return print(&it);
    }
    let (id, cause, source) = (text(&it, "id"), text(&it, "cause"), text(&it, "source"));
    let (client, at) = (text(&it, "client"), text(&it, "received_at"));
    let mut lines = vec![format!("{id}  {cause}"), format!("to {source} from {client} at {at}")];
    if let Some(query) = it.get("query").and_then(Value::as_str) {
        lines.push(format!("query {}", safe(query)));
    }
    lines.push(String::new());
    lines.extend(headers(&it));
    lines.push(String::new());
    lines.push(body(&it));
    print(&lines.join("\n"))
}

fn release(chosen: &Chosen, force: bool, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&chosen.reach, common)?;
    let mut body = chosen.body()?;
    set(&mut body, "force", json!(force));
    if chosen.dry_run || (force && !chosen.yes) {
        let mut dry = body.clone();
        set(&mut dry, "dry_run", json!(true));
        let counted = operator.post("rejections/release", &dry)?;
        let matched = counted.get("matched").and_then(Value::as_u64).unwrap_or(0);
        if chosen.dry_run {
            return if common.json {
                print(&counted)
            } else {
                print(&format!("would release {}", many(matched, "rejection")))?;
                if matched == 0 { operator.hint(&chosen.filters.parameters()) } else { Ok(()) }
            };
        }
        confirm(&format!("release {} whatever they prove?", many(matched, "rejection")), false)?;
    }
    let released = operator.post_long("rejections/release", &body)?;
    let of = |name: &str| released.get(name).and_then(Value::as_u64).unwrap_or(0);
    if common.json {
        print(&released)?;
    } else {
        let (accepted, duplicate) = (of("accepted"), of("duplicate"));
        let (refused, gone) = (of("refused"), of("gone"));
        print(&format!(
            "{accepted} accepted, {duplicate} repeats, {refused} refused again, {gone} gone"
        ))?;
    }
    let failed = of("failed").saturating_add(of("no_source"));
    if failed == 0 {
        return Ok(());
    }
    complain(&format!("{failed} could not be released; they are kept"));
    Err(Failure::Told(EXIT_FAILURE))
}

fn discard(chosen: &Chosen, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&chosen.reach, common)?;
    let body = chosen.body()?;
    if chosen.dry_run || !chosen.yes {
        let mut dry = body.clone();
        set(&mut dry, "dry_run", json!(true));
        let counted = operator.post("rejections/discard", &dry)?;
        let count = counted.get("matched").and_then(Value::as_u64).unwrap_or(0);
        if chosen.dry_run {
            return if common.json {
                print(&counted)
            } else {
                print(&format!("would give up {}", many(count, "rejection")))?;
                if count == 0 { operator.hint(&chosen.filters.parameters()) } else { Ok(()) }
            };
        }
        confirm(&format!("give up {} for good?", many(count, "rejection")), false)?;
    }
    let dropped = operator.post_long("rejections/discard", &body)?;
    let count = dropped.get("dropped").and_then(Value::as_u64).unwrap_or(0);
    if common.json {
        print(&dropped)
    } else {
        print(&format!("gave up {}", many(count, "rejection")))
    }
}

impl Filters {
    fn parameters(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |name: &str, values: &[String]| {
            all.extend(values.iter().map(|value| (name.to_owned(), value.clone())));
        };
        add("source", &self.source);
        add("cause", &self.cause);
        add("since", self.since.as_slice());
        add("until", self.until.as_slice());
        if self.held {
            add("held", &["true".to_owned()]);
        }
        all
    }
}

impl Chosen {
    fn body(&self) -> Result<Value, Failure> {
        let filters = &self.filters;
        let filtered = !filters.parameters().is_empty();
        match (self.ids.is_empty(), filtered || self.all) {
            (false, false) => return Ok(json!({ "ids": self.ids })),
            (false, true) => return Err(misused(&"give either ids or filters")),
            (true, false) => return Err(misused(&"say which: ids, filters, or --all")),
            (true, true) => {}
        }
        let now = Clock::system().wall();
        let mut filter = Map::new();
        for (name, values) in [("source", &filters.source), ("cause", &filters.cause)] {
            if !values.is_empty() {
                filter.insert(name.to_owned(), json!(values));
            }
        }
        for (name, text) in [("since", &filters.since), ("until", &filters.until)] {
            if let Some(text) = text {
                let at = moment(text, now).map_err(|why| misused(&format!("--{name}: {why}")))?;
                filter.insert(name.to_owned(), json!(at));
            }
        }
        if filters.held {
            filter.insert("held".to_owned(), json!(true));
        }
        Ok(json!({ "filter": filter }))
    }
}

fn set(body: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = body {
        members.insert(name.to_owned(), value);
    }
}
