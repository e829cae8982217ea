//! What replicas say of their own age, to whoever watches over them: it can be held against when PostgreSQL could not be asked.

use super::{Kind, Tolerance, Violations};
use crate::evidence::{Evidence, Loses, Span};

pub fn check(evidence: &Evidence, tolerance: Tolerance, violations: &mut Violations) {
    for aged in &evidence.ages {
        // It claims that it was certain at this moment, or later.
        let Some(claimed) = aged.asked.checked_sub(aged.staleness + tolerance.heartbeat) else {
            continue;
        };
        let is_within = |span: &Span| span.from < aged.asked && span.to.is_none_or(|to| aged.asked < to);
        let cuts = evidence.cuts.iter();
        let cuts = cuts.filter(|cut| cut.replica == aged.replica && cut.loses == Loses::Everything);
        let away = evidence.outages.iter().chain(cuts.map(|cut| &cut.span));
        let mut away = away.filter(|span| is_within(span) && span.from < claimed);
        // Once is enough: an outage is a cut of every replica too.
        if let Some(span) = away.next() {
            let (replica, staleness) = (aged.replica, aged.staleness);
            let since = aged.asked - span.from;
            violations.add(
                Kind::Lie,
                format!(
                    "replica {replica} said that it is {staleness:?} old, and could ask nobody for {since:?} by then"
                ),
            );
        }
    }
}
