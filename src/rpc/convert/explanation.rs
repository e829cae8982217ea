//! How answers came about.

use super::context::write_attribute;
use super::evaluation::write_reason;
use super::flag::{write_operator, write_variant_key};
use crate::domain::key;
use crate::evaluate::Explanation;
use crate::evaluate::explanation::{
    Condition, ConditionOutcome, Experiment, ExperimentOutcome, Prerequisite, Rule, RuleOutcome, Segment,
    SegmentOutcome, Share, Split,
};
use crate::pb::evaluation::v1 as pb;

/// An explanation as its message. It tells rules: not for client keys.
pub fn write(explanation: &Explanation) -> pb::Explanation {
    let Explanation {
        flag,
        variant,
        reason,
        prerequisites,
        rules,
        experiments,
        default_split,
    } = explanation;
    let (reason, error) = write_reason(*reason);
    pb::Explanation {
        flag: flag.to_string(),
        variant: write_variant_key(variant.as_ref()),
        reason: reason.into(),
        error: error.into(),
        prerequisites: prerequisites.iter().map(write_prerequisite).collect(),
        rules: rules.iter().map(write_rule).collect(),
        default_split: default_split.as_ref().map(write_split),
        experiments: experiments.iter().map(write_experiment).collect(),
    }
}

fn write_prerequisite(prerequisite: &Prerequisite) -> pb::PrerequisiteExplanation {
    let Prerequisite {
        flag,
        variants,
        satisfied,
        explanation,
    } = prerequisite;
    pb::PrerequisiteExplanation {
        flag: flag.to_string(),
        variants: variants.iter().map(key::Variant::to_string).collect(),
        satisfied: *satisfied,
        explanation: explanation.as_ref().map(write),
    }
}

fn write_experiment(experiment: &Experiment) -> pb::ExperimentExplanation {
    let Experiment {
        experiment,
        rules_before,
        outcome,
    } = experiment;
    pb::ExperimentExplanation {
        experiment: experiment.to_string(),
        rules_before: u32::try_from(*rules_before).unwrap_or(u32::MAX),
        outcome: write_experiment_outcome(*outcome).into(),
    }
}

/// What became of an experiment as its message.
pub fn write_experiment_outcome(outcome: ExperimentOutcome) -> pb::ExperimentOutcome {
    match outcome {
        ExperimentOutcome::Served => pb::ExperimentOutcome::Served,
        ExperimentOutcome::NoUnit => pb::ExperimentOutcome::NoUnit,
        ExperimentOutcome::OutsideAudience => pb::ExperimentOutcome::OutsideAudience,
        ExperimentOutcome::OutsideLayer => pb::ExperimentOutcome::OutsideLayer,
        ExperimentOutcome::OutsideAllocation => pb::ExperimentOutcome::OutsideAllocation,
    }
}

fn write_rule(rule: &Rule) -> pb::RuleExplanation {
    let Rule {
        rule,
        outcome,
        conditions,
        split,
    } = rule;
    let outcome = match outcome {
        RuleOutcome::Served => pb::RuleOutcome::Served,
        RuleOutcome::NotMatched => pb::RuleOutcome::NotMatched,
        RuleOutcome::NotBucketed => pb::RuleOutcome::NotBucketed,
    };
    pb::RuleExplanation {
        rule: rule.to_string(),
        outcome: outcome.into(),
        conditions: conditions.iter().map(write_condition).collect(),
        split: split.as_ref().map(write_split),
    }
}

fn write_condition(condition: &Condition) -> pb::ConditionExplanation {
    let Condition {
        attribute,
        operator,
        negated,
        value,
        outcome,
        segments,
    } = condition;
    let outcome = match outcome {
        ConditionOutcome::Holds => pb::ConditionOutcome::Holds,
        ConditionOutcome::Fails => pb::ConditionOutcome::Fails,
        ConditionOutcome::Absent => pb::ConditionOutcome::Absent,
        ConditionOutcome::WrongType => pb::ConditionOutcome::WrongType,
    };
    pb::ConditionExplanation {
        attribute: attribute.clone(),
        operator: write_operator(*operator).into(),
        negated: *negated,
        value: value.as_ref().map(write_attribute),
        outcome: outcome.into(),
        segments: segments.iter().map(write_segment).collect(),
    }
}

fn write_segment(segment: &Segment) -> pb::SegmentExplanation {
    let Segment { segment, outcome } = segment;
    let outcome = match outcome {
        SegmentOutcome::Included => pb::SegmentOutcome::Included,
        SegmentOutcome::Listed => pb::SegmentOutcome::Listed,
        SegmentOutcome::Part => pb::SegmentOutcome::Part,
        SegmentOutcome::Conditions => pb::SegmentOutcome::Conditions,
        SegmentOutcome::Excluded => pb::SegmentOutcome::Excluded,
        SegmentOutcome::Outside => pb::SegmentOutcome::Outside,
        SegmentOutcome::Unconfigured => pb::SegmentOutcome::Unconfigured,
        SegmentOutcome::Malformed => pb::SegmentOutcome::Malformed,
    };
    pb::SegmentExplanation {
        segment: segment.to_string(),
        outcome: outcome.into(),
    }
}

