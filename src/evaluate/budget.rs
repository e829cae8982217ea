//! What one evaluation may cost, and how old what it asks may be.
//!
//! What is written keeps these limits, and has no circles; a row that a hand edited need not. So what asks others counts down, and
//! evaluation ends whatever is stored.

use crate::domain::limits;
use crate::domain::staleness::Limits;

/// How many more may be asked.
#[derive(Debug)]
pub(super) struct Budget<'f> {
    left: usize,
    freshness: Freshness<'f>,
}

/// Too many were asked already: the question has no answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exhausted;

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
    pub(super) fn of_a_flag(freshness: Freshness<'f>) -> Self {
        Self {
            left: limits::PREREQUISITE_EVALUATIONS,
            freshness,
        }
    }

    /// For the segments that one segment depends on, and those that they depend on.
    pub(super) fn of_a_segment() -> Self {
        Self {
            left: limits::SEGMENT_EVALUATIONS,
            freshness: Freshness::ANY,
        }
    }

    /// Before asking one more.
    pub(super) fn spend(&mut self) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(1).ok_or(Exhausted)?;
        Ok(())
    }

    /// Whether what is known is too old to answer for a flag.
    pub(super) fn is_stale(&self, flag: &str) -> bool {
        self.freshness.is_over(flag)
    }
}
