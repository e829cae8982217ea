//! Stretches of time during which something is away, kept by whoever takes it away.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::evidence::Span;

/// Shared, so that what is told survives what it is told of.
#[derive(Debug, Clone, Default)]
pub struct Spans(Arc<Mutex<Vec<Span>>>);

impl Spans {
    /// It is away from now on; once is enough.
    pub fn open(&self) {
        let mut spans = self.0.lock().unwrap();
        if spans.last().is_none_or(|span| span.to.is_some()) {
            let from = Instant::now();
            spans.push(Span { from, to: None });
        }
    }

    /// It was there again by `at`.
    pub fn close(&self, at: Instant) {
        if let Some(span) = self.0.lock().unwrap().last_mut() {
            span.to.get_or_insert(at);
        }
    }

    /// It was away for this long, as is known only now.
    pub fn add(&self, from: Instant, to: Instant) {
        let to = Some(to);
        self.0.lock().unwrap().push(Span { from, to });
    }

    pub fn all(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }
}
