//! A second evaluator, written as plainly as the contract reads and without a thought for speed. It shares the domain's types with
//! the first, and nothing else: what the first compiles, this one parses anew every time.

mod compare;
mod sense;
mod split;

use halyard::domain::context::{Attribute, Context};
use halyard::domain::flag::{Configuration, Prerequisite};
use halyard::domain::limits;
use halyard::domain::rule::{Condition, Operand, Operator, Serve};
use halyard::domain::segment;
use halyard::evaluate::{Answer, Error, Reason};

use super::world::{Flag, Segment, World};

pub use split::chunk;

/// An answer, by keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub variant: Option<String>,
    pub reason: Reason,
    pub rule: Option<String>,
}

impl From<Answer<'_>> for Outcome {
    fn from(answer: Answer<'_>) -> Self {
        Self {
            variant: answer.variant.map(|variant| variant.key.as_str().to_owned()),
            reason: answer.reason,
            rule: answer.rule.map(str::to_owned),
        }
    }
}

/// Too many were asked.
struct TooMany;

/// Counts what is asked.
struct Count {
    asked: usize,
    limit: usize,
}

impl Count {
    fn one_more(&mut self) -> Result<(), TooMany> {
        self.asked += 1;
        if self.asked > self.limit { Err(TooMany) } else { Ok(()) }
    }
}

/// The answer of a flag that the world has.
pub fn evaluate(world: &World, key: &str, context: &Context) -> Outcome {
    let flag = &world.flags[key];
    let mut count = Count {
        asked: 0,
        limit: limits::PREREQUISITE_EVALUATIONS,
    };
    let answer = answer(world, flag, context, &mut count);
    answer.unwrap_or_else(|TooMany| {
        let off = flag.definition.off_variant.as_ref().map(ToString::to_string);
        outcome(off, Reason::Error(Error::FlagMalformed), None)
    })
}

/// Whether somebody is in a segment, which the world need not have.
pub fn is_member(world: &World, key: &str, context: &Context) -> bool {
    let mut count = Count {
        asked: 0,
        limit: limits::SEGMENT_EVALUATIONS,
    };
    let member = world
        .segments
        .get(key)
        .map(|segment| contains(world, segment, context, &mut count));
    matches!(member, Some(Ok(true)))
}

fn outcome(variant: Option<String>, reason: Reason, rule: Option<&str>) -> Outcome {
    Outcome {
        variant,
        reason,
        rule: rule.map(str::to_owned),
    }
}

fn answer(world: &World, flag: &Flag, context: &Context, count: &mut Count) -> Result<Outcome, TooMany> {
    let Flag {
        definition,
        configuration,
    } = flag;
    if !sense::definition(definition) {
        return Ok(outcome(None, Reason::Error(Error::FlagMalformed), None));
    }
    let off = definition.off_variant.as_ref().map(ToString::to_string);
    let Some(configuration) = configuration else {
        return Ok(outcome(off, Reason::Disabled, None));
    };
    if !sense::configuration(configuration, definition) {
        return Ok(outcome(off, Reason::Error(Error::FlagMalformed), None));
    }
    if !configuration.enabled {
        return Ok(outcome(off, Reason::Disabled, None));
    }
    for prerequisite in &configuration.prerequisites {
        if !is_met(world, prerequisite, context, count)? {
            return Ok(outcome(off, Reason::PrerequisiteFailed, None));
        }
    }
    let salt = configuration.salt.as_deref().unwrap_or(definition.key.as_str());
    if let Some(served) = by_rule(world, configuration, salt, context) {
        return Ok(served);
    }
    let unsplit = if configuration.rules.is_empty() {
        Reason::Static
    } else {
        Reason::Default
    };
    Ok(match &configuration.default {
        Some(Serve::Variant(variant)) => outcome(Some(variant.to_string()), unsplit, None),
        Some(Serve::Split(split)) => match split::share(split, salt, context) {
            Some(variant) => outcome(Some(variant), Reason::Split, None),
            None => outcome(off, Reason::Error(Error::TargetingKeyMissing), None),
        },
        None => {
            let default = definition.default_variant.as_ref().map(ToString::to_string);
            outcome(default.or(off), unsplit, None)
        }
    })
}

