//! Heartbeats: what they say about how old the server's state is can be held against what was written when.

use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::SourceState;

use super::{Kind, Tolerance, Violations};
use crate::evidence::{Evidence, Loses, Notices, Outcome, Recording, Span, What};

/// After so long at most a replica knows that it hears nothing: it probes every 5 s, and waits 2 s for an answer.
const PROBED: Duration = Duration::from_secs(7);

/// After so long whoever stood still has sent what it was about to send.
const CAUGHT_UP: Duration = Duration::from_millis(500);

pub fn check(recording: &Recording, evidence: &Evidence, tolerance: Tolerance, violations: &mut Violations) {
    let acknowledged = acknowledged(recording, evidence);
    let saved = evidence.eras.iter().filter_map(|era| era.saved).max();
    let tolerance = tolerance.heartbeat + recording.late;
    let mut opened = None;
    for seen in &recording.seen {
        if let What::Opened { replica } = seen.what {
            opened = Some((replica, seen.at));
        }
        let What::Heartbeat {
            revision,
            source,
            staleness,
            ..
        } = seen.what
        else {
            continue;
        };
        let at_replica = opened.map(|(replica, _)| replica);
        let tolerance = tolerance + held_up(opened, seen.at, evidence).max(stalled(seen.at, evidence));
        let mut tell = |words: String| {
            let (name, environment) = (&recording.client, &recording.environment);
            violations.add(
                Kind::Lie,
                format!("{name} of {environment}: a heartbeat {source:?}, {staleness:?} old: {words}"),
            );
        };
        if source == SourceState::Unspecified {
            tell("without a source".to_owned());
        }
        let is_within = |span: &Span| span.from < seen.at && span.to.is_none_or(|to| seen.at < to);
        let cuts = evidence.cuts.iter().filter(|cut| Some(cut.replica) == at_replica);
        let cuts: Vec<_> = cuts.filter(|cut| is_within(&cut.span)).collect();
        for cut in &cuts {
            let since = seen.at - cut.span.from;
            let noticed = match cut.notices {
                Notices::AtOnce => tolerance,
                Notices::ByProbe => PROBED + tolerance,
            };
            if source == SourceState::Live && since > noticed {
                tell(format!("replica {} heard nothing for {since:?} by then", cut.replica));
            }
        }
        // The server claims that it held the newest state at this moment, or later.
        let Some(claimed) = seen.at.checked_sub(staleness + tolerance) else {
            continue;
        };
        for outage in evidence.outages.iter().filter(|outage| is_within(outage)) {
            if outage.from < claimed {
                let since = seen.at - outage.from;
                tell(format!("PostgreSQL was away for {since:?} by then"));
            }
        }
        for cut in cuts {
            if cut.loses == Loses::Everything && cut.span.from < claimed {
                let since = seen.at - cut.span.from;
                tell(format!("replica {} was cut off for {since:?} by then", cut.replica));
            }
        }
        // After a restore the numbers of before mean something else.
        let counts = |at: Instant| saved.is_none_or(|saved| at > saved || seen.at < saved);
        let newest = acknowledged.iter().take_while(|(at, _)| *at < claimed);
        let newest = newest
            .filter(|(at, _)| counts(*at))
            .max_by_key(|(_, revision)| *revision);
        if let Some((at, missing)) = newest.filter(|(_, missing)| *missing > revision) {
            let before = seen.at - *at;
            tell(format!(
                "revision {missing} was acknowledged {before:?} before, it is at {revision}"
            ));
        }
    }
}

/// How late a message can be because its replica stood still with it. Who has come since then has it from a replica that did not.
fn held_up(opened: Option<(usize, Instant)>, at: Instant, evidence: &Evidence) -> Duration {
    let Some((replica, opened)) = opened else {
        return Duration::ZERO;
    };
    let absences = evidence.absences.iter().filter(|(number, _)| *number == replica);
    let still = absences.filter(|(_, span)| opened < span.from && span.from < at);
    // What was on its way when it went on arrives soon.
    let still = still.filter(|(_, span)| span.to.is_none_or(|to| at < to + CAUGHT_UP));
    still.map(|(_, span)| at - span.from).max().unwrap_or_default()
}

/// How late a message can be because everything stood still with it on its way.
fn stalled(at: Instant, evidence: &Evidence) -> Duration {
    let stalls = evidence.stalls.iter();
    let stalls = stalls.filter(|span| span.from < at && span.to.is_none_or(|to| at < to + CAUGHT_UP));
    stalls.map(|span| at - span.from).max().unwrap_or_default()
}

/// When which revision was certainly committed, in that order.
fn acknowledged(recording: &Recording, evidence: &Evidence) -> Vec<(Instant, u64)> {
    let of_environment = evidence
        .writes
        .iter()
        .filter(|write| write.environment == recording.environment);
    let mut acknowledged: Vec<_> = of_environment
        .filter_map(|write| match write.outcome {
            Outcome::Acknowledged(Some(revision)) => Some((write.ended, revision)),
            Outcome::Acknowledged(None) | Outcome::Refused(_) | Outcome::Unknown(_) => None,
        })
        .collect();
    acknowledged.sort_unstable();
    acknowledged
}
