//! The filters of lists and bulk commands, as flags.

use clap::Args;
use clap::builder::PossibleValuesParser;
use everhook::model::{DeadReason, ErrorClass, EventId};
use everhook::rules::moment::moment;
use everhook::rules::query::StateWord;
use everhook::time::Clock;
use serde_json::{Map, Value, json};

use super::{Failure, misused};

/// Which events. A flag that may be repeated wants any of its values; all flags must fit.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filters {
    /// Received by this source; may be repeated.
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// With this event name, in which * stands for any text; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    event: Vec<String>,
    /// With a delivery to this target; may be repeated.
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Dead for this reason; may be repeated.
    #[arg(long, value_name = "REASON", value_parser = words(&DeadReason::ALL.map(DeadReason::as_str)))]
    reason: Vec<String>,
    /// Received at or after this moment: 2026-03-29T13:00:00Z, or an age such as 15m, 2h, 7d.
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
    /// Received before this moment, written as --since.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
    /// With at least so many attempts.
    #[arg(long, value_name = "COUNT")]
    attempts: Option<u32>,
    /// Latest attempt answered so: 503, or 5xx for a class; may be repeated.
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Latest attempt failed so; may be repeated.
    #[arg(long, value_name = "CLASS", value_parser = words(&ErrorClass::ALL.map(ErrorClass::as_str)))]
    error: Vec<String>,
    /// With this text in the body or a header field.
    #[arg(short, long, value_name = "TEXT")]
    q: Option<String>,
    /// With this header field: name, or "name: text" that its value contains.
    #[arg(long, value_name = "FIELD")]
    header: Option<String>,
    /// With this value in its JSON body: /build/branch=main.
    #[arg(long, value_name = "POINTER=VALUE")]
    pointer: Option<String>,
}

/// The state of a delivery as a flag of lists.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct States {
    /// In this state; may be repeated.
    #[arg(long, value_name = "STATE", value_parser = words(&StateWord::ALL.map(StateWord::as_str)))]
    pub(super) state: Vec<String>,
}

/// One of these words: a misspelt one is told the nearest, and a shell completes them.
pub(super) fn words(all: &[&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(all.iter().copied())
}

/// An event's id as an argument.
pub(super) fn event_id(text: &str) -> Result<String, String> {
    id(EventId::parse(text).is_some(), text, "evt_")
}

/// An id of a kind that begins so.
pub(super) fn id(is: bool, text: &str, begin: &str) -> Result<String, String> {
    if is { Ok(text.to_owned()) } else { Err(format!("an id is {begin} and 32 hex digits")) }
}

impl Filters {
    /// As parameters of a list.
    pub(super) fn parameters(&self, states: &[String]) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |name: &str, values: &[String]| {
            all.extend(values.iter().map(|value| (name.to_owned(), value.clone())));
        };
        add("source", &self.source);
        add("event", &self.event);
        add("target", &self.target);
        add("state", states);
        add("reason", &self.reason);
        add("status", &self.status);
        add("error", &self.error);
        let singles = [
            ("since", &self.since),
            ("until", &self.until),
            ("attempts", &self.attempts.map(|count| count.to_string())),
            ("q", &self.q),
            ("header", &self.header),
            ("pointer", &self.pointer),
        ];
        for (name, value) in singles {
            add(name, value.as_slice());
        }
        all
    }

    /// As the filter of a bulk request.
    pub(super) fn body(&self, states: &[String]) -> Result<Value, Failure> {
        let now = Clock::system().wall();
        let mut filter = Map::new();
        let lists = [
            ("source", self.source.as_slice()),
            ("event", &self.event),
            ("target", &self.target),
            ("state", states),
            ("reason", &self.reason),
            ("status", &self.status),
            ("error", &self.error),
        ];
        for (name, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
            filter.insert(name.to_owned(), json!(values));
        }
        for (name, text) in [("since", &self.since), ("until", &self.until)] {
            if let Some(text) = text {
                let at = moment(text, now).map_err(|why| misused(&format!("--{name}: {why}")))?;
                filter.insert(name.to_owned(), json!(at));
            }
        }
        if let Some(attempts) = self.attempts {
            filter.insert("attempts".to_owned(), json!(attempts));
        }
        for (name, text) in [("q", &self.q), ("header", &self.header)] {
            filter.extend(text.iter().map(|text| (name.to_owned(), json!(text))));
        }
        if let Some(text) = &self.pointer {
            let (pointer, value) = text.split_once('=').unwrap_or((text, ""));
            filter.insert("pointer".to_owned(), json!([pointer, value]));
        }
        Ok(Value::Object(filter))
    }

    /// Whether anything is asked.
    pub(super) fn is_empty(&self) -> bool {
        self.parameters(&[]).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use everhook::rules::query::Query;

    use super::*;

    #[test]
    fn flags_say_the_same_to_a_list_and_to_a_bulk_request() {
        let filters = Filters {
            source: vec!["a".into(), "b".into()],
            status: vec!["5xx".into()],
            since: Some("1970-01-01T00:00:01Z".into()),
            attempts: Some(2),
            pointer: Some("/a=b=c".into()),
            q: Some("x".into()),
            ..Filters::default()
        };
        let parameters = filters.parameters(&["dead".to_owned()]);
        assert_eq!(parameters.len(), 8);
        assert!(parameters.contains(&("pointer".into(), "/a=b=c".into())));
        let body = filters.body(&["dead".to_owned()]).ok().unwrap();
        let query: Query = serde_json::from_value(body).unwrap();
        assert_eq!((query.source.len(), query.state.len(), query.attempts), (2, 1, Some(2)));
        assert_eq!(query.pointer, Some(("/a".into(), "b=c".into())));
        assert_eq!(query.since, Some(everhook::time::Timestamp::from_secs(1)));
        let soon = Filters { since: Some("soon".into()), ..Filters::default() };
        assert!(soon.body(&[]).is_err() && !soon.is_empty() && Filters::default().is_empty());
    }
}
