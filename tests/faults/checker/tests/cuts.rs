//! What may be said while a replica is cut off, and while a history is replaced.

use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::{Intent, SnapshotReason, SourceState};

use super::{REVISIONS, hash_at, seen, told};
use crate::checker::Kind;
use crate::evidence::{Answer, Cut, Evidence, Loses, Notices, Seen, Span, What};

/// A heartbeat so many seconds after replica 0 was cut off.
fn after_cut(seconds: u64, loses: Loses, notices: Notices, source: SourceState, staleness: u64) -> Vec<Kind> {
    told(|evidence| {
        let last = seen(evidence).last().unwrap().at;
        let opened = Seen {
            at: seen(evidence)[0].at,
            connection: 1,
            what: What::Opened { replica: 0 },
        };
        seen(evidence).insert(0, opened);
        let from = last + Duration::from_millis(100);
        evidence.cuts = [0, 1]
            .map(|replica| Cut {
                replica,
                span: Span { from, to: None },
                loses,
                notices,
            })
            .into();
        seen(evidence).push(Seen {
            at: from + Duration::from_secs(seconds),
            connection: 1,
            what: What::Heartbeat {
                generation: 1,
                revision: REVISIONS,
                source,
                staleness: Duration::from_secs(staleness),
            },
        });
    })
}

#[test]
fn a_replica_that_is_cut_off_knows_nothing_newer() {
    let told = |staleness| after_cut(5, Loses::Everything, Notices::ByProbe, SourceState::Live, staleness);
    assert_eq!(told(1), [Kind::Lie]);
    assert_eq!(told(5), []);
}

#[test]
fn a_replica_that_polls_may_know_the_newest() {
    let told = after_cut(5, Loses::Notifications, Notices::AtOnce, SourceState::Polling, 0);
    assert_eq!(told, []);
}

#[test]
fn a_listener_that_hears_nothing_is_live_no_longer_than_until_its_probe() {
    let told = |seconds, source| after_cut(seconds, Loses::Notifications, Notices::ByProbe, source, 0);
    assert_eq!(told(7, SourceState::Live), []);
    assert_eq!(told(9, SourceState::Live), [Kind::Lie]);
    assert_eq!(told(9, SourceState::Polling), []);
}

#[test]
fn a_listener_whose_connection_ended_is_not_live() {
    let told = |source| after_cut(2, Loses::Notifications, Notices::AtOnce, source, 0);
    assert_eq!(told(SourceState::Live), [Kind::Lie]);
    assert_eq!(told(SourceState::Polling), []);
}

/// The client comes again at the end, and is told that what it holds is in no history.
fn convicted(evidence: &mut Evidence, resumes: bool) {
    let last = seen(evidence).last().unwrap().clone();
    let mut say = |what| {
        seen(evidence).push(Seen {
            at: last.at + Duration::from_secs(2),
            connection: last.connection + u32::from(resumes),
            what,
        });
    };
    say(What::Begin {
        intent: Intent::Snapshot,
        reason: SnapshotReason::Diverged,
        generation: 1,
        from: 0,
        to: REVISIONS - 1,
        count: 0,
    });
    say(What::Commit {
        generation: 1,
        revision: REVISIONS - 1,
        server: hash_at(REVISIONS - 1),
        own: hash_at(REVISIONS - 1),
    });
}

/// The same history again, saved before the conviction: as after a restore that lost what is not looked at here.
fn replaced(evidence: &mut Evidence) {
    let mut before = evidence.eras[0].clone();
    before.saved = Some(seen(evidence).last().unwrap().at + Duration::from_secs(1));
    evidence.eras.insert(0, before);
}

#[test]
fn a_client_is_told_that_its_history_is_no_more_only_where_one_was_replaced_and_it_resumes() {
    assert_eq!(
        told(|evidence| {
            replaced(evidence);
            convicted(evidence, true);
        }),
        []
    );
    let told_of_nothing = told(|evidence| convicted(evidence, true));
    assert_eq!(told_of_nothing, [Kind::OutOfOrder]);
    let told_within = told(|evidence| {
        replaced(evidence);
        convicted(evidence, false);
    });
    assert_eq!(told_within, [Kind::OutOfOrder]);
}

