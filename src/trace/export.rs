//! The way to the collector: a queue of a fixed length, and one task that empties it.
//!
//! Whoever ends a span never waits: a queue that is full drops it, and counts it. So a collector that is away costs a bounded amount
//! of memory, one attempt at a time, and a line in the log now and then.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::Options;
use crate::tls::{self, Connector};

/// Spans that wait, each about a kilobyte.
const WAITING: usize = 4_096;
/// Spans that are sent together at most.
const BATCH: usize = 512;
/// How long spans are gathered.
const GATHERING: Duration = Duration::from_millis(500);
/// How long the collector may take to answer, its retries included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last spans may take: less than tasks have to end.
const LAST: Duration = Duration::from_secs(2);
/// Between two lines about the same trouble.
const SILENCE: Duration = Duration::from_mins(1);

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent to the collector of --otlp-endpoint")]
pub enum Error {
    /// It has no address.
    Address(#[from] http::uri::InvalidUri),
    /// What was told of it by variables makes no sense.
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct Counts {
    /// The collector has them.
    pub exported: AtomicU64,
    /// The collector was away, or did not take them.
    pub failed: AtomicU64,
    /// Too many waited already.
    pub dropped: AtomicU64,
}

/// Where spans go when they end.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
}

/// Sends spans.
#[derive(Debug)]
pub struct Exporter {
    collector: Otlp,
    spans: mpsc::Receiver<SpanData>,
    counts: Arc<Counts>,
    trouble: Trouble,
}

/// Whether the collector takes what it is sent.
#[derive(Debug, Default)]
struct Trouble {
    /// When it was last spoken of. `None`: there is none.
    said_at: Option<Instant>,
}

/// The queue, what empties it, and what both count.
pub(super) fn pipeline(options: &Options) -> Result<(Queue, Exporter, Arc<Counts>), Error> {
    let mut collector = Otlp::builder()
        .with_tonic()
        .with_channel(channel(options)?)
        .with_timeout(PATIENCE)
        .build()?;
    collector.set_resource(&resource());
    let (sender, spans) = mpsc::channel(WAITING);
    let counts = Arc::new(Counts::default());
    let queue = Queue {
        spans: sender,
        counts: counts.clone(),
    };
    let exporter = Exporter {
        collector,
        spans,
        counts: counts.clone(),
        trouble: Trouble::default(),
    };
    Ok((queue, exporter, counts))
}

/// The way to the collector, made when it is needed: over TLS with certificates that are read again for every connection.
fn channel(options: &Options) -> Result<Channel, Error> {
    let address: http::Uri = options.endpoint.parse()?;
    let is_secret = address.scheme_str() == Some("https");
    let connector = is_secret.then(|| Connector::new(options.tls.clone().unwrap_or_default()));
    let endpoint = tls::endpoint(address, connector.as_ref()).timeout(PATIENCE);
    Ok(match connector {
        Some(connector) => endpoint.connect_with_connector_lazy(connector),
        None => endpoint.connect_lazy(),
    })
}

/// What this process is, with what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say.
fn resource() -> Resource {
    const NAME: Key = Key::from_static_str("service.name");
    let found = Resource::builder().build();
    let named = found
        .get(&NAME)
        .filter(|name| !name.as_str().starts_with("unknown_service"));
    let name = named.map_or_else(|| "halyard".to_owned(), |name| name.to_string());
    Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_service_name(name)
        .build()
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Exporter {
    /// Sends until it is stopped, and then what is left, within a bound.
    pub async fn run(mut self, stop: CancellationToken) {
        let over = async {
            stop.cancelled().await;
            sleep(LAST).await;
        };
        tokio::select! {
            biased;
            () = self.send_all(&stop) => {}
            () = over => tracing::warn!("the collector does not answer; the last spans are not sent"),
        }
    }

    async fn send_all(&mut self, stop: &CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let gathered = async {
                // Nothing is gathered before there is something.
                let received = self.spans.recv_many(&mut batch, BATCH).await;
                if received == 0 {
                    // Nobody is left who traces.
                    pending::<()>().await;
                }
                if batch.len() < BATCH {
                    sleep(GATHERING).await;
                }
            };
            let stopped = stop.run_until_cancelled(gathered).await.is_none();
            self.fill(&mut batch);
            if stopped && batch.is_empty() {
                return;
            }
            self.send(std::mem::take(&mut batch)).await;
        }
    }

    fn fill(&mut self, batch: &mut Vec<SpanData>) {
        while batch.len() < BATCH {
            match self.spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(_) => return,
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let spans = batch.len() as u64;
        let sent = timeout(PATIENCE, self.collector.export(batch)).await;
        let (counted, error) = match sent {
            Ok(Ok(())) => (&self.counts.exported, None),
            Ok(Err(error)) => (&self.counts.failed, Some(error.to_string())),
            Err(_) => (&self.counts.failed, Some("it does not answer".to_owned())),
        };
        counted.fetch_add(spans, Ordering::Relaxed);
        self.trouble.say(error, &self.counts);
    }
}

impl Trouble {
    fn say(&mut self, error: Option<String>, counts: &Counts) {
        let now = Instant::now();
        match (error, self.said_at) {
            (None, Some(_)) => {
                self.said_at = None;
                tracing::info!("the collector takes traces again");
            }
            (Some(_), Some(at)) if now.duration_since(at) < SILENCE => {}
            (Some(error), _) => {
                self.said_at = Some(now);
                let failed = counts.failed.load(Ordering::Relaxed);
                let dropped = counts.dropped.load(Ordering::Relaxed);
                tracing::warn!(
                    error,
                    failed,
                    dropped,
                    "the collector does not take traces; they are let go"
                );
            }
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Kind, Options, Parent, Tracer};

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_counted() {
        let options = Options {
            endpoint: "http://127.0.0.1:1".to_owned(),
            tls: None,
            share: 1.0,
        };
        // Nobody sends anything.
        let (tracer, _exporter) = Tracer::new(&options).unwrap();
        for _ in 0..WAITING + 10 {
            drop(tracer.begin("it", Kind::Internal, None));
        }
        assert_eq!(tracer.counts().dropped.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn what_is_not_traced_makes_no_span_further_down() {
        let options = Options {
            endpoint: "http://127.0.0.1:1".to_owned(),
            tls: None,
            share: 0.0,
        };
        let (tracer, mut exporter) = Tracer::new(&options).unwrap();
        assert!(tracer.begin("it", Kind::Internal, None).is_none());
        crate::trace::within("part", async {}).await;
        assert!(exporter.spans.try_recv().is_err());

        let parent = Parent::read(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert!(
            tracer
                .begin("it", Kind::Internal, Some(parent.clone().of_anybody()))
                .is_none()
        );
        let span = tracer.begin("it", Kind::Internal, Some(parent)).unwrap();
        span.follow(crate::trace::within("part", async {})).await;
        drop(span);
        let [part, whole] = [exporter.spans.try_recv().unwrap(), exporter.spans.try_recv().unwrap()];
        assert_eq!((part.name.as_ref(), whole.name.as_ref()), ("part", "it"));
        assert_eq!(part.parent_span_id, whole.span_context.span_id());
    }
}
