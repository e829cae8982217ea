//! A running experiment, compiled: who takes part, and with which arm.
//!
//! Three hashes, each salted apart, so that none says anything of another: the unit's place in its layer, its place in the
//! allocation, and its arm. What is stored of a unit is told by who asks; this room keeps nothing.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::bucket::{Salt, Split, bucket};
use super::budget::{Budget, Stopped};
use super::conditions;
use super::malformed::Malformed;
use super::matcher::Condition;
use super::path::Path;
use super::snapshot::Snapshot;
use crate::domain::context::{Attribute, Context, TARGETING_KEY};
use crate::domain::experiment::{LayerPart, Running, WHOLE};
use crate::domain::flag::Variant;
use crate::domain::key;

/// A running experiment, compiled.
#[derive(Debug)]
pub struct Experiment {
    key: Arc<str>,
    salt: Uuid,
    iteration: u32,
    sticky: bool,
    audience: Box<[Condition]>,
    layer: Option<Layer>,
    allocation_salt: Salt,
    allocation: u32,
    largest_allocation: u32,
    arms: Split,
}

#[derive(Debug)]
struct Layer {
    salt: Salt,
    start: u32,
    end: u32,
}

/// Which assignments an evaluation knows of.
#[derive(Clone, Copy)]
pub enum Assignments<'f> {
    /// None, and none are asked for: everyone has the arm that the hash says.
    Hashed,
    /// What this says of a unit of an experiment.
    Known(&'f dyn Fn(&Experiment, &str) -> Assigned),
}

/// What is known of the assignment of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assigned {
    /// It is stored.
    Arm {
        /// The variant.
        arm: key::Variant,
        /// The iteration that assigned it.
        iteration: u32,
    },
    /// None is stored.
    Nothing,
    /// It cannot be found out now.
    Unreachable,
    /// It has to be found out first.
    Unknown,
}

/// An assignment that has to be found out before an evaluation can go on.
#[derive(Debug, Clone)]
pub struct Need {
    /// The experiment.
    pub experiment: Arc<Experiment>,
    /// The unit.
    pub unit: String,
    /// What is to be stored if nothing is. `None`: the unit is outside of the present allocation, and only keeps what it has.
    pub arm: Option<key::Variant>,
}

/// The part that an answer has in an experiment.
#[derive(Debug, Clone, Copy)]
pub struct Participation<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// The iteration that assigned the arm.
    pub iteration: u32,
    /// What became of the assignment.
    pub assignment: Assignment,
}

/// What became of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Assignment {
    /// It is stored, and stays.
    Stored,
    /// It could not be stored or looked up: the arm is what the hash says, and may be another than the unit has or will have.
    Unstored,
    /// The experiment stores none: the arm is what the hash says.
    Hashed,
}

/// What an experiment says of a context.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// The context lacks the attribute that is the unit, or has an empty text, a list or an object there.
    NoUnit,
    /// A condition of the audience does not hold.
    OutsideAudience,
    /// The unit's place in the layer belongs to another experiment, or to none.
    OutsideLayer,
    /// The unit is not among those that take part.
    OutsideAllocation,
    /// It takes part.
    Assigned(&'a Variant, Participation<'a>),
}

impl Experiment {
    /// Compiles an experiment of a flag with these variants.
    pub(super) fn compile(
        key: Arc<str>,
        running: &Running,
        find: impl Fn(&key::Variant) -> Result<Arc<Variant>, Malformed>,
    ) -> Result<Self, Malformed> {
        let Running {
            flag: _,
            salt,
            iteration,
            arms,
            audience,
            allocation,
            largest_allocation,
            attribute,
            sticky,
            layer,
            before_rule: _,
        } = running;
        let shares = arms.iter().map(|share| Ok((share.weight, find(&share.variant)?)));
        let shares = shares.collect::<Result<_, Malformed>>()?;
        let attribute = Path::new(attribute.as_deref().unwrap_or(TARGETING_KEY)).ok_or(Malformed::NoAttribute)?;
        let salted = |what: &str| Salt::new(format!("{salt}/{what}").into());
        Ok(Self {
            key,
            salt: *salt,
            iteration: *iteration,
            sticky: *sticky,
            audience: conditions::compile(audience.clone())?,
            layer: layer.map(|LayerPart { salt, start, end }| Layer {
                salt: Salt::new(salt.to_string().into()),
                start,
                end,
            }),
            allocation_salt: salted("allocation"),
            allocation: *allocation,
            largest_allocation: (*largest_allocation).max(*allocation),
            arms: Split::new(attribute, salted("arms"), shares).map_err(Malformed::Weights)?,
        })
    }

    /// The experiment's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What tells it from every other experiment that there ever was.
    pub fn salt(&self) -> Uuid {
        self.salt
    }

    /// The iteration that goes on.
    pub fn iteration(&self) -> u32 {
        self.iteration
    }

    /// Whether assignments are stored.
    pub fn is_sticky(&self) -> bool {
        self.sticky
    }

