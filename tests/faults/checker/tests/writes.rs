//! What was acknowledged, refused or left open, and what the history has of it.

use halyard::domain::change::Digest;
use tonic::Code;

use super::{REVISIONS, environment_log, log, marker, name, told};
use crate::checker::{Kind, history};
use crate::evidence::{Content, Evidence, LoggedItem, Outcome, Revision, Write};

#[test]
fn an_acknowledged_write_that_is_missing_is_told() {
    let told = told(|evidence| {
        let mut write = evidence.writes[0].clone();
        let marker = marker(99);
        write.content = Content::Marked {
            flag: "flag-0".into(),
            marker,
        };
        evidence.writes.push(write);
    });
    assert_eq!(told, [Kind::Lost]);
}

#[test]
fn an_acknowledged_write_under_another_number_is_told() {
    let told = told(|evidence| evidence.writes[0].outcome = Outcome::Acknowledged(Some(2)));
    assert_eq!(told, [Kind::Lost]);
}

#[test]
fn a_refused_write_that_is_there_is_told() {
    let told = told(|evidence| evidence.writes[2].outcome = Outcome::Refused(Code::Aborted));
    assert_eq!(told, [Kind::Refused]);
}

#[test]
fn a_write_that_may_or_may_not_be_there_may_be_there_once() {
    let unknown = |evidence: &mut Evidence| evidence.writes[2].outcome = Outcome::Unknown(Code::Unavailable);
    assert_eq!(told(unknown), []);
    let twice = told(|evidence| {
        unknown(evidence);
        // The same write once more at the end, in a log that is otherwise in order.
        let rules = (1..=REVISIONS).chain([3]).map(marker);
        *environment_log(evidence) = log(rules);
    });
    assert_eq!(twice, [Kind::Duplicate]);
}

/// Flawless evidence, and a seventh revision that turns both flags of a group on, or not quite.
fn grouped(values: [bool; 2], outcome: Outcome) -> Vec<Kind> {
    told(|evidence| {
        let flags = ["group-a", "group-b"].map(str::to_owned);
        let log = environment_log(evidence);
        let items = flags.iter().zip(values).map(|(flag, enabled)| LoggedItem {
            name: (name().0, flag.clone()),
            version: 1,
            form: Some(format!(r#"{{"format":1,"enabled":{enabled},"rules":[]}}"#).into_bytes()),
        });
        let mut revision = Revision {
            number: REVISIONS + 1,
            previous: log.head.1,
            digest: Digest::default(),
            actor: "service_token:1".into(),
            items: items.collect(),
        };
        revision.digest = history::digest_of(&revision).unwrap();
        log.head = (revision.number, revision.digest);
        log.revisions.push(revision);
        let last = evidence.writes.last().unwrap().clone();
        let content = Content::Group {
            flags: flags.into(),
            enabled: true,
        };
        evidence.writes.push(Write {
            content,
            outcome,
            ..last
        });
    })
}

#[test]
fn a_transaction_over_many_flags_is_whole() {
    let acknowledged = || Outcome::Acknowledged(Some(REVISIONS + 1));
    assert_eq!(grouped([true, true], acknowledged()), []);
    assert_eq!(grouped([true, false], acknowledged()), [Kind::Torn]);
    assert_eq!(grouped([true, true], Outcome::Unknown(Code::Unavailable)), []);
    assert_eq!(grouped([true, true], Outcome::Refused(Code::Aborted)), [Kind::Phantom]);
}

#[test]
fn what_nobody_wrote_is_a_phantom() {
    let told = told(|evidence| drop(evidence.writes.pop()));
    assert_eq!(told, [Kind::Phantom]);
}
