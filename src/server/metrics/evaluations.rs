//! The numbers of evaluations, by environment and reason. Environments that are gone are not told.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, Kind, count};
use crate::watch::Hub;

/// A hub that is asked for what its environments have counted.
pub(super) struct Numbers(pub Arc<Hub>);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the numbers of evaluations")
    }
}

impl Collector for Numbers {
    #[expect(clippy::cast_precision_loss, reason = "exact up to nine quadrillions")]
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let directory = Arc::clone(&self.0.directory());
        let mut values = Vec::new();
        for environment in self.0.held() {
            let counted = environment.answered().read();
            if counted.iter().all(|(_, count)| *count == 0) {
                continue;
            }
            // A sidecar holds one, and does not know what it is called.
            let named = directory.environments.get(&environment.id());
            let project = named.map_or("", |it| it.project.as_str());
            let key = named.map_or("", |it| it.key.as_str());
            for (reason, count) in counted {
                let labels = [("project", project), ("environment", key), ("reason", reason)];
                values.push((labels, count as f64));
            }
        }
        Families(encoder).labelled(
            count(
                "evaluations",
                "Flags that Evaluate and EvaluateAll answered, by environment and reason",
            ),
            Kind::Counter,
            &values,
        )
    }
}
