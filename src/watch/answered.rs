//! How many evaluations of an environment were answered, by their reason. The numbers go with the environment.

use std::sync::atomic::{AtomicU64, Ordering};

use super::latency::Sharded;
use crate::evaluate::{Error, Reason};

/// Evaluations of one environment. Threads do not take each other's cache lines away.
#[derive(Debug, Default)]
pub struct Answered(Sharded<[AtomicU64; KINDS]>);

/// Evaluations of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reasons([u32; KINDS]);

const KINDS: usize = 10;

/// In the order in which they are counted.
const NAMES: [&str; KINDS] = [
    "disabled",
    "prerequisite_failed",
    "targeting_match",
    "split",
    "experiment",
    "default",
    "static",
    "stale",
    "targeting_key_missing",
    "flag_malformed",
];

const fn place(reason: Reason) -> usize {
    match reason {
        Reason::Disabled => 0,
        Reason::PrerequisiteFailed => 1,
        Reason::TargetingMatch => 2,
        Reason::Split => 3,
        Reason::Experiment => 4,
        Reason::Default => 5,
        Reason::Static => 6,
        Reason::Stale => 7,
        Reason::Error(Error::TargetingKeyMissing) => 8,
        Reason::Error(Error::FlagMalformed) => 9,
    }
}

impl Answered {
    /// The evaluations of a request that has none yet.
    pub fn none() -> Reasons {
        Reasons::default()
    }

    /// One more.
    pub fn count(&self, reason: Reason) {
        if let Some(count) = self.0.here().get(place(reason)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All those of a request.
    pub fn count_all(&self, reasons: &Reasons) {
        for (count, more) in self.0.here().iter().zip(reasons.0) {
            if more > 0 {
                count.fetch_add(more.into(), Ordering::Relaxed);
            }
        }
    }

    /// How many there were, by their reasons' names.
    pub fn read(&self) -> [(&'static str, u64); KINDS] {
        let mut counted = NAMES.map(|name| (name, 0));
        for (n, (_, count)) in counted.iter_mut().enumerate() {
            *count = self
                .0
                .sum(|shard| shard.get(n).map_or(0, |count| count.load(Ordering::Relaxed)));
        }
        counted
    }
}

impl Reasons {
    /// One more.
    pub fn add(&mut self, reason: Reason) {
        if let Some(count) = self.0.get_mut(place(reason)) {
            *count = count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Reason, &str); KINDS] = [
        (Reason::Disabled, "disabled"),
        (Reason::PrerequisiteFailed, "prerequisite_failed"),
        (Reason::TargetingMatch, "targeting_match"),
        (Reason::Split, "split"),
        (Reason::Experiment, "experiment"),
        (Reason::Default, "default"),
        (Reason::Static, "static"),
        (Reason::Stale, "stale"),
        (Reason::Error(Error::TargetingKeyMissing), "targeting_key_missing"),
        (Reason::Error(Error::FlagMalformed), "flag_malformed"),
    ];

    #[test]
    fn each_reason_is_counted_under_its_name() {
        for (reason, name) in ALL {
            let answered = Answered::default();
            answered.count(reason);
            let mut request = Answered::none();
            request.add(reason);
            request.add(reason);
            answered.count_all(&request);
            for (counted, count) in answered.read() {
                assert_eq!(count, if counted == name { 3 } else { 0 }, "{counted}");
            }
        }
    }
}
