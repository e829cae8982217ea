//! Writes families of metrics from plain numbers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::watch::{Distribution, LATENCY_BOUNDS};

/// What all of ours are called first.
const PREFIX: &str = "halyard_";

/// Writes into one scrape's answer.
pub(super) struct Families<'a>(pub DescriptorEncoder<'a>);

/// What a family is called, what it means, and in what it is measured.
#[derive(Clone, Copy)]
pub(super) struct Family<'a> {
    /// Behind [`PREFIX`] and before the unit.
    pub name: &'a str,
    pub help: &'a str,
    /// `None`: it counts.
    pub unit: Option<&'a Unit>,
}

/// Whether a number only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Labels; what each bucket alone holds, with its bound in seconds; and all of it together.
pub(super) type Durations<'a, const N: usize> = ([(&'a str, &'a str); N], Vec<(f64, u64)>, f64);

/// A number that is counted.
pub(super) const fn count<'a>(name: &'a str, help: &'a str) -> Family<'a> {
    Family { name, help, unit: None }
}

impl Families<'_> {
    /// One number that only rises.
    pub fn counter(&mut self, family: Family<'_>, value: u64) -> fmt::Result {
        let metric = ConstCounter::new(value);
        let name = format!("{PREFIX}{}", family.name);
        let encoder = self
            .0
            .encode_descriptor(&name, family.help, family.unit, MetricType::Counter)?;
        metric.encode(encoder)
    }

    /// Numbers that only rise, told apart by the values of one label.
    pub fn counters(&mut self, family: Family<'_>, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let name = format!("{PREFIX}{}", family.name);
        let mut encoder = self
            .0
            .encode_descriptor(&name, family.help, family.unit, MetricType::Counter)?;
        for (of, value) in values {
            ConstCounter::new(*value).encode(encoder.encode_family(&[(label, *of)])?)?;
        }
        Ok(())
    }

    /// One number that rises and falls.
    pub fn gauge(&mut self, family: Family<'_>, value: f64) -> fmt::Result {
        let name = format!("{PREFIX}{}", family.name);
        let encoder = self
            .0
            .encode_descriptor(&name, family.help, family.unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// Numbers that rise and fall, told apart by the values of one label.
    pub fn gauges(&mut self, family: Family<'_>, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let name = format!("{PREFIX}{}", family.name);
        let mut encoder = self
            .0
            .encode_descriptor(&name, family.help, family.unit, MetricType::Gauge)?;
        for (of, value) in values {
            ConstGauge::new(*value).encode(encoder.encode_family(&[(label, *of)])?)?;
        }
        Ok(())
    }

    /// Numbers of any kind, each with its labels. Without any, the family is left out.
    pub fn labelled<const N: usize>(
        &mut self,
        family: Family<'_>,
        kind: Kind,
        values: &[([(&str, &str); N], f64)],
    ) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        let name = format!("{PREFIX}{}", family.name);
        let metric = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut encoder = self.0.encode_descriptor(&name, family.help, family.unit, metric)?;
        for (labels, value) in values {
            let encoder = encoder.encode_family(labels)?;
            match kind {
                Kind::Counter => ConstCounter::new(*value).encode(encoder)?,
                Kind::Gauge => ConstGauge::new(*value).encode(encoder)?,
            }
        }
        Ok(())
    }

    /// How long things took, each with its labels: what each bucket alone holds, up to its bound in seconds, and all of it together.
    pub fn histograms<const N: usize>(&mut self, family: Family<'_>, values: &[Durations<'_, N>]) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        let name = format!("{PREFIX}{}", family.name);
        let mut encoder = self
            .0
            .encode_descriptor(&name, family.help, family.unit, MetricType::Histogram)?;
        for (labels, buckets, sum) in values {
            let count = buckets.iter().map(|(_, count)| count).sum();
            let mut encoder = encoder.encode_family(labels)?;
            encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
        }
        Ok(())
    }

    /// What every process has, under the names that they have everywhere.
    pub fn of_process(&mut self, family: Family<'_>, kind: Kind, value: f64) -> fmt::Result {
        let Family { name, help, unit } = family;
        match kind {
            Kind::Counter => {
                let encoder = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
                ConstCounter::new(value).encode(encoder)
            }
            Kind::Gauge => {
                let encoder = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
                ConstGauge::new(value).encode(encoder)
            }
        }
    }

    /// What is always 1, and tells by its label.
    pub fn info(&mut self, family: Family<'_>, label: &str, value: &str) -> fmt::Result {
        let name = format!("{PREFIX}{}", family.name);
        let mut encoder = self
            .0
            .encode_descriptor(&name, family.help, family.unit, MetricType::Info)?;
        encoder.encode_info(&[(label, value)])
    }

    /// How long something took.
    pub fn histogram(&mut self, family: Family<'_>, distribution: &Distribution) -> fmt::Result {
        let Distribution { counts, longer, sum } = distribution;
        let bounds = LATENCY_BOUNDS.iter().map(std::time::Duration::as_secs_f64);
        let mut buckets: Vec<_> = bounds.zip(counts.iter().copied()).collect();
        // The last bucket is the one without a bound.
        buckets.push((f64::INFINITY, *longer));
        let count = buckets.iter().map(|(_, count)| count).sum();
        let name = format!("{PREFIX}{}", family.name);
        let mut encoder = self
            .0
            .encode_descriptor(&name, family.help, family.unit, MetricType::Histogram)?;
        encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
    }
}

/// What a counter stands at.
pub(super) fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
