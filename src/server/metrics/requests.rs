//! The numbers of requests: how many of which method with which outcome, how long they took, and how many are open.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::families::{Families, Family, Kind, count};
use crate::rpc::front::{CODES, Counted, DURATION_BOUNDS, Tallies};
use crate::rpc::methods::Method;

/// Whatever has a path that is no method's.
const UNKNOWN: &str = "unknown";

/// A front that is asked for its numbers.
#[derive(Debug)]
pub(super) struct Numbers(pub Arc<Tallies>);

impl Collector for Numbers {
    #[expect(clippy::cast_precision_loss, reason = "exact up to nine quadrillions")]
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let all = self.0.read();
        let (mut answered, mut open, mut durations) = (Vec::new(), Vec::new(), Vec::new());
        for (method, counted) in &all {
            let Counted {
                codes,
                durations: counts,
                sum,
                open: now,
            } = counted;
            let (service, name) = names(*method);
            // All codes at once, so that a rate sees the first of each.
            for (code, count) in CODES.into_iter().zip(codes) {
                let labels = [("service", service), ("method", name), ("code", code)];
                answered.push((labels, *count as f64));
            }
            let labels = [("service", service), ("method", name)];
            open.push((labels, *now as f64));
            if method.is_some_and(|method| !method.streams) {
                let bounds = DURATION_BOUNDS.iter().map(std::time::Duration::as_secs_f64);
                // The last bucket is the one without a bound.
                let buckets = bounds.chain([f64::INFINITY]).zip(counts.iter().copied());
                durations.push((labels, buckets.collect(), sum.as_secs_f64()));
            }
        }
        families.labelled(
            count(
                "requests",
                "Requests that were answered, and streams that were opened, by what they were answered",
            ),
            Kind::Counter,
            &answered,
        )?;
        families.labelled(
            count(
                "requests_in_flight",
                "Requests that are not answered yet, and streams that are open",
            ),
            Kind::Gauge,
            &open,
        )?;
        let took = Family {
            name: "request_duration",
            help: "From the headers of a unary request until it was answered",
            unit: Some(&Unit::Seconds),
        };
        families.histograms(took, &durations)
    }
}

/// The service and the method of a path.
fn names(method: Option<&'static Method>) -> (&'static str, &'static str) {
    let path = method.map(|method| method.path.trim_start_matches('/'));
    path.and_then(|path| path.split_once('/')).unwrap_or((UNKNOWN, UNKNOWN))
}
