//! What the values that pass one test say of those that pass another.
//!
//! Everything that is claimed here is certain; what is not known is not claimed. "Within" and "apart" are about single values: what
//! lists make of it is told in `asked`.

use ipnet::IpNet;

use super::among::Verdict;
use super::line::{Number, hull};
use super::{Passing, Place};
use crate::domain::check::warnings::ranges::Ranges;

impl Passing<'_> {
    /// Whether whatever passes this passes the other.
    pub(in crate::domain::check::warnings) fn within(&self, other: &Self) -> bool {
        if other.is_everything() && self.kinds().within(other.kinds()) {
            return true;
        }
        match (self, other) {
            (Self::Among(among), _) => among.all(|value| other.ask(value) == Verdict::Passes),
            (Self::Numbers(one), Self::Numbers(two)) => one.within(two),
            (Self::Numbers(one), Self::Among(two)) => one.within(&two.numbers()),
            (Self::Versions(one), Self::Versions(two)) => one.within(two),
            (Self::VersionRange(one), Self::VersionRange(two)) => one == two,
            (Self::VersionRange(one), Self::Versions(two)) => hull(one).within(two),
            (Self::Moments(one), Self::Moments(two)) => one.within(two),
            (Self::Networks(one), Self::Networks(two)) => one.iter().all(|one| two.iter().any(|two| two.contains(one))),
            (Self::Texts(place, one), Self::Texts(other, two)) => {
                let covered = |one: &&str| two.iter().any(|two| covers(*other, two, *place, one));
                one.iter().all(covered)
            }
            (Self::Patterns(one), Self::Patterns(two)) => one.is_subset(two),
            (
                Self::Numbers(_)
                | Self::Versions(_)
                | Self::VersionRange(_)
                | Self::Moments(_)
                | Self::Networks(_)
                | Self::Texts(..)
                | Self::Patterns(_),
                _,
            ) => false,
        }
    }

    /// Whether no value passes both.
    pub(in crate::domain::check::warnings) fn apart(&self, other: &Self) -> bool {
        if self.kinds().apart(other.kinds()) {
            return true;
        }
        let fails = |verdict| matches!(verdict, Verdict::Fails | Verdict::CannotBeAsked);
        match (self, other) {
            (Self::Among(among), other) | (other, Self::Among(among)) => among.all(|value| fails(other.ask(value))),
            (Self::Numbers(one), Self::Numbers(two)) => !one.meets(two),
            (Self::Versions(one), Self::Versions(two)) => !one.meets(two),
            (Self::VersionRange(range), Self::Versions(ranges))
            | (Self::Versions(ranges), Self::VersionRange(range)) => !hull(range).meets(ranges),
            (Self::VersionRange(one), Self::VersionRange(two)) => !hull(one).meets(&hull(two)),
            (Self::Moments(one), Self::Moments(two)) => !one.meets(two),
            (Self::Networks(one), Self::Networks(two)) => {
                let meet = |one: &IpNet, two: &IpNet| one.contains(two) || two.contains(one);
                !one.iter().any(|one| two.iter().any(|two| meet(one, two)))
            }
            (Self::Texts(Place::Start, one), Self::Texts(Place::Start, two)) => {
                let meet = |one: &str, two: &str| one.starts_with(two) || two.starts_with(one);
                !one.iter().any(|one| two.iter().any(|two| meet(one, two)))
            }
            (Self::Texts(Place::End, one), Self::Texts(Place::End, two)) => {
                let meet = |one: &str, two: &str| one.ends_with(two) || two.ends_with(one);
                !one.iter().any(|one| two.iter().any(|two| meet(one, two)))
            }
            (
                Self::Numbers(_)
                | Self::Versions(_)
                | Self::VersionRange(_)
                | Self::Moments(_)
                | Self::Networks(_)
                | Self::Texts(..)
                | Self::Patterns(_),
                _,
            ) => false,
        }
    }

    /// Whether whatever can be asked this and fails passes the other.
    pub(in crate::domain::check::warnings) fn failing_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Versions(one), Self::Versions(two)) => one.outside_within(two),
            (Self::Moments(one), Self::Moments(two)) => one.outside_within(two),
            (Self::Numbers(_) | Self::Among(_), Self::Numbers(_) | Self::Among(_)) => {
                self.failing_scalars_within(other)
            }
            (
                Self::Among(_)
                | Self::Numbers(_)
                | Self::Versions(_)
                | Self::VersionRange(_)
                | Self::Moments(_)
                | Self::Networks(_)
                | Self::Texts(..)
                | Self::Patterns(_),
                _,
            ) => false,
        }
    }

    /// Of tests of which each asks numbers, bools or texts as they are.
    fn failing_scalars_within(&self, other: &Self) -> bool {
        let kinds = self.kinds();
        if kinds.texts.is_some() {
            return false;
        }
        let numbers = !kinds.numbers || self.numbers().outside_within(&other.numbers());
        let ((yes, no), (other_yes, other_no)) = (self.bools(), other.bools());
        let bools = !kinds.bools || ((yes || other_yes) && (no || other_no));
        numbers && bools
    }

    /// The numbers that pass. For tests that ask numbers, and for those by which none passes.
    fn numbers(&self) -> Ranges<Number> {
        match self {
            Self::Numbers(ranges) => ranges.clone(),
            Self::Among(among) => among.numbers(),
            Self::Versions(_)
            | Self::VersionRange(_)
            | Self::Moments(_)
            | Self::Networks(_)
            | Self::Texts(..)
            | Self::Patterns(_) => Ranges::points([]),
        }
    }

    /// Whether true passes, and whether false does.
    fn bools(&self) -> (bool, bool) {
        match self {
            Self::Among(among) => (among.yes, among.no),
            Self::Numbers(_)
            | Self::Versions(_)
            | Self::VersionRange(_)
            | Self::Moments(_)
            | Self::Networks(_)
            | Self::Texts(..)
            | Self::Patterns(_) => (false, false),
        }
    }

    /// Whether no value passes this and fails the other, being one that the other can be asked.
    pub(in crate::domain::check::warnings) fn never_where_fails(&self, other: &Self) -> bool {
        if self.kinds().apart(other.kinds()) {
            return true;
        }
        match self {
            Self::Among(among) => {
                among.all(|value| matches!(other.ask(value), Verdict::Passes | Verdict::CannotBeAsked))
            }
            Self::Numbers(_)
            | Self::Versions(_)
            | Self::VersionRange(_)
            | Self::Moments(_)
            | Self::Networks(_)
            | Self::Texts(..)
            | Self::Patterns(_) => self.within(other),
        }
    }
}

/// Whether every text with `inner` at its place has `outer` at the other.
fn covers(outer_place: Place, outer: &str, inner_place: Place, inner: &str) -> bool {
    outer.is_empty()
        || ((outer_place == Place::Anywhere || outer_place == inner_place) && outer_place.holds(inner, outer))
}
