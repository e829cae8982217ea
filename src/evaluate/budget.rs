//! What one evaluation may cost.
//!
//! What is written keeps these limits, and has no circles; a row that a hand edited need not. So what asks others counts down, and
//! evaluation ends whatever is stored.

use crate::domain::limits;

/// How many more may be asked.
#[derive(Debug)]
pub(super) struct Budget(usize);

/// Too many were asked already: the question has no answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exhausted;

impl Budget {
    /// For the prerequisites of one flag, and theirs.
    pub(super) fn of_a_flag() -> Self {
        Self(limits::PREREQUISITE_EVALUATIONS)
    }

    /// For the segments that one segment depends on, and those that they depend on.
    pub(super) fn of_a_segment() -> Self {
        Self(limits::SEGMENT_EVALUATIONS)
    }

    /// Before asking one more.
    pub(super) fn spend(&mut self) -> Result<(), Exhausted> {
        self.0 = self.0.checked_sub(1).ok_or(Exhausted)?;
        Ok(())
    }
}
