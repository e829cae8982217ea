//! Heartbeats: what they say about how old the server's state is can be held against what was written when.

use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::SourceState;

use super::{Kind, Tolerance, Violations};
use crate::evidence::{Evidence, Loses, Notices, Outcome, Recording, Span, What};

/// After so long at most a replica knows that it hears nothing: it probes every 5 s, and waits 2 s for an answer.
const PROBED: Duration = Duration::from_secs(7);

pub fn check(recording: &Recording, evidence: &Evidence, tolerance: Tolerance, violations: &mut Violations) {
    let acknowledged = acknowledged(recording, evidence);
    let saved = evidence.eras.iter().filter_map(|era| era.saved).max();
    let mut at_replica = None;
    for seen in &recording.seen {
        if let What::Opened { replica } = seen.what {
            at_replica = Some(replica);
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
                Notices::AtOnce => tolerance.heartbeat,
                Notices::ByProbe => PROBED + tolerance.heartbeat,
            };
            if source == SourceState::Live && since > noticed {
                tell(format!("replica {} heard nothing for {since:?} by then", cut.replica));
            }
        }
        // The server claims that it held the newest state at this moment, or later.
        let Some(claimed) = seen.at.checked_sub(staleness + tolerance.heartbeat) else {
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
