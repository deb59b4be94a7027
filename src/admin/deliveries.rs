//! Deliveries and dead letters: events one target at a time.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::asked::{Asked, Cursor, MAX_LIMIT};
use super::shown;
use crate::journal::{Ask, DeliveryState, Found, Group, Listed, MAX_PAGE, Page, Tally};
use crate::model::{Attempt, DeadReason, Name};
use crate::rules::query::{Query, StateWord};
use crate::time::{Stopwatch, Timestamp};

/// How long the attempts of one page may be looked up.
const PATIENCE: Duration = Duration::from_millis(30);
/// How long dead letters may be counted.
const COUNTING: Duration = Duration::from_secs(2);

/// Which deliveries a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Dead,
}

impl Shared {
    /// A page of deliveries.
    pub(super) async fn list_deliveries(
        &self,
        which: Which,
        query: Option<&str>,
    ) -> Result<Answer, Problem> {
        let asked = asked(which, query, self.clock.now())?;
        let page = self.page(&asked).await?;
        let began = Stopwatch::start();
        let (mut items, mut looked) = (Vec::new(), 0usize);
        let mut next = page.next.map(|sequence| Cursor { sequence, skip: None });
        for (item, index, state) in flat(&page, &asked) {
            let is_late = looked > 0 && began.elapsed() > PATIENCE;
            if items.len() == asked.limit || is_late {
                next = Some(Cursor { sequence: item.sequence, skip: Some(index) });
                break;
            }
            looked = looked.saturating_add(1);
            items.extend(self.shown_delivery(item, state, &asked).await?);
        }
        let next = next.map(Cursor::text);
        Ok(answer_json(StatusCode::OK, &json!({ "items": items, "next": next })))
    }

    /// A delivery, if its latest attempt is one that is asked for.
    async fn shown_delivery(
        &self,
        item: &Listed,
        state: &DeliveryState,
        asked: &Asked,
    ) -> Result<Option<Value>, Problem> {
        let mut shown = shown::listed_delivery(item, state);
        if asked.latest || asked.query.needs_attempts() {
            // Its retention may have ended a moment ago.
            let Ok(found) = self.found(item.id).await else { return Ok(None) };
            let latest = latest(&found, &state.target);
            if !asked.query.fits_attempt(latest.map(|(made, _)| made)) {
                return Ok(None);
            }
            if asked.latest {
                let latest = latest.map(|(made, due)| {
                    shown::attempt(&state.target, made, due, &found.event.headers)
                });
                shown::merge(&mut shown, json!({ "latest": latest }));
            }
        }
        Ok(Some(shown))
    }

    /// Dead letters counted by target and reason.
    pub(super) async fn dead_groups(&self, query: Option<&str>) -> Result<Answer, Problem> {
        let without = ["state", "limit", "latest"];
        let asked = Asked::parse(query, &without, self.clock.now())?;
        let query = Query { state: vec![StateWord::Dead], ..asked.query };
        let began = Stopwatch::start();
        let mut tally = Tally { next: asked.cursor.map(Cursor::before), ..Tally::default() };
        loop {
            let ask = Ask { query: query.clone(), before: tally.next, limit: MAX_PAGE };
            let more = self.journal()?.tally(ask).await;
            tally.go_on(more.map_err(|error| super::events::unreadable(&error))?);
            if tally.next.is_none() || began.elapsed() > COUNTING {
                break;
            }
        }
        let next = tally.next.map(|sequence| Cursor { sequence, skip: None }.text());
        let complete = next.is_none();
        let body = json!({ "items": groups(&tally), "next": next, "complete": complete });
        Ok(answer_json(StatusCode::OK, &body))
    }
}

fn asked(which: Which, query: Option<&str>, now: Timestamp) -> Result<Asked, Problem> {
    let mut asked = match which {
        Which::All => Asked::parse(query, &[], now)?,
        Which::Dead => Asked::parse(query, &["state"], now)?,
    };
    if which == Which::Dead {
        asked.query.state = vec![StateWord::Dead];
    }
    Ok(asked)
}

/// The deliveries of a page that fit, each with its place in its event; those before the cursor are left out.
fn flat<'a>(
    page: &'a Page,
    asked: &'a Asked,
) -> impl Iterator<Item = (&'a Listed, usize, &'a DeliveryState)> {
    page.items.iter().flat_map(move |item| {
        let cursor = asked.cursor.filter(|cursor| cursor.sequence == item.sequence);
        let skip = cursor.and_then(|cursor| cursor.skip).unwrap_or(0);
        let all = item.deliveries.iter().enumerate().skip(skip);
        all.filter(|(_, state)| asked.query.fits_delivery(state.outline()))
            .map(move |(index, state)| (item, index, state))
    })
}

/// The latest attempt at a target, and when the delivery was due again after it.
pub(super) fn latest<'a>(
    found: &'a Found,
    target: &Name,
) -> Option<(&'a Attempt, Option<Timestamp>)> {
    let (_, made, due) = found.attempts.iter().rev().find(|(name, ..)| name == target)?;
    Some((made, *due))
}

fn groups(tally: &Tally) -> Vec<Value> {
    let group = |((target, reason), group): (&(Name, DeadReason), &Group)| {
        json!({
            "target": target.as_str(),
            "reason": reason.as_str(),
            "count": group.count,
            "oldest": group.oldest,
            "newest": group.newest,
        })
    };
    tally.groups.iter().map(group).collect()
}

// A page of deliveries never needs more events than the journal gives at once.
const _: () = assert!(MAX_LIMIT <= MAX_PAGE);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Stage;
    use crate::model::EventId;

    fn item(sequence: u64, stages: &[Stage]) -> Listed {
        let state = |(index, stage): (usize, &Stage)| DeliveryState {
            target: Name::parse(&format!("t{index}")).unwrap(),
            stage: *stage,
            attempts: 1,
        };
        Listed {
            sequence,
            id: EventId::new(Timestamp::from_secs(1), [0; 10]),
            source: "s".into(),
            name: "e".into(),
            received_at: Timestamp::from_secs(i64::try_from(sequence).unwrap()),
            bytes: 1,
            deliveries: stages.iter().enumerate().map(state).collect(),
        }
    }

    const DEAD: Stage = Stage::Dead(DeadReason::Gone);

    #[test]
    fn deliveries_go_on_within_an_event_and_only_there() {
        let page = Page {
            items: vec![item(9, &[DEAD, Stage::Delivered, DEAD, DEAD]), item(8, &[DEAD])],
            next: None,
        };
        let seen = |cursor: Option<&str>| {
            let cursor = cursor.map(|text| Cursor::parse(text).unwrap());
            let asked = Asked { cursor, ..asked(Which::Dead, None, Timestamp::EPOCH).unwrap() };
            flat(&page, &asked).map(|(item, index, _)| (item.sequence, index)).collect::<Vec<_>>()
        };
        assert_eq!(seen(None), [(9, 0), (9, 2), (9, 3), (8, 0)]);
        assert_eq!(seen(Some("9-3")), [(9, 3), (8, 0)]);
        // The event that was gone on with is no longer there.
        assert_eq!(seen(Some("a-3")), [(9, 0), (9, 2), (9, 3), (8, 0)]);
    }
}
