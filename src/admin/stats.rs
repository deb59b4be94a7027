//! Figures: of the whole daemon, and of each source.

use std::sync::PoisonError;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json};
use super::rates::{Rates, next_minute};
use super::setup::SourceSetup;
use crate::journal::{Depth, Health};
use crate::metrics::{SourceTotals, TargetTotals, Totals};
use crate::time::Timestamp;

impl Shared {
    /// Remembers the counters at the beginning of each minute, until it is to stop.
    pub(super) async fn remember(&self, stop: &CancellationToken) {
        let sampling = async {
            loop {
                let now = self.clock.now();
                self.rates().record(now, self.metrics.totals());
                self.clock.sleep_until(next_minute(now)).await;
            }
        };
        stop.run_until_cancelled(sampling).await;
    }

    pub(super) fn rates(&self) -> std::sync::MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How everything goes.
    pub(super) fn stats(&self) -> Answer {
        let (now, totals) = (self.clock.now(), self.metrics.totals());
        let journal = self.readiness.journal();
        let (health, detail) = match journal.map(|journal| journal.health()) {
            None => ("recovering", None),
            Some(Health::Healthy) => ("healthy", None),
            Some(Health::Full { detail }) => ("full", Some(detail)),
            Some(Health::Failed { detail }) => ("failed", Some(detail)),
        };
        let depths = journal.map(|journal| journal.depth()).unwrap_or_default();
        let rejections: u64 = journal.map_or(0, |journal| journal.quarantined().values().sum());
        let percentile = |percent| totals.ack.percentile(percent);
        let rates = self.rates();
        let series = |of: fn(&Totals) -> u64| rates.series(now, &totals, of);
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "revision": self.revision,
            "now": now,
            "started_at": self.started_at,
            "uptime_seconds": now.since(self.started_at).as_secs(),
            "journal": {
                "health": health,
                "detail": detail,
                "bytes": totals.journal_bytes,
                "free_bytes": totals.free_bytes,
            },
            "queue": self.queue(&depths, now),
            "ack_seconds": {
                "count": totals.ack.count,
                "p50": percentile(50),
                "p90": percentile(90),
                "p99": percentile(99),
            },
            "totals": {
                "accepted": accepted(&totals),
                "duplicates": over_sources(&totals, |it| it.duplicates),
                "refused": over_sources(&totals, |it| it.refused),
                "delivered": delivered(&totals),
                "failed": failed(&totals),
                "dead_letters": over_targets(&totals, |it| it.dead_letters),
            },
            "rejections": rejections,
            "per_minute": {
                "until": next_minute(now),
                "accepted": series(accepted),
                "delivered": series(delivered),
                "failed": series(failed),
            },
        });
        drop(rates);
        answer_json(StatusCode::OK, &body)
    }

    fn queue(&self, depths: &[Depth], now: Timestamp) -> Value {
        let setup = self.setup();
        let sum = |of: fn(&Depth) -> u64| depths.iter().map(of).sum::<u64>();
        let pending =
            |depth: &Depth| [depth.ready, depth.waiting, depth.in_flight].iter().sum::<u64>();
        let orphans = depths.iter().filter(|depth| !setup.has_target(&depth.target));
        let oldest = depths.iter().filter_map(|depth| depth.oldest).min();
        json!({
            "ready": sum(|depth| depth.ready),
            "waiting": sum(|depth| depth.waiting),
            "in_flight": sum(|depth| depth.in_flight),
            "dead": sum(|depth| depth.dead),
            "orphaned": orphans.map(pending).sum::<u64>(),
            "oldest_age_seconds": oldest.map(|oldest| now.since(oldest).as_secs()),
        })
    }

    /// Every source.
    pub(super) fn list_sources(&self) -> Result<Answer, Problem> {
        let (now, totals, setup) = (self.clock.now(), self.metrics.totals(), self.setup());
        let journal = self.journal()?;
        let (kept, latest) = (journal.quarantined(), journal.latest());
        let rates = self.rates();
        let shown = |source: &SourceSetup| {
            let name = source.name.as_str();
            let of = |totals: &Totals| totals.sources.get(name).copied().unwrap_or_default();
            let last = latest.get(&source.name).map(|last| {
                json!({ "id": last.id.to_string(), "event": last.name, "received_at": last.received_at })
            });
            let counts: SourceTotals = of(&totals);
            let (url, is_public) = source.address.url();
            let facts: Vec<_> =
                source.facts.iter().map(|(label, fact)| json!([label, fact])).collect();
            let samples: Vec<_> = source.provider.samples.iter().map(|it| it.event).collect();
            json!({
                "source": name,
                "provider": source.provider.name,
                "title": source.provider.title,
                "path": source.path,
                "url": url,
                "is_public_url": is_public,
                "needs_path_token": source.needs_path_token,
                "verifies": source.verifies,
                "watches_builds": source.watches_builds,
                "setup": facts,
                "samples": samples,
                "command": format!("everhook send {name}"),
                "accepted": counts.accepted,
                "duplicates": counts.duplicates,
                "refused": counts.refused,
                "rejections": kept.get(&source.name).copied().unwrap_or(0),
                "last_event": last,
                "per_minute": rates.series(now, &totals, |totals| of(totals).accepted),
            })
        };
        let items: Vec<_> = setup.sources.iter().map(shown).collect();
        drop(rates);
        Ok(answer_json(StatusCode::OK, &json!({ "items": items, "next": null })))
    }
}

fn over_sources(totals: &Totals, of: fn(&SourceTotals) -> u64) -> u64 {
    totals.sources.values().map(of).sum()
}

fn over_targets(totals: &Totals, of: fn(&TargetTotals) -> u64) -> u64 {
    totals.targets.values().map(of).sum()
}

fn accepted(totals: &Totals) -> u64 {
    over_sources(totals, |it| it.accepted)
}

fn delivered(totals: &Totals) -> u64 {
    over_targets(totals, |it| it.delivered)
}

fn failed(totals: &Totals) -> u64 {
    over_targets(totals, |it| it.failed)
}
