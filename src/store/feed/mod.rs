//! What the feed is told after a commit.

use crate::domain::change::EnvironmentId;

/// Something newer than before was committed.
#[derive(Debug, Clone, Copy)]
pub enum Hint {
    /// An environment has a new revision.
    Environment {
        /// Which.
        id: EnvironmentId,
        /// The revision.
        revision: u64,
    },
    /// The `access` head has a new revision.
    Access {
        /// The revision.
        revision: u64,
    },
}

/// Where hints go.
#[derive(Debug, Clone, Default)]
pub struct Hints;

impl Hints {
    /// Hints that go nowhere.
    pub fn new() -> Self {
        Self
    }

    /// Hands a hint over. Never blocks.
    pub fn send(&self, hint: Hint) {
        let _ = hint;
    }
}
