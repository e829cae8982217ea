//! One flag, compiled: what its definition and its configuration say together, and the order in which that is asked.

use std::sync::Arc;

use super::bucket::Split;
use super::budget::{Budget, Freshness, Stopped};
use super::experiment::{Assigned, Assignments, Experiment, Need};
use super::experiments::Experiments;
use super::malformed::Malformed;
use super::matcher::Condition;
use super::snapshot::Snapshot;
use super::{Answer, Error, Reason};
use crate::domain::access::KeyKind;
use crate::domain::context::Context;
use crate::domain::flag::Variant;
use crate::domain::key;

/// One flag of an environment, compiled.
#[derive(Debug)]
pub struct Flag {
    pub(super) key: Arc<str>,
    pub(super) client_visible: bool,
    pub(super) off: Option<Arc<Variant>>,
    pub(super) state: State,
    /// `None`: none runs on it.
    pub(super) experiments: Option<Box<Experiments>>,
}

/// What a flag does.
#[derive(Debug)]
pub(super) enum State {
    /// It is off.
    Disabled,
    /// It is on.
    Enabled(Targeting),
    /// It cannot be compiled.
    Malformed(Malformed),
}

/// What an enabled flag serves to whom.
#[derive(Debug)]
pub(super) struct Targeting {
    pub(super) prerequisites: Box<[Prerequisite]>,
    pub(super) rules: Box<[Rule]>,
    /// `None`: no value.
    pub(super) default: Option<Serve>,
}

/// Another flag, and what it must serve. Looked up when it is asked: the flags of a snapshot come in any order.
#[derive(Debug)]
pub(super) struct Prerequisite {
    pub(super) flag: key::Flag,
    pub(super) variants: Box<[key::Variant]>,
}

/// A rule, compiled.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) key: key::Rule,
    pub(super) conditions: Box<[Condition]>,
    pub(super) serve: Serve,
}

/// What a rule or the default serves.
#[derive(Debug)]
pub(super) enum Serve {
    Variant(Arc<Variant>),
    Split(Split),
}

impl Flag {
    /// The flag's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether client keys may evaluate it. A flag whose definition cannot be read is not visible.
    pub fn client_visible(&self) -> bool {
        self.client_visible
    }

    /// Whether a key of this kind may ask for it.
    pub fn visible_to(&self, key: KeyKind) -> bool {
        match key {
            KeyKind::Server => true,
            KeyKind::Client => self.client_visible,
        }
    }

    /// Why the flag cannot be compiled, for the log and for whoever administers it. `None`: it can.
    pub fn malformed(&self) -> Option<&Malformed> {
        match &self.state {
            State::Malformed(malformed) => Some(malformed),
            State::Disabled | State::Enabled(_) => None,
        }
    }

    /// The running experiment of a key.
    pub fn experiment(&self, key: &str) -> Option<&Arc<Experiment>> {
        self.experiments.as_ref()?.get(key)
    }

    /// The flag's answer for a context, in the snapshot that it is of. The module's documentation says in which order what is asked. Whoever
    /// takes part in an experiment has the arm that the hash says: assignments are neither known nor asked for.
    pub fn evaluate<'a>(&'a self, context: &Context, snapshot: &'a Snapshot) -> Answer<'a> {
        self.evaluate_fresh(context, snapshot, Freshness::ANY)
    }

