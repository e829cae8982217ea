//! How old a state may be that answers for a flag.

use std::collections::HashMap;

use super::key;

/// How old the state may be, in milliseconds, for all flags and for some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// For flags that are not named. `None`: any age.
    pub all_ms: Option<u64>,
    /// For these.
    pub flags_ms: HashMap<key::Flag, u64>,
}

impl Limits {
    /// Whether every flag is answered for from a state of any age.
    pub fn is_empty(&self) -> bool {
        self.all_ms.is_none() && self.flags_ms.is_empty()
    }

    /// Whether a state of this age is too old for a flag. `None`: of an unknown age, too old for every limit.
    pub fn is_over(&self, flag: &str, age_ms: Option<u64>) -> bool {
        let limit = self.flags_ms.get(flag).copied().or(self.all_ms);
        limit.is_some_and(|limit| age_ms.is_none_or(|age| age > limit))
    }

    /// The least age that is over the same limits as this one. `None`: over all of them, as an unknown age is; there is at least one.
    pub fn least_like(&self, age_ms: Option<u64>) -> Option<u64> {
        let limits = || self.flags_ms.values().copied().chain(self.all_ms);
        let Some(highest) = limits().max() else {
            return Some(0);
        };
        let age_ms = age_ms.filter(|age| *age <= highest)?;
        let passed = limits().filter(|limit| age_ms > *limit).max();
        Some(passed.map_or(0, |passed| passed.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flags_own_limit_is_the_one_that_counts() {
        let strict = Limits {
            all_ms: Some(100),
            flags_ms: [
                (key::Flag::new("slow").unwrap(), 1_000),
                (key::Flag::new("quick").unwrap(), 0),
            ]
            .into(),
        };
        for (flag, age_ms, over) in [
            ("other", Some(100), false),
            ("other", Some(101), true),
            ("other", None, true),
            ("slow", Some(1_000), false),
            ("slow", Some(1_001), true),
            ("quick", Some(0), false),
            ("quick", Some(1), true),
        ] {
            assert_eq!(strict.is_over(flag, age_ms), over, "{flag} {age_ms:?}");
        }
    }

    fn ages() -> impl Strategy<Value = Option<u64>> {
        prop_oneof![3 => (0..12_u64).prop_map(Some), 1 => Just(Some(u64::MAX)), 1 => Just(None)]
    }

    proptest! {
        #[test]
        fn what_counts_of_an_age_is_which_limits_it_is_over(
            all_ms in ages(), flags_ms in prop::collection::hash_map("[a-c]", 0..10_u64, 0..3), one in ages(), other in ages(),
        ) {
            let flags_ms = flags_ms.into_iter().map(|(flag, ms)| (key::Flag::new(&flag).unwrap(), ms)).collect();
            let limits = Limits { all_ms, flags_ms };
            let over = |age_ms| ["a", "b", "c", "d"].map(|flag| limits.is_over(flag, age_ms));
            let (least, other_least) = (limits.least_like(one), limits.least_like(other));
            prop_assert_eq!(over(least), over(one));
            prop_assert_eq!(limits.least_like(least), least);
            if least == other_least {
                prop_assert_eq!(over(one), over(other));
            }
            if let (Some(least), Some(one)) = (least, one) {
                prop_assert!(least <= one);
            }
        }
    }

    #[test]
    fn without_limits_any_age_will_do() {
        let none = Limits::default();
        assert!(none.is_empty() && !none.is_over("any", None));
        let one = Limits {
            all_ms: None,
            flags_ms: [(key::Flag::new("one").unwrap(), 5)].into(),
        };
        assert!(!one.is_empty() && one.is_over("one", None) && !one.is_over("other", None));
    }
}
