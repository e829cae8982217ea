//! The numbers of spans: what became of them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, count, read};
use crate::trace::Counts;

/// What is counted of spans.
#[derive(Debug)]
pub(super) struct Numbers(pub Arc<Counts>);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counts {
            exported,
            failed,
            dropped,
        } = &*self.0;
        Families(encoder).counters(
            count("trace_spans", "Spans of traces that ended, by what became of them"),
            "outcome",
            &[
                ("exported", read(exported)),
                ("failed", read(failed)),
                ("dropped", read(dropped)),
            ],
        )
    }
}
