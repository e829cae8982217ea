//! Explanations tell what evaluation does.

use halyard::domain::rule::Serve;
use halyard::evaluate::explanation::{Condition, ConditionOutcome, Prerequisite, Rule, RuleOutcome, Segment, Split};
use halyard::evaluate::{Error, Explanation, Reason, bucket, hash};
use proptest::prelude::*;

use super::reference::{self, Outcome};
use super::{World, generate};
use halyard::domain::context::Context;

fn told(explanation: &Explanation) -> Outcome {
    let served = explanation
        .rules
        .iter()
        .find(|rule| rule.outcome == RuleOutcome::Served);
    Outcome {
        variant: explanation.variant.as_ref().map(ToString::to_string),
        reason: explanation.reason,
        rule: served.map(|rule| rule.rule.to_string()),
    }
}

/// What is told of a flag is what the plain evaluator says of it, all the way down.
fn check(explanation: &Explanation, world: &World, context: &Context) -> Result<(), TestCaseError> {
    // What is told of a flag within a circle ends where too many were asked for the first one.
    if explanation.reason == Reason::Error(Error::FlagMalformed) {
        return Ok(());
    }
    prop_assert_eq!(
        told(explanation),
        reference::evaluate(world, &explanation.flag, context)
    );
    let configuration = world.flags[&*explanation.flag].configuration.as_ref();
    let Some((last, others)) = explanation.prerequisites.split_last() else {
        return check_rules(explanation, world, context);
    };
    prop_assert!(others.iter().all(|prerequisite| prerequisite.satisfied));
    prop_assert!(last.satisfied || explanation.rules.is_empty());
    let written = configuration.map_or(&[][..], |configuration| &configuration.prerequisites);
    for (told, written) in explanation.prerequisites.iter().zip(written) {
        let Prerequisite {
            flag,
            variants,
            satisfied: _,
            explanation,
        } = told;
        prop_assert_eq!((flag, variants), (&written.flag, &written.variants));
        if let Some(explanation) = explanation {
            prop_assert_eq!(&*explanation.flag, flag.as_str());
            check(explanation, world, context)?;
        }
    }
    check_rules(explanation, world, context)
}

fn check_rules(explanation: &Explanation, world: &World, context: &Context) -> Result<(), TestCaseError> {
    let Some(configuration) = &world.flags[&*explanation.flag].configuration else {
        prop_assert!(explanation.rules.is_empty() && explanation.default_split.is_none());
        return Ok(());
    };
    for (told, written) in explanation.rules.iter().zip(&configuration.rules) {
        let Rule {
            rule,
            outcome,
            conditions,
            split,
        } = told;
        prop_assert_eq!(rule, &written.key);
        let hold = conditions
            .iter()
            .all(|condition| condition.outcome == ConditionOutcome::Holds);
        prop_assert_eq!(hold, *outcome != RuleOutcome::NotMatched);
        prop_assert_eq!(split.is_some(), hold && matches!(written.serve, Serve::Split(_)));
        for (told, written) in conditions.iter().zip(&written.conditions) {
            let Condition {
                attribute,
                operator,
                negated,
                value: _,
                outcome: _,
                segments,
            } = told;
            prop_assert_eq!(
                (attribute, operator, negated),
                (&written.attribute, &written.operator, &written.negated)
            );
            for Segment { segment, outcome } in segments {
                prop_assert_eq!(
                    outcome.is_member(),
                    reference::is_member(world, segment, context),
                    "{}",
                    segment
                );
            }
        }
        if let Some(split) = split {
            check_split(split, *outcome == RuleOutcome::Served, explanation)?;
        }
    }
    if let Some(split) = &explanation.default_split {
        check_split(split, explanation.reason == Reason::Split, explanation)?;
    }
    Ok(())
}

/// What is told of a split suffices to do the sum again.
fn check_split(split: &Split, chose: bool, explanation: &Explanation) -> Result<(), TestCaseError> {
    let Split {
        attribute: _,
        value,
        salt,
        bucket: chosen,
        total_weight,
        shares,
    } = split;
    prop_assert_eq!(chosen.is_some(), chose);
    prop_assert_eq!(shares.last().map(|share| share.end), Some(*total_weight));
    prop_assert!(shares.is_sorted_by(|one, next| one.end < next.end));
    let again = value
        .as_ref()
        .and_then(|value| hash(salt, value))
        .map(|hash| bucket(hash, *total_weight));
    prop_assert_eq!(again, *chosen);
    if let Some(chosen) = chosen {
        let share = shares.iter().find(|share| *chosen < share.end);
        prop_assert_eq!(share.map(|share| &share.variant), explanation.variant.as_ref());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_explanation_agrees_with_the_answer(
        world in generate::world(),
        contexts in prop::collection::vec(generate::context(), 4),
    ) {
        let snapshot = world.snapshot();
        for (flag, context) in snapshot.flags().flat_map(|flag| contexts.iter().map(move |context| (flag, context))) {
            let (answer, explanation) = flag.explain(context, &snapshot);
            prop_assert_eq!(answer, flag.evaluate(context, &snapshot));
            prop_assert_eq!(told(&explanation), Outcome::from(answer));
            check(&explanation, &world, context)?;
        }
    }
}
