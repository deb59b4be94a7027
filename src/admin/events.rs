//! Events: lists, and one whole.

use std::cmp::Reverse;

use hyper::StatusCode;
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use serde_json::json;

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json, with_type};
use super::asked::{Asked, Cursor};
use super::deliveries::latest;
use super::shown;
use crate::journal::{Ask, Found, Listed, LoadError, Page, RejectionAsk};
use crate::model::{Event, EventId, REPEATS, Refusal, RejectionOutline};
use crate::rules::query::Outline;

/// Most conflicting copies of a source that are looked at for those of one event: each is read.
const MAX_CONFLICTS: usize = 200;

impl Shared {
    /// A page of events.
    pub(super) async fn list_events(&self, query: Option<&str>) -> Result<Answer, Problem> {
        let asked = Asked::parse(query, &["latest"], self.clock.now())?;
        let page = self.page(&asked).await?;
        let items: Vec<_> = page.items.iter().map(shown::listed).collect();
        let next = page.next.map(|sequence| Cursor { sequence, skip: None }.text());
        Ok(answer_json(StatusCode::OK, &json!({ "items": items, "next": next })))
    }

    /// One event whole.
    pub(super) async fn event(&self, id: EventId) -> Result<Answer, Problem> {
        let found = self.found(id).await?;
        let mut shown = shown::found(&found, &self.setup().proof_fields);
        let conflicts = self.conflicts(&found.event).await?;
        let conflicts: Vec<_> = conflicts.iter().map(shown::conflict).collect();
        shown::merge(&mut shown, json!({ "conflicts": conflicts }));
        Ok(answer_json(StatusCode::OK, &shown))
    }

    /// The copies of an event that say something else and are still kept, the latest first.
    async fn conflicts(&self, event: &Event) -> Result<Vec<RejectionOutline>, Problem> {
        let journal = self.journal()?;
        let ask = RejectionAsk {
            source: vec![event.source.clone()],
            cause: vec![Refusal::Conflict],
            since: Some(event.received_at),
            limit: MAX_CONFLICTS,
            ..RejectionAsk::default()
        };
        let id = event.id.to_string();
        let mut conflicts = Vec::new();
        for outline in journal.rejections(&ask) {
            let kept = journal.rejection(outline.id).await.map_err(|error| unreadable(&error))?;
            if kept.is_some_and(|kept| kept.headers.get_str(REPEATS) == Some(&*id)) {
                conflicts.push(outline);
            }
        }
        Ok(conflicts)
    }

    /// The bytes of its body, which no browser may take for anything but a download.
    pub(super) async fn event_body(&self, id: EventId) -> Result<Answer, Problem> {
        let body = self.found(id).await?.event.body;
        let mut answer = with_type(StatusCode::OK, "application/octet-stream", body);
        let attachment = HeaderValue::from_static("attachment");
        answer.headers_mut().insert(CONTENT_DISPOSITION, attachment);
        Ok(answer)
    }

    /// One event, which must be there.
    pub(super) async fn found(&self, id: EventId) -> Result<Found, Problem> {
        let found = self.journal()?.find(id).await.map_err(|error| unreadable(&error))?;
        found.ok_or_else(|| {
            Problem::unknown("the journal holds no such event, or its retention is over")
        })
    }

    /// The events that a query asks for.
    pub(super) async fn page(&self, asked: &Asked) -> Result<Page, Problem> {
        if !asked.query.ids.is_empty() {
            return self.named(asked).await;
        }
        let before = asked.cursor.map(Cursor::before);
        let ask = Ask { query: asked.query.clone(), before, limit: asked.limit };
        self.journal()?.list(ask).await.map_err(|error| unreadable(&error))
    }

    /// Events whose ids are given are found, not looked for among all.
    async fn named(&self, asked: &Asked) -> Result<Page, Problem> {
        let mut items = Vec::new();
        for id in asked.ids() {
            let found = self.journal()?.find(id).await.map_err(|error| unreadable(&error))?;
            let before = asked.cursor.map_or(u64::MAX, Cursor::before);
            items.extend(found.filter(|it| it.sequence < before && fits(it, asked)).map(listed));
        }
        items.sort_unstable_by_key(|item| Reverse(item.sequence));
        let more = items.len() > asked.limit;
        items.truncate(asked.limit);
        let next = items.last().filter(|_| more).map(|last| last.sequence);
        Ok(Page { items, next })
    }
}

/// Whether an event that was found is one that is asked for.
fn fits(found: &Found, asked: &Asked) -> bool {
    let (query, event) = (&asked.query, &found.event);
    let outline = Outline {
        id: event.id,
        source: event.source.as_str(),
        name: &event.name,
        received_at: event.received_at,
    };
    let delivery = !query.asks_delivery()
        || found.deliveries.iter().any(|it| {
            let latest = latest(found, &it.target).map(|(made, _)| made);
            query.fits_delivery(it.outline()) && query.fits_attempt(latest)
        });
    delivery && query.fits(outline) && query.fits_content(event)
}

fn listed(found: Found) -> Listed {
    let Found { sequence, event, deliveries, .. } = found;
    let bytes = event.headers.packed().len().saturating_add(event.body.len());
    Listed {
        sequence,
        id: event.id,
        source: event.source.as_str().to_owned(),
        name: event.name,
        received_at: event.received_at,
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        deliveries,
    }
}

/// A record that cannot be read.
pub(super) fn unreadable(error: &LoadError) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unreadable", error.to_string())
}
