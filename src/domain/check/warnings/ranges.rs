//! Parts of an ordered line, such as "less than 5 or more than 9".

/// A part of a line: cuts in their order, at each of which it changes whether one is inside.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ranges<T> {
    /// Whether it holds everything before the first cut.
    from_the_start: bool,
    cuts: Vec<Cut<T>>,
}

/// A place between two values, just before or just after one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cut<T> {
    at: T,
    after: bool,
}

fn before<T>(at: T) -> Cut<T> {
    Cut { at, after: false }
}

fn after<T>(at: T) -> Cut<T> {
    Cut { at, after: true }
}

impl<T: Ord + Clone> Ranges<T> {
    pub(super) fn less(than: T) -> Self {
        Self {
            from_the_start: true,
            cuts: vec![before(than)],
        }
    }

    pub(super) fn at_most(most: T) -> Self {
        Self {
            from_the_start: true,
            cuts: vec![after(most)],
        }
    }

    pub(super) fn points(points: impl IntoIterator<Item = T>) -> Self {
        let mut points: Vec<_> = points.into_iter().collect();
        points.sort();
        points.dedup();
        Self {
            from_the_start: false,
            cuts: points
                .into_iter()
                .flat_map(|point| [before(point.clone()), after(point)])
                .collect(),
        }
    }

    /// From the one, inclusive, to the other, exclusive.
    pub(super) fn between(from: T, to: T) -> Self {
        Self {
            from_the_start: false,
            cuts: vec![before(from), before(to)],
        }
    }

    /// Everything else.
    pub(super) fn outside(self) -> Self {
        Self {
            from_the_start: !self.from_the_start,
            ..self
        }
    }

    /// How much work it is to compare with it.
    pub(super) fn size(&self) -> usize {
        self.cuts.len()
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        let passed = self.cuts.partition_point(|cut| match cut.at.cmp(value) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => !cut.after,
            std::cmp::Ordering::Greater => false,
        });
        self.from_the_start != (passed % 2 == 1)
    }

    /// Whether something may be inside both. Neighbouring values are not known: there may be something between any two.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.sweep(other, |one, other| one && other)
    }

    /// Whether everything inside is inside the other.
    pub(super) fn within(&self, other: &Self) -> bool {
        !self.sweep(other, |one, other| one && !other)
    }

    /// Whether everything outside is inside the other.
    pub(super) fn outside_within(&self, other: &Self) -> bool {
        !self.sweep(other, |one, other| !one && !other)
    }

    /// Whether anywhere on the line it is so, given whether one is inside each.
    fn sweep(&self, other: &Self, so: impl Fn(bool, bool) -> bool) -> bool {
        let (mut one, mut two) = (self.from_the_start, other.from_the_start);
        let (mut ones, mut twos) = (self.cuts.iter().peekable(), other.cuts.iter().peekable());
        loop {
            if so(one, two) {
                return true;
            }
            let next = match (ones.peek(), twos.peek()) {
                (None, None) => return false,
                (Some(cut), None) | (None, Some(cut)) => *cut,
                (Some(cut), Some(other)) => (*cut).min(*other),
            };
            one ^= ones.next_if_eq(&next).is_some();
            two ^= twos.next_if_eq(&next).is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Ranges<u8>> {
        let simple = prop_oneof![
            (0..9_u8).prop_map(Ranges::less),
            (0..9_u8).prop_map(Ranges::at_most),
            prop::collection::vec(0..9_u8, 0..4).prop_map(Ranges::points),
            (0..4_u8, 1..5_u8).prop_map(|(from, length)| Ranges::between(from, from + length)),
        ];
        (simple, any::<bool>()).prop_map(|(ranges, flipped)| if flipped { ranges.outside() } else { ranges })
    }

    proptest! {
        #[test]
        fn what_is_said_of_ranges_is_true_of_their_values(one in ranges(), two in ranges()) {
            let inside = |value: &u8| (one.contains(value), two.contains(value));
            let values: Vec<u8> = (0..=20).collect();
            if !one.meets(&two) {
                prop_assert!(!values.iter().any(|value| inside(value) == (true, true)));
            }
            if one.within(&two) {
                prop_assert!(!values.iter().any(|value| inside(value) == (true, false)));
            }
            if one.outside_within(&two) {
                prop_assert!(!values.iter().any(|value| inside(value) == (false, false)));
            }
            prop_assert!(one.within(&one) && (one.meets(&one) || !values.iter().any(|value| one.contains(value))));
            prop_assert!(!one.meets(&one.clone().outside()) && one.outside_within(&one.clone().outside()));
        }
    }

    #[test]
    fn edges_belong_where_they_are_said_to() {
        assert!(!Ranges::less(5).contains(&5) && Ranges::at_most(5).contains(&5));
        assert!(!Ranges::less(5).meets(&Ranges::less(5).outside()));
        assert!(Ranges::at_most(5).meets(&Ranges::less(5).outside()));
        assert!(Ranges::points([3, 4]).within(&Ranges::between(3, 5)));
        assert!(!Ranges::points([3, 5]).within(&Ranges::between(3, 5)));
        assert!(Ranges::points([5]).outside().outside_within(&Ranges::at_most(5)));
    }
}
