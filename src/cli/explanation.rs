//! How an answer came about, as people and programs read it.

use prost_types::Value as Given;
use serde_json::{Value, json};

use super::json;
use crate::pb::evaluation::v1::{
    ConditionExplanation, ConditionOutcome, EvaluationError, ExperimentExplanation, ExperimentOutcome, Explanation,
    PrerequisiteExplanation, RuleExplanation, RuleOutcome, SegmentExplanation, ShareExplanation, SplitExplanation,
};

/// Lines that go below the answer, indented by their depth.
pub(super) fn lines(explanation: Explanation) -> Vec<String> {
    let mut lines = Lines::default();
    lines.explanation(explanation, 1);
    lines.0
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn add(&mut self, depth: usize, line: &str) {
        self.0.push(format!("{:1$}{line}", "", 2 * depth));
    }

    fn explanation(&mut self, explanation: Explanation, depth: usize) {
        let Explanation {
            flag: _,
            variant: _,
            reason: _,
            error: _,
            prerequisites,
            rules,
            experiments,
            default_split,
        } = explanation;
        for prerequisite in prerequisites {
            self.prerequisite(prerequisite, depth);
        }
        let mut experiments = experiments.into_iter().peekable();
        for (asked, rule) in rules.into_iter().enumerate() {
            let before = |experiment: &ExperimentExplanation| experiment.rules_before as usize <= asked;
            while let Some(experiment) = experiments.next_if(before) {
                self.experiment(&experiment, depth);
            }
            self.rule(rule, depth);
        }
        for experiment in experiments {
            self.experiment(&experiment, depth);
        }
        if let Some(split) = default_split {
            self.add(depth, "default");
            self.split(split, depth + 1);
        }
    }

    fn prerequisite(&mut self, prerequisite: PrerequisiteExplanation, depth: usize) {
        let PrerequisiteExplanation {
            flag,
            variants,
            satisfied,
            explanation,
        } = prerequisite;
        let wanted = variants.join(" or ");
        let outcome = if satisfied { "does" } else { "DOES NOT" };
        let answer = explanation.as_ref().map_or_else(
            || "not told".to_owned(),
            |explanation| {
                let variant = if explanation.variant.is_empty() {
                    "no value"
                } else {
                    &explanation.variant
                };
                format!("{variant}, {}", cause(explanation))
            },
        );
        self.add(
            depth,
            &format!("prerequisite {flag} must serve {wanted}: {outcome} ({answer})"),
        );
        if let Some(explanation) = explanation {
            self.explanation(explanation, depth + 1);
        }
    }

    fn experiment(&mut self, experiment: &ExperimentExplanation, depth: usize) {
        let outcome = match experiment.outcome() {
            ExperimentOutcome::Served => "SERVED",
            ExperimentOutcome::NoUnit => "has no unit to assign",
            ExperimentOutcome::OutsideAudience => "not in its audience",
            ExperimentOutcome::OutsideLayer => "not in its part of the layer",
            ExperimentOutcome::OutsideAllocation => "not among those that take part",
            ExperimentOutcome::Unspecified => "unknown to this version",
        };
        self.add(depth, &format!("experiment {}: {outcome}", experiment.experiment));
    }

    fn rule(&mut self, rule: RuleExplanation, depth: usize) {
        let outcome = match rule.outcome() {
            RuleOutcome::Served => "SERVED",
            RuleOutcome::NotMatched => "not matched",
            RuleOutcome::NotBucketed => "matched, but its split has nothing to bucket by",
            RuleOutcome::Unspecified => "unknown to this version",
        };
        let RuleExplanation {
            rule,
            outcome: _,
            conditions,
            split,
        } = rule;
        self.add(depth, &format!("rule {rule}: {outcome}"));
        for condition in conditions {
            self.condition(condition, depth + 1);
        }
        if let Some(split) = split {
            self.split(split, depth + 1);
        }
    }

    fn condition(&mut self, condition: ConditionExplanation, depth: usize) {
        let outcome = match condition.outcome() {
            ConditionOutcome::Holds => "holds",
            ConditionOutcome::Fails => "fails",
            ConditionOutcome::Absent => "fails: absent",
            ConditionOutcome::WrongType => "fails: of a type or a text that this operator cannot ask",
            ConditionOutcome::Unspecified => "unknown to this version",
        };
        let operator = short(condition.operator().as_str_name(), "OPERATOR_").to_lowercase();
        let ConditionExplanation {
            attribute,
            operator: _,
            negated,
            value,
            outcome: _,
            segments,
        } = condition;
        let not = if negated { "not " } else { "" };
        let attribute = if attribute.is_empty() {
            String::new()
        } else {
            format!("{attribute}{} ", equals(value))
        };
        self.add(depth, &format!("{attribute}{not}{operator}: {outcome}"));
        for segment in segments {
            let outcome = short(segment.outcome().as_str_name(), "SEGMENT_OUTCOME_").to_lowercase();
            self.add(depth + 1, &format!("segment {}: {outcome}", segment.segment));
        }
    }

    fn split(&mut self, split: SplitExplanation, depth: usize) {
        let SplitExplanation {
            attribute,
            value,
            salt,
            bucket,
            total_weight,
            shares,
        } = split;
        let bucket = bucket.map_or_else(
            || "nothing to bucket by".to_owned(),
            |bucket| format!("bucket {bucket} of {total_weight}"),
        );
        let line = format!("split by {attribute}{}, salted with {salt:?}: {bucket}", equals(value));
        self.add(depth, &line);
        let mut start = 0;
        for ShareExplanation { variant, end } in shares {
            self.add(depth + 1, &format!("{variant}: {start} to {}", end.saturating_sub(1)));
            start = end;
        }
    }
}

