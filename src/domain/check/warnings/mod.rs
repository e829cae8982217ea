//! What makes sense but is odd: rules that are never reached, conditions that exclude each other, keys that are in and out.
//!
//! Nothing is claimed that is not certain; what is odd in ways that cannot be seen at a glance goes unmentioned.

mod asked;
mod passing;
mod ranges;

use std::collections::HashSet;

use self::asked::{Asked, Exclusion};
use super::Warning;
use crate::domain::context::TARGETING_KEY;
use crate::domain::limits;
use crate::domain::operand;
use crate::domain::rule::{Condition, Operand, Operator, Rule, Serve};
use crate::domain::segment::Configuration;

/// What is odd about rules; paths begin at `rules`.
pub(super) fn of_rules(rules: &[Rule]) -> Vec<Warning> {
    let mut found = Found::default();
    let rules: Vec<_> = rules.iter().map(Prepared::new).collect();
    for (n, rule) in rules.iter().enumerate() {
        if found.of_conditions(&format!("rules[{n}].conditions"), &rule.conditions) {
            continue;
        }
        let earlier = rules.iter().take(n);
        let covering = earlier.enumerate().find(|(_, earlier)| found.covers(earlier, rule));
        if let Some((first, _)) = covering {
            found.add(
                format!("rules[{n}]"),
                format!("is never reached: whoever satisfies it satisfies rules[{first}], which is asked before"),
            );
        }
    }
    found.warnings
}

/// What is odd about the audience of an experiment; paths begin at `audience`.
pub(super) fn of_audience(conditions: &[Condition]) -> Vec<Warning> {
    let mut found = Found::default();
    let conditions: Vec<_> = conditions.iter().map(PreparedCondition::new).collect();
    found.of_conditions("audience", &conditions);
    found.warnings
}

/// What is odd about a segment; paths begin at its fields.
pub(super) fn of_segment(configuration: &Configuration) -> Vec<Warning> {
    let mut found = Found::default();
    let excluded: HashSet<_> = configuration.excluded.iter().collect();
    let both: Vec<_> = configuration
        .included
        .iter()
        .filter(|key| excluded.contains(key))
        .collect();
    if let Some(first) = both.first() {
        let (count, first) = (both.len(), shown(first));
        found.add(
            "included".to_owned(),
            format!("has {count} targeting keys that are excluded as well and so are out, {first} first"),
        );
    }
    let conditions: Vec<_> = configuration.conditions.iter().map(PreparedCondition::new).collect();
    found.of_conditions("conditions", &conditions);
    found.warnings
}

/// A long key by its beginning.
fn shown(key: &str) -> String {
    const SHOWN: usize = 60;
    let beginning: String = key.chars().take(SHOWN).collect();
    if beginning.len() < key.len() {
        beginning + "…"
    } else {
        beginning
    }
}

struct Prepared<'a> {
    conditions: Vec<PreparedCondition<'a>>,
    serve: &'a Serve,
}

struct PreparedCondition<'a> {
    condition: &'a Condition,
    /// Whether there is nobody for whom it holds.
    never: bool,
    /// `None`: nothing can be said of it.
    asked: Option<Asked<'a>>,
}

impl<'a> Prepared<'a> {
    fn new(rule: &'a Rule) -> Self {
        Self {
            conditions: rule.conditions.iter().map(PreparedCondition::new).collect(),
            serve: &rule.serve,
        }
    }

    /// Whether the rule serves everyone who satisfies its conditions and those of the other. A split serves nobody without the
    /// attribute that buckets.
    fn serves(&self, other: &Self) -> bool {
        match self.serve {
            Serve::Variant(_) => true,
            Serve::Split(split) => {
                let by_key = split.attribute.as_deref().is_none_or(|name| name == TARGETING_KEY);
                by_key && other.asked().any(Asked::needs_targeting_key)
            }
        }
    }

    fn asked(&self) -> impl Iterator<Item = &Asked<'a>> {
        self.conditions.iter().filter_map(|condition| condition.asked.as_ref())
    }
}

