//! Whether spans are kept, and who exports them.

use crate::config::{Config, Otel};
use crate::lifecycle::Tasks;
use crate::metrics::Metrics;
use crate::trace::Spans;

/// Starts the export that is configured; without one, no span is kept.
pub(super) fn export(config: &Config, metrics: &Metrics, tasks: &Tasks) -> anyhow::Result<Spans> {
    config.otel.as_ref().map_or_else(|| Ok(Spans::default()), |it| started(it, metrics, tasks))
}

#[cfg(feature = "otel")]
fn started(config: &Otel, metrics: &Metrics, tasks: &Tasks) -> anyhow::Result<Spans> {
    use anyhow::Context as _;

    use crate::otlp::Exporter;

    let metrics = metrics.spans().context("metrics")?;
    let (spans, queue) = Spans::kept(config.queue, config.sample, metrics.clone());
    let exporter = Exporter::new(config, queue, metrics, tasks).context("otel.endpoint")?;
    tasks.spawn(exporter.run(tasks.stop_token().clone()));
    Ok(spans)
}

/// No configuration that was checked asks this build for it.
#[cfg(not(feature = "otel"))]
fn started(_: &Otel, _: &Metrics, _: &Tasks) -> anyhow::Result<Spans> {
    anyhow::bail!("otel.endpoint: this everhook was built without the export of traces")
}
