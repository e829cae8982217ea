//! Evaluations: every one is answered, and with what held at the revision that it names.

use std::collections::HashMap;

use super::history::Histories;
use super::{Kind, Violations};
use crate::evidence::{Answer, Answers, Span};

pub fn check(answers: &[Answer], absences: &[(usize, Span)], histories: &Histories<'_>, violations: &mut Violations) {
    // By replica and environment: the newest revision that was answered, and which stretch of its life that was in.
    let mut newest: HashMap<(usize, &str), (usize, u64)> = HashMap::new();
    // How often each went back since the history was replaced.
    let mut returns: HashMap<(usize, &str), usize> = HashMap::new();
    for answer in answers {
        let absent = |(replica, span): &&(usize, Span)| {
            *replica == answer.replica && span.overlaps(answer.asked, answer.answered)
        };
        let place = format!("replica {} of {}", answer.replica, answer.environment);
        match &answer.result {
            Err(_) if absences.iter().any(|absence| absent(&absence)) => {}
            Err(words) => violations.add(Kind::Answer, format!("{place} did not answer: {words}")),
            Ok(answers) => {
                check_answers(&answer.environment, answers, &place, histories, violations);
                let of_replica = absences.iter().filter(|(replica, _)| *replica == answer.replica);
                // Who was asked before a process died has its answer from that one, however late it comes.
                let begun = of_replica.filter(|(_, span)| span.from < answer.asked);
                // Who was asked in between has it from either.
                if begun
                    .clone()
                    .any(|(_, span)| span.to.is_none_or(|to| answer.asked <= to))
                {
                    continue;
                }
                let life = begun.count();
                let before = newest.entry((answer.replica, &answer.environment)).or_insert((life, 0));
                if before.0 == life && answers.revision < before.1 {
                    let returns = returns.entry((answer.replica, &answer.environment)).or_default();
                    *returns += 1;
                    if *returns > histories.replaced_by(answer.answered) {
                        let words = format!("{place} went back from {} to {}", before.1, answers.revision);
                        violations.add(Kind::OutOfOrder, words);
                    }
                }
                *before = (life, answers.revision);
            }
        }
    }
}

fn check_answers(
    environment: &str,
    answers: &Answers,
    place: &str,
    histories: &Histories<'_>,
    violations: &mut Violations,
) {
    let revision = answers.revision;
    for (flag, rule, variant) in &answers.flags {
        let histories = histories.configured(environment, flag, revision);
        if histories.is_empty() {
            let words = format!("{place} answered at revision {revision}, which never was");
            violations.add(Kind::Phantom, words);
            return;
        }
        // Rules and defaults of this world's flags all serve `on`.
        let is_right = histories.iter().any(|configured| {
            let (expected_rule, expected_variant) = if configured.enabled {
                (configured.rule.as_str(), "on")
            } else {
                ("", "off")
            };
            (rule.as_str(), variant.as_str()) == (expected_rule, expected_variant)
        });
        if !is_right {
            let words = format!("{place} answered {flag} with {variant} by {rule:?} at {revision}: {histories:?}");
            violations.add(Kind::Answer, words);
        }
    }
}
