//! The feed's numbers: how changes are learnt of from PostgreSQL.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, count, read};
use crate::store::feed::{Counters, Feed};

/// A feed that is asked for its numbers.
#[derive(Debug)]
pub(super) struct Numbers(pub Arc<Feed>);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let Counters {
            notifications,
            malformed_notifications,
            hints,
            hints_sent,
            hints_unsent,
            polls,
            poll_failures,
            missed_hints,
            connects,
            disconnects,
            probe_failures,
            advances,
            resets,
            broken_chains,
            fetch_failures,
            left_behind,
            malformed,
            divergences,
            generations_raised,
            confirmations,
        } = self.0.counters();
        let all = [
            (
                notifications,
                "notifications",
                "Notifications that reached the listener and were hints, those of this replica included",
            ),
            (
                malformed_notifications,
                "malformed_notifications",
                "Notifications on the channel that no replica wrote",
            ),
            (hints, "hints", "Hints taken up, wherever they came from"),
            (hints_sent, "hints_sent", "Hints that this replica passed on by NOTIFY"),
            (
                hints_unsent,
                "hints_unsent",
                "Hints that could not be passed on; other replicas find the change by polling",
            ),
            (polls, "polls", "Polls that were answered"),
            (poll_failures, "poll_failures", "Polls that failed or took too long"),
            (
                missed_hints,
                "missed_hints",
                "Changes that a poll found without any hint while the listener was live; a few are only faster than their hint",
            ),
            (connects, "connects", "Times that the listener went live"),
            (
                disconnects,
                "disconnects",
                "Sessions of the listener that ended, and attempts that never became one",
            ),
            (
                probe_failures,
                "probe_failures",
                "Probes of the listener that did not come back in time",
            ),
            (advances, "advances", "Revisions taken over one by one"),
            (resets, "resets", "Environments taken over whole"),
            (
                broken_chains,
                "broken_chains",
                "Revisions that did not follow what was held, by their number or by their digest",
            ),
            (
                fetch_failures,
                "fetch_failures",
                "Reads of environments or of what access depends on that failed or took too long",
            ),
            (
                left_behind,
                "left_behind",
                "Environments that could not be read, or not quickly enough, while the database answered; they alone are old",
            ),
            (
                malformed,
                "malformed",
                "Reads that found a row which cannot be understood",
            ),
            (
                divergences,
                "divergences",
                "Environments found to have another history than the one that was held",
            ),
            (
                generations_raised,
                "generations_raised",
                "Times that this replica raised the generation",
            ),
            (
                confirmations,
                "confirmations",
                "Reads made to confirm a head for a caller",
            ),
        ];
        for (counter, name, help) in all {
            families.counter(count(&format!("feed_{name}"), help), read(counter))?;
        }
        Ok(())
    }
}
