//! Assignments, as one question needs them: what is known, and what has to be found out before the question can be answered.
//!
//! Evaluation says what it needs; here it is found out, within 50 ms for all of it and before the caller's deadline, and the question is
//! asked again. Whatever is not known by then counts as unreachable: the unit gets the arm that the hash says.

mod forward;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::domain::context::Context;
use crate::domain::limits;
use crate::evaluate::{Assigned, Experiment, Need};
use crate::rpc::front::Deadline;
use crate::store::assignments::{self, Known, PATIENCE};
use crate::watch::Hub;

pub use forward::Forwarding;

/// How often one question may need more: an answer may lead to another experiment of the flag. There may be time for fewer.
const ROUNDS: usize = limits::FLAG_EXPERIMENTS + 1;

/// Where assignments are found out; and the hub, which says of what history they are.
#[derive(Clone)]
pub enum Assignments {
    /// In the database.
    Stored(Arc<assignments::Assignments>, Arc<Hub>),
    /// At the server that a sidecar is fed by.
    Forwarded(Arc<Forwarding>, Arc<Hub>),
    /// Nowhere: everyone has the arm that the hash says.
    Nowhere,
}

impl Assignments {
    /// What is known without asking anybody, of the history that is followed now.
    fn known(&self) -> Option<&Known> {
        let (known, hub) = match self {
            Self::Stored(assignments, hub) => (assignments.known(), hub),
            Self::Forwarded(forwarding, hub) => (forwarding.known(), hub),
            Self::Nowhere => return None,
        };
        if let Some(identity) = hub.identity() {
            known.follow(identity.generation);
        }
        Some(known)
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Stored(assignments, _) => assignments.patience(),
            Self::Forwarded(..) | Self::Nowhere => PATIENCE,
        }
    }

    /// In the order of the needs, which are of one context and of one revision.
    async fn settle(
        &self,
        context: &Context,
        revision: u64,
        needs: &[Need],
        deadline: Instant,
        caller: &MetadataMap,
    ) -> Vec<Assigned> {
        match self {
            Self::Stored(assignments, _) => assignments.settle(needs, deadline).await,
            Self::Forwarded(forwarding, _) => forwarding.settle(context, revision, needs, deadline, caller).await,
            Self::Nowhere => vec![Assigned::Unreachable; needs.len()],
        }
    }
}

/// What was found out for one question, in front of what is known.
pub struct Settled<'a> {
    assignments: &'a Assignments,
    known: Option<&'a Known>,
    found: Vec<(Uuid, String, Assigned)>,
    /// The question's own deadline.
    asked_until: Deadline,
    /// By when everything must be found out. `None`: nothing had to be so far.
    deadline: Option<Instant>,
    rounds: usize,
    /// Nothing more is found out.
    over: bool,
}

impl<'a> Settled<'a> {
    /// Nothing so far, of a question that is to be answered by a deadline.
    pub fn new(assignments: &'a Assignments, asked_until: Deadline) -> Self {
        Self {
            assignments,
            known: assignments.known(),
            found: Vec::new(),
            asked_until,
            deadline: None,
            rounds: 0,
            over: false,
        }
    }

    /// What is known of a unit now.
    pub fn get(&self, experiment: &Experiment, unit: &str) -> Assigned {
        let mut found = self.found.iter();
        if let Some((.., assigned)) = found.find(|(of, known, _)| *of == experiment.salt() && known == unit) {
            return assigned.clone();
        }
        let known = self.known.map(|known| known.get(experiment, unit));
        match known.unwrap_or(Assigned::Unreachable) {
            Assigned::Unknown if self.over => Assigned::Unreachable,
            known @ (Assigned::Arm { .. } | Assigned::Nothing | Assigned::Unreachable | Assigned::Unknown) => known,
        }
    }

    /// Finds out what is needed for an answer of a revision, as far as there is time, for a caller who sent this metadata.
    pub async fn settle(&mut self, context: &Context, revision: u64, needs: Vec<Need>, caller: &MetadataMap) {
        let patience = self.assignments.patience();
        let asked_until = self.asked_until;
        let deadline = *self
            .deadline
            .get_or_insert_with(|| asked_until.patience(patience).into());
        // Rare: it must not make the future of every answer larger.
        let found = Box::pin(self.assignments.settle(context, revision, &needs, deadline, caller)).await;
        let found = needs.into_iter().zip(found);
        self.found
            .extend(found.map(|(need, assigned)| (need.experiment.salt(), need.unit, assigned)));
        self.rounds += 1;
        self.over |= self.rounds >= ROUNDS || Instant::now() >= deadline;
    }
}