#[test]
fn a_generation_that_rises_without_a_reason_is_told() {
    let told = |rises: u64, is_replaced: bool| {
        told(|evidence| {
            if is_replaced {
                replaced(evidence);
            }
            evidence.eras.last_mut().unwrap().generations = 1..=1 + rises;
        })
    };
    assert_eq!(told(1, false), [Kind::Phantom]);
    assert_eq!(told(1, true), []);
    assert_eq!(told(2, true), [Kind::Phantom]);
}

#[test]
fn a_replica_goes_back_once_where_the_history_was_replaced() {
    let back = |times: usize, is_replaced: bool| {
        told(|evidence| {
            if is_replaced {
                replaced(evidence);
            }
            let answers = evidence.answers.clone();
            let late = |answer: &Answer, offset: u64| {
                let mut answer = answer.clone();
                answer.asked = after(evidence.answers.last().unwrap().answered, offset);
                answer.answered = answer.asked;
                answer
            };
            let mut more = Vec::new();
            for time in 0..times {
                let offset = 2 + 2 * u64::try_from(time).unwrap();
                more.push(late(&answers[0], offset));
                more.push(late(&answers[1], offset + 1));
            }
            evidence.answers.extend(more);
        })
    };
    assert_eq!(back(1, false), [Kind::OutOfOrder]);
    assert_eq!(back(1, true), []);
    assert_eq!(back(2, true), [Kind::OutOfOrder]);
}

fn after(at: Instant, seconds: u64) -> Instant {
    at + Duration::from_secs(seconds)
}

/// A heartbeat that PostgreSQL has answered just now, 4 s after it died; and what else is so.
fn heartbeat_after_outage(also: impl FnOnce(&mut Evidence, Span)) -> Vec<Kind> {
    told(|evidence| {
        let from = seen(evidence).last().unwrap().at + Duration::from_millis(100);
        let span = Span { from, to: None };
        evidence.outages.push(span);
        let opened = Seen {
            at: seen(evidence)[0].at,
            connection: 1,
            what: What::Opened { replica: 0 },
        };
        seen(evidence).insert(0, opened);
        seen(evidence).push(Seen {
            at: from + Duration::from_secs(4),
            connection: 1,
            what: What::Heartbeat {
                generation: 1,
                revision: REVISIONS,
                source: SourceState::Live,
                staleness: Duration::ZERO,
            },
        });
        also(evidence, span);
    })
}

#[test]
fn a_heartbeat_may_be_as_late_as_its_road() {
    let told = |late| heartbeat_after_outage(|evidence, _| evidence.recordings[0].late = Duration::from_secs(late));
    assert_eq!(told(0), [Kind::Lie]);
    assert_eq!(told(3), []);
}

#[test]
fn a_heartbeat_may_be_as_late_as_its_replica_stood_still() {
    let stood_still = |replica: usize, until: u64| {
        heartbeat_after_outage(|evidence, Span { from, .. }| {
            let to = Some(from + Duration::from_secs(until));
            evidence.absences.push((replica, Span { from, to }));
        })
    };
    assert_eq!(stood_still(0, 4), []);
    // It has said other things since, or it was another.
    assert_eq!(stood_still(0, 2), [Kind::Lie]);
    assert_eq!(stood_still(1, 4), [Kind::Lie]);
}

#[test]
fn who_came_after_a_replica_stood_still_has_nothing_late_from_it() {
    let told = heartbeat_after_outage(|evidence, Span { from, .. }| {
        let to = Some(from + Duration::from_secs(4));
        evidence.absences.push((0, Span { from, to }));
        seen(evidence)[0].at = from + Duration::from_secs(1);
    });
    assert_eq!(told, [Kind::Lie]);
}
