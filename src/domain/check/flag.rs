//! A flag's configuration.

use std::collections::{HashMap, HashSet};

use super::Surroundings;
use super::condition::Conditions;
use super::dependencies::Proposal;
use super::part::{self, known, text};
use super::serve;
use crate::domain::flag::{Configuration, Definition, Prerequisite};
use crate::domain::invalid::Violations;
use crate::domain::rule::Rule;
use crate::domain::{draft, form, key, limits};

pub(super) fn configuration(
    draft: &draft::Configuration,
    around: &Surroundings<'_>,
) -> Result<Configuration, Violations> {
    let draft::Configuration {
        enabled,
        prerequisites,
        rules,
        default,
        salt,
    } = draft;
    let mut violations = Violations::new();
    let prerequisites = check_prerequisites(&mut violations, prerequisites, around);
    let rules = check_rules(&mut violations, rules, around);
    let default = default
        .as_ref()
        .and_then(|default| violations.take("default_serve", serve::check(default, around.flag)));
    if let Some(salt) = salt {
        check_salt(&mut violations, salt);
    }
    let configuration = Configuration {
        enabled: *enabled,
        prerequisites,
        rules,
        default,
        salt: salt.clone(),
    };
    if form::write_configuration(&configuration).len() > limits::FORM_BYTES {
        let limit = limits::FORM_BYTES;
        violations.add(
            "rules",
            format!("are larger than {limit} bytes in all; put long lists into segments"),
        );
    }
    violations.or(configuration)
}

fn check_salt(violations: &mut Violations, salt: &str) {
    if salt.is_empty() {
        violations.add("salt", "is empty; leave it out for the flag's key");
    }
    text(violations, "salt", salt, limits::SALT_CHARS);
}

fn check_prerequisites(
    violations: &mut Violations,
    drafts: &[draft::Prerequisite],
    around: &Surroundings<'_>,
) -> Vec<Prerequisite> {
    let own = around.flag.key.as_str();
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut to = Vec::new();
    for (n, draft) in drafts.iter().enumerate().take(limits::PREREQUISITES) {
        let (flag, field) = (draft.flag.as_str(), format!("prerequisites[{n}].flag"));
        if flag == own {
            violations.add(field, "names the flag itself");
        } else if let Some(first) = first.get(flag) {
            violations.add(
                field,
                format!("names the same flag as prerequisites[{first}]; join them"),
            );
        } else {
            first.insert(flag, n);
            if around.flags.contains_key(flag) {
                to.push((field, flag));
            }
        }
    }
    let check = |draft: &_| prerequisite(draft, around);
    let checked = part::list(violations, "prerequisites", drafts, limits::PREREQUISITES, check);
    let proposal = Proposal {
        from: own,
        to,
        field: "prerequisites",
        what: "flags",
        limit: limits::PREREQUISITE_EVALUATIONS,
    };
    proposal.check(violations, around.prerequisites);
    checked
}

fn prerequisite(draft: &draft::Prerequisite, around: &Surroundings<'_>) -> Result<Prerequisite, Violations> {
    let draft::Prerequisite { flag: named, variants } = draft;
    let mut violations = Violations::new();
    let own = around.flag;
    // That a flag names itself was told, and its variants are known too.
    let other = around.flags.get(named).or((own.key.as_str() == named).then_some(own));
    let what = "a flag of the project, or is archived";
    let flag = violations.take("flag", known(named, |_: &key::Flag| other.is_some(), what));
    if variants.is_empty() {
        violations.add("variants", "is empty; name those of which the flag must serve one");
    }
    let mut seen = HashSet::new();
    let check = |text: &String| {
        let variant = match other {
            Some(other) => serve::variant(text, other)?,
            None => text.parse()?,
        };
        if seen.insert(text.clone()) {
            Ok(variant)
        } else {
            Err(Violations::one("", "is there twice; name it once"))
        }
    };
    let variants = part::list(&mut violations, "variants", variants, limits::VARIANTS, check);
    match flag {
        Some(flag) => violations.or(Prerequisite { flag, variants }),
        None => Err(violations),
    }
}

fn check_rules(violations: &mut Violations, drafts: &[draft::Rule], around: &Surroundings<'_>) -> Vec<Rule> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut checker = Conditions::new(around.segments);
    let mut place = 0;
    let rules = part::list(violations, "rules", drafts, limits::RULES, |draft| {
        let first = *first.entry(&draft.key).or_insert(place);
        let again = (first != place).then_some(first);
        place += 1;
        rule(draft, again, &mut checker, around.flag)
    });
    checker.too_many_patterns(violations, "rules");
    rules
}

/// `first`: the place of an earlier rule of the same key.
fn rule(
    draft: &draft::Rule,
    first: Option<usize>,
    checker: &mut Conditions<'_>,
    flag: &Definition,
) -> Result<Rule, Violations> {
    let draft::Rule {
        key,
        description,
        conditions,
        serve,
    } = draft;
    let mut violations = Violations::new();
    let key = violations.take("key", key.parse());
    if let Some(first) = first {
        violations.add(
            "key",
            format!("is that of rules[{first}]; keys of rules are unique in a configuration"),
        );
    }
    text(&mut violations, "description", description, limits::DESCRIPTION_CHARS);
    if conditions.is_empty() {
        violations.add("conditions", "is empty; what is for everyone belongs into the default");
    }
    let conditions = checker.check(&mut violations, conditions);
    let serve = violations.take("serve", serve::check(serve, flag));
    match key.zip(serve) {
        Some((key, serve)) => violations.or(Rule {
            key,
            description: description.clone(),
            conditions,
            serve,
        }),
        None => Err(violations),
    }
}
