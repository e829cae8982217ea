//! The checker is shown evidence in which one thing is wrong, and must tell it.

mod ages;
mod answers;
mod cuts;
mod edits;
mod stalls;
mod writes;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use halyard::domain::change::{Digest, ItemChange, StateHash, digest, form_hash};
use halyard::domain::form::{ItemId, Kind as ItemKind};
use halyard::pb::evaluation::v1::{Intent, SnapshotReason, SourceState};

use super::{Kind, Tolerance, check};
use crate::evidence::{
    Answer, Answers, Content, Era, Evidence, Log, LoggedItem, Outcome, Recording, Revision, Seen, Span, What, Write,
};

const ENVIRONMENT: &str = "stage-0";
const REVISIONS: u64 = 6;

fn marker(revision: u64) -> String {
    format!("{ENVIRONMENT}.0.{revision}")
}

fn form(rule: &str) -> Vec<u8> {
    format!(r#"{{"format":1,"enabled":true,"rules":[{{"key":"{rule}"}}]}}"#).into_bytes()
}

fn name() -> (String, String) {
    (ItemKind::FlagConfiguration.name().to_owned(), "flag-0".to_owned())
}

fn revision(number: u64, previous: Digest, rule: &str) -> Revision {
    let form = form(rule);
    let id = ItemId {
        kind: ItemKind::FlagConfiguration,
        key: "flag-0".into(),
    };
    let change = ItemChange {
        id: &id,
        version: number,
        form: Some(&form),
    };
    let digest = digest(previous, number, &[change]);
    let item = LoggedItem {
        name: name(),
        version: number,
        form: Some(form.clone()),
    };
    Revision {
        number,
        previous,
        digest,
        actor: "service_token:1".into(),
        items: vec![item],
    }
}

/// A log of one flag that is configured anew with every revision, by these rules.
fn log(rules: impl IntoIterator<Item = String>) -> Log {
    let mut log = Log::default();
    for (number, rule) in (1..).zip(rules) {
        log.revisions.push(revision(number, log.head.1, &rule));
        log.head = (number, log.revisions.last().unwrap().digest);
    }
    log
}

fn hash_at(revision: u64) -> Digest {
    let mut hash = StateHash::EMPTY;
    let (kind, key) = name();
    hash.toggle(&kind, &key, &form_hash(&form(&marker(revision))));
    Digest(*hash.as_bytes())
}

/// A step to a revision, as a client that held `from` sees it.
fn step(from: u64, to: u64) -> Vec<What> {
    let intent = if from == 0 { Intent::Snapshot } else { Intent::Delta };
    vec![
        What::Begin {
            intent,
            reason: SnapshotReason::Unspecified,
            generation: 1,
            from,
            to,
            count: 1,
        },
        What::Put {
            name: name(),
            form_hash: form_hash(&form(&marker(to))),
        },
        What::Commit {
            generation: 1,
            revision: to,
            server: hash_at(to),
            own: hash_at(to),
        },
    ]
}

fn heartbeat(revision: u64, staleness: Duration) -> What {
    What::Heartbeat {
        generation: 1,
        revision,
        source: SourceState::Live,
        staleness,
    }
}

/// A minute ago, so that there is room before and after.
fn origin() -> Instant {
    Instant::now().checked_sub(Duration::from_mins(1)).unwrap()
}

/// Six writes a second apart, seen by one client a moment later, and one answer for each.
fn flawless() -> Evidence {
    let origin = origin();
    let at = |revision: u64, ms: u64| origin + Duration::from_secs(revision) + Duration::from_millis(ms);
    let log = log((1..=REVISIONS).map(marker));
    let mut evidence = Evidence::default();
    let mut seen = Vec::new();
    for revision in 1..=REVISIONS {
        evidence.writes.push(Write {
            environment: ENVIRONMENT.into(),
            content: Content::Marked {
                flag: "flag-0".into(),
                marker: marker(revision),
            },
            began: at(revision, 0),
            ended: at(revision, 10),
            outcome: Outcome::Acknowledged(Some(revision)),
        });
        let mut messages = step(revision - 1, revision);
        messages.push(heartbeat(revision, Duration::ZERO));
        seen.extend(messages.into_iter().map(|what| Seen {
            at: at(revision, 20),
            connection: 1,
            what,
        }));
        evidence.answers.push(Answer {
            environment: ENVIRONMENT.into(),
            replica: 0,
            asked: at(revision, 30),
            answered: at(revision, 31),
            result: Ok(Answers {
                revision,
                flags: vec![("flag-0".into(), marker(revision), "on".into())],
            }),
        });
    }
    evidence.recordings.push(Recording {
        client: "one".into(),
        environment: ENVIRONMENT.into(),
        late: Duration::ZERO,
        seen,
    });
    evidence.eras.push(Era {
        generations: 1..=1,
        saved: None,
        logs: BTreeMap::from([(ENVIRONMENT.into(), log)]),
    });
    evidence
}

/// What is told of flawless evidence after this was done to it.
fn told(harm: impl FnOnce(&mut Evidence)) -> Vec<Kind> {
    let mut evidence = flawless();
    harm(&mut evidence);
    let violations = check(&evidence, Tolerance::default());
    violations.into_iter().map(|violation| violation.kind).collect()
}

fn seen(evidence: &mut Evidence) -> &mut Vec<Seen> {
    &mut evidence.recordings[0].seen
}

/// The messages of the step to a revision and the heartbeat behind it.
fn at_revision(revision: u64) -> std::ops::Range<usize> {
    let start = usize::try_from(revision - 1).unwrap() * 4;
    start..start + 4
}

fn environment_log(evidence: &mut Evidence) -> &mut Log {
    evidence.eras[0].logs.get_mut(ENVIRONMENT).unwrap()
}

#[test]
fn nothing_is_told_of_what_is_flawless() {
    assert_eq!(told(|_| ()), []);
}

#[test]
fn a_revision_lost_from_the_log_is_told() {
    let told = told(|evidence| drop(environment_log(evidence).revisions.remove(3)));
    assert!(told.contains(&Kind::Lost), "{told:?}");
}

#[test]
fn a_log_that_ends_before_its_head_is_told() {
    let told = told(|evidence| drop(environment_log(evidence).revisions.pop()));
    assert!(told.contains(&Kind::Lost), "{told:?}");
}

#[test]
fn a_chain_with_a_changed_link_is_told() {
    let told = told(|evidence| environment_log(evidence).revisions[2].items[0].version += 1);
    assert_eq!(told, [Kind::WrongHash]);
}

#[test]
fn a_revision_that_a_client_never_got_is_told() {
    // The next step goes on from what the client does not hold.
    let told = told(|evidence| drop(seen(evidence).drain(at_revision(3))));
    assert_eq!(told, [Kind::OutOfOrder]);
}

#[test]
fn a_heartbeat_ahead_of_what_was_sent_is_told() {
    let told = told(|evidence| {
        let range = at_revision(REVISIONS);
        seen(evidence).drain(range.start..range.end - 1);
    });
    assert_eq!(told, [Kind::Lost]);
}

#[test]
fn a_step_without_one_of_its_items_is_torn() {
    let told = told(|evidence| drop(seen(evidence).remove(at_revision(3).start + 1)));
    assert_eq!(told, [Kind::Torn]);
}

#[test]
fn an_item_outside_of_a_step_is_torn() {
    let told = told(|evidence| {
        let item = seen(evidence)[1].clone();
        seen(evidence).push(item);
    });
    assert_eq!(told, [Kind::Torn]);
}

#[test]
fn a_commit_without_a_beginning_is_torn() {
    let told = told(|evidence| drop(seen(evidence).remove(at_revision(REVISIONS).start)));
    assert!(told.iter().all(|kind| *kind == Kind::Torn || *kind == Kind::Lost) && told.contains(&Kind::Torn));
}

#[test]
fn a_step_that_was_cut_off_and_sent_again_is_not_torn() {
    let told = told(|evidence| {
        let range = at_revision(3);
        let cut = seen(evidence)[range.start..range.start + 2].to_vec();
        seen(evidence).splice(range.start..range.start, cut);
        for seen in &mut seen(evidence)[range.start + 2..] {
            seen.connection = 2;
        }
    });
    assert_eq!(told, []);
}

#[test]
fn a_step_back_is_told() {
    let told = told(|evidence| {
        let mut earlier = seen(evidence)[at_revision(2)].to_vec();
        earlier.truncate(3);
        if let What::Begin { intent, .. } = &mut earlier[0].what {
            *intent = Intent::Snapshot;
        }
        seen(evidence).extend(earlier);
    });
    assert_eq!(told, [Kind::OutOfOrder]);
}

#[test]
fn a_revision_committed_twice_is_told_across_connections() {
    let told = told(|evidence| {
        let mut again = seen(evidence)[at_revision(REVISIONS)].to_vec();
        if let What::Begin { intent, .. } = &mut again[0].what {
            *intent = Intent::Snapshot;
        }
        for seen in &mut again {
            seen.connection = 2;
        }
        seen(evidence).extend(again);
    });
    assert_eq!(told, [Kind::Duplicate]);
}

#[test]
fn a_client_that_holds_something_else_than_the_server_is_told() {
    let told = told(|evidence| {
        if let What::Commit { own, .. } = &mut seen(evidence)[2].what {
            own.0[0] ^= 1;
        }
    });
    assert_eq!(told, [Kind::WrongHash]);
}

#[test]
fn a_state_that_client_and_server_share_and_the_history_never_had_is_told() {
    let told = told(|evidence| {
        if let What::Commit { own, server, .. } = &mut seen(evidence)[2].what {
            own.0[0] ^= 1;
            *server = *own;
        }
    });
    assert_eq!(told, [Kind::WrongHash]);
}

#[test]
fn a_revision_that_never_was_is_a_phantom() {
    let told = told(|evidence| {
        let at = seen(evidence).last().unwrap().at;
        let mut phantom = step(REVISIONS, REVISIONS + 1);
        phantom.remove(1);
        if let What::Begin { count, .. } = &mut phantom[0] {
            *count = 0;
        }
        seen(evidence).extend(phantom.into_iter().map(|what| Seen {
            at,
            connection: 1,
            what,
        }));
    });
    assert_eq!(told, [Kind::Phantom]);
}

#[test]
fn an_item_of_another_environment_is_a_phantom() {
    let told = told(|evidence| {
        if let What::Put { name, .. } = &mut seen(evidence)[1].what {
            name.1 = "flag-9".into();
        }
    });
    assert_eq!(told, [Kind::Phantom]);
}

#[test]
fn a_heartbeat_that_claims_to_be_newer_than_it_is_lies() {
    // Three seconds after revision 2 the client still has revision 1, and the server says that it is up to date.
    let lie = |staleness: Duration| {
        told(|evidence| {
            let late = seen(evidence)[3].at + Duration::from_secs(4);
            seen(evidence).drain(4..);
            let what = heartbeat(1, staleness);
            seen(evidence).push(Seen {
                at: late,
                connection: 1,
                what,
            });
        })
    };
    assert_eq!(lie(Duration::ZERO), [Kind::Lie]);
    assert_eq!(lie(Duration::from_secs(4)), []);
}

#[test]
fn a_heartbeat_that_claims_to_have_asked_a_dead_database_lies() {
    let told = |staleness: Duration| {
        told(|evidence| {
            let last = seen(evidence).last().unwrap().at;
            evidence.outages.push(Span {
                from: last + Duration::from_secs(1),
                to: None,
            });
            let what = heartbeat(REVISIONS, staleness);
            seen(evidence).push(Seen {
                at: last + Duration::from_secs(10),
                connection: 1,
                what,
            });
        })
    };
    assert_eq!(told(Duration::from_secs(2)), [Kind::Lie]);
    assert_eq!(told(Duration::from_secs(9)), []);
}

#[test]
fn a_history_that_was_replaced_is_held_against_the_generation_that_saw_it() {
    let mut evidence = flawless();
    let saved = origin() + Duration::from_secs(10);
    evidence.eras[0].saved = Some(saved);
    // The copy that was restored ends at revision 4; the two lost writes were acknowledged before.
    let restored = log((1..=4).map(marker));
    evidence.eras.push(Era {
        generations: 1..=2,
        saved: None,
        logs: BTreeMap::from([(ENVIRONMENT.into(), restored)]),
    });
    let after = |generation: u64| {
        let mut messages = step(0, 4);
        for what in &mut messages {
            match what {
                What::Begin {
                    generation: at, reason, ..
                } => (*at, *reason) = (generation, SnapshotReason::Diverged),
                What::Commit { generation: at, .. } => *at = generation,
                What::Put { .. }
                | What::Opened { .. }
                | What::Delete { .. }
                | What::Heartbeat { .. }
                | What::Goodbye
                | What::Ended(_) => {}
            }
        }
        messages.into_iter().map(|what| Seen {
            at: saved + Duration::from_secs(1),
            connection: 2,
            what,
        })
    };
    let told = |generation| {
        let mut evidence = Evidence {
            eras: evidence.eras.clone(),
            writes: evidence.writes.clone(),
            recordings: evidence.recordings.clone(),
            ..Evidence::default()
        };
        seen(&mut evidence).extend(after(generation));
        let violations = check(&evidence, Tolerance::default());
        violations
            .into_iter()
            .map(|violation| violation.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(told(2), []);
    // Who comes with a token of what was lost may be told so before the generation rises.
    assert_eq!(told(1), []);
    assert_eq!(told(3), [Kind::Phantom]);
}
