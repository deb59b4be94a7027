//! What is asked to be done to many events: counted, begun as a job, looked at, cancelled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::asked::Asked;
use super::chosen::{Choice, would_change};
use super::events::unreadable;
use super::jobs::TooMany;
use super::resend::read_dated;
use crate::journal::{Ask, MAX_PAGE};
use crate::model::{EventId, JobId};
use crate::rules::jobs::{
    Job, Kind, MAX_IDS, MAX_RATE, MAX_RUNNING, MAX_WORDS, Order, RATE, meant,
};
use crate::rules::query::Query;
use crate::time::Stopwatch;

/// How long a dry run may count.
const COUNTING: Duration = Duration::from_secs(5);
/// How long a job may be counted before it begins.
const EXPECTING: Duration = Duration::from_millis(500);
/// How long an answer waits for a small job to be done.
const SHORTLY: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Request {
    ids: Option<Vec<String>>,
    filter: Option<Query>,
    targets: Option<Vec<String>>,
    dry_run: bool,
    rate: Option<u32>,
    force: bool,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    events: u64,
    deliveries: u64,
    complete: bool,
}

impl Shared {
    /// Counts, or begins a job.
    pub(super) async fn bulk(
        &self,
        kind: Kind,
        body: &Bytes,
        peer: SocketAddr,
    ) -> Result<Answer, Problem> {
        let request: Request = read_dated(body, self.clock.now())?;
        let dry_run = request.dry_run;
        let (order, ids) = self.order(kind, request)?;
        if dry_run {
            let Count { events, deliveries, complete } = self.count(&order, &ids, COUNTING).await?;
            return Ok(answer_json(
                StatusCode::OK,
                &json!({
                    "dry_run": true, "events": events, "deliveries": deliveries, "complete": complete,
                }),
            ));
        }
        let expected = if let Some(ids) = order.ids {
            u64::try_from(ids).ok()
        } else {
            let count = self.count(&order, &ids, EXPECTING).await?;
            count.complete.then_some(count.events)
        };
        let id = JobId::new(self.clock.now(), self.random());
        let about = about(&order);
        let job = Job::new(order, expected, self.clock.now());
        let begun = self.jobs.begin(&**self.journal()?, (id, job), ids).await;
        begun.map_err(|TooMany| {
            let detail = format!("{MAX_RUNNING} jobs run already; wait for one, or cancel one");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", detail)
        })?;
        tracing::info!(job = %id, ?kind, %about, expected, %peer, "an operator began a job");
        // A small one is done at once, which spares its asker from asking again.
        drop(tokio::time::timeout(SHORTLY, self.jobs.ended(id)).await);
        let job = self.jobs.get(id).ok_or_else(|| Problem::unknown("the job is gone"))?;
        Ok(answer_json(StatusCode::ACCEPTED, &shown(id, &job)))
    }

    /// Every job.
    pub(super) fn list_jobs(&self) -> Answer {
        let items: Vec<_> = self.jobs.list().iter().map(|(id, job)| shown(*id, job)).collect();
        answer_json(StatusCode::OK, &json!({ "items": items, "next": null }))
    }

    /// One job.
    pub(super) fn job(&self, id: JobId) -> Result<Answer, Problem> {
        let job = self.jobs.get(id).ok_or_else(no_job)?;
        Ok(answer_json(StatusCode::OK, &shown(id, &job)))
    }

    /// Ends a job.
    pub(super) async fn cancel(&self, id: JobId, peer: SocketAddr) -> Result<Answer, Problem> {
        let journal = self.journal()?;
        let job = self.cancelled(&**journal, id).await.ok_or_else(no_job)?;
        tracing::info!(job = %id, %peer, "an operator cancelled a job");
        Ok(answer_json(StatusCode::OK, &shown(id, &job)))
    }