/// Such as ` = "DE"`. Nothing if nothing is told.
fn equals(value: Option<Given>) -> String {
    value.map_or_else(String::new, |value| format!(" = {}", json::from_value(value)))
}

/// The reason, and the error if there is one.
fn cause(explanation: &Explanation) -> String {
    let reason = short(explanation.reason().as_str_name(), "REASON_");
    match error(explanation) {
        Some(error) => format!("{reason} {error}"),
        None => reason.to_owned(),
    }
}

fn error(explanation: &Explanation) -> Option<&'static str> {
    let error = explanation.error();
    (error != EvaluationError::Unspecified).then(|| short(error.as_str_name(), "EVALUATION_ERROR_"))
}

fn short(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// The same as JSON.
pub(super) fn object(explanation: Explanation) -> Value {
    let (reason, error) = (
        short(explanation.reason().as_str_name(), "REASON_"),
        error(&explanation),
    );
    let Explanation {
        flag,
        variant,
        reason: _,
        error: _,
        prerequisites,
        rules,
        experiments,
        default_split,
    } = explanation;
    json!({
        "flag": flag,
        "variant": (!variant.is_empty()).then_some(variant),
        "reason": reason,
        "error": error,
        "prerequisites": prerequisites.into_iter().map(prerequisite_object).collect::<Value>(),
        "rules": rules.into_iter().map(rule_object).collect::<Value>(),
        "experiments": experiments.iter().map(experiment_object).collect::<Value>(),
        "default_split": default_split.map(split_object),
    })
}

fn experiment_object(experiment: &ExperimentExplanation) -> Value {
    json!({
        "experiment": experiment.experiment,
        "rules_before": experiment.rules_before,
        "outcome": short(experiment.outcome().as_str_name(), "EXPERIMENT_OUTCOME_"),
    })
}

fn prerequisite_object(prerequisite: PrerequisiteExplanation) -> Value {
    let PrerequisiteExplanation {
        flag,
        variants,
        satisfied,
        explanation,
    } = prerequisite;
    json!({
        "flag": flag,
        "variants": variants,
        "satisfied": satisfied,
        "explanation": explanation.map(object),
    })
}

fn rule_object(rule: RuleExplanation) -> Value {
    let outcome = short(rule.outcome().as_str_name(), "RULE_OUTCOME_");
    let RuleExplanation {
        rule,
        outcome: _,
        conditions,
        split,
    } = rule;
    json!({
        "rule": rule,
        "outcome": outcome,
        "conditions": conditions.into_iter().map(condition_object).collect::<Value>(),
        "split": split.map(split_object),
    })
}

fn condition_object(condition: ConditionExplanation) -> Value {
    let operator = short(condition.operator().as_str_name(), "OPERATOR_");
    let outcome = short(condition.outcome().as_str_name(), "CONDITION_OUTCOME_");
    let ConditionExplanation {
        attribute,
        operator: _,
        negated,
        value,
        outcome: _,
        segments,
    } = condition;
    json!({
        "attribute": (!attribute.is_empty()).then_some(attribute),
        "operator": operator,
        "negated": negated,
        "value": value.map(json::from_value),
        "outcome": outcome,
        "segments": segments.into_iter().map(segment_object).collect::<Value>(),
    })
}

fn segment_object(segment: SegmentExplanation) -> Value {
    let outcome = short(segment.outcome().as_str_name(), "SEGMENT_OUTCOME_");
    let SegmentExplanation { segment, outcome: _ } = segment;
    json!({ "segment": segment, "outcome": outcome })
}

fn split_object(split: SplitExplanation) -> Value {
    let SplitExplanation {
        attribute,
        value,
        salt,
        bucket,
        total_weight,
        shares,
    } = split;
    let share = |ShareExplanation { variant, end }| json!({ "variant": variant, "end": end });
    json!({
        "attribute": attribute,
        "value": value.map(json::from_value),
        "salt": salt,
        "bucket": bucket,
        "total_weight": total_weight,
        "shares": shares.into_iter().map(share).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use prost_types::value::Kind;

    use super::*;
    use crate::pb::evaluation::v1::{Operator, Reason, SegmentOutcome};

    fn given(kind: Kind) -> Given {
        Given { kind: Some(kind) }
    }

    fn explanation() -> Explanation {
        let country = ConditionExplanation {
            attribute: "country".to_owned(),
            operator: Operator::OneOf.into(),
            value: Some(given(Kind::StringValue("DE".to_owned()))),
            outcome: ConditionOutcome::Holds.into(),
            ..ConditionExplanation::default()
        };
        let testers = ConditionExplanation {
            operator: Operator::InSegment.into(),
            negated: true,
            outcome: ConditionOutcome::Fails.into(),
            segments: vec![SegmentExplanation {
                segment: "testers".to_owned(),
                outcome: SegmentOutcome::Listed.into(),
            }],
            ..ConditionExplanation::default()
        };
        let rule = RuleExplanation {
            rule: "first".to_owned(),
            outcome: RuleOutcome::NotMatched.into(),
            conditions: vec![country, testers],
            split: None,
        };
        let payments = Explanation {
            flag: "payments".to_owned(),
            variant: "on".to_owned(),
            reason: Reason::Static.into(),
            ..Explanation::default()
        };
        let share = |variant: &str, end| ShareExplanation {
            variant: variant.to_owned(),
            end,
        };
        Explanation {
            flag: "new-checkout".to_owned(),
            variant: "off".to_owned(),
            reason: Reason::Split.into(),
            error: 0,
            prerequisites: vec![PrerequisiteExplanation {
                flag: "payments".to_owned(),
                variants: vec!["on".to_owned(), "new".to_owned()],
                satisfied: true,
                explanation: Some(payments),
            }],
            rules: vec![rule],
            experiments: Vec::new(),
            default_split: Some(SplitExplanation {
                attribute: "targeting_key".to_owned(),
                value: Some(given(Kind::StringValue("ada".to_owned()))),
                salt: "new-checkout".to_owned(),
                bucket: Some(70),
                total_weight: 100,
                shares: vec![share("on", 30), share("off", 100)],
            }),
        }
    }

    #[test]
    fn a_trace_reads_from_top_to_bottom() {
        let expected = [
            "  prerequisite payments must serve on or new: does (on, STATIC)",
            "  rule first: not matched",
            "    country = \"DE\" one_of: holds",
            "    not in_segment: fails",
            "      segment testers: listed",
            "  default",
            "    split by targeting_key = \"ada\", salted with \"new-checkout\": bucket 70 of 100",
            "      on: 0 to 29",
            "      off: 30 to 99",
        ];
        assert_eq!(lines(explanation()), expected);
    }

    #[test]
    fn a_trace_is_an_object() {
        let object = object(explanation());
        assert_eq!(object["reason"], "SPLIT");
        assert_eq!(object["prerequisites"][0]["explanation"]["variant"], "on");
        let condition = json!({
            "attribute": null, "operator": "IN_SEGMENT", "negated": true, "value": null, "outcome": "FAILS",
            "segments": [{ "segment": "testers", "outcome": "LISTED" }],
        });
        assert_eq!(object["rules"][0]["conditions"][1], condition);
        assert_eq!(
            object["default_split"]["shares"][1],
            json!({ "variant": "off", "end": 100 })
        );
    }

    #[test]
    fn what_did_not_come_about_is_said() {
        let missing = PrerequisiteExplanation {
            flag: "gone".to_owned(),
            variants: vec!["on".to_owned()],
            satisfied: false,
            explanation: None,
        };
        let unbucketed = SplitExplanation {
            attribute: "account".to_owned(),
            salt: "s".to_owned(),
            total_weight: 1,
            ..SplitExplanation::default()
        };
        let explanation = Explanation {
            prerequisites: vec![missing],
            default_split: Some(unbucketed),
            ..Explanation::default()
        };
        let expected = [
            "  prerequisite gone must serve on: DOES NOT (not told)",
            "  default",
            "    split by account, salted with \"s\": nothing to bucket by",
        ];
        assert_eq!(lines(explanation), expected);
    }
}
