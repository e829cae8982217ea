//! How old what answers is, as far as that makes a difference to an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::token::Fingerprint;
use crate::domain::staleness::Limits;
use crate::evaluate::Freshness;

/// An age. Two are equal if every flag is answered alike at both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Age(Option<Over>);

/// Too old for some flags.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Over {
    limits: Arc<Limits>,
    /// The least that is over the same limits, in milliseconds. `None`: it is over all of them.
    least_ms: Option<u64>,
}

impl Age {
    /// What an age comes to. `None`: it is unknown.
    pub(super) fn new(limits: &Arc<Limits>, age: Option<Duration>) -> Self {
        let age_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let least_ms = limits.least_like(age_ms);
        let over = least_ms != Some(0);
        Self(over.then(|| Over {
            limits: Arc::clone(limits),
            least_ms,
        }))
    }

    /// The same for who evaluates.
    pub fn freshness(&self) -> Freshness<'_> {
        self.0.as_ref().map_or(Freshness::ANY, |Over { limits, least_ms }| {
            Freshness::new(limits, *least_ms)
        })
    }

    /// Tells the answers to a question at this age from those at others. Fresh answers are everyone's.
    pub(super) fn tell_apart(&self, Fingerprint(question): Fingerprint) -> Fingerprint {
        let Some(Over { limits, least_ms }) = &self.0 else {
            return Fingerprint(question);
        };
        let Limits { all_ms, flags_ms } = &**limits;
        let flags_ms: BTreeMap<_, _> = flags_ms.iter().map(|(flag, ms)| (flag.as_str(), ms)).collect();
        let mut hash = Sha256::new();
        hash.update(question);
        hash.update(format!("{least_ms:?} {all_ms:?} {flags_ms:?}"));
        let hash: [u8; 32] = hash.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        Fingerprint(half)
    }
}
