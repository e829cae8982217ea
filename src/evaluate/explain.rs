//! Evaluation that tells what it does. It walks what [`Flag::evaluate`] walks, in the same order and by the same questions; what one
//! answers the other answers, which a property test keeps.

use std::convert::Infallible;

use super::bucket::Split;
use super::budget::{Budget, Freshness, Stopped};
use super::experiment::{Assigned, Assignments, Experiment, Need};
use super::experiments::Placed;
use super::explanation::{self, ConditionOutcome, Explanation, RuleOutcome};
use super::flag::{Flag, Prerequisite, Rule, Serve, State, Targeting};
use super::matcher::{Condition, Question};
use super::snapshot::Snapshot;
use super::{Answer, Reason};
use crate::domain::context::{Attribute, Context};
use crate::domain::limits;

impl Flag {
    /// The answer of [`evaluate`](Self::evaluate), and how it came about. It costs more: it is for people.
    pub fn explain<'a>(&'a self, context: &Context, snapshot: &'a Snapshot) -> (Answer<'a>, Explanation) {
        self.explain_fresh(context, snapshot, Freshness::ANY)
    }

    /// The answer of [`evaluate_fresh`](Self::evaluate_fresh), explained.
    pub fn explain_fresh<'a>(
        &'a self,
        context: &Context,
        snapshot: &'a Snapshot,
        freshness: Freshness<'_>,
    ) -> (Answer<'a>, Explanation) {
        let mut walk = Walk::new(context, snapshot, Budget::of_a_flag(freshness, Assignments::Hashed));
        let (answer, explanation) = walk.flag(self, limits::EXPLANATION_DEPTH);
        (answer.unwrap_or_else(|Stopped| self.exhausted()), explanation)
    }

    /// The answer of [`evaluate_knowing`](Self::evaluate_knowing), explained.
    pub fn explain_knowing<'a>(
        &'a self,
        context: &Context,
        snapshot: &'a Snapshot,
        freshness: Freshness<'_>,
        known: &dyn Fn(&Experiment, &str) -> Assigned,
    ) -> Result<(Answer<'a>, Explanation), Box<Need>> {
        let mut walk = Walk::new(
            context,
            snapshot,
            Budget::of_a_flag(freshness, Assignments::Known(known)),
        );
        let (answer, explanation) = walk.flag(self, limits::EXPLANATION_DEPTH);
        match answer {
            Ok(answer) => Ok((answer, explanation)),
            Err(Stopped) => match walk.budget.need() {
                Some(need) => Err(need),
                None => Ok((self.exhausted(), explanation)),
            },
        }
    }
}

/// One explained evaluation.
struct Walk<'w, 'a> {
    context: &'w Context,
    snapshot: &'a Snapshot,
    budget: Budget<'w>,
    bytes_to_repeat: usize,
    /// How many more rules, conditions, segments and shares are told. What is beyond is asked all the same.
    entries_to_tell: usize,
}

impl<'w, 'a> Walk<'w, 'a> {
    fn new(context: &'w Context, snapshot: &'a Snapshot, budget: Budget<'w>) -> Self {
        Self {
            context,
            snapshot,
            budget,
            bytes_to_repeat: limits::EXPLANATION_VALUE_BYTES,
            entries_to_tell: limits::EXPLANATION_ENTRIES,
        }
    }

    /// `depth` flags after each other are told, this one included.
    fn flag(&mut self, flag: &'a Flag, depth: usize) -> (Result<Answer<'a>, Stopped>, Explanation) {
        let mut explanation = Explanation {
            flag: flag.key.clone(),
            variant: None,
            reason: Reason::Disabled,
            prerequisites: Vec::new(),
            rules: Vec::new(),
            experiments: Vec::new(),
            default_split: None,
        };
        let answer = self.answer(flag, depth, &mut explanation);
        let shown = answer.unwrap_or_else(|Stopped| flag.exhausted());
        explanation.variant = shown.variant.map(|variant| variant.key.clone());
        explanation.reason = shown.reason;
        (answer, explanation)
    }

