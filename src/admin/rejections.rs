//! Refused requests that are kept: lists, one whole, and giving them up.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::asked::Words;
use super::events::unreadable;
use super::resend::read;
use super::shown;
use crate::journal::{MAX_PAGE, RejectionAsk};
use crate::model::{Name, Refusal, RejectionId};
use crate::time::Timestamp;

/// Most ids in one request.
const MAX_IDS: usize = 1_000;

/// Which rejections are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bulk {
    ids: Option<Vec<String>>,
    filter: Option<Filter>,
    #[serde(default)]
    dry_run: bool,
    /// Means something to a release alone.
    #[serde(default)]
    #[expect(dead_code, reason = "a release reads it")]
    pub(super) force: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    source: Vec<String>,
    cause: Vec<String>,
    held: Option<bool>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Shared {
    /// A page of rejections.
    pub(super) fn list_rejections(&self, query: Option<&str>) -> Result<Answer, Problem> {
        let known = ["source", "cause", "held", "since", "until", "cursor", "limit"];
        let (words, now) = (Words::parse(query, &known)?, self.clock.now());
        let limit = words.limit()?;
        let before = match words.one("cursor")? {
            None => None,
            Some(text) => Some(
                RejectionId::parse(text)
                    .ok_or_else(|| Problem::malformed("cursor takes the `next` of another page"))?,
            ),
        };
        let ask = RejectionAsk {
            source: words.read_all("source", Name::parse)?,
            cause: words.read_all("cause", Refusal::parse)?,
            held: words.read("held", "true or false")?,
            since: words.moment("since", now)?,
            until: words.moment("until", now)?,
            before,
            // One more than is shown says whether there is more.
            limit: limit.saturating_add(1),
        };
        let mut items = self.journal()?.rejections(&ask);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        let items: Vec<_> = items.iter().map(shown::listed_rejection).collect();
        Ok(answer_json(StatusCode::OK, &json!({ "items": items, "next": next })))
    }

    /// One rejection whole.
    pub(super) async fn rejection(&self, id: RejectionId) -> Result<Answer, Problem> {
        let found = self.journal()?.rejection(id).await.map_err(|error| unreadable(&error))?;
        let found = found.ok_or_else(|| Problem::unknown("this rejection is kept no longer"))?;
        Ok(answer_json(StatusCode::OK, &shown::rejection(&found)))
    }

    /// Gives rejections up.
    pub(super) async fn discard_rejections(
        &self,
        body: &Bytes,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let bulk: Bulk = read(body)?;
        let chosen = self.chosen(&bulk)?;
        let journal = self.journal()?;
        let mut dropped = 0usize;
        for ids in chosen.chunks(MAX_PAGE) {
            if bulk.dry_run {
                dropped = dropped.saturating_add(ids.len());
                continue;
            }
            let given_up = journal.drop_rejections(ids.to_vec()).await;
            let given_up = given_up.map_err(|error| Problem::unavailable(error.to_string()))?;
            dropped = dropped.saturating_add(given_up);
        }
        if !bulk.dry_run {
            tracing::info!(dropped, %peer, "an operator gave rejections up");
        }
        Ok(answer_json(StatusCode::OK, &json!({ "dropped": dropped })))
    }

    /// The ids that a request means.
    pub(super) fn chosen(&self, bulk: &Bulk) -> Result<Vec<RejectionId>, Problem> {
        match (&bulk.ids, &bulk.filter) {
            (Some(ids), None) if ids.len() <= MAX_IDS => ids
                .iter()
                .map(|id| {
                    let parsed = RejectionId::parse(id);
                    parsed.ok_or_else(|| Problem::malformed(format!("{id:?} is no rejection's id")))
                })
                .collect(),
            (Some(_), None) => Err(Problem::malformed(format!("ids takes at most {MAX_IDS}"))),
            (None, Some(filter)) => self.filtered(filter),
            (Some(_), Some(_)) | (None, None) => {
                Err(Problem::malformed("say which: either ids or filter; {} is every one"))
            }
        }
    }

    fn filtered(&self, filter: &Filter) -> Result<Vec<RejectionId>, Problem> {
        let name = |text: &String| {
            Name::parse(text).ok_or_else(|| Problem::malformed(format!("{text:?} is no source")))
        };
        let cause = |text: &String| {
            Refusal::parse(text).ok_or_else(|| Problem::malformed(format!("{text:?} is no cause")))
        };
        let mut ask = RejectionAsk {
            source: filter.source.iter().map(name).collect::<Result<_, _>>()?,
            cause: filter.cause.iter().map(cause).collect::<Result<_, _>>()?,
            held: filter.held,
            since: filter.since,
            until: filter.until,
            before: None,
            limit: MAX_PAGE,
        };
        let journal = self.journal()?;
        let mut ids = Vec::new();
        loop {
            let page = journal.rejections(&ask);
            ids.extend(page.iter().map(|item| item.id));
            match page.last().filter(|_| page.len() == MAX_PAGE) {
                Some(last) => ask.before = Some(last.id),
                None => return Ok(ids),
            }
        }
    }
}
