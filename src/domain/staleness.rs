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
}

#[cfg(test)]
mod tests {
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
