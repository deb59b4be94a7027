//! Refused requests that are kept: lists, one whole, and giving them up.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::asked::{Words, not_a_cursor};
use super::events::unreadable;
use super::resend::read_dated;
use super::shown;
use crate::control::Released;
use crate::journal::{MAX_PAGE, RejectionAsk};
use crate::model::{Name, Refusal, RejectionId};
use crate::time::Timestamp;

/// Most ids in one request.
const MAX_IDS: usize = 1_000;

/// Most outcomes in one answer.
const MAX_SHOWN: usize = 1_000;

/// Which rejections are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bulk {
    ids: Option<Vec<String>>,
    filter: Option<Filter>,
    #[serde(default)]
    dry_run: bool,
    /// Means something to a release alone.
    #[serde(default)]
    force: bool,
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
            Some(text) => Some(RejectionId::parse(text).ok_or_else(not_a_cursor)?),
        };
        let ask = RejectionAsk {
            source: words.read_all("source", Name::parse)?,
            cause: words.read_words("cause", &Refusal::ALL, Refusal::as_str)?,
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
        Ok(answer_json(StatusCode::OK, &shown::rejection(&found, &self.setup().proof_fields)))
    }

    /// Gives rejections up.
    pub(super) async fn discard_rejections(
        &self,
        body: &Bytes,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let bulk: Bulk = read_dated(body, self.clock.now())?;
        let chosen = self.chosen(&bulk)?;
        let (dry_run, matched) = (bulk.dry_run, self.matched(&bulk, &chosen).await?);
        let mut dropped = 0usize;
        if !dry_run {
            let journal = self.journal()?;
            for ids in chosen.chunks(MAX_PAGE) {
                let given_up = journal.drop_rejections(ids.to_vec()).await;
                let given_up = given_up.map_err(|error| Problem::unavailable(error.to_string()))?;
                dropped = dropped.saturating_add(given_up);
            }
            tracing::info!(dropped, %peer, "an operator gave rejections up");
        }
        let body = json!({ "dry_run": dry_run, "matched": matched, "dropped": dropped });
        Ok(answer_json(StatusCode::OK, &body))
    }

    /// Makes events of rejections.
    pub(super) async fn release_rejections(
        &self,
        body: &Bytes,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let bulk: Bulk = read_dated(body, self.clock.now())?;
        let chosen = self.chosen(&bulk)?;
        let matched = self.matched(&bulk, &chosen).await?;
        let release = &self.reception()?.release;
        let released =
            if bulk.dry_run { Vec::new() } else { release.release(chosen, bulk.force).await };
        if !bulk.dry_run {
            let force = bulk.force;
            tracing::info!(matched, force, %peer, "an operator released rejections");
        }
        let count = |word: &str| released.iter().filter(|(_, it)| it.as_str() == word).count();
        let items: Vec<_> =
            released.iter().take(MAX_SHOWN).map(|(id, it)| outcome(*id, *it)).collect();
        let body = json!({
            "dry_run": bulk.dry_run,
            "matched": matched,
            "accepted": count("accepted"),
            "duplicate": count("duplicate"),
            "refused": count("refused"),
            "gone": count("gone"),
            "no_source": count("no-source"),
            "failed": count("failed"),
            "items": items,
        });
        Ok(answer_json(StatusCode::OK, &body))
    }

    /// The ids that a request means.
    fn chosen(&self, bulk: &Bulk) -> Result<Vec<RejectionId>, Problem> {
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

    /// How many rejections a request means; a dry run looks whether those that it names are kept.
    async fn matched(&self, bulk: &Bulk, chosen: &[RejectionId]) -> Result<usize, Problem> {
        if !bulk.dry_run || bulk.ids.is_none() {
            return Ok(chosen.len());
        }
        let (journal, mut kept) = (self.journal()?, 0usize);
        let named: BTreeSet<_> = chosen.iter().collect();
        for id in named {
            let found = journal.rejection(*id).await.map_err(|error| unreadable(&error))?;
            kept = kept.saturating_add(usize::from(found.is_some()));
        }
        Ok(kept)
    }

    fn filtered(&self, filter: &Filter) -> Result<Vec<RejectionId>, Problem> {
        let name = |text: &String| {
            Name::parse(text).ok_or_else(|| Problem::malformed(format!("{text:?} is no source")))
        };
        let cause = |text: &String| {
            Refusal::parse(text).ok_or_else(|| {
                let all = Refusal::ALL.map(Refusal::as_str).join(", ");
                Problem::malformed(format!("{text:?} is no cause; there are {all}"))
            })
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

/// What became of one rejection.
fn outcome(id: RejectionId, released: Released) -> Value {
    let (event, cause, error) = match released {
        Released::Accepted(event) | Released::Duplicate(event) => (Some(event), None, None),
        Released::Refused(cause) => (None, Some(cause), None),
        Released::Failed(error) => (None, None, Some(error)),
        Released::Gone | Released::NoSource => (None, None, None),
    };
    json!({
        "id": id.to_string(),
        "outcome": released.as_str(),
        "event": event.map(|event| event.to_string()),
        "cause": cause.map(Refusal::as_str),
        "error": error.map(|error| error.to_string()),
    })
}
