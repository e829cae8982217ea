//! Counts what is done to connections and requests that go beyond their limits.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rpc::arriving;

/// What went wrong, for the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections that were closed because of what their peers did.
    pub broken: Broken,
    /// Requests that were refused because of how their messages arrived.
    pub requests: Arc<arriving::Counts>,
}

/// Connections that were closed, by what their peers did.
#[derive(Debug, Default)]
pub struct Broken {
    /// Too much that has to be undone: streams that are opened and reset, and the like.
    pub flood: AtomicU64,
    /// Headers that did not come to an end in time.
    pub slow: AtomicU64,
    /// Headers that are too large, over HTTP/1.1.
    pub too_large: AtomicU64,
    /// What is neither HTTP/1.1 nor HTTP/2, or breaks their rules.
    pub malformed: AtomicU64,
}

impl Counts {
    /// Counts the end of a connection. That the peer went away is nobody's mistake.
    pub fn broke(&self, error: &(dyn Error + 'static)) {
        tracing::debug!(error, "a connection broke");
        let Broken {
            flood,
            slow,
            too_large,
            malformed,
        } = &self.broken;
        let count = match cause(error) {
            Some(Cause::Flood) => flood,
            Some(Cause::Slow) => slow,
            Some(Cause::TooLarge) => too_large,
            Some(Cause::Malformed) => malformed,
            None => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

enum Cause {
    Flood,
    Slow,
    TooLarge,
    Malformed,
}

fn cause(error: &(dyn Error + 'static)) -> Option<Cause> {
    let hyper = error.downcast_ref::<hyper::Error>()?;
    if hyper.is_timeout() {
        return Some(Cause::Slow);
    }
    if hyper.is_parse_too_large() {
        return Some(Cause::TooLarge);
    }
    if hyper.is_parse() {
        return Some(Cause::Malformed);
    }
    let http2 = error.source()?.downcast_ref::<h2::Error>()?;
    // What the peer tells us is not what it did.
    if http2.is_remote() || http2.is_io() {
        return None;
    }
    match http2.reason()? {
        h2::Reason::ENHANCE_YOUR_CALM => Some(Cause::Flood),
        h2::Reason::NO_ERROR => None,
        _ => Some(Cause::Malformed),
    }
}
