//! What an experiment has come to: of each iteration and arm how many units there were, and what its metrics say of them.
//!
//! A unit belongs to the arm that it was exposed to in an iteration. What a metric counts of it counts there from its first exposure in
//! that iteration on, up to its first exposure in another: never in two iterations, and never in one that it had not seen. Sums
//! are taken over exact decimal numbers, so that they are exact, whatever the order of the events, and so are means and variances up
//! to their last rounding.

mod count;

use jiff::Timestamp;

use super::Store;
use super::environments::Address;
use super::error::Error;
use super::lease::Lease;
use crate::domain::experiment::MetricKind;
use crate::domain::key;
use crate::domain::statistics::SampleRatio;

/// What an experiment has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// Its iterations, the first first.
    pub iterations: Vec<Iteration>,
    /// Events received before this are gone, and iterations that began before it lack some. `None`: none is.
    pub kept_since: Option<Timestamp>,
}

/// What one iteration has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Iteration {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended. `None`: it goes on.
    pub ended_at: Option<Timestamp>,
    /// The arms in their written order.
    pub arms: Vec<Arm>,
    /// Whether units came to the arms as the weights say. `None`: there are too few to say.
    pub sample_ratio: Option<SampleRatio>,
    /// Exposures that are kept out: their assignment was not stored.
    pub excluded_exposures: u64,
    /// Of how many units those are.
    pub excluded_units: u64,
    /// Units that were exposed to several arms, and count in none.
    pub torn_units: u64,
}

/// What one arm has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// The variant.
    pub variant: String,
    /// Whether the others are compared with it.
    pub control: bool,
    /// Relative to the sum of the iteration's weights.
    pub weight: u32,
    /// Units that were assigned to it in the iteration.
    pub assigned: u64,
    /// Units that were exposed to it.
    pub exposed: u64,
    /// Their part of all units that were exposed to exactly one arm. `None`: there are none.
    pub share: Option<f64>,
    /// What the part should be.
    pub expected_share: Option<f64>,
    /// What the metrics say, the primary one first.
    pub metrics: Vec<Measured>,
}

/// What a metric says of the units that were exposed to an arm.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Its key.
    pub metric: key::Metric,
    /// How its events are read.
    pub kind: MetricKind,
    /// Units with any of its events.
    pub converted: u64,
    /// The sum over the units.
    pub sum: f64,
    /// The mean over the units, those without events being 0. `None`: there are none.
    pub mean: Option<f64>,
    /// The unbiased variance over the units. `None`: there are fewer than two.
    pub variance: Option<f64>,
}

impl Store {
    /// What an experiment has come to, all of one moment. It may take minutes: call it few times at once.
    pub async fn get_results(&self, at: Address<'_>, experiment: &key::Experiment) -> Result<Results, Error> {
        self.get_environment(at).await?;
        // Whoever asks may go away long before there is an answer.
        let mut lease = Lease::new(&self.tls);
        let results = count::all(lease.hold(self.connection().await?), at, experiment).await;
        lease.give_back();
        results
    }
}