fn write_split(split: &Split) -> pb::SplitExplanation {
    let Split {
        attribute,
        value,
        salt,
        bucket,
        total_weight,
        shares,
    } = split;
    let shares = shares.iter().map(|Share { variant, end }| pb::ShareExplanation {
        variant: variant.to_string(),
        end: *end,
    });
    pb::SplitExplanation {
        attribute: attribute.clone(),
        value: value.as_ref().map(write_attribute),
        salt: salt.to_string(),
        bucket: *bucket,
        total_weight: *total_weight,
        shares: shares.collect(),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::value::Kind;

    use super::*;
    use crate::domain::context::{Attribute, Context, Object};
    use crate::domain::form::{ItemId, Kind as ItemKind};
    use crate::domain::limits;
    use crate::evaluate::Snapshot;

    fn put(snapshot: &mut Snapshot, kind: ItemKind, key: &str, form: &serde_json::Value) {
        let key = key.into();
        snapshot.put(&ItemId { kind, key }, form.to_string().as_bytes());
    }

    /// A chain of flags, each the prerequisite of the one before; the first asks about an attribute.
    fn chain(flags: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for n in 0..flags {
            let key = format!("f{n}");
            let definition = serde_json::json!({
                "format": 1, "key": key, "type": "bool", "client_visible": false, "default_variant": "on",
                "variants": [{ "key": "on", "value": { "bool": true } }],
            });
            put(&mut snapshot, ItemKind::FlagDefinition, &key, &definition);
            let prerequisites: Vec<_> = (n + 1..flags.min(n + 2))
                .map(|next| serde_json::json!({ "flag": format!("f{next}"), "variants": ["on"] }))
                .collect();
            let configuration = serde_json::json!({
                "format": 1, "enabled": true, "prerequisites": prerequisites,
                "rules": [{
                    "key": "r", "serve": { "variant": "on" },
                    "conditions": [{ "attribute": "deep", "operator": "exists" }],
                }],
            });
            put(&mut snapshot, ItemKind::FlagConfiguration, &key, &configuration);
        }
        snapshot
    }

    /// What every reader of protobuf can read, since it goes 100 messages deep: prost's own limit is the same.
    #[test]
    fn the_deepest_explanation_can_be_read() {
        let mut deep = Attribute::Bool(true);
        for n in 0..limits::DEPTH {
            deep = if n % 2 == 0 {
                Attribute::Object([("x".to_owned(), deep)].into_iter().collect())
            } else {
                Attribute::List(vec![deep])
            };
        }
        let attributes: Object = [("deep".to_owned(), deep)].into_iter().collect();
        let context = Context::new(String::new(), attributes);
        let snapshot = chain(limits::PREREQUISITE_EVALUATIONS + 1);
        let (_, explanation) = snapshot.get("f0").unwrap().explain(&context, &snapshot);
        let response = pb::EvaluateResponse {
            evaluation: None,
            explanation: Some(write(&explanation)),
        };
        let read = pb::EvaluateResponse::decode(&*response.encode_to_vec()).unwrap();
        assert_eq!(read, response);
        let (mut told, mut explanation) = (1, read.explanation.unwrap());
        while let Some(next) = explanation.prerequisites.pop().unwrap().explanation {
            (told, explanation) = (told + 1, next);
        }
        assert_eq!(told, limits::EXPLANATION_DEPTH);
        assert!(explanation.rules[0].conditions[0].value.is_some());
        assert_eq!(explanation.reason(), pb::Reason::TargetingMatch);
    }

    #[test]
    fn a_large_context_is_not_repeated() {
        let check = |bytes: usize, repeated: bool| {
            let text = Attribute::String("x".repeat(bytes));
            let context = Context::new(String::new(), [("deep".to_owned(), text)].into_iter().collect());
            let snapshot = chain(1);
            let (_, explanation) = snapshot.get("f0").unwrap().explain(&context, &snapshot);
            let message = write(&explanation);
            let condition = &message.rules[0].conditions[0];
            assert_eq!(condition.outcome(), pb::ConditionOutcome::Holds);
            let value = condition.value.as_ref().and_then(|value| value.kind.as_ref());
            assert_eq!(matches!(value, Some(Kind::StringValue(_))), repeated, "{bytes} bytes");
        };
        check(1_000, true);
        check(limits::EXPLANATION_VALUE_BYTES, false);
    }
}
