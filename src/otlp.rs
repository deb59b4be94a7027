//! Exports spans: OTLP over HTTP with protobuf, in batches, by one task.
//!
//! A batch that the collector does not take is dropped and counted, and never sent again: a queue behind a collector that is
//! down would only grow old. When the daemon stops, what is queued is still sent, for a bounded time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{RetryPolicy, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Otel;
use crate::lifecycle::Tasks;
use crate::metrics::SpanMetrics;
use crate::model::Secret;
use crate::target::{ClientError, Line};
use crate::time::{Timestamp, deadline};
use crate::trace::{Span, Work};

/// Most spans of one request.
const MAX_BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For everything that is still queued when the daemon stops.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);
/// Most bytes of an answer: it says how many spans were refused, and why.
const MAX_ANSWER: usize = 64 * 1024;

/// The task that exports.
pub struct Exporter {
    sender: opentelemetry_otlp::SpanExporter,
    scope: InstrumentationScope,
    queue: mpsc::Receiver<Span>,
    metrics: SpanMetrics,
    /// Whether the last batch was not taken.
    failing: bool,
}

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No connection can be made ready.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The exporter refuses its settings.
    #[error(transparent)]
    Settings(#[from] opentelemetry_otlp::ExporterBuildError),
}

impl Exporter {
    /// Takes spans from a queue; its connections run as `tasks`.
    pub fn new(
        config: &Otel,
        queue: mpsc::Receiver<Span>,
        metrics: SpanMetrics,
        tasks: &Tasks,
    ) -> Result<Self, ExportError> {
        let line = Line::new(&config.endpoint, TIMEOUT, MAX_ANSWER, tasks)?;
        let text = |value: &Secret| String::from_utf8_lossy(value.expose()).into_owned();
        let fields = config.headers.iter().map(|(name, value)| (name.clone(), text(value)));
        let mut sender = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Wire(line))
            .with_endpoint(&config.endpoint)
            .with_timeout(TIMEOUT)
            .with_headers(fields.collect::<HashMap<_, _>>())
            // Between two tries it would hold a thread of the runtime.
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource::builder()
            .with_service_name("everhook")
            .with_attribute(KeyValue::new("service.version", version))
            .build();
        sender.set_resource(&resource);
        let scope = InstrumentationScope::builder("everhook").with_version(version).build();
        Ok(Self { sender, scope, queue, metrics, failing: false })
    }

    /// Exports until it is told to stop, and then what is queued.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while let Some(true) = stop.run_until_cancelled(self.gather(&mut batch)).await {
            self.export(&mut batch).await;
        }
        self.queue.close();
        let flushed = async {
            loop {
                self.export(&mut batch).await;
                if self.queue.recv_many(&mut batch, MAX_BATCH).await == 0 {
                    return;
                }
            }
        };
        if tokio::time::timeout(FLUSH_DEADLINE, flushed).await.is_err() {
            tracing::warn!("the last spans were not exported in time");
        }
    }

    /// Waits for a batch that is worth a request; false when none will come any more. Dropping it loses nothing.
    async fn gather(&mut self, batch: &mut Vec<Span>) -> bool {
        if batch.is_empty() && self.queue.recv_many(batch, MAX_BATCH).await == 0 {
            return false;
        }
        let until = deadline(BATCH_WAIT);
        while batch.len() < MAX_BATCH {
            let more = self.queue.recv_many(batch, MAX_BATCH.saturating_sub(batch.len()));
            if !matches!(tokio::time::timeout_at(until, more).await, Ok(1..)) {
                break;
            }
        }
        true
    }

    /// Sends what was gathered.
    async fn export(&mut self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let spans = batch.drain(..).map(|span| data(span, &self.scope)).collect();
        match self.sender.export(spans).await {
            Ok(()) => {
                self.metrics.exported.inc_by(count);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("spans are exported again");
                }
            }
            Err(error) => {
                self.metrics.failed.inc_by(count);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "spans cannot be exported; they are dropped");
                }
            }
        }
    }
}

/// Lets the exporter speak through our own client.
#[derive(Debug)]
struct Wire(Line);

impl HttpClient for Wire {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async { Ok(self.0.send(request).await?) })
    }
}

/// A span in the exporter's words.
fn data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let Span { trace, id, parent, work, began, ended, event, source, fault } = span;
    let is_receive = matches!(work, Work::Receive { .. });
    let (name, span_kind, mut attributes) = told(work);
    attributes.push(KeyValue::new("everhook.event.id", event.to_string()));
    attributes.push(KeyValue::new("everhook.source", source.to_string()));
    attributes.extend(fault.map(|fault| KeyValue::new("error.type", fault)));
    let context = SpanContext::new(
        TraceId::from_bytes(trace.id),
        SpanId::from_bytes(id),
        TraceFlags::new(trace.flags),
        false,
        TraceState::NONE,
    );
    SpanData {
        span_context: context,
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: is_receive && parent.is_some(),
        span_kind,
        name: name.into(),
        start_time: system_time(began),
        end_time: system_time(ended),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: fault.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

/// Name, kind and attributes of what was done.
fn told(work: Work) -> (&'static str, SpanKind, Vec<KeyValue>) {
    let answered = |status: u16| KeyValue::new("http.response.status_code", i64::from(status));
    match work {
        Work::Receive { name, status } => (
            "receive",
            SpanKind::Server,
            vec![KeyValue::new("everhook.event", name), answered(status)],
        ),
        Work::Commit => ("commit", SpanKind::Internal, Vec::new()),
        Work::Attempt { target, number, status } => {
            let target = KeyValue::new("everhook.target", target.to_string());
            let number = KeyValue::new("everhook.attempt", i64::from(number));
            let all = [target, number].into_iter().chain(status.map(answered));
            ("attempt", SpanKind::Client, all.collect())
        }
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + at.since(Timestamp::EPOCH)
}
