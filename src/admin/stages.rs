//! The builds that sources watch: how far each is, what it misses, and whether it got stuck.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::asked::{Words, not_a_cursor};
use crate::control::{Build, BuildAsk, BuildPlace};
use crate::model::Name;
use crate::rules::query::MAX_NEEDLE;
use crate::rules::stages::{Standing, StepStanding, StepView};
use crate::time::Timestamp;

impl Shared {
    /// A page of builds.
    pub(super) fn list_stages(&self, query: Option<&str>) -> Result<Answer, Problem> {
        let known = ["source", "state", "missing", "q", "cursor", "limit"];
        let words = Words::parse(query, &known)?;
        let limit = words.limit()?;
        let q = words.one("q")?.map(str::to_owned);
        if q.as_ref().is_some_and(|text| text.is_empty() || text.len() > MAX_NEEDLE) {
            return Err(Problem::malformed(format!("q takes between 1 and {MAX_NEEDLE} bytes")));
        }
        let ask = BuildAsk {
            source: words.read_all("source", Name::parse)?,
            state: words.read_words("state", &Standing::ALL, Standing::as_str)?,
            missing: words.read("missing", "true or false")?,
            q,
            after: words.one("cursor")?.map(place).transpose()?,
            // One more than is shown says whether there is more.
            limit: limit.saturating_add(1),
        };
        let mut builds = self.reception()?.builds.builds(&ask);
        let more = builds.len() > limit;
        builds.truncate(limit);
        let next = builds.last().filter(|_| more).map(|last| cursor(&last.place()));
        let items: Vec<_> = builds.iter().map(shown).collect();
        Ok(answer_json(StatusCode::OK, &json!({ "items": items, "next": next })))
    }
}

fn shown(Build { source, view }: &Build) -> Value {
    let of = |standing: StepStanding| {
        let steps = view.steps.iter().filter(|step| step.standing == standing);
        steps.map(|step| step.event).collect::<Vec<_>>()
    };
    let came = view.steps.iter().filter(|step| step.at.is_some());
    let first = came.clone().filter_map(|step| step.at).min();
    let last = came.max_by_key(|step| step.at).map(|step| step.event);
    let step = |StepView { event, standing, at }: &StepView| json!({ "event": event, "state": standing.as_str(), "at": at });
    json!({
        "source": source.as_str(),
        "build": view.build,
        "state": view.standing.as_str(),
        "first_at": first,
        "heard_at": view.heard_at,
        "last": last,
        "late": of(StepStanding::Late),
        "missing": of(StepStanding::Missing),
        "gap_at": view.gap_at,
        "stall_at": view.stall_at,
        "steps": view.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

/// The opaque text that a page ends with.
fn cursor(place: &BuildPlace) -> String {
    let BuildPlace { heard_at, source, build } = place;
    format!("{:x}.{source}.{}", heard_at.as_micros(), hex::encode(build))
}

/// Reads it back.
fn place(text: &str) -> Result<BuildPlace, Problem> {
    let read = || {
        let mut parts = text.split('.');
        let (at, source, build) = (parts.next()?, parts.next()?, parts.next()?);
        let micros = i64::from_str_radix(at, 16).ok()?;
        let build = String::from_utf8(hex::decode(build).ok()?).ok()?;
        let place = BuildPlace {
            heard_at: Timestamp::from_micros(micros),
            source: Name::parse(source)?,
            build,
        };
        parts.next().is_none().then_some(place)
    };
    read().ok_or_else(not_a_cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_whatever_the_build_is_called() {
        for build in ["p/u", "", "a.b-c\u{202e}", "../\n"] {
            let heard_at = Timestamp::from_secs(1_775_000_000);
            let source = Name::parse("shop-1").unwrap();
            let there = BuildPlace { heard_at, source, build: build.to_owned() };
            let text = cursor(&there);
            assert!(
                text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)),
                "{text}"
            );
            assert_eq!(place(&text).unwrap(), there);
        }
        for bad in ["", "1", "1.a", "x.a.00", "1.A.00", "1.a.0", "1.a.ff", "1.a.00.", "1.a.00.1"] {
            assert_eq!(place(bad).expect_err(bad).status.as_u16(), 400, "{bad}");
        }
    }
}