    /// Checks what is asked for.
    fn order(&self, kind: Kind, request: Request) -> Result<(Order, Arc<[EventId]>), Problem> {
        let Request { ids, filter, targets, dry_run: _, rate, force } = request;
        let rate = rate.unwrap_or(RATE);
        if !(1..=MAX_RATE).contains(&rate) {
            return Err(Problem::malformed(format!("rate takes 1 to {MAX_RATE} events a second")));
        }
        match (kind, &targets) {
            (Kind::Replay, Some(names)) => drop(self.configured(names.clone())?),
            // Of dead letters, those of a target that left the configuration are meant, too.
            (Kind::Retry | Kind::Discard, Some(names)) => self.kept(names)?,
            (_, None) => {}
        }
        let (query, ids) = match (ids, filter) {
            (Some(ids), None) => (Query::default(), Some(parsed(&ids)?)),
            (None, Some(query)) => (query, None),
            (Some(_), Some(_)) | (None, None) => {
                let detail = "say which: either ids or filter; {\"filter\": {}} is every event";
                return Err(Problem::malformed(detail));
            }
        };
        if let Some(mistake) = query.mistake() {
            return Err(Problem::malformed(mistake));
        }
        // A filter of ids is the same as ids, but for the rest of the filter.
        let words = serde_json::to_vec(&(&query, &targets)).map_or(usize::MAX, |text| text.len());
        if words > MAX_WORDS {
            let detail =
                format!("filter and targets take at most {MAX_WORDS} bytes; give ids apart");
            return Err(Problem::malformed(detail));
        }
        let count = ids.as_ref().map(Vec::len);
        let order = Order { kind, query, ids: count, targets, rate, force };
        Ok((order, ids.unwrap_or_default().into()))
    }

    /// How many events and deliveries an order is about, as far as the time allows.
    async fn count(
        &self,
        order: &Order,
        ids: &[EventId],
        time: Duration,
    ) -> Result<Count, Problem> {
        let (journal, began) = (self.journal()?, Stopwatch::start());
        let mut query = meant(order.kind, order.force, order.query.clone());
        let mut count = Count::default();
        let mut before = None;
        loop {
            let page = if order.ids.is_some() {
                query.ids = ids.iter().map(ToString::to_string).collect();
                let query = query.clone();
                let limit = MAX_IDS;
                self.page(&Asked { query, cursor: None, limit, latest: false }).await?
            } else {
                let ask = Ask { query: query.clone(), before, limit: MAX_PAGE };
                journal.list(ask).await.map_err(|error| unreadable(&error))?
            };
            for item in &page.items {
                let fitting = self.fitting(&**journal, &query, item).await;
                let targets = order.targets.as_deref();
                let choice = Choice { kind: order.kind, force: order.force, targets };
                let changed = u64::try_from(would_change(choice, item, fitting)).unwrap_or(0);
                count.events = count.events.saturating_add(1);
                count.deliveries = count.deliveries.saturating_add(changed);
            }
            before = page.next;
            if before.is_none() || began.elapsed() > time {
                count.complete = before.is_none();
                return Ok(count);
            }
        }
    }
}

/// What a job is about, for the log: what of the filter is said, the number of ids, the targets.
fn about(order: &Order) -> String {
    let mut words = match order.ids {
        Some(ids) => json!({ "ids": ids }),
        None => json!(order.query),
    };
    if let Value::Object(words) = &mut words {
        words.retain(|_, value| !value.is_null() && *value != json!([]));
        words.extend(order.targets.iter().map(|targets| ("targets".to_owned(), json!(targets))));
    }
    words.to_string()
}

fn no_job() -> Problem {
    Problem::unknown("there is no such job, or it ended too long ago")
}

fn parsed(ids: &[String]) -> Result<Vec<EventId>, Problem> {
    if ids.len() > MAX_IDS {
        return Err(Problem::malformed(format!("ids takes at most {MAX_IDS}")));
    }
    let id = |text: &String| {
        EventId::parse(text).ok_or_else(|| Problem::malformed(format!("{text:?} is no event's id")))
    };
    let mut ids = ids.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// A job as JSON.
fn shown(id: JobId, job: &Job) -> Value {
    json!({
        "id": id.to_string(),
        "kind": job.kind,
        "state": job.state,
        "created_at": job.created_at,
        "ended_at": job.ended_at,
        "filter": job.ids.is_none().then_some(&job.query),
        "ids": job.ids,
        "targets": job.targets,
        "rate": job.rate,
        "force": job.force,
        "expected": job.expected,
        "events": job.events,
        "deliveries": job.deliveries,
        "failed": job.failed,
        "error": job.error,
    })
}