fn is_met(world: &World, prerequisite: &Prerequisite, context: &Context, count: &mut Count) -> Result<bool, TooMany> {
    let Some(flag) = world.flags.get(prerequisite.flag.as_str()) else {
        return Ok(false);
    };
    count.one_more()?;
    let Outcome { variant, reason, .. } = answer(world, flag, context, count)?;
    let is_on = !matches!(reason, Reason::Disabled | Reason::PrerequisiteFailed | Reason::Error(_));
    Ok(is_on
        && prerequisite
            .variants
            .iter()
            .any(|wanted| variant.as_deref() == Some(wanted.as_str())))
}

fn by_rule(world: &World, configuration: &Configuration, salt: &str, context: &Context) -> Option<Outcome> {
    let in_segment = |key: &str| Ok::<_, TooMany>(is_member(world, key, context));
    for rule in &configuration.rules {
        if !all_hold(&rule.conditions, context, in_segment).unwrap_or(false) {
            continue;
        }
        let key = Some(rule.key.as_str());
        match &rule.serve {
            Serve::Variant(variant) => return Some(outcome(Some(variant.to_string()), Reason::TargetingMatch, key)),
            Serve::Split(split) => {
                if let Some(variant) = split::share(split, salt, context) {
                    return Some(outcome(Some(variant), Reason::Split, key));
                }
            }
        }
    }
    None
}

fn contains(world: &World, segment: &Segment, context: &Context, count: &mut Count) -> Result<bool, TooMany> {
    let Segment { configuration, keys } = segment;
    if !sense::segment(configuration) {
        return Ok(false);
    }
    let segment::Configuration {
        included,
        excluded,
        segments,
        conditions,
        key_list,
    } = configuration;
    if let Some(Attribute::String(key)) = context.targeting_key() {
        if excluded.contains(key) {
            return Ok(false);
        }
        if included.contains(key) || (key_list.is_some() && keys.contains(key)) {
            return Ok(true);
        }
    }
    let mut in_part = |part: &str| {
        let Some(part) = world.segments.get(part) else {
            return Ok(false);
        };
        count.one_more()?;
        contains(world, part, context, count)
    };
    for part in segments {
        if in_part(part.as_str())? {
            return Ok(true);
        }
    }
    Ok(!conditions.is_empty() && all_hold(conditions, context, in_part)?)
}

fn all_hold(
    conditions: &[Condition],
    context: &Context,
    mut in_segment: impl FnMut(&str) -> Result<bool, TooMany>,
) -> Result<bool, TooMany> {
    for condition in conditions {
        if !holds(condition, context, &mut in_segment)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(
    condition: &Condition,
    context: &Context,
    in_segment: &mut impl FnMut(&str) -> Result<bool, TooMany>,
) -> Result<bool, TooMany> {
    if condition.operator == Operator::InSegment {
        for value in &condition.values {
            if let Operand::String(key) = value
                && in_segment(key)?
            {
                return Ok(!condition.negated);
            }
        }
        return Ok(condition.negated);
    }
    let attribute = find(&condition.attribute, context);
    if condition.operator == Operator::Exists {
        return Ok(attribute.is_some() != condition.negated);
    }
    let elements = match attribute {
        None => return Ok(false),
        Some(Attribute::List(elements)) => elements.iter().collect(),
        Some(attribute) => vec![attribute],
    };
    let operator = condition.operator;
    let asked: Vec<_> = elements
        .into_iter()
        .filter(|attribute| compare::can_ask(operator, attribute, &condition.values))
        .collect();
    if asked.is_empty() {
        return Ok(false);
    }
    let passes = |attribute: &Attribute| {
        let mut values = condition.values.iter();
        values.any(|value| compare::compare(operator, attribute, value))
    };
    Ok(asked.into_iter().any(passes) != condition.negated)
}

fn find<'c>(path: &str, context: &'c Context) -> Option<&'c Attribute> {
    if path == "targeting_key" {
        return context.targeting_key();
    }
    if let Some(attribute) = context.attributes().get(path) {
        return Some(attribute);
    }
    let mut parts = path.split('.');
    let first = parts.next().filter(|first| *first != "targeting_key")?;
    parts.try_fold(context.attributes().get(first)?, |attribute, name| match attribute {
        Attribute::Object(object) => object.get(name),
        Attribute::Bool(_) | Attribute::Number(_) | Attribute::String(_) | Attribute::List(_) => None,
    })
}
