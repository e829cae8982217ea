//! Traces: spans that a collector is sent by OpenTelemetry's protocol.
//!
//! Whether a request is traced is decided once, where it begins ([`Tracer::begin`]): the choice of a caller who may make it is followed,
//! and of those without one a share is taken. What is not traced makes no span at all, here or further down: [`within`] and [`start`] look for a
//! span of their task and find none.
//!
//! A span holds a name and a few fixed attributes. Architecture invariant: nothing that callers send, nobody's credential and no
//! parameter of a statement gets into a span; log lines are not exported.

mod export;
mod parent;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use opentelemetry::trace::{
    FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _, WithContext,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use crate::tls::ClientFiles;
pub use export::{Counts, Error, Exporter};
pub use opentelemetry::trace::TraceId;
pub use parent::{HEADER, Parent, trace_id};

/// Where traces go, and how many there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The collector.
    pub endpoint: String,
    /// Whom to trust there, and what to show. `None`: whom the machine trusts, and nothing; in clear there is nothing to trust.
    pub tls: Option<ClientFiles>,
    /// Which share of what has no trace begins one, from 0 to 1.
    pub share: f64,
}

/// Begins traces, or goes on with those of callers.
#[derive(Clone)]
pub struct Tracer {
    spans: SdkTracer,
    share: f64,
    counts: Arc<Counts>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

/// What a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that is answered here.
    Server,
    /// A question that another process is asked.
    Client,
    /// Anything else.
    Internal,
}

/// Something that takes time. It ends when it is dropped.
#[must_use = "it ends when it is dropped"]
pub struct Span(Context);

impl Tracer {
    /// Prepares traces, and the task that sends them. Connects to nothing yet, but must be called on a runtime.
    pub fn new(options: &Options) -> Result<(Self, Exporter), Error> {
        let (queue, exporter, counts) = export::pipeline(options)?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(queue)
            .build();
        let tracer = Self {
            spans: provider.tracer("halyard"),
            share: options.share,
            counts,
        };
        Ok((tracer, exporter))
    }

    /// What became of the spans.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Goes on with a caller's trace, if that says so and may, or begins one. `None`: it is not to be traced.
    pub fn begin(&self, name: impl Into<Cow<'static, str>>, kind: Kind, parent: Option<Parent>) -> Option<Span> {
        let is_taken = || fastrand::f64() < self.share;
        let parent = match parent {
            Some(parent) if !parent.is_sampled() => return None,
            Some(parent) if parent.decides() || is_taken() => Context::new().with_remote_span_context(parent.into()),
            None if is_taken() => Context::new(),
            Some(_) | None => return None,
        };
        Some(self.span(name.into(), kind, &parent))
    }

    fn span(&self, name: Cow<'static, str>, kind: Kind, parent: &Context) -> Span {
        let kind = match kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        };
        let span = self.spans.span_builder(name).with_kind(kind);
        let span = span.start_with_context(&self.spans, parent);
        Span(parent.with_span(span).with_value(self.clone()))
    }
}

impl Span {
    /// Runs something as a part of it.
    pub fn follow<F: Future>(&self, work: F) -> WithContext<F> {
        work.with_context(self.0.clone())
    }

    /// Says something of it.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// It failed. The reason is in the log: errors' texts hold what may not leave.
    pub fn fail(&self) {
        self.0.span().set_status(Status::error(""));
    }

    /// What a question to another server, made within it, says of the trace.
    pub fn header(&self) -> String {
        parent::write(self.0.span().span_context())
    }

    /// The trace that it is a part of.
    pub fn trace_id(&self) -> TraceId {
        self.0.span().span_context().trace_id()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// A part of what the current task traces. `name` is asked for only if it does. `None`: it does not.
pub fn start<N: Into<Cow<'static, str>>>(kind: Kind, name: impl FnOnce() -> N) -> Option<Span> {
    Context::map_current(|current| {
        let tracer = current.get::<Tracer>()?;
        Some(tracer.span(name().into(), kind, current))
    })
}

/// Runs something as a part of what the current task traces.
pub async fn within<F: Future>(name: &'static str, work: F) -> F::Output {
    match start(Kind::Internal, || name) {
        None => work.await,
        Some(span) => span.follow(work).await,
    }
}

/// Takes what the current task traces along to another.
pub fn carry<F: Future>(work: F) -> WithContext<F> {
    work.with_current_context()
}

/// The trace that the current task is a part of.
pub fn current() -> Option<TraceId> {
    Context::map_current(|current| {
        current.get::<Tracer>()?;
        Some(current.span().span_context().trace_id())
    })
}
