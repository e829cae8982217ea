//! The numbers of experiments' assignments: how many are known, stored, and could not be in time.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Families, count};
use crate::store::assignments::{Assignments, Counted};

/// Assignments that are asked for their numbers.
pub(super) struct Numbers(pub Arc<Assignments>);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Numbers").field(&self.0.counted()).finish()
    }
}

impl Collector for Numbers {
    #[expect(clippy::cast_precision_loss, reason = "so many do not fit into memory")]
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let Counted {
            batches,
            units,
            unreached,
        } = self.0.counted();
        let known = count("assignments_known", "Assignments of experiments in memory");
        families.gauge(known, self.0.known().len() as f64)?;
        let all = [
            (
                batches,
                "assignment_batches",
                "Statements that stored and looked up assignments",
            ),
            (units, "assignment_units", "Units that those statements were about"),
            (
                unreached,
                "assignments_unreached",
                "Units whose assignment could not be stored or looked up in time: they got the arm that the hash says",
            ),
        ];
        for (counted, name, help) in all {
            families.counter(count(name, help), counted)?;
        }
        Ok(())
    }
}