    /// Asks it alone, whatever its flag would say: its state, prerequisites and rules are not looked at.
    pub fn assign<'a>(
        self: &'a Arc<Self>,
        context: &Context,
        snapshot: &Snapshot,
        known: &dyn Fn(&Experiment, &str) -> Assigned,
    ) -> Result<Outcome<'a>, Box<Need>> {
        let mut budget = Budget::of_a_flag(super::Freshness::ANY, Assignments::Known(known));
        let outcome = self.ask(context, snapshot, &mut budget);
        // It asks no flags, of which there could be too many.
        outcome.or_else(|Stopped| budget.need().map_or(Ok(Outcome::OutsideAllocation), Err))
    }

    /// What it says of a context, with the assignments that the budget knows of.
    pub(super) fn ask<'a>(
        self: &'a Arc<Self>,
        context: &Context,
        snapshot: &Snapshot,
        budget: &mut Budget<'_>,
    ) -> Result<Outcome<'a>, Stopped> {
        let unit = self.arms.attribute().find(context);
        // An empty text is nobody's, as for the targeting key.
        let Some(unit) = unit.filter(|unit| !matches!(unit, Attribute::String(text) if text.is_empty())) else {
            return Ok(Outcome::NoUnit);
        };
        if !self.audience.iter().all(|condition| condition.holds(context, snapshot)) {
            return Ok(Outcome::OutsideAudience);
        }
        if let Some(Layer { salt, start, end }) = &self.layer {
            let Some(place) = place(salt, unit) else {
                return Ok(Outcome::NoUnit);
            };
            if !(*start..*end).contains(&place) {
                return Ok(Outcome::OutsideLayer);
            }
        }
        let (Some(place), Some(hashed)) = (place(&self.allocation_salt, unit), self.arms.serve_value(unit)) else {
            return Ok(Outcome::NoUnit);
        };
        if place >= self.largest_allocation {
            return Ok(Outcome::OutsideAllocation);
        }
        let (within, sticky) = (place < self.allocation, self.sticky);
        let by_hash = |assignment| self.assigned(hashed, self.iteration, assignment);
        let unstored = if within {
            by_hash(Assignment::Unstored)
        } else {
            Outcome::OutsideAllocation
        };
        match budget.assignments() {
            _ if !sticky && within => Ok(by_hash(Assignment::Hashed)),
            _ if !sticky => Ok(Outcome::OutsideAllocation),
            Assignments::Hashed => Ok(unstored),
            Assignments::Known(known) => {
                let Some(unit) = unit_text(unit) else {
                    return Ok(Outcome::NoUnit);
                };
                match known(self, &unit) {
                    Assigned::Arm { arm, iteration } => Ok(match self.arm(&arm) {
                        Some(variant) => self.assigned(variant, iteration, Assignment::Stored),
                        // A hand gave it an arm that the experiment does not have.
                        None => unstored,
                    }),
                    Assigned::Nothing | Assigned::Unreachable => Ok(unstored),
                    Assigned::Unknown => Err(budget.stop_for(Need {
                        experiment: Arc::clone(self),
                        unit: unit.into_owned(),
                        arm: within.then(|| hashed.key.clone()),
                    })),
                }
            }
        }
    }

    fn assigned<'a>(&'a self, variant: &'a Variant, iteration: u32, assignment: Assignment) -> Outcome<'a> {
        Outcome::Assigned(
            variant,
            Participation {
                experiment: self,
                iteration,
                assignment,
            },
        )
    }

    fn arm(&self, arm: &key::Variant) -> Option<&Variant> {
        let mut arms = self.arms.shares().map(|(_, variant)| variant);
        arms.find(|variant| variant.key == *arm)
    }

    /// The conditions of its audience.
    pub(super) fn audience(&self) -> &[Condition] {
        &self.audience
    }
}

/// Where a unit stands in a space of [`WHOLE`] places. `None`: lists and objects have none.
fn place(salt: &Salt, unit: &Attribute) -> Option<u32> {
    salt.hash(unit).map(|hash| bucket(hash, WHOLE))
}

/// A unit as it is hashed, and known by.
fn unit_text(unit: &Attribute) -> Option<Cow<'_, str>> {
    match unit {
        Attribute::String(text) => Some(text.into()),
        Attribute::Number(number) => Some(ryu_js::Buffer::new().format(*number).to_owned().into()),
        Attribute::Bool(true) => Some("true".into()),
        Attribute::Bool(false) => Some("false".into()),
        Attribute::List(_) | Attribute::Object(_) => None,
    }
}

impl fmt::Debug for Assignments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hashed => "Hashed",
            Self::Known(_) => "Known",
        })
    }
}

impl PartialEq for Participation<'_> {
    /// Of two states: what counts is whether it is the same part of the same experiment.
    fn eq(&self, other: &Self) -> bool {
        (self.experiment.salt, self.iteration, self.assignment)
            == (other.experiment.salt, other.iteration, other.assignment)
    }
}
