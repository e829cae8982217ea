//! A sidecar's numbers: how changes are learnt of from another server.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, count, read};
use crate::upstream::{Counters, Upstream};

/// What a sidecar follows, asked for its numbers. How old the state is tells the hub.
#[derive(Debug)]
pub(super) struct Numbers(pub Arc<Upstream>);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let Counters {
            streams,
            ends,
            snapshots,
            deltas,
            broken,
            saves,
        } = self.0.counters();
        let all = [
            (streams, "connects", "Streams from the upstream that were opened"),
            (
                ends,
                "disconnects",
                "Streams from the upstream that ended, and attempts that never became one",
            ),
            (snapshots, "snapshots", "Steps of the upstream that replaced everything"),
            (deltas, "deltas", "Steps of the upstream that changed some items"),
            (
                broken,
                "broken_steps",
                "Steps of the upstream that were not what its contract says, a wrong hash among them",
            ),
            (saves, "state_file_saves", "Times that the state was written to disk"),
        ];
        for (counter, name, help) in all {
            families.counter(count(&format!("upstream_{name}"), help), read(counter))?;
        }
        Ok(())
    }
}
