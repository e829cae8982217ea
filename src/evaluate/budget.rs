//! What one evaluation may cost, how old what it asks may be, and which assignments it knows of.
//!
//! What is written keeps these limits, and has no circles; a row that a hand edited need not. So what asks others counts down, and
//! evaluation ends whatever is stored.

use super::experiment::{Assignments, Need};
use crate::domain::limits;
use crate::domain::staleness::Limits;

/// How many more may be asked.
#[derive(Debug)]
pub(super) struct Budget<'f> {
    left: usize,
    freshness: Freshness<'f>,
    assignments: Assignments<'f>,
    /// What the evaluation stopped for.
    need: Option<Box<Need>>,
}

/// The evaluation cannot go on: too many were asked already, or an assignment has to be found out first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopped;

/// How old the snapshot is, and how old it may be. Evaluation reads no clock: who asks says it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Freshness<'f>(Option<(&'f Limits, Option<u64>)>);

impl<'f> Freshness<'f> {
    /// It may have any age.
    pub const ANY: Self = Self(None);

    /// It has this age in milliseconds, or an unknown one, and may have those.
    pub fn new(limits: &'f Limits, age_ms: Option<u64>) -> Self {
        Self(Some((limits, age_ms)))
    }

    /// Whether it is too old for a flag.
    fn is_over(&self, flag: &str) -> bool {
        self.0.is_some_and(|(limits, age_ms)| limits.is_over(flag, age_ms))
    }
}

impl<'f> Budget<'f> {
    /// For the prerequisites of one flag, and theirs.
    pub(super) fn of_a_flag(freshness: Freshness<'f>, assignments: Assignments<'f>) -> Self {
        Self {
            left: limits::PREREQUISITE_EVALUATIONS,
            freshness,
            assignments,
            need: None,
        }
    }

    /// For the segments that one segment depends on, and those that they depend on.
    pub(super) fn of_a_segment() -> Self {
        Self {
            left: limits::SEGMENT_EVALUATIONS,
            freshness: Freshness::ANY,
            assignments: Assignments::Hashed,
            need: None,
        }
    }

    /// Before asking one more.
    pub(super) fn spend(&mut self) -> Result<(), Stopped> {
        self.left = self.left.checked_sub(1).ok_or(Stopped)?;
        Ok(())
    }

    /// Which assignments it knows of.
    pub(super) fn assignments(&self) -> Assignments<'f> {
        self.assignments
    }

    /// Ends the evaluation until an assignment is known.
    pub(super) fn stop_for(&mut self, need: Need) -> Stopped {
        self.need = Some(Box::new(need));
        Stopped
    }

    /// What the evaluation stopped for. `None`: too many were asked.
    pub(super) fn need(self) -> Option<Box<Need>> {
        self.need
    }

    /// Whether what is known is too old to answer for a flag.
    pub(super) fn is_stale(&self, flag: &str) -> bool {
        self.freshness.is_over(flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::context::Context;
    use crate::domain::form::{ItemId, Kind};
    use crate::domain::key;
    use crate::evaluate::{Reason, Snapshot};

    /// Two flags that are on, and one that is off; the first has the second as its prerequisite.
    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut put = |kind, key: &str, form: &str| snapshot.put(&ItemId { kind, key: key.into() }, form.as_bytes());
        for key in ["needy", "needed", "off"] {
            let definition = r#"{"format":1,"key":"KEY","type":"bool","variants":[{"key":"on","value":{"bool":true}},
                {"key":"off","value":{"bool":false}}],"off_variant":"off","default_variant":"on","client_visible":true}"#;
            put(Kind::FlagDefinition, key, &definition.replace("KEY", key));
        }
        let needs = r#"{"format":1,"enabled":true,"prerequisites":[{"flag":"needed","variants":["on"]}]}"#;
        put(Kind::FlagConfiguration, "needy", needs);
        put(Kind::FlagConfiguration, "needed", r#"{"format":1,"enabled":true}"#);
        snapshot
    }

    fn check(limits: &Limits, age_ms: Option<u64>, expected: [Reason; 3]) {
        let (snapshot, context) = (snapshot(), Context::default());
        let freshness = Freshness::new(limits, age_ms);
        for (key, reason) in ["needy", "needed", "off"].into_iter().zip(expected) {
            let flag = snapshot.get(key).unwrap();
            let answer = flag.evaluate_fresh(&context, &snapshot, freshness);
            assert_eq!(answer.reason, reason, "{key} at {age_ms:?}");
            let on = reason == Reason::Static;
            assert_eq!(answer.variant.unwrap().key.as_str(), if on { "on" } else { "off" });
            let (explained, explanation) = flag.explain_fresh(&context, &snapshot, freshness);
            assert_eq!((explained, explanation.reason), (answer, reason));
        }
    }

    #[test]
    fn what_is_too_old_is_off_and_so_is_what_needs_it() {
        use Reason::{Disabled, PrerequisiteFailed, Stale, Static};
        let all = Limits {
            all_ms: Some(10),
            ..Limits::default()
        };
        check(&all, Some(10), [Static, Static, Disabled]);
        check(&all, Some(11), [Stale, Stale, Stale]);
        check(&all, None, [Stale, Stale, Stale]);
        let one = Limits {
            all_ms: None,
            flags_ms: [(key::Flag::new("needed").unwrap(), 10)].into(),
        };
        check(&one, Some(10), [Static, Static, Disabled]);
        check(&one, Some(11), [PrerequisiteFailed, Stale, Disabled]);
        check(&Limits::default(), None, [Static, Static, Disabled]);
    }
}
