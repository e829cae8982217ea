//! What a rule or the default serves.

use std::collections::HashSet;

use super::condition::attribute_name;
use super::part;
use crate::domain::flag::Definition;
use crate::domain::invalid::Violations;
use crate::domain::rule::{Serve, Split, Weighted};
use crate::domain::{draft, key, limits};

/// Checks what is served of a flag; paths begin at `variant` or `split`.
pub(super) fn check(draft: &draft::Serve, flag: &Definition) -> Result<Serve, Violations> {
    let mut violations = Violations::new();
    let served = match draft {
        draft::Serve::Nothing => {
            return Err(Violations::one("", "says neither a variant nor a split; one is needed"));
        }
        draft::Serve::Variant(text) => violations.take("variant", variant(text, flag)).map(Serve::Variant),
        draft::Serve::Split(draft) => violations.take("split", split(draft, flag)).map(Serve::Split),
    };
    served.ok_or(violations)
}

/// Checks the key of a variant of a flag.
pub(super) fn variant(text: &str, flag: &Definition) -> Result<key::Variant, Violations> {
    let what = format!("a variant of {}", flag.key);
    part::known(text, |key| flag.variant(key).is_some(), &what)
}

fn split(draft: &draft::Split, flag: &Definition) -> Result<Split, Violations> {
    let draft::Split { variants, attribute } = draft;
    let mut violations = Violations::new();
    let mut seen = HashSet::new();
    let shares = part::list(
        &mut violations,
        "variants",
        variants,
        limits::VARIANTS,
        |(text, weight)| {
            let mut violations = Violations::new();
            let variant = violations.take("variant", variant(text, flag));
            if !seen.insert(text.clone()) {
                violations.add("variant", "is there twice; give it one weight");
            }
            let weight = *weight;
            match variant {
                Some(variant) => violations.or(Weighted { variant, weight }),
                None => Err(violations),
            }
        },
    );
    let total: u64 = variants.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if total == 0 {
        violations.add(
            "variants",
            "have weights that sum to zero; at least one must be positive",
        );
    }
    if total > limits::TOTAL_WEIGHT {
        let limit = limits::TOTAL_WEIGHT;
        violations.add("variants", format!("have weights that sum to more than {limit}"));
    }
    if let Some(attribute) = attribute {
        attribute_name(&mut violations, "attribute", attribute);
    }
    violations.or(Split {
        variants: shares,
        attribute: attribute.clone(),
    })
}
