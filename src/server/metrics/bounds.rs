//! The numbers of requests: how many are in flight, and how many were refused since there was too much to do.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, count};
use crate::rpc::front::{Bounds, Share, Waiting};
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
        let shares = [
            ("evaluation", &bounds.evaluations),
            ("events", &bounds.events),
            ("administration", &bounds.administration),
            ("login", &bounds.logins),
            ("stranger", &bounds.strangers),
            ("open_stream", &bounds.open_streams),
        ];
        let waiting = [("arriving", &bounds.arriving), ("arriving_open", &bounds.arriving_open)];
        let all = |of_share: fn(&Share) -> u64, of_waiting: fn(&Waiting) -> u64| -> Vec<_> {
            let shares = shares.iter().map(|(kind, share)| (*kind, of_share(share)));
            let waiting = waiting.iter().map(|(kind, waiting)| (*kind, of_waiting(waiting)));
            shares.chain(waiting).collect()
        };
        families.gauges(
            count(
                "request_slots_taken",
                "Calls that are being answered, or whose message is waited for, and streams without a credential, by kind",
            ),
            "kind",
            &all(|share| share.taken() as u64, |waiting| waiting.waiting() as u64),
        )?;
        families.gauges(
            count(
                "request_slots",
                "How many of each kind there may be, as --max-requests says",
            ),
            "kind",
            &all(|share| share.most() as u64, |waiting| waiting.most() as u64),
        )?;
        let mut refused = all(Share::refused, Waiting::displaced);
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
