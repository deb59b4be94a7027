//! What the configuration says of the ingress. A reload replaces it as a whole; each request keeps to the one it began
//! with.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;

use super::append::Outcomes;
use super::body::Room;
use super::conflict::Conflicts;
use super::gate::Gate;
use super::quarantine::Holding;
use super::routes::Routes;
use super::watch::Watch;
use crate::config::{self, OnUnverified};
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
    /// Present when what cannot be verified is held.
    pub(super) holding: Option<Arc<Holding>>,
    pub(super) conflicts: Arc<Conflicts>,
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) ack_duration: Timing,
    stages: Option<Patience>,
}

impl Settings {
    pub(super) fn new(
        config: &config::Ingress,
        sources: &[config::Source],
        metrics: &Metrics,
        now: Timestamp,
    ) -> Self {
        Self::build(config, sources, metrics, now, None)
    }

    /// Other settings, which go on with what was counted under these.
    pub(super) fn renewed(
        &self,
        config: &config::Ingress,
        sources: &[config::Source],
        metrics: &Metrics,
        now: Timestamp,
    ) -> Self {
        Self::build(config, sources, metrics, now, Some(self))
    }

    fn build(
        config: &config::Ingress,
        sources: &[config::Source],
        metrics: &Metrics,
        now: Timestamp,
        before: Option<&Self>,
    ) -> Self {
        let state = |source: &config::Source| {
            let named = |state: &&Arc<SourceState>| state.name == source.name;
            let before = before.and_then(|before| before.routes.sources().find(named));
            Arc::new(SourceState::new(source, metrics, now, before.map(|before| &**before)))
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
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            trusted_proxies: config.trusted_proxies.clone(),
        }
    }
}

impl SourceState {
    fn new(
        source: &config::Source,
        metrics: &Metrics,
        now: Timestamp,
        before: Option<&Self>,
    ) -> Self {
        let steps = source.intake.provider().steps;
        let same = before.filter(|before| {
            before.stages == source.stages
                && before.intake.provider().name == source.intake.provider().name
        });
        let watched = |patience: &Patience| {
            let stages = Stages::new(steps, patience.clone(), now);
            Arc::new(Watch::new(&source.name, stages, metrics))
        };
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
            gate: Gate::new(source, before.map(|before| &before.gate)),
            watch: match same {
                Some(same) => same.watch.clone(),
                None => source.stages.as_ref().map(watched),
            },
            name: source.name.clone(),
            path: source.path.clone(),
            path_token: source.path_token.clone(),
            intake: Arc::clone(&source.intake),
            stages: source.stages.clone(),
        }
    }
}
