//! What comes late because everything stood still: a stall excuses what was on its way in it, and nothing else.

use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::SourceState;

use super::{REVISIONS, at_revision, environment_log, seen, told};
use crate::checker::Kind;
use crate::evidence::{Cut, Evidence, Loses, Notices, Outcome, Seen, Span, What};

/// When a heartbeat comes that says that PostgreSQL has answered just now, in ms after it died.
const CAME: u64 = 4_000;

fn after(from: Instant, ms: u64) -> Instant {
    from + Duration::from_millis(ms)
}

/// Everything stood still between these moments, in ms after `from`.
fn stall(evidence: &mut Evidence, from: Instant, stalled: (u64, u64)) {
    let (began, ended) = (after(from, stalled.0), after(from, stalled.1));
    let to = Some(ended);
    evidence.stalls.push(Span { from: began, to });
}

/// Says that it is LIVE, and how old it is.
fn say(evidence: &mut Evidence, at: Instant, revision: u64, staleness: u64) {
    let what = What::Heartbeat {
        generation: 1,
        revision,
        source: SourceState::Live,
        staleness: Duration::from_millis(staleness),
    };
    let connection = 1;
    seen(evidence).push(Seen { at, connection, what });
}

/// Lets the stream be one of replica 0. Returns a moment after all that it saw.
fn opened(evidence: &mut Evidence) -> Instant {
    let opened = Seen {
        at: seen(evidence)[0].at,
        connection: 1,
        what: What::Opened { replica: 0 },
    };
    seen(evidence).insert(0, opened);
    after(seen(evidence).last().unwrap().at, 100)
}

/// A heartbeat that is younger than it can be, while everything stood still between these moments after the death of PostgreSQL.
fn heartbeat(stalls: &[(u64, u64)]) -> Vec<Kind> {
    told(|evidence| {
        let from = after(seen(evidence).last().unwrap().at, 100);
        evidence.outages.push(Span { from, to: None });
        for stalled in stalls {
            stall(evidence, from, *stalled);
        }
        say(evidence, after(from, CAME), REVISIONS, 0);
    })
}

#[test]
fn what_was_on_its_way_when_everything_stood_still_may_be_as_late_as_that() {
    assert_eq!(heartbeat(&[]), [Kind::Lie]);
    // It came in the stall, or was among the first to come after it.
    assert_eq!(heartbeat(&[(0, CAME + 100)]), []);
    assert_eq!(heartbeat(&[(0, CAME)]), []);
    assert_eq!(heartbeat(&[(0, CAME - 400)]), []);
    // What came after that was said after it.
    assert_eq!(heartbeat(&[(0, CAME - 600)]), [Kind::Lie]);
    // What came before is none of its.
    assert_eq!(heartbeat(&[(CAME + 1, CAME + 5_000)]), [Kind::Lie]);
}

#[test]
fn nothing_is_later_by_a_stall_than_since_it_began() {
    // The tolerance is a second.
    assert_eq!(heartbeat(&[(900, CAME)]), []);
    assert_eq!(heartbeat(&[(1_100, CAME)]), [Kind::Lie]);
    // Nor do stalls add up: what was said before the first one came between them.
    assert_eq!(heartbeat(&[(500, 2_000), (2_100, CAME)]), [Kind::Lie]);
    assert_eq!(heartbeat(&[(2_000, 3_900), (2_000, CAME)]), [Kind::Lie]);
}

#[test]
fn a_stall_and_a_replica_that_stood_still_excuse_the_same_time() {
    let told = |stood: u64, stalled: u64| {
        told(|evidence| {
            let from = opened(evidence);
            evidence.outages.push(Span { from, to: None });
            let to = Some(after(from, CAME));
            let from_stood = after(from, stood);
            evidence.absences.push((0, Span { from: from_stood, to }));
            stall(evidence, from, (stalled, CAME));
            say(evidence, after(from, CAME), REVISIONS, 0);
        })
    };
    assert_eq!(told(900, 3_000), []);
    assert_eq!(told(3_000, 900), []);
    assert_eq!(told(2_000, 2_000), [Kind::Lie]);
}

#[test]
fn a_revision_that_is_missing_is_excused_by_a_stall_alone_in_which_it_was_written() {
    // Revision 2 is written a second after the heartbeat before; the client hears of nothing for 4 s, and then that all is new.
    let told = |stalled: (u64, u64)| {
        told(|evidence| {
            let from = seen(evidence)[3].at;
            seen(evidence).drain(4..);
            stall(evidence, from, stalled);
            say(evidence, after(from, CAME), 1, 0);
        })
    };
    assert_eq!(told((500, CAME)), []);
    assert_eq!(told((500, CAME - 600)), [Kind::Lie]);
    assert_eq!(told((2_500, CAME)), [Kind::Lie]);
}

#[test]
fn a_listener_that_ended_is_live_for_a_stall_longer() {
    let told = |stalled: (u64, u64)| {
        told(|evidence| {
            let from = opened(evidence);
            evidence.cuts.push(Cut {
                replica: 0,
                span: Span { from, to: None },
                loses: Loses::Notifications,
                notices: Notices::AtOnce,
            });
            stall(evidence, from, stalled);
            say(evidence, after(from, CAME), REVISIONS, 0);
        })
    };
    assert_eq!(told((500, CAME)), []);
    assert_eq!(told((500, CAME - 600)), [Kind::Lie]);
}

#[test]
fn a_stall_excuses_nothing_but_that_something_comes_late() {
    // All of this happened while everything stood still all the time.
    let in_a_stall = |harm: fn(&mut Evidence)| {
        told(|evidence| {
            let from = seen(evidence)[0].at.checked_sub(Duration::from_secs(5)).unwrap();
            stall(evidence, from, (0, 60_000));
            harm(evidence);
        })
    };
    assert_eq!(in_a_stall(|_| ()), []);
    let skipped: fn(&mut Evidence) = |evidence| drop(seen(evidence).drain(at_revision(3)));
    assert_eq!(in_a_stall(skipped), [Kind::OutOfOrder]);
    let torn: fn(&mut Evidence) = |evidence| drop(seen(evidence).remove(at_revision(3).start + 1));
    assert_eq!(in_a_stall(torn), [Kind::Torn]);
    let lost: fn(&mut Evidence) = |evidence| evidence.writes[0].outcome = Outcome::Acknowledged(Some(2));
    assert_eq!(in_a_stall(lost), [Kind::Lost]);
    let changed: fn(&mut Evidence) = |evidence| environment_log(evidence).revisions[2].items[0].version += 1;
    assert_eq!(in_a_stall(changed), [Kind::WrongHash]);
    let unanswered: fn(&mut Evidence) = |evidence| evidence.answers[2].result = Err("gone".into());
    assert_eq!(in_a_stall(unanswered), [Kind::Answer]);
    let ahead: fn(&mut Evidence) = |evidence| {
        let at = seen(evidence).last().unwrap().at;
        say(evidence, at, REVISIONS + 1, 0);
    };
    assert_eq!(in_a_stall(ahead), [Kind::Lost]);
}
