//! What the configuration says of the ingress. A reload replaces it as a whole; each request keeps to the one it began
//! with.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;

use super::append::Outcomes;
use super::body::Room;
use super::clean::Before;
use super::conflict::Conflicts;
use super::gate::Gate;
use super::quarantine::Holding;
use super::quiet::Quiet;
use super::routes::Routes;
use super::watch::{self, Watch};
use crate::config::{self, OnUnverified};
use crate::journal::Journal;
use crate::metrics::{Metrics, Timing};
use crate::model::{Name, Secret};
use crate::rules::intake::Intake;
use crate::rules::stages::{Patience, Stages};
use crate::time::Timestamp;

/// Sources and limits.
pub(super) struct Settings {
    pub(super) routes: Routes,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) ack_timeout: Duration,
    pub(super) max_body: usize,
    pub(super) bodies: Arc<Room>,
    /// For bodies from addresses that are not allowed, so that they take no room from the others.
    pub(super) strangers: Arc<Room>,
    pub(super) header_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) trusted_proxies: Vec<IpNet>,
}

/// One source with the handles of its metrics.
pub(super) struct SourceState {
    pub(super) name: Name,
    pub(super) path: String,
    pub(super) path_token: Option<Secret>,
    pub(super) gate: Gate,
    pub(super) intake: Arc<Intake>,
    /// Present when the builds of this source are watched.
    pub(super) watch: Option<Arc<Watch>>,
    /// Present when something is expected of it.
    pub(super) quiet: Option<Arc<Quiet>>,
    /// Present when what cannot be verified is held.
    pub(super) holding: Option<Arc<Holding>>,
    pub(super) conflicts: Arc<Conflicts>,
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) ack_duration: Timing,
    stages: Option<Patience>,
    expect_every: Option<Duration>,
}

/// What settings are made with.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) journal: &'a dyn Journal,
    pub(super) metrics: &'a Metrics,
    pub(super) now: Timestamp,
}

impl Settings {
    /// The settings of a source or another may go on with what was counted under the ones before.
    pub(super) fn new(
        config: &config::Ingress,
        sources: &[config::Source],
        around: Around<'_>,
        before: Option<&Self>,
    ) -> Self {
        let watched = |topic: &str, name: &str| {
            let source = sources.iter().find(|source| source.name.as_str() == name);
            source.is_some_and(|source| match topic {
                watch::TOPIC => source.stages.is_some(),
                _ => source.expect_every.is_some(),
            })
        };
        let remembered = Before::read(around.journal, watched);
        let state = |source: &config::Source| {
            let named = |state: &&Arc<SourceState>| state.name == source.name;
            let before = before.and_then(|before| before.routes.sources().find(named));
            let before = before.map(|before| &**before);
            Arc::new(SourceState::new(source, around, &remembered, before))
        };
        let room = before.filter(|before| before.max_body == config.max_body);
        Self {
            routes: Routes::new(sources.iter().map(state)),
            tls: config.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.server))),
            ack_timeout: config.ack_timeout,
            max_body: config.max_body,
            bodies: room.map_or_else(
                || Arc::new(Room::new(config.max_body)),
                |before| Arc::clone(&before.bodies),
            ),
            strangers: room.map_or_else(
                || Arc::new(Room::for_strangers(config.max_body)),
                |before| Arc::clone(&before.strangers),
            ),
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            trusted_proxies: config.trusted_proxies.clone(),
        }
    }
}

impl SourceState {
    fn new(
        source: &config::Source,
        around: Around<'_>,
        remembered: &Before,
        before: Option<&Self>,
    ) -> Self {
        let Around { metrics, now, .. } = around;
        let holding = || match before.and_then(|before| before.holding.clone()) {
            Some(holding) => holding,
            None => Arc::new(Holding::new(&source.name, metrics)),
        };
        let conflicts = before.map(|before| Arc::clone(&before.conflicts));
        Self {
            holding: (source.on_unverified == OnUnverified::Hold).then(holding),
            conflicts: conflicts.unwrap_or_else(|| Arc::new(Conflicts::new(&source.name, metrics))),
            outcomes: Arc::new(Outcomes::of(metrics, &source.name)),
            ack_duration: metrics.ingress_ack_duration.with_label_values(&[source.name.as_str()]),
            gate: Gate::new(source, before.map(|before| &before.gate), now),
            watch: watch(source, around, remembered, before),
            quiet: match before.filter(|before| before.expect_every == source.expect_every) {
                Some(before) => before.quiet.clone(),
                None => source.expect_every.map(|every| {
                    Arc::new(Quiet::new(&source.name, every, remembered, metrics, now))
                }),
            },
            name: source.name.clone(),
            path: source.path.clone(),
            path_token: source.path_token.clone(),
            intake: Arc::clone(&source.intake),
            stages: source.stages.clone(),
            expect_every: source.expect_every,
        }
    }
}

/// Watches the builds of a source, if they are to be watched: the builds before stay known as long as they are watched in
/// the same way.
fn watch(
    source: &config::Source,
    around: Around<'_>,
    remembered: &Before,
    before: Option<&SourceState>,
) -> Option<Arc<Watch>> {
    let Around { metrics, now, .. } = around;
    let (name, steps) = (source.intake.provider().name, source.intake.provider().steps);
    let same = before
        .filter(|before| before.stages == source.stages && before.intake.provider().name == name);
    match same {
        Some(same) => same.watch.clone(),
        None => source.stages.as_ref().map(|patience| {
            let stages = Stages::new(steps, patience.clone(), now);
            Arc::new(Watch::new(&source.name, stages, remembered, metrics, now))
        }),
    }
}
