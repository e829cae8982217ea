//! What evaluations answered, and when.

use std::time::Duration;

use super::{marker, told};
use crate::checker::Kind;
use crate::evidence::{Evidence, Span};

#[test]
fn an_evaluation_without_an_answer_is_told_unless_its_replica_was_away() {
    let fails = |evidence: &mut Evidence| evidence.answers[2].result = Err("gone".into());
    assert_eq!(told(fails), [Kind::Answer]);
    let excused = told(|evidence| {
        fails(evidence);
        let span = Span {
            from: evidence.answers[2].asked,
            to: Some(evidence.answers[2].answered),
        };
        evidence.absences.push((0, span));
    });
    assert_eq!(excused, []);
}

#[test]
fn a_wrong_answer_is_told() {
    let told = told(|evidence| {
        if let Ok(answers) = &mut evidence.answers[2].result {
            answers.flags[0].1 = marker(2);
        }
    });
    assert_eq!(told, [Kind::Answer]);
}

#[test]
fn an_answer_from_before_the_last_is_told() {
    let told = told(|evidence| {
        let mut answer = evidence.answers[1].clone();
        answer.asked = evidence.answers[5].answered;
        answer.answered = answer.asked;
        evidence.answers.push(answer);
    });
    assert_eq!(told, [Kind::OutOfOrder]);
}

#[test]
fn who_is_asked_while_a_replica_is_away_has_the_answer_of_whoever_was_there_before_or_comes_after() {
    // Asked in between it answers as of the end; what comes after that begins with an older state, from disk.
    let back = |asked: u64, again: u64| {
        told(|evidence| {
            let end = evidence.answers.last().unwrap().answered;
            let at = |ms: u64| end + Duration::from_millis(ms);
            let (from, to) = (at(100), Some(at(200)));
            evidence.absences.push((0, Span { from, to }));
            for (revision, asked) in [(5, asked), (1, again)] {
                let mut answer = evidence.answers[revision].clone();
                (answer.asked, answer.answered) = (at(asked), at(asked + 1));
                evidence.answers.push(answer);
            }
        })
    };
    assert_eq!(back(150, 160), []);
    assert_eq!(back(150, 300), []);
    assert_eq!(back(50, 300), []);
    assert_eq!(back(250, 300), [Kind::OutOfOrder]);
    assert_eq!(back(50, 60), [Kind::OutOfOrder]);
}
