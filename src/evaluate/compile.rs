//! From the stored forms of flags to what evaluation walks. Everything that can be wrong with a stored flag is found here, once.

use std::collections::HashSet;
use std::sync::Arc;

use super::bucket::{Salt, Split};
use super::conditions;
use super::experiment::Experiment;
use super::experiments::{Experiments, Placed};
use super::flag::{Flag, Prerequisite, Rule, Serve, State, Targeting};
use super::malformed::Malformed;
use super::path::Path;
use crate::domain::context::TARGETING_KEY;
use crate::domain::experiment::Running;
use crate::domain::flag::{self, Configuration, Variant};
use crate::domain::rule;
use crate::domain::{form, key, limits};

/// A definition as far as answers need it.
#[derive(Debug)]
pub(super) struct Definition {
    key: Arc<str>,
    client_visible: bool,
    variants: Result<Variants, Malformed>,
}

/// The stored form of an experiment, read.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) key: Arc<str>,
    pub(super) running: Result<Arc<Running>, Malformed>,
}

/// What there is to serve.
#[derive(Debug)]
struct Variants {
    all: Vec<Arc<Variant>>,
    off: Option<Arc<Variant>>,
    default: Option<Arc<Variant>>,
}

impl Definition {
    /// Compiles the definition of the flag of this key. One that cannot be compiled is kept as such.
    pub(super) fn compile(key: Arc<str>, form: &[u8]) -> Self {
        match form::read_definition(form) {
            Ok(definition) => Self {
                client_visible: definition.client_visible,
                variants: Variants::compile(&key, definition),
                key,
            },
            Err(unreadable) => Self {
                key,
                client_visible: false,
                variants: Err(unreadable.into()),
            },
        }
    }

    /// Combines the definition with the configuration of the flag, if it is configured, and with the experiments that run on it.
    pub(super) fn configured(&self, configuration: Option<&[u8]>, experiments: &[Stored]) -> Flag {
        let (off, state) = match &self.variants {
            Ok(variants) => (variants.off.clone(), variants.configured(&self.key, configuration)),
            Err(malformed) => (None, State::Malformed(malformed.clone())),
        };
        let experiments = match &self.variants {
            Ok(variants) if !experiments.is_empty() => {
                Some(Box::new(variants.experiments(&self.key, experiments, &state)))
            }
            Ok(_) | Err(_) => None,
        };
        Flag {
            key: self.key.clone(),
            client_visible: self.client_visible,
            off,
            state,
            experiments,
        }
    }
}

impl Variants {
    fn compile(key: &str, definition: flag::Definition) -> Result<Self, Malformed> {
        let flag::Definition {
            key: own_key,
            value_type,
            variants,
            off_variant,
            default_variant,
            client_visible: _,
        } = definition;
        if own_key.as_str() != key {
            return Err(Malformed::OtherFlag(own_key));
        }
        if variants.is_empty() {
            return Err(Malformed::NoVariants);
        }
        if let Some(variant) = variants.iter().find(|variant| variant.value.value_type() != value_type) {
            return Err(Malformed::VariantType(variant.key.clone()));
        }
        if let Some(key) = repeated(variants.iter().map(|variant| &variant.key)) {
            return Err(Malformed::VariantTwice(key.clone()));
        }
        let all: Vec<_> = variants.into_iter().map(Arc::new).collect();
        Ok(Self {
            off: off_variant.map(|key| find(&all, &key)).transpose()?,
            default: default_variant.map(|key| find(&all, &key)).transpose()?,
            all,
        })
    }

    fn configured(&self, key: &Arc<str>, configuration: Option<&[u8]>) -> State {
        let compiled = configuration.map(|form| {
            let configuration = form::read_configuration(form)?;
            let enabled = configuration.enabled;
            // Compiled even if it is off, so that what is wrong with it shows before it is turned on.
            let targeting = self.targeting(key, configuration)?;
            Ok(enabled.then_some(targeting))
        });
        match compiled {
            Some(Ok(Some(targeting))) => State::Enabled(targeting),
            Some(Ok(None)) | None => State::Disabled,
            Some(Err(malformed)) => State::Malformed(malformed),
        }
    }

