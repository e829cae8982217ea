//! The numbers of requests: how many are in flight, and how many were refused since there was too much to do.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, count};
use crate::rpc::front::{Bounds, Share};
use crate::store::Queue;

/// What bounds requests, asked for its numbers.
#[derive(Debug)]
pub(super) struct Numbers {
    pub bounds: Arc<Bounds>,
    /// Those who wait for the database. `None`: there is none here.
    pub queue: Option<Arc<Queue>>,
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (bounds, mut families) = (&self.bounds, Families(encoder));
        let kinds = [
            ("evaluation", &bounds.evaluations),
            ("events", &bounds.events),
            ("administration", &bounds.administration),
            ("login", &bounds.logins),
            ("stranger", &bounds.strangers),
        ];
        let all = |number: fn(&Share) -> u64| kinds.map(|(kind, share)| (kind, number(share)));
        families.gauges(
            count("request_slots_taken", "Calls that are being answered, by kind"),
            "kind",
            &all(|share| share.taken() as u64),
        )?;
        families.gauges(
            count(
                "request_slots",
                "How many of each kind there may be, as --max-requests says",
            ),
            "kind",
            &all(|share| share.most() as u64),
        )?;
        let mut refused = all(Share::refused).to_vec();
        refused.push(("rate", bounds.too_fast()));
        refused.push(("database", self.queue.as_ref().map_or(0, |queue| queue.refused())));
        families.counters(
            count(
                "requests_refused",
                "Requests that were refused since there was too much to do",
            ),
            "reason",
            &refused,
        )?;
        let Some(queue) = &self.queue else {
            return Ok(());
        };
        let waiting = u32::try_from(queue.waiting()).unwrap_or(u32::MAX);
        families.gauge(
            count(
                "database_requests_waiting",
                "Requests and tasks that wait for a connection to PostgreSQL",
            ),
            waiting.into(),
        )
    }
}
