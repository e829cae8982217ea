//! Experiments: variants of a flag, compared on units that each keep the arm they were given.
//!
//! What people design and know of an experiment is a [`Design`] and [`Metadata`]; what is evaluated, hashed and streamed is
//! [`Running`], which exists while the experiment runs and at no other time.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::rule::{Condition, Weighted};
use super::{key, limits};

/// What allocations and shares of layers are parts of: they are millionths.
pub const WHOLE: u32 = 1_000_000;

/// What an experiment compares, and on whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Design {
    /// In their written order; at least two, of which one is the control.
    pub arms: Vec<Arm>,
    /// Whoever satisfies them all is asked. None: everyone.
    pub audience: Vec<Condition>,
    /// Millionths of the audience that take part; from 1 to [`WHOLE`].
    pub allocation: u32,
    /// The attribute that is the unit. `None`: the targeting key.
    pub attribute: Option<String>,
    /// Whether the first answer of a unit is stored and kept. Otherwise it is what the hash says, and moves when weights do.
    pub sticky: bool,
    /// `None`: it excludes no other.
    pub layer: Option<LayerShare>,
    /// The rule of the flag's configuration before which it is asked. `None`: after all rules.
    pub before_rule: Option<key::Rule>,
}

/// A variant that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// The variant of the flag.
    pub variant: key::Variant,
    /// Relative to the sum of the weights; positive.
    pub weight: u32,
    /// Whether the others are compared with it.
    pub control: bool,
}

/// How much of a layer an experiment takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerShare {
    /// The layer.
    pub layer: key::Layer,
    /// Millionths of the layer's space; from 1 to [`WHOLE`].
    pub share: u32,
}

/// What people know of an experiment; nothing here alters an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// A name.
    pub name: String,
    /// Empty: none.
    pub description: String,
    /// What is expected to happen, and why. Empty: nobody has said.
    pub hypothesis: String,
    /// Empty: nobody in particular.
    pub owner: String,
    /// What decides. `None`: nobody has said.
    pub primary_metric: Option<Metric>,
    /// What must not become worse.
    pub guardrail_metrics: Vec<Metric>,
}

/// Something that is measured of units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// What its events are called.
    pub key: key::Metric,
    /// How its events are read.
    pub kind: MetricKind,
    /// Which way is better.
    pub goal: Goal,
}

/// How the events of a metric are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Whether the unit had any.
    Conversion,
    /// The sum of their values.
    Value,
    /// How many the unit had.
    Count,
}

/// Which way of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// More is better.
    Increase,
    /// Less is better.
    Decrease,
}

/// Where an experiment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being designed, and was never asked.
    Draft,
    /// It is asked.
    Running,
    /// It is not asked for now; its assignments are kept.
    Paused,
    /// It is over.
    Stopped,
}

/// What becomes of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// A draft runs, its first iteration begins.
    Start,
    /// It is not asked for now.
    Pause,
    /// It goes on in the iteration in which it was paused.
    Resume,
    /// It is over. A draft that is stopped never ran.
    Stop,
}

impl State {
    /// Every state, in order.
    pub const ALL: [Self; 4] = [Self::Draft, Self::Running, Self::Paused, Self::Stopped];

    /// The name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// The state of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// The state after a transition. `None`: it cannot be made from this one.
    pub fn after(self, transition: Transition) -> Option<Self> {
        match (self, transition) {
            (Self::Draft, Transition::Start) | (Self::Paused, Transition::Resume) => Some(Self::Running),
            (Self::Running, Transition::Pause) => Some(Self::Paused),
            (Self::Draft | Self::Running | Self::Paused, Transition::Stop) => Some(Self::Stopped),
            (Self::Draft, Transition::Pause | Transition::Resume)
            | (Self::Running, Transition::Start | Transition::Resume)
            | (Self::Paused, Transition::Start | Transition::Pause)
            | (Self::Stopped, Transition::Start | Transition::Pause | Transition::Resume | Transition::Stop) => None,
        }
    }
}

impl Design {
    /// The keys of the segments that its audience asks about, some perhaps more than once.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.audience.iter().flat_map(Condition::segments)
    }

    /// The arm of a variant.
    pub fn arm(&self, variant: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.variant.as_str() == variant)
    }

    /// Whether an experiment of one design, when it becomes the other, must begin a new iteration: who is compared with whom, or in
    /// what shares, is another. Neither is of the layer or the unit, which a running experiment keeps.
    pub fn compares_as(&self, other: &Self) -> bool {
        (&self.arms, &self.audience, self.allocation, &self.before_rule)
            == (&other.arms, &other.audience, other.allocation, &other.before_rule)
    }
}