    /// `state`: of the flag, whose rules say where experiments stand.
    fn experiments(&self, flag: &str, experiments: &[Stored], state: &State) -> Experiments {
        let rules: &[Rule] = match state {
            State::Enabled(targeting) => &targeting.rules,
            State::Disabled | State::Malformed(_) => &[],
        };
        let (mut placed, mut malformed) = (Vec::new(), Vec::new());
        for Stored { key, running } in experiments {
            let compiled = running.as_ref().map_err(Malformed::clone).and_then(|running| {
                if running.flag.as_str() != flag {
                    return Err(Malformed::OtherFlag(running.flag.clone()));
                }
                let find = |variant: &key::Variant| find(&self.all, variant);
                let experiment = Experiment::compile(Arc::clone(key), running, find)?;
                let before = running.before_rule.as_ref();
                let after = before.and_then(|before| rules.iter().position(|rule| rule.key == *before));
                Ok(Placed {
                    after: after.unwrap_or(rules.len()),
                    experiment: Arc::new(experiment),
                })
            });
            match compiled {
                Ok(experiment) => placed.push(experiment),
                Err(error) => malformed.push((Arc::clone(key), error)),
            }
        }
        placed.sort_by_key(|placed| placed.after);
        Experiments {
            placed: placed.into(),
            malformed: malformed.into(),
        }
    }

    fn targeting(&self, key: &Arc<str>, configuration: Configuration) -> Result<Targeting, Malformed> {
        let Configuration {
            enabled: _,
            prerequisites,
            rules,
            default,
            salt,
        } = configuration;
        // Each may ask many others: without a bound, evaluation of what a hand wrote might not end in time.
        let questions = rules
            .iter()
            .flat_map(|rule| &rule.conditions)
            .flat_map(rule::Condition::segments);
        let questions = questions.count();
        if questions > limits::SEGMENT_QUESTIONS {
            return Err(Malformed::SegmentQuestions(questions));
        }
        if let Some(key) = repeated(rules.iter().map(|rule| &rule.key)) {
            return Err(Malformed::RuleTwice(key.clone()));
        }
        let salt = Salt::new(salt.map_or_else(|| key.clone(), Into::into));
        let default = match default {
            Some(default) => Some(self.serve(default, &salt)?),
            None => self.default.as_ref().or(self.off.as_ref()).cloned().map(Serve::Variant),
        };
        Ok(Targeting {
            prerequisites: prerequisites.into_iter().map(prerequisite).collect::<Result<_, _>>()?,
            rules: rules
                .into_iter()
                .map(|rule| self.rule(rule, &salt))
                .collect::<Result<_, _>>()?,
            default,
        })
    }

    fn rule(&self, rule: rule::Rule, salt: &Salt) -> Result<Rule, Malformed> {
        let rule::Rule {
            key,
            description: _,
            conditions,
            serve,
        } = rule;
        if conditions.is_empty() {
            return Err(Malformed::NoConditions(key));
        }
        Ok(Rule {
            key,
            conditions: conditions::compile(conditions)?,
            serve: self.serve(serve, salt)?,
        })
    }

    fn serve(&self, serve: rule::Serve, salt: &Salt) -> Result<Serve, Malformed> {
        match serve {
            rule::Serve::Variant(key) => find(&self.all, &key).map(Serve::Variant),
            rule::Serve::Split(split) => self.split(split, salt.clone()).map(Serve::Split),
        }
    }

    fn split(&self, split: rule::Split, salt: Salt) -> Result<Split, Malformed> {
        let rule::Split { variants, attribute } = split;
        if let Some(key) = repeated(variants.iter().map(|share| &share.variant)) {
            return Err(Malformed::VariantTwice(key.clone()));
        }
        let total: u64 = variants.iter().map(|share| u64::from(share.weight)).sum();
        if total > limits::TOTAL_WEIGHT {
            return Err(Malformed::Weights(total));
        }
        let shares = variants
            .into_iter()
            .map(|share| Ok((share.weight, find(&self.all, &share.variant)?)))
            .collect::<Result<_, Malformed>>()?;
        let attribute = Path::new(attribute.as_deref().unwrap_or(TARGETING_KEY)).ok_or(Malformed::NoAttribute)?;
        Split::new(attribute, salt, shares).map_err(Malformed::Weights)
    }
}

fn prerequisite(prerequisite: flag::Prerequisite) -> Result<Prerequisite, Malformed> {
    let flag::Prerequisite { flag, variants } = prerequisite;
    if variants.is_empty() {
        return Err(Malformed::Prerequisite(flag));
    }
    Ok(Prerequisite {
        flag,
        variants: variants.into(),
    })
}

fn find(variants: &[Arc<Variant>], key: &key::Variant) -> Result<Arc<Variant>, Malformed> {
    let found = variants.iter().find(|variant| variant.key == *key);
    found.cloned().ok_or_else(|| Malformed::UnknownVariant(key.clone()))
}

/// The first that is there a second time.
fn repeated<'a, K: std::hash::Hash + Eq>(keys: impl Iterator<Item = &'a K>) -> Option<&'a K> {
    let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
    let mut keys = keys;
    keys.find(|key| !seen.insert(*key))
}
