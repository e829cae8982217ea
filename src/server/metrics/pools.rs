//! The numbers of the pools of connections to PostgreSQL.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::families::{Families, Family, Kind, count};
use crate::store::pool::{Pools, Usage};

/// Pools that are asked for their numbers.
#[derive(Debug)]
pub(super) struct Numbers(pub Pools);

impl Collector for Numbers {
    #[expect(clippy::cast_precision_loss, reason = "exact up to nine quadrillions")]
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let usages = self.0.usage();
        let of = |number: fn(&Usage) -> f64| -> Vec<_> {
            let values = usages.iter().map(|(name, usage)| ([("pool", *name)], number(usage)));
            values.collect()
        };
        families.labelled(
            count("pool_connections_limit", "Connections to PostgreSQL that may be open"),
            Kind::Gauge,
            &of(|usage| usage.limit as f64),
        )?;
        families.labelled(
            count("pool_connections_open", "Connections to PostgreSQL that are open"),
            Kind::Gauge,
            &of(|usage| usage.open as f64),
        )?;
        families.labelled(
            count("pool_connections_in_use", "Connections to PostgreSQL that somebody has"),
            Kind::Gauge,
            &of(|usage| usage.in_use as f64),
        )?;
        families.labelled(
            count("pool_waiting", "Who waits for a connection to PostgreSQL now"),
            Kind::Gauge,
            &of(|usage| usage.waiting as f64),
        )?;
        families.labelled(
            count("pool_taken", "Connections to PostgreSQL that were taken from the pool"),
            Kind::Counter,
            &of(|usage| usage.taken as f64),
        )?;
        families.labelled(
            count(
                "pool_failures",
                "Times that no connection to PostgreSQL could be had in time",
            ),
            Kind::Counter,
            &of(|usage| usage.failed as f64),
        )?;
        let waited = Family {
            name: "pool_waited",
            help: "How long was waited for connections to PostgreSQL, connecting included",
            unit: Some(&Unit::Seconds),
        };
        families.labelled(waited, Kind::Counter, &of(|usage| usage.waited.as_secs_f64()))
    }
}
