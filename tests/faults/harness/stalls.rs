//! Whoever notes what comes stands still now and then: the machine does other things too.

use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

use super::spans::Spans;
use crate::evidence::Span;

const PAUSE: Duration = Duration::from_millis(50);
/// A pause that took longer than this is one in which nobody got to run.
const LONGEST: Duration = Duration::from_millis(300);

/// The watch over the test's own tasks; over when dropped.
pub struct Stalls {
    spans: Spans,
    _task: AbortOnDropHandle<()>,
}

impl Stalls {
    pub fn watch() -> Self {
        let spans = Spans::default();
        let noting = spans.clone();
        let task = tokio::spawn(async move {
            loop {
                let before = Instant::now();
                tokio::time::sleep(PAUSE).await;
                let after = Instant::now();
                if after - before > LONGEST {
                    noting.add(before, after);
                }
            }
        });
        Self {
            spans,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub fn so_far(&self) -> Vec<Span> {
        self.spans.all()
    }

    /// How long everything stood still between two moments.
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        let spans = self.spans.all();
        let within = |span: &Span| {
            span.to
                .unwrap_or(to)
                .min(to)
                .saturating_duration_since(span.from.max(from))
        };
        spans.iter().map(within).sum()
    }
}
