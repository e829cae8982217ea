//! The history itself: gapless, a chain of digests, and what every environment held at every revision.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use halyard::domain::change::{Digest, ItemChange, StateHash, digest, form_hash};
use halyard::domain::form::{ItemId, Kind as ItemKind};

use super::{Kind, Violations};
use crate::evidence::{Era, Log, Name, Revision};

/// All eras, as far as clients can be held against them.
pub struct Histories<'a> {
    eras: Vec<Past<'a>>,
}

struct Past<'a> {
    era: &'a Era,
    environments: BTreeMap<&'a str, States<'a>>,
}

/// One environment in one era.
#[derive(Default)]
struct States<'a> {
    hashes: HashMap<u64, Digest>,
    /// Every form that an item ever had.
    forms: HashSet<(&'a Name, Digest)>,
    /// Of each flag: from which revision on it was configured so.
    configurations: HashMap<&'a str, BTreeMap<u64, Configured>>,
}

/// What a flag's configuration says, as far as evaluations show it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configured {
    pub enabled: bool,
    pub rule: String,
}

impl<'a> Histories<'a> {
    /// Reads the eras, and tells what is wrong with them.
    pub fn read(eras: &'a [Era], violations: &mut Violations) -> Self {
        check_generations(eras, violations);
        let past = |era: &'a Era| {
            let mut environments = BTreeMap::new();
            for (environment, log) in &era.logs {
                check_chain(environment, log, violations);
                environments.insert(environment.as_str(), States::read(log));
            }
            Past { era, environments }
        };
        Self {
            eras: eras.iter().map(past).collect(),
        }
    }

    /// The hashes that an environment had at a revision of a generation: more than one if the history was replaced. None: there was
    /// no such revision.
    pub fn hashes(&self, environment: &str, generation: u64, revision: u64) -> Vec<Digest> {
        let eras = self
            .eras
            .iter()
            .filter(|past| past.era.generations.contains(&generation));
        let states = eras.filter_map(|past| past.environments.get(environment));
        states
            .filter_map(|states| states.hashes.get(&revision).copied())
            .collect()
    }

    /// Whether an item of an environment ever had this form.
    pub fn knows(&self, environment: &str, name: &Name, form_hash: Digest) -> bool {
        self.states(environment)
            .any(|states| states.forms.contains(&(name, form_hash)))
    }

    /// How many histories had been replaced by this time.
    pub fn replaced_by(&self, at: Instant) -> usize {
        let saved = self.eras.iter().filter_map(|past| past.era.saved);
        saved.filter(|saved| *saved < at).count()
    }

    /// What a flag was configured as at a revision, in every era that had it.
    pub fn configured(&self, environment: &str, flag: &str, revision: u64) -> Vec<Configured> {
        let states = self
            .states(environment)
            .filter(|states| states.hashes.contains_key(&revision));
        let configured = states.map(|states| {
            let versions = states.configurations.get(flag)?;
            versions
                .range(..=revision)
                .next_back()
                .map(|(_, configured)| configured.clone())
        });
        configured.map(Option::unwrap_or_default).collect()
    }

    fn states(&self, environment: &str) -> impl Iterator<Item = &States<'a>> {
        self.eras
            .iter()
            .filter_map(move |past| past.environments.get(environment))
    }
}

impl<'a> States<'a> {
    fn read(log: &'a Log) -> Self {
        let mut states = Self::default();
        let (mut hash, mut held) = (StateHash::EMPTY, HashMap::new());
        for Revision { number, items, .. } in &log.revisions {
            for item in items {
                let (kind, key) = &item.name;
                if let Some(before) = held.remove(&item.name) {
                    hash.toggle(kind, key, &before);
                }
                if kind == ItemKind::FlagConfiguration.name() {
                    let versions = states.configurations.entry(key).or_default();
                    versions.insert(*number, item.form.as_deref().map(configured).unwrap_or_default());
                }
                let Some(form) = &item.form else {
                    continue;
                };
                let form_hash = form_hash(form);
                hash.toggle(kind, key, &form_hash);
                held.insert(&item.name, form_hash);
                states.forms.insert((&item.name, form_hash));
            }
            states.hashes.insert(*number, Digest(*hash.as_bytes()));
        }
        states
    }
}

/// A history that takes the place of another is one new generation, whoever finds out; and nothing else is.
fn check_generations(eras: &[Era], violations: &mut Violations) {
    for (number, Era { generations, .. }) in eras.iter().enumerate() {
        let most = generations.start() + u64::from(number > 0);
        if *generations.end() > most {
            let words = format!(
                "the generation rose from {} to {}",
                generations.start(),
                generations.end()
            );
            violations.add(Kind::Phantom, words);
        }
    }
}

/// Tells whatever keeps a log from being a gapless chain that ends at its head.
fn check_chain(environment: &str, log: &Log, violations: &mut Violations) {
    let (mut revision, mut previous) = (0, Digest::default());
    for change in &log.revisions {
        if change.number != revision + 1 {
            let words = format!(
                "{environment}: revision {} follows {revision} in the log",
                change.number
            );
            violations.add(Kind::Lost, words);
        }
        if change.previous != previous || digest_of(change) != Some(change.digest) {
            let words = format!(
                "{environment}: the chain of digests breaks at revision {}",
                change.number
            );
            violations.add(Kind::WrongHash, words);
        }
        (revision, previous) = (change.number, change.digest);
    }
    if log.head != (revision, previous) {
        let words = format!("{environment}: the head is {:?}, the log ends at {revision}", log.head);
        violations.add(Kind::Lost, words);
    }
}

/// The digest that a revision should have. `None`: an item of it is of no known kind.
pub fn digest_of(change: &Revision) -> Option<Digest> {
    let ids: Option<Vec<_>> = change
        .items
        .iter()
        .map(|item| {
            let (kind, key) = &item.name;
            let kind = ItemKind::from_name(kind)?;
            Some(ItemId {
                kind,
                key: key.as_str().into(),
            })
        })
        .collect();
    let ids = ids?;
    let items: Vec<_> = ids
        .iter()
        .zip(&change.items)
        .map(|(id, item)| ItemChange {
            id,
            version: item.version,
            form: item.form.as_deref(),
        })
        .collect();
    Some(digest(change.previous, change.number, &items))
}

/// A form that cannot be read configures nothing.
pub fn configured(form: &[u8]) -> Configured {
    let Ok(form) = serde_json::from_slice::<serde_json::Value>(form) else {
        return Configured::default();
    };
    let rule = form.pointer("/rules/0/key").and_then(serde_json::Value::as_str);
    Configured {
        enabled: form.get("enabled").and_then(serde_json::Value::as_bool) == Some(true),
        rule: rule.unwrap_or_default().to_owned(),
    }
}
