//! `everhook events tail`: what happens from now on.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use clap::Args;
use everhook::rules::query::StateWord;
use serde_json::{Value, json};

use super::bulk::text;
use super::filters::words;
use super::reach::{Operator, Reach};
use super::terminal::safe;
use super::{Common, EXIT_FAILURE, Failure, complain, many, print};

/// Most events whose source and name a tail remembers.
const MAX_REMEMBERED: usize = 10_000;
/// Most bytes of one line of the stream.
const MAX_LINE: usize = 1024 * 1024;
/// The states that are told.
const LIVE: [StateWord; 6] = [
    StateWord::Ready,
    StateWord::Waiting,
    StateWord::InFlight,
    StateWord::Delivered,
    StateWord::Dead,
    StateWord::Discarded,
];

#[derive(Args)]
pub(super) struct Tail {
    /// Only of this source; what happens to events that came before is left out then.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only deliveries to this target.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Only deliveries that come into this state.
    #[arg(long, value_name = "STATE", value_parser = words(&LIVE.map(StateWord::as_str)))]
    state: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(tail: &Tail, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&tail.reach, common)?;
    // Of a misspelt name nothing would ever be told.
    for (list, field, name) in
        [("sources", "source", &tail.source), ("targets", "target", &tail.target)]
    {
        name.as_ref().map_or(Ok(()), |name| operator.known(list, field, name))?;
    }
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
    complain(&"the daemon ended the stream");
    Err(Failure::Told(EXIT_FAILURE))
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
                let (name, why) = (safe(&event), why(&data));
                format!("{id}  {state:<9}  {target}  {name}{why}").trim_end().to_owned()
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

/// Why a delivery is given up, or when it is tried again.
fn why(data: &Value) -> String {
    let attempts = data.get("attempts").and_then(Value::as_u64).unwrap_or(0);
    match (text(data, "reason"), text(data, "due_at")) {
        ("", "") => String::new(),
        ("", due_at) => format!("  {}, next at {due_at}", many(attempts, "attempt")),
        (reason, _) => format!("  {reason} after {}", many(attempts, "attempt")),
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
    fn a_delivery_says_why_it_is_where_it_is() {
        let dead = json!({ "reason": "refused", "due_at": null, "attempts": 1 });
        assert_eq!(why(&dead), "  refused after 1 attempt");
        let waiting = json!({ "reason": null, "due_at": "t", "attempts": 2 });
        assert_eq!(why(&waiting), "  2 attempts, next at t");
        assert_eq!(why(&json!({ "reason": null, "due_at": null, "attempts": 1 })), "");
    }
}