impl<'a> PreparedCondition<'a> {
    fn new(condition: &'a Condition) -> Self {
        let asked = Asked::new(condition);
        Self {
            condition,
            never: asked.as_ref().is_some_and(Asked::never_holds),
            asked,
        }
    }
}

struct Found {
    warnings: Vec<Warning>,
    /// How much more is compared: many long lists, each with each, would hold up the write.
    patience: usize,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            warnings: Vec::new(),
            patience: 1_000_000,
        }
    }
}

impl Found {
    fn add(&mut self, field: String, description: String) {
        if self.warnings.len() < limits::VIOLATIONS {
            self.warnings.push(Warning { field, description });
        }
    }

    /// Looks at conditions that must all hold. Whether they never do.
    fn of_conditions(&mut self, field: &str, conditions: &[PreparedCondition<'_>]) -> bool {
        let mut never = false;
        for (n, prepared) in conditions.iter().enumerate() {
            let PreparedCondition { condition, .. } = prepared;
            self.of_networks(&format!("{field}[{n}]"), condition);
            if prepared.never {
                never = true;
                self.add(format!("{field}[{n}]"), "never holds".to_owned());
                continue;
            }
            for (m, earlier) in conditions.iter().enumerate().take(n) {
                let Some(exclusion) = self.exclusion(prepared, earlier) else {
                    continue;
                };
                never |= exclusion == Exclusion::Always;
                let described = match exclusion {
                    Exclusion::Always => format!("never holds together with {field}[{m}]"),
                    Exclusion::UnlessList => {
                        format!("holds together with {field}[{m}] only if the attribute is a list")
                    }
                };
                self.add(format!("{field}[{n}]"), described);
            }
        }
        never
    }

    fn exclusion(&mut self, one: &PreparedCondition<'_>, two: &PreparedCondition<'_>) -> Option<Exclusion> {
        let (asked, other) = (one.asked.as_ref()?, two.asked.as_ref()?);
        if two.never || !self.may_compare(asked, other) {
            return None;
        }
        asked.excludes(other)
    }

    /// Bits that do not count are most likely a slip of the pen.
    fn of_networks(&mut self, field: &str, condition: &Condition) {
        if condition.operator != Operator::IpInRange {
            return;
        }
        for (n, value) in condition.values.iter().enumerate() {
            if let Operand::String(text) = value
                && let Some(network) = operand::rounded(text)
            {
                self.add(
                    format!("{field}.values[{n}]"),
                    format!("has bits beyond its prefix, which do not count; it is the network {network}"),
                );
            }
        }
    }

    /// Whether whoever satisfies the later rule is served by the earlier.
    fn covers(&mut self, earlier: &Prepared<'_>, later: &Prepared<'_>) -> bool {
        earlier.serves(later)
            && earlier.conditions.iter().all(|condition| {
                let Some(wanted) = &condition.asked else {
                    return false;
                };
                later
                    .asked()
                    .any(|asked| self.may_compare(asked, wanted) && asked.implies(wanted))
            })
    }

    fn may_compare(&mut self, one: &Asked<'_>, two: &Asked<'_>) -> bool {
        let left = self.patience.checked_sub(one.work(two));
        self.patience = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_compare_goes_unmentioned() {
        let condition = Condition {
            attribute: "x".to_owned(),
            operator: Operator::Contains,
            values: (0..100).map(|n| Operand::String(format!("text {n}"))).collect(),
            negated: false,
        };
        let rule = Rule {
            key: "r".parse().unwrap(),
            description: String::new(),
            conditions: vec![condition],
            serve: Serve::Variant("on".parse().unwrap()),
        };
        // Each with each is 10 000 comparisons.
        let told = |patience| {
            let mut found = Found {
                patience,
                ..Found::default()
            };
            found.covers(&Prepared::new(&rule), &Prepared::new(&rule))
        };
        assert!(told(20_000) && !told(5_000));
    }
}
