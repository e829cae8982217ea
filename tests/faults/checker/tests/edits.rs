//! What is told of rows that were edited by hand.

use std::time::Instant;

use halyard::domain::change::Digest;
use halyard::domain::form::Kind as ItemKind;

use super::{ENVIRONMENT, environment_log, told};
use crate::checker::Kind;
use crate::checker::edits::DATABASE;
use crate::evidence::{Content, Evidence, LoggedItem, Outcome, Revision, Write};

const MARKER: &str = "hand.1";
const WRITER: &str = "service_token:1";

/// A flag that no writer of the flawless evidence has.
fn name() -> (String, String) {
    (ItemKind::FlagConfiguration.name().to_owned(), "edited".to_owned())
}

/// Appends a revision of that flag. `None`: it is deleted.
fn append(evidence: &mut Evidence, actor: &str, form: Option<&str>) {
    let log = environment_log(evidence);
    let number = log.head.0 + 1;
    let mut revision = Revision {
        number,
        previous: log.head.1,
        digest: Digest::default(),
        actor: actor.into(),
        items: vec![LoggedItem {
            name: name(),
            version: number,
            form: form.map(Into::into),
        }],
    };
    revision.digest = crate::checker::history::digest_of(&revision).unwrap();
    log.head = (number, revision.digest);
    log.revisions.push(revision);
}

fn edit(evidence: &mut Evidence, content: Content) {
    evidence.writes.push(Write {
        environment: ENVIRONMENT.into(),
        content,
        began: Instant::now(),
        ended: Instant::now(),
        outcome: Outcome::Acknowledged(None),
    });
}

fn edited(evidence: &mut Evidence) {
    let (item, marker) = (name(), MARKER.to_owned());
    edit(evidence, Content::Edited { item, marker });
}

fn ruled() -> String {
    format!(r#"{{"format":1,"enabled":true,"rules":[{{"key":"{MARKER}"}}]}}"#)
}

fn salted(salt: &str, enabled: bool) -> String {
    format!(r#"{{"format":1,"enabled":{enabled},"salt":"{salt}"}}"#)
}

#[test]
fn an_edit_that_is_the_databases_is_not_told() {
    let told = told(|evidence| {
        edited(evidence);
        append(evidence, DATABASE, Some(&ruled()));
    });
    assert_eq!(told, []);
}

#[test]
fn an_edit_that_is_nowhere_is_told() {
    assert_eq!(told(edited), [Kind::Lost]);
}

#[test]
fn an_edit_that_is_somebody_elses_is_told() {
    let told = told(|evidence| {
        edited(evidence);
        append(evidence, WRITER, Some(&ruled()));
    });
    assert_eq!(told, [Kind::Phantom]);
}

#[test]
fn a_revision_of_the_database_that_nobody_edited_is_told() {
    let told = told(|evidence| append(evidence, DATABASE, Some(&salted("hand.2", true))));
    assert_eq!(told, [Kind::Phantom]);
}

#[test]
fn an_edit_that_is_adopted_twice_is_told() {
    let told = told(|evidence| {
        edited(evidence);
        append(evidence, DATABASE, Some(&salted(MARKER, true)));
        append(evidence, WRITER, None);
        append(evidence, DATABASE, Some(&salted(MARKER, true)));
    });
    assert_eq!(told, [Kind::Lost, Kind::Duplicate]);
}

#[test]
fn a_write_that_takes_an_edit_back_is_told() {
    let told_of = |salt: &'static str| {
        told(move |evidence| {
            edited(evidence);
            append(evidence, DATABASE, Some(&salted(MARKER, true)));
            append(evidence, WRITER, Some(&salted(salt, false)));
        })
    };
    assert_eq!(told_of(MARKER), []);
    assert_eq!(told_of("another"), [Kind::Lost]);
}

#[test]
fn a_row_that_is_deleted_is_gone_once() {
    let told_of = |rows: usize, logged: usize| {
        told(move |evidence| {
            for _ in 0..rows {
                edit(evidence, Content::Removed { item: name() });
            }
            for _ in 0..logged {
                append(evidence, DATABASE, None);
            }
        })
    };
    assert_eq!(told_of(1, 1), []);
    assert_eq!(told_of(2, 1), [Kind::Lost]);
    assert_eq!(told_of(1, 2), [Kind::Phantom]);
}