/// A running experiment, as far as it alters answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its flag.
    pub flag: key::Flag,
    /// What units are hashed with, made once with the experiment: it tells the experiment from an earlier one of the same key.
    pub salt: Uuid,
    /// The iteration that goes on, from 1.
    pub iteration: u32,
    /// The arms in their written order, with the weights of this iteration.
    pub arms: Vec<Weighted>,
    /// Whoever satisfies them all is asked. None: everyone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<Condition>,
    /// Millionths of the audience that take part.
    pub allocation: u32,
    /// The largest allocation that it ever ran with: no unit outside it has an assignment.
    pub largest_allocation: u32,
    /// The attribute that is the unit. `None`: the targeting key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// Whether assignments are stored.
    pub sticky: bool,
    /// `None`: it excludes no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerPart>,
    /// The rule before which it is asked. `None`: after all rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_rule: Option<key::Rule>,
}

impl Running {
    /// The keys of the segments that its audience asks about, some perhaps more than once.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.audience.iter().flat_map(Condition::segments)
    }
}

/// The part of a layer's space that an experiment has: from `start` to below `end`, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPart {
    /// What units are hashed with to find their place in the layer's space.
    pub salt: Uuid,
    /// The first place that is its own.
    pub start: u32,
    /// The first place that is no longer its own.
    pub end: u32,
}

/// The key of the item that holds a running experiment: `<flag>/<experiment>`, so that whoever sees it go knows whose answers change.
pub fn item(flag: &str, experiment: &str) -> Arc<str> {
    format!("{flag}/{experiment}").into()
}

/// The flag and the experiment of an item. `None`: it is not the key of one.
pub fn parse_item(item: &str) -> Option<(&str, &str)> {
    item.split_once('/')
}

/// Where there is room for a share of a layer: from here to below there. `Err`: the largest room that there is in one piece.
pub fn room(taken: &[(u32, u32)], share: u32) -> Result<(u32, u32), u32> {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    taken.push((WHOLE, WHOLE));
    let (mut free, mut largest) = (0, 0);
    for (start, end) in taken {
        let room = start.saturating_sub(free);
        if room >= share {
            return Ok((free, free + share));
        }
        largest = largest.max(room);
        free = free.max(end);
    }
    Err(largest)
}

/// What begins the stored text of a unit that is not kept as it is.
const HASHED: &str = "sha256:";

/// How a unit is stored: as it is, unless it is longer than [`limits::UNIT_BYTES`] or holds what PostgreSQL cannot; then, and if it
/// could be taken for such, its hash is. So any text can be a unit, and no two are stored alike.
pub fn stored_unit(unit: &str) -> Cow<'_, str> {
    if unit.len() <= limits::UNIT_BYTES && !unit.contains('\0') && !unit.starts_with(HASHED) {
        return Cow::Borrowed(unit);
    }
    Cow::Owned(format!("{HASHED}{}", hex::encode(Sha256::digest(unit))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_experiment_stays_stopped_and_a_draft_is_not_paused() {
        use State::{Paused, Running, Stopped};
        let reached = |transition| State::ALL.map(|state| state.after(transition));
        assert_eq!(reached(Transition::Start), [Some(Running), None, None, None]);
        assert_eq!(reached(Transition::Pause), [None, Some(Paused), None, None]);
        assert_eq!(reached(Transition::Resume), [None, None, Some(Running), None]);
        assert_eq!(
            reached(Transition::Stop),
            [Some(Stopped), Some(Stopped), Some(Stopped), None]
        );
    }

    #[test]
    fn a_share_takes_the_first_room_that_is_large_enough() {
        assert_eq!(room(&[], WHOLE), Ok((0, WHOLE)));
        assert_eq!(room(&[(0, 400_000)], 600_000), Ok((400_000, WHOLE)));
        assert_eq!(room(&[(0, 400_000)], 600_001), Err(600_000));
        let gap = [(700_000, WHOLE), (0, 100_000), (200_000, 500_000)];
        assert_eq!(room(&gap, 100_000), Ok((100_000, 200_000)));
        assert_eq!(room(&gap, 150_000), Ok((500_000, 650_000)));
        assert_eq!(room(&gap, 200_001), Err(200_000));
        assert_eq!(room(&[(0, WHOLE)], 1), Err(0));
    }

    #[test]
    fn any_text_is_a_unit_and_no_two_are_stored_alike() {
        for kept in ["", "u-1", "ü€𝄞", &"k".repeat(limits::UNIT_BYTES)] {
            assert_eq!(stored_unit(kept), kept);
        }
        let long = "k".repeat(limits::UNIT_BYTES + 1);
        let stored = stored_unit(&long);
        for hashed in [long.as_str(), "a\0b", &stored] {
            let stored = stored_unit(hashed);
            assert!(
                stored.starts_with(HASHED) && stored.len() == HASHED.len() + 64,
                "{hashed}"
            );
            assert_ne!(stored, hashed);
        }
    }
}
