//! The numbers of events of experiments: what became of them, and how many wait.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::families::{Families, Family, count, read};
use crate::domain::event::Outcome;
use crate::store::events::Intake;

/// An intake that is asked for its numbers.
#[derive(Debug)]
pub(super) struct Numbers(pub Arc<Intake>);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (intake, mut families) = (&self.0, Families(encoder));
        let counts = intake.counts();
        families.counters(
            count(
                "events",
                "Events of experiments that were answered, by what became of them",
            ),
            "outcome",
            &Outcome::ALL.map(|outcome| (outcome.name(), counts.of(outcome))),
        )?;
        families.counter(
            count(
                "event_batches_refused",
                "Batches of events that found no room, and are to be sent again",
            ),
            read(&counts.behind),
        )?;
        families.counter(
            count(
                "event_batches_failed",
                "Batches of events that could not be written, and are to be sent again",
            ),
            read(&counts.failed),
        )?;
        families.counter(
            count(
                "event_groups_written",
                "Transactions that wrote events, each of them many batches at best",
            ),
            read(&counts.groups),
        )?;
        let bytes = |name, help| Family {
            name,
            help,
            unit: Some(&Unit::Bytes),
        };
        // Up to 4 GiB, which is exact.
        let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX).into();
        families.gauge(
            bytes("event_queue", "Events that wait to be written, or are being written"),
            number(intake.bytes()),
        )?;
        families.gauge(
            bytes(
                "event_queue_limit",
                "What they may be together, as --event-queue-bytes says",
            ),
            number(intake.limit()),
        )
    }
}
