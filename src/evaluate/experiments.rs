//! The running experiments of one flag, and where each stands among its rules.

use std::sync::Arc;

use super::Answer;
use super::budget::{Budget, Stopped};
use super::experiment::{Experiment, Outcome};
use super::flag::Rule;
use super::malformed::Malformed;
use super::snapshot::Snapshot;
use crate::domain::context::Context;

/// The running experiments of one flag.
#[derive(Debug, Default)]
pub(super) struct Experiments {
    /// By their places, those at one place by their keys.
    pub(super) placed: Box<[Placed]>,
    /// Those that cannot be compiled: they are not asked.
    pub(super) malformed: Box<[(Arc<str>, Malformed)]>,
}

/// An experiment, and where it stands.
#[derive(Debug)]
pub(super) struct Placed {
    /// How many rules are asked before it.
    pub(super) after: usize,
    pub(super) experiment: Arc<Experiment>,
}

impl Experiments {
    /// The answer of the first rule or experiment that has one.
    pub(super) fn answer<'a>(
        &'a self,
        rules: &'a [Rule],
        context: &Context,
        snapshot: &'a Snapshot,
        budget: &mut Budget<'_>,
    ) -> Result<Option<Answer<'a>>, Stopped> {
        let mut experiments = self.placed.iter().peekable();
        for asked in 0..=rules.len() {
            while let Some(Placed { experiment, .. }) =
                experiments.next_if(|it| it.after <= asked || asked == rules.len())
            {
                if let Some(answer) = experiment.ask(context, snapshot, budget)?.answer() {
                    return Ok(Some(answer));
                }
            }
            let answer = rules.get(asked).and_then(|rule| rule.answer(context, snapshot));
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }

    /// The experiment of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Arc<Experiment>> {
        let mut experiments = self.placed.iter().map(|placed| &placed.experiment);
        experiments.find(|experiment| experiment.key() == key)
    }
}

impl<'a> Outcome<'a> {
    /// The flag's answer. `None`: the experiment has none, and evaluation goes on.
    pub(super) fn answer(self) -> Option<Answer<'a>> {
        match self {
            Self::Assigned(variant, participation) => Some(Answer {
                variant: Some(variant),
                reason: super::Reason::Experiment,
                rule: None,
                experiment: Some(participation),
            }),
            Self::NoUnit | Self::OutsideAudience | Self::OutsideLayer | Self::OutsideAllocation => None,
        }
    }
}