    fn answer(&mut self, flag: &'a Flag, depth: usize, explanation: &mut Explanation) -> Result<Answer<'a>, Stopped> {
        let targeting = match &flag.state {
            State::Enabled(_) if self.budget.is_stale(&flag.key) => return Ok(flag.off(Reason::Stale)),
            State::Malformed(_) | State::Disabled => return flag.answer(self.context, self.snapshot, &mut self.budget),
            State::Enabled(targeting) => targeting,
        };
        for prerequisite in &targeting.prerequisites {
            let (satisfied, told) = self.prerequisite(prerequisite, depth);
            explanation.prerequisites.push(told);
            if !satisfied? {
                return Ok(flag.off(Reason::PrerequisiteFailed));
            }
        }
        let placed = flag.experiments.as_ref().map(|experiments| &experiments.placed);
        let mut experiments = placed.into_iter().flatten().peekable();
        for asked in 0..=targeting.rules.len() {
            let last = asked == targeting.rules.len();
            while let Some(placed) = experiments.next_if(|placed| placed.after <= asked || last) {
                let (answer, told) = self.experiment(placed, asked)?;
                explanation.experiments.extend(self.tell(told));
                if let Some(answer) = answer {
                    return Ok(answer);
                }
            }
            if let Some(rule) = targeting.rules.get(asked) {
                let (answer, told) = self.rule(rule);
                explanation.rules.extend(self.tell(told));
                if let Some(answer) = answer {
                    return Ok(answer);
                }
            }
        }
        explanation.default_split = self.default_split(targeting);
        Ok(flag.default(targeting, self.context))
    }

    fn prerequisite(
        &mut self,
        prerequisite: &'a Prerequisite,
        depth: usize,
    ) -> (Result<bool, Stopped>, explanation::Prerequisite) {
        let (answer, explanation) = match self.snapshot.get(prerequisite.flag.as_str()) {
            None => (Ok(None), None),
            Some(flag) => match (self.budget.spend(), depth.checked_sub(1).filter(|depth| *depth > 0)) {
                (Err(exhausted), _) => (Err(exhausted), None),
                (Ok(()), Some(depth)) => {
                    let (answer, explanation) = self.flag(flag, depth);
                    (answer.map(Some), Some(explanation))
                }
                (Ok(()), None) => {
                    let answer = flag.answer(self.context, self.snapshot, &mut self.budget);
                    (answer.map(Some), None)
                }
            },
        };
        let satisfied = answer.map(|answer| answer.is_some_and(|answer| prerequisite.is_satisfied_by(&answer)));
        let told = explanation::Prerequisite {
            flag: prerequisite.flag.clone(),
            variants: prerequisite.variants.to_vec(),
            satisfied: matches!(satisfied, Ok(true)),
            explanation,
        };
        (satisfied, told)
    }

    fn experiment(
        &mut self,
        placed: &'a Placed,
        asked: usize,
    ) -> Result<(Option<Answer<'a>>, explanation::Experiment), Stopped> {
        let Placed { experiment, .. } = placed;
        let outcome = experiment.ask(self.context, self.snapshot, &mut self.budget)?;
        let told = explanation::Experiment {
            experiment: experiment.key().into(),
            rules_before: asked,
            outcome: (&outcome).into(),
        };
        Ok((outcome.answer(), told))
    }

    fn rule(&mut self, rule: &'a Rule) -> (Option<Answer<'a>>, explanation::Rule) {
        let mut told = explanation::Rule {
            rule: rule.key.clone(),
            outcome: RuleOutcome::NotMatched,
            conditions: Vec::new(),
            split: None,
        };
        for condition in &rule.conditions {
            let condition = self.condition(condition);
            let holds = condition.outcome == ConditionOutcome::Holds;
            told.conditions.extend(self.tell(condition));
            if !holds {
                return (None, told);
            }
        }
        told.split = self.serve(&rule.serve);
        let answer = rule.serve(self.context);
        told.outcome = match answer {
            Some(_) => RuleOutcome::Served,
            None => RuleOutcome::NotBucketed,
        };
        (answer, told)
    }

    fn condition(&mut self, condition: &Condition) -> explanation::Condition {
        let (attribute, value) = match &condition.question {
            Question::Attribute(path, _) => (path.name(), path.find(self.context)),
            Question::Segments(_) => ("", None),
        };
        let (mut segments, context) = (Vec::new(), self.context);
        let Ok(outcome) = condition.ask(context, |segment| {
            let outcome = self.snapshot.membership(segment, context);
            segments.extend(self.tell(explanation::Segment {
                segment: segment.clone(),
                outcome,
            }));
            Ok::<_, Infallible>(outcome.is_member())
        });
        explanation::Condition {
            attribute: attribute.to_owned(),
            operator: condition.operator,
            negated: condition.negated,
            value: self.repeat(value),
            outcome,
            segments,
        }
    }

    fn default_split(&mut self, targeting: &Targeting) -> Option<explanation::Split> {
        targeting.default.as_ref().and_then(|serve| self.serve(serve))
    }

    fn serve(&mut self, serve: &Serve) -> Option<explanation::Split> {
        match serve {
            Serve::Variant(_) => None,
            Serve::Split(split) => Some(self.split(split)),
        }
    }

    fn split(&mut self, split: &Split) -> explanation::Split {
        let value = split.attribute().find(self.context);
        let shares = split.shares().map_while(|(end, variant)| {
            self.tell(explanation::Share {
                variant: variant.key.clone(),
                end,
            })
        });
        let shares = shares.collect();
        explanation::Split {
            attribute: split.attribute().name().to_owned(),
            bucket: value.and_then(|value| split.bucket(value)),
            value: self.repeat(value),
            salt: split.salt().clone(),
            total_weight: split.total_weight(),
            shares,
        }
    }

    /// What is to be told, unless that would be too much in all.
    fn tell<T>(&mut self, told: T) -> Option<T> {
        self.entries_to_tell = self.entries_to_tell.checked_sub(1)?;
        Some(told)
    }

    /// A copy of what the context has, unless that would be too much in all.
    fn repeat(&mut self, value: Option<&Attribute>) -> Option<Attribute> {
        let value = value?;
        self.bytes_to_repeat = self.bytes_to_repeat.checked_sub(bytes(value))?;
        Some(value.clone())
    }
}

/// About what a value takes.
fn bytes(value: &Attribute) -> usize {
    let own = size_of::<Attribute>();
    own + match value {
        Attribute::Bool(_) | Attribute::Number(_) => 0,
        Attribute::String(text) => text.len(),
        Attribute::List(elements) => elements.iter().map(bytes).sum(),
        Attribute::Object(object) => object.iter().map(|(name, value)| name.len() + bytes(value)).sum(),
    }
}
