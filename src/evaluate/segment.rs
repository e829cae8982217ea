//! One segment, compiled: who belongs to it. What it is made of comes item by item and in any order.

use std::sync::Arc;

use foldhash::fast::RandomState;
use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdMap};

use super::budget::{Budget, Stopped};
use super::explanation::{ConditionOutcome, SegmentOutcome};
use super::keys::{Key, Keys};
use super::malformed::Malformed;
use super::matcher::Condition;
use super::snapshot::Snapshot;
use super::values::Strings;
use crate::domain::context::{Attribute, Context};

/// What is known of one segment. Copies share all but what changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    /// `None`: not configured.
    pub(super) audience: Option<Result<Arc<Audience>, Malformed>>,
    chunks: GenericHashMap<u32, Arc<Keys>, RandomState, DefaultSharedPtr>,
    /// The chunks that cannot be read.
    damaged: OrdMap<u32, Malformed>,
}

/// A segment's configuration, compiled.
#[derive(Debug)]
pub(super) struct Audience {
    pub(super) included: Strings,
    pub(super) excluded: Strings,
    pub(super) parts: Box<[Arc<str>]>,
    pub(super) conditions: Box<[Condition]>,
    /// How many chunks the key list has. `None`: there is no list.
    pub(super) chunks: Option<u32>,
}

impl Segment {
    /// Takes a chunk of the key list.
    pub(super) fn put_chunk(&mut self, chunk: u32, keys: Result<Keys, Malformed>) {
        self.delete_chunk(chunk);
        match keys {
            Ok(keys) => drop(self.chunks.insert(chunk, Arc::new(keys))),
            Err(malformed) => drop(self.damaged.insert(chunk, malformed)),
        }
    }

    /// Forgets a chunk of the key list.
    pub(super) fn delete_chunk(&mut self, chunk: u32) {
        self.chunks.remove(&chunk);
        self.damaged.remove(&chunk);
    }

    /// Whether nothing is known of it.
    pub(super) fn is_empty(&self) -> bool {
        self.audience.is_none() && self.chunks.is_empty() && self.damaged.is_empty()
    }

    /// Why it cannot be asked. `None`: it can, or it is not configured. Chunks count only if the configuration has a list.
    pub(super) fn malformed(&self) -> Option<&Malformed> {
        match self.audience.as_ref()? {
            Ok(audience) if audience.chunks.is_some() => self.damaged.values().next(),
            Ok(_) => None,
            Err(malformed) => Some(malformed),
        }
    }

    /// Whether the context is in it, and why.
    pub(super) fn ask(
        &self,
        context: &Context,
        snapshot: &Snapshot,
        budget: &mut Budget<'_>,
    ) -> Result<SegmentOutcome, Stopped> {
        let audience = match &self.audience {
            None => return Ok(SegmentOutcome::Unconfigured),
            Some(Ok(audience)) if audience.chunks.is_none() || self.damaged.is_empty() => audience,
            Some(Ok(_) | Err(_)) => return Ok(SegmentOutcome::Malformed),
        };
        if let Some(Attribute::String(key)) = context.targeting_key() {
            if audience.excluded.contain(key) {
                return Ok(SegmentOutcome::Excluded);
            }
            if audience.included.contain(key) {
                return Ok(SegmentOutcome::Included);
            }
            if audience.chunks.is_some_and(|chunks| self.lists(key, chunks)) {
                return Ok(SegmentOutcome::Listed);
            }
        }
        for part in &audience.parts {
            if ask_part(part, context, snapshot, budget)? {
                return Ok(SegmentOutcome::Part);
            }
        }
        if !audience.conditions.is_empty() && audience.all_hold(context, snapshot, budget)? {
            return Ok(SegmentOutcome::Conditions);
        }
        Ok(SegmentOutcome::Outside)
    }

    fn lists(&self, key: &str, chunks: u32) -> bool {
        let key = Key::new(key);
        self.chunks
            .get(&key.chunk(chunks))
            .is_some_and(|keys| keys.contain(key))
    }
}

impl Audience {
    fn all_hold(&self, context: &Context, snapshot: &Snapshot, budget: &mut Budget<'_>) -> Result<bool, Stopped> {
        for condition in &self.conditions {
            let outcome = condition.ask(context, |part| ask_part(part, context, snapshot, budget))?;
            if outcome != ConditionOutcome::Holds {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether the context is in a segment that another depends on.
fn ask_part(part: &str, context: &Context, snapshot: &Snapshot, budget: &mut Budget<'_>) -> Result<bool, Stopped> {
    let Some(segment) = snapshot.segment(part) else {
        return Ok(false);
    };
    budget.spend()?;
    Ok(segment.ask(context, snapshot, budget)?.is_member())
}
