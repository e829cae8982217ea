//! What replicas may say of their age while PostgreSQL cannot be asked.

use std::time::Duration;

use super::told;
use crate::checker::Kind;
use crate::evidence::{Aged, Cut, Evidence, Loses, Notices, Span};

/// Somebody asks replica 0 five seconds after something that this notes.
fn asked_after(staleness: u64, notes: impl FnOnce(&mut Evidence, Span)) -> Vec<Kind> {
    told(|evidence| {
        let from = super::seen(evidence).last().unwrap().at + Duration::from_millis(100);
        notes(evidence, Span { from, to: None });
        evidence.ages.push(Aged {
            replica: 0,
            asked: from + Duration::from_secs(5),
            staleness: Duration::from_secs(staleness),
        });
    })
}

#[test]
fn an_age_below_that_of_the_outage_is_told() {
    let outage = |evidence: &mut Evidence, span| evidence.outages.push(span);
    assert_eq!(asked_after(0, outage), [Kind::Lie]);
    assert_eq!(asked_after(5, outage), []);
}

#[test]
fn an_age_counts_from_when_its_own_replica_was_cut_off() {
    let cut = |replica, loses| {
        move |evidence: &mut Evidence, span| {
            evidence.cuts.push(Cut {
                replica,
                span,
                loses,
                notices: Notices::ByProbe,
            });
        }
    };
    assert_eq!(asked_after(0, cut(0, Loses::Everything)), [Kind::Lie]);
    assert_eq!(asked_after(0, cut(1, Loses::Everything)), []);
    assert_eq!(asked_after(0, cut(0, Loses::Notifications)), []);
}
