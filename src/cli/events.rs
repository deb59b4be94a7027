//! `everhook events`: what came, what became of it, and once more.

use std::collections::{HashMap, VecDeque};
use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::bulk::{self, Deed, text};
use super::filters::{Filters, States};
use super::reach::{Operator, Reach, part};
use super::table::Table;
use super::terminal::{safe, safe_lines};
use super::{Common, Failure, print};

/// Most events whose source and name a tail remembers.
const MAX_REMEMBERED: usize = 10_000;
/// Most bytes of one line of the stream.
const MAX_LINE: usize = 1024 * 1024;

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
    id: String,
    /// Write its body alone, byte for byte; on a terminal as text that cannot steer it.
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Args)]
pub(super) struct Tail {
    /// Only of this source; what happens to events that came before is left out then.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only deliveries to this target.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Only deliveries that come into this state.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
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
        Command::Tail(tail) => self::tail(tail, common),
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
    shown(&table, common, "no event fits")
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

/// One event for reading.
fn page(event: &Value) -> Vec<String> {
    let mut lines = vec![
        format!("{}  {}", text(event, "id"), safe(text(event, "event"))),
        format!("from {} at {}", text(event, "source"), text(event, "received_at")),
    ];
    if let Some(key) = event.get("order_key").and_then(Value::as_str) {
        lines.push(format!("order key {}", safe(key)));
    }
    let conflicts = event.get("conflicts").and_then(Value::as_array).into_iter().flatten();
    lines.extend(conflicts.map(|it| format!("a copy says something else: {}", text(it, "id"))));
    lines.push(String::new());
    let deliveries = event.get("deliveries").and_then(Value::as_array);
    for delivery in deliveries.into_iter().flatten() {
        lines.push(standing(delivery));
        let attempts = event.get("attempts").and_then(Value::as_array).into_iter().flatten();
        let of_target = attempts.filter(|it| text(it, "target") == text(delivery, "target"));
        lines.extend(of_target.map(attempt));
    }
    lines.push(String::new());
    lines.extend(headers(event));
    lines.push(String::new());
    lines.push(body(event));
    lines
}

fn standing(delivery: &Value) -> String {
    let mut line = format!("{}: {}", text(delivery, "target"), text(delivery, "state"));
    for (name, word) in [("reason", "because"), ("due_at", "next attempt at")] {
        if let Some(value) = delivery.get(name).and_then(Value::as_str) {
            line = format!("{line}, {word} {value}");
        }
    }
    line
}

fn attempt(made: &Value) -> String {
    let number = made.get("number").and_then(Value::as_u64).unwrap_or(0);
    let status = made.get("status").and_then(Value::as_u64).map(|status| status.to_string());
    let error = made.get("error").and_then(Value::as_str).map(str::to_owned);
    let what = status.or(error).unwrap_or_else(|| text(made, "outcome").to_owned());
    let took = made.get("duration_ms").and_then(Value::as_f64).unwrap_or(0.0);
    let mut line = format!("  {number}. {}  {what}  {took:.0} ms", text(made, "started_at"));
    for name in ["remote", "detail"] {
        if let Some(value) = made.get(name).and_then(Value::as_str) {
            line = format!("{line}  {}", safe(value));
        }
    }
    let answer = made.get("body").map(|body| text(body, "data")).unwrap_or_default();
    if text(made, "outcome") == "failed" && !answer.is_empty() {
        let start: String = answer.chars().take(200).collect();
        line = format!("{line}\n     answered: {}", safe(&start));
    }
    line
}

/// Header fields, one a line.
pub(super) fn headers(of: &Value) -> Vec<String> {
    let fields = of.get("headers").and_then(Value::as_array).into_iter().flatten();
    let field = |field: &Value| {
        let part = |index: usize| field.get(index).and_then(Value::as_str).unwrap_or_default();
        format!("{}: {}", safe(part(0)), safe(part(1)))
    };
    fields.map(field).collect()
}

/// A body as it may be shown.
pub(super) fn body(of: &Value) -> String {
    let body = of.get("body").cloned().unwrap_or_default();
    let size = body.get("size").and_then(Value::as_u64).unwrap_or(0);
    let cut = body.get("truncated").and_then(Value::as_bool).unwrap_or(false);
    let shown = match text(&body, "encoding") {
        "utf-8" => safe_lines(text(&body, "data")),
        _ => format!("[{size} bytes that are no text; --body writes them]"),
    };
    if cut { format!("{shown}\n[the beginning of {size} bytes]") } else { shown }
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
    let are = if deliveries == 1 { "delivery is" } else { "deliveries are" };
    print(&format!("{deliveries} {are} due now"))
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

fn tail(tail: &Tail, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&tail.reach, common)?;
    let mut stream = Stream::default();
    let mut failed = None;
    operator.follow("live", |bytes| {
        for (kind, data) in stream.take(bytes) {
            if let Err(failure) = stream.known.happened(tail, (&kind, data), common) {
                failed = Some(failure);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    super::complain(&"the daemon ended the stream");
    Err(Failure::Told(super::EXIT_FAILURE))
}

/// A stream of server-sent events, as far as it has come.
#[derive(Default)]
struct Stream {
    rest: Vec<u8>,
    kind: String,
    known: Known,
}

impl Stream {
    /// Whole events of what came.
    fn take(&mut self, bytes: &[u8]) -> Vec<(String, Value)> {
        self.rest.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if let Some(kind) = line.strip_prefix("event: ") {
                kind.clone_into(&mut self.kind);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(data).unwrap_or_default();
                found.push((std::mem::take(&mut self.kind), data));
            }
        }
        if self.rest.len() > MAX_LINE {
            self.rest.clear();
        }
        found
    }
}

/// Source and name of the events that came during a tail.
#[derive(Default)]
struct Known {
    events: HashMap<String, (String, String)>,
    order: VecDeque<String>,
}

impl Known {
    fn happened(
        &mut self,
        tail: &Tail,
        (kind, data): (&str, Value),
        common: &Common,
    ) -> Result<(), Failure> {
        let id = text(&data, "id").to_owned();
        if kind == "accepted" {
            let names = (text(&data, "source").to_owned(), text(&data, "event").to_owned());
            self.remember(id.clone(), names);
        }
        let (source, event) = self.events.get(&id).cloned().unwrap_or_default();
        let differs =
            |wanted: &Option<String>, is: &str| wanted.as_ref().is_some_and(|it| it != is);
        let other_source = kind != "missed" && differs(&tail.source, &source);
        let asks_delivery = tail.target.is_some() || tail.state.is_some();
        let other = match kind {
            "delivery" => {
                differs(&tail.target, text(&data, "target"))
                    || differs(&tail.state, text(&data, "state"))
            }
            "accepted" => asks_delivery,
            _ => false,
        };
        if other_source || other {
            return Ok(());
        }
        if common.json {
            let mut line = json!({ "kind": kind });
            if let (Value::Object(line), Value::Object(data)) = (&mut line, data) {
                line.extend(data);
            }
            return print(&line);
        }
        print(&match kind {
            "accepted" => {
                format!("{id}  accepted   {source}  {}", safe(&event))
            }
            "delivery" => {
                let (state, target) = (text(&data, "state"), text(&data, "target"));
                let name = safe(&event);
                format!("{id}  {state:<9}  {target}  {name}").trim_end().to_owned()
            }
            _ => {
                let missed = data.get("missed").and_then(Value::as_u64).unwrap_or(0);
                format!("({missed} missed: more happens than can be shown)")
            }
        })
    }

    fn remember(&mut self, id: String, names: (String, String)) {
        self.order.push_back(id.clone());
        self.events.insert(id, names);
        while self.order.len() > MAX_REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.events.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_however_it_is_cut() {
        let text =
            ": hello\n\nevent: accepted\ndata: {\"id\":\"a\"}\n\n:\n\nevent: missed\ndata: {}\n\n";
        for size in [1, 2, 7, 1000] {
            let mut stream = Stream::default();
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                found.extend(stream.take(chunk));
            }
            let kinds: Vec<_> = found.iter().map(|(kind, _)| kind.as_str()).collect();
            assert_eq!(kinds, ["accepted", "missed"], "{size}");
            assert_eq!(found[0].1["id"], "a");
        }
        let mut stream = Stream::default();
        stream.take(&vec![b'x'; MAX_LINE + 1]);
        assert!(stream.rest.is_empty(), "a line without an end is not kept for ever");
    }

    #[test]
    fn an_event_is_shown_without_anything_that_steers_the_terminal() {
        let event = json!({
            "id": "evt_1", "event": "a\u{1b}[31m", "source": "s", "received_at": "t",
            "headers": [["x-a", "\u{9b}b"]],
            "body": {"encoding": "utf-8", "data": "{\n\u{202e}}", "size": 9, "truncated": true},
            "deliveries": [{"target": "t", "state": "dead", "reason": "gone", "due_at": null}],
            "attempts": [{
                "target": "t", "number": 1, "started_at": "u", "outcome": "failed", "status": 410,
                "duration_ms": 1.6, "detail": "\u{7}", "body": {"data": "\u{1b}]0;x\u{7}"},
            }],
        });
        let page = page(&event).join("\n");
        assert!(page.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{page:?}");
        for part in ["t: dead, because gone", "1. u  410  2 ms", "[the beginning of 9 bytes]"] {
            assert!(page.contains(part), "{page}");
        }
    }
}