    /// The same from a snapshot that may be too old for some flags: for this one, or for its prerequisites.
    pub fn evaluate_fresh<'a>(
        &'a self,
        context: &Context,
        snapshot: &'a Snapshot,
        freshness: Freshness<'_>,
    ) -> Answer<'a> {
        let mut budget = Budget::of_a_flag(freshness, Assignments::Hashed);
        let answer = self.answer(context, snapshot, &mut budget);
        answer.unwrap_or_else(|Stopped| self.exhausted())
    }

    /// The same where no assignment has a say in it. `None`: one may have, of this flag or of one of its prerequisites, so that the answer
    /// cannot be told from the snapshot alone.
    pub fn evaluate_unassigned<'a>(
        &'a self,
        context: &Context,
        snapshot: &'a Snapshot,
        freshness: Freshness<'_>,
    ) -> Option<Answer<'a>> {
        let unknown = |_: &Experiment, _: &str| Assigned::Unknown;
        self.evaluate_knowing(context, snapshot, freshness, &unknown).ok()
    }

    /// The flag's answer with the assignments that are known. `Err`: one must be found out first; ask again when it is known.
    pub fn evaluate_knowing<'a>(
        &'a self,
        context: &Context,
        snapshot: &'a Snapshot,
        freshness: Freshness<'_>,
        known: &dyn Fn(&Experiment, &str) -> Assigned,
    ) -> Result<Answer<'a>, Box<Need>> {
        let mut budget = Budget::of_a_flag(freshness, Assignments::Known(known));
        let answer = self.answer(context, snapshot, &mut budget);
        answer.or_else(|Stopped| budget.need().map_or_else(|| Ok(self.exhausted()), Err))
    }

    /// As [`evaluate`](Self::evaluate), but too many prerequisites end the whole evaluation.
    pub(super) fn answer<'a>(
        &'a self,
        context: &Context,
        snapshot: &'a Snapshot,
        budget: &mut Budget<'_>,
    ) -> Result<Answer<'a>, Stopped> {
        if budget.is_stale(&self.key) {
            return Ok(self.off(Reason::Stale));
        }
        let targeting = match &self.state {
            State::Malformed(_) => return Ok(self.off(Reason::Error(Error::FlagMalformed))),
            State::Disabled => return Ok(self.off(Reason::Disabled)),
            State::Enabled(targeting) => targeting,
        };
        for prerequisite in &targeting.prerequisites {
            if !prerequisite.holds(context, snapshot, budget)? {
                return Ok(self.off(Reason::PrerequisiteFailed));
            }
        }
        let answer = match &self.experiments {
            None => targeting.rules.iter().find_map(|rule| rule.answer(context, snapshot)),
            Some(experiments) => experiments.answer(&targeting.rules, context, snapshot, budget)?,
        };
        Ok(answer.unwrap_or_else(|| self.default(targeting, context)))
    }

    /// The answer if no rule serves this context.
    pub(super) fn default<'a>(&'a self, targeting: &'a Targeting, context: &Context) -> Answer<'a> {
        let unsplit = if targeting.rules.is_empty() && self.experiments.is_none() {
            Reason::Static
        } else {
            Reason::Default
        };
        let (variant, reason) = match &targeting.default {
            Some(serve) => match serve.to(context, unsplit) {
                Some((variant, reason)) => (Some(variant), reason),
                None => return self.off(Reason::Error(Error::TargetingKeyMissing)),
            },
            None => (None, unsplit),
        };
        Answer {
            variant,
            reason,
            rule: None,
            experiment: None,
        }
    }

    pub(super) fn off(&self, reason: Reason) -> Answer<'_> {
        Answer {
            variant: self.off.as_deref(),
            reason,
            rule: None,
            experiment: None,
        }
    }

    /// The answer if too many prerequisites would have to be asked.
    pub(super) fn exhausted(&self) -> Answer<'_> {
        self.off(Reason::Error(Error::FlagMalformed))
    }
}

impl Prerequisite {
    fn holds(&self, context: &Context, snapshot: &Snapshot, budget: &mut Budget<'_>) -> Result<bool, Stopped> {
        let Some(flag) = snapshot.get(self.flag.as_str()) else {
            return Ok(false);
        };
        budget.spend()?;
        let answer = flag.answer(context, snapshot, budget)?;
        Ok(self.is_satisfied_by(&answer))
    }

    /// Whether the other flag is on and serves one of the variants.
    pub(super) fn is_satisfied_by(&self, answer: &Answer<'_>) -> bool {
        match answer.reason {
            Reason::Stale | Reason::Disabled | Reason::PrerequisiteFailed | Reason::Error(_) => false,
            Reason::TargetingMatch | Reason::Split | Reason::Experiment | Reason::Default | Reason::Static => answer
                .variant
                .is_some_and(|variant| self.variants.contains(&variant.key)),
        }
    }
}

impl Rule {
    /// `None`: it does not serve this context.
    pub(super) fn answer(&self, context: &Context, snapshot: &Snapshot) -> Option<Answer<'_>> {
        let holds = self
            .conditions
            .iter()
            .all(|condition| condition.holds(context, snapshot));
        holds.then(|| self.serve(context))?
    }

    /// The answer if its conditions hold. `None`: its split cannot bucket this context.
    pub(super) fn serve(&self, context: &Context) -> Option<Answer<'_>> {
        let (variant, reason) = self.serve.to(context, Reason::TargetingMatch)?;
        Some(Answer {
            variant: Some(variant),
            reason,
            rule: Some(self.key.as_str()),
            experiment: None,
        })
    }
}

impl Serve {
    /// What a context is served and why, `unsplit` being the reason of a variant served to everyone. `None`: a split that cannot
    /// bucket this context.
    fn to(&self, context: &Context, unsplit: Reason) -> Option<(&Variant, Reason)> {
        match self {
            Self::Variant(variant) => Some((variant, unsplit)),
            Self::Split(split) => split.serve(context).map(|variant| (variant, Reason::Split)),
        }
    }
}
