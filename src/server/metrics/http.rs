//! The numbers of connections and requests that went beyond their limits.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, count, read};
use crate::rpc::arriving;
use crate::server::http::{Broken, Counts};

/// Connections and requests that are asked for their numbers.
#[derive(Debug)]
pub(super) struct Numbers(pub Arc<Counts>);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let Counts { broken, requests } = &*self.0;
        let Broken {
            flood,
            slow,
            too_large,
            malformed,
        } = broken;
        families.counters(
            count(
                "connections_broken",
                "Connections that were closed because of what their peers did",
            ),
            "reason",
            &[
                ("flood", read(flood)),
                ("slow", read(slow)),
                ("too_large", read(too_large)),
                ("malformed", read(malformed)),
            ],
        )?;
        let arriving::Counts { late, crowded, surplus } = &**requests;
        families.counters(
            count(
                "messages_refused",
                "Requests that were refused because of how their messages arrived",
            ),
            "reason",
            &[
                ("late", read(late)),
                ("crowded", read(crowded)),
                ("surplus", read(surplus)),
            ],
        )
    }
}
