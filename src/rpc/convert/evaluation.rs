//! Answers.

use super::value;
use crate::domain::access::KeyKind;
use crate::domain::flag::Variant;
use crate::evaluate::{Answer, Assignment, Error, Flag, Participation, Reason};
use crate::pb::evaluation::v1 as pb;

/// An answer as its message. Client keys never learn which rule served.
pub fn write(flag: &Flag, answer: &Answer<'_>, revision: u64, asked_by: KeyKind) -> pb::Evaluation {
    let (reason, error) = write_reason(answer.reason);
    let rule = match asked_by {
        KeyKind::Server => answer.rule.unwrap_or_default(),
        KeyKind::Client => "",
    };
    pb::Evaluation {
        flag: flag.key().to_owned(),
        value: answer.variant.map(|variant| value::write_answer(&variant.value)),
        variant: answer
            .variant
            .map(|variant| variant.key.as_str().to_owned())
            .unwrap_or_default(),
        reason: reason.into(),
        rule: rule.to_owned(),
        revision,
        error: error.into(),
        experiment: answer
            .experiment
            .zip(answer.variant)
            .map(|(part, variant)| write_part(&part, variant)),
    }
}

/// The part that a context has in an experiment, by its arm.
pub fn write_part(part: &Participation<'_>, arm: &Variant) -> pb::Participation {
    let Participation {
        experiment,
        iteration,
        assignment,
    } = part;
    pb::Participation {
        experiment: experiment.key().to_owned(),
        iteration: *iteration,
        arm: arm.key.to_string(),
        assignment_stored: *assignment == Assignment::Stored,
        sticky: experiment.is_sticky(),
    }
}

/// A reason as its messages.
pub fn write_reason(reason: Reason) -> (pb::Reason, pb::EvaluationError) {
    let fine = pb::EvaluationError::Unspecified;
    match reason {
        Reason::Disabled => (pb::Reason::Disabled, fine),
        Reason::PrerequisiteFailed => (pb::Reason::PrerequisiteFailed, fine),
        Reason::TargetingMatch => (pb::Reason::TargetingMatch, fine),
        Reason::Split => (pb::Reason::Split, fine),
        Reason::Experiment => (pb::Reason::Experiment, fine),
        Reason::Default => (pb::Reason::Default, fine),
        Reason::Static => (pb::Reason::Static, fine),
        Reason::Stale => (pb::Reason::Stale, fine),
        Reason::Error(Error::TargetingKeyMissing) => (pb::Reason::Error, pb::EvaluationError::TargetingKeyMissing),
        Reason::Error(Error::FlagMalformed) => (pb::Reason::Error, pb::EvaluationError::FlagMalformed),
    }
}
