//! Edits by hand: each is in the history once, as the database's, and nothing else is; and no write takes one back.

use std::collections::{HashMap, HashSet};

use halyard::domain::form::Kind as ItemKind;
use serde_json::Value;

use super::writes::answers_for;
use super::{Kind, Violations};
use crate::evidence::{Content, Era, Log, LoggedItem, Name, Revision, Write};

/// Who makes a revision of what was edited.
pub const DATABASE: &str = "database";

pub fn check(writes: &[Write], eras: &[Era], violations: &mut Violations) {
    for (number, era) in eras.iter().enumerate() {
        let before = number.checked_sub(1).and_then(|number| eras[number].saved);
        for (environment, log) in &era.logs {
            let edits = writes.iter().filter(|write| write.environment == *environment);
            let edits = edits.filter(|write| answers_for(era, before, write));
            Book::read(environment, log, edits).check(violations);
        }
    }
}

/// The edits of one environment beside its log.
struct Book<'a> {
    environment: &'a str,
    log: &'a Log,
    /// Where the row of each marker is.
    edited: HashMap<&'a str, &'a Name>,
    removed: HashMap<&'a Name, usize>,
}

/// What can be recognised in a form.
#[derive(Default)]
struct Words {
    /// The name of the rule, which the next write replaces.
    rule: Option<String>,
    /// What no write touches.
    kept: HashSet<String>,
}

impl<'a> Book<'a> {
    fn read(environment: &'a str, log: &'a Log, edits: impl Iterator<Item = &'a Write>) -> Self {
        let (mut edited, mut removed) = (HashMap::new(), HashMap::new());
        for edit in edits {
            match &edit.content {
                Content::Edited { item, marker } => drop(edited.insert(marker.as_str(), item)),
                Content::Removed { item } => *removed.entry(item).or_default() += 1,
                Content::Marked { .. } | Content::Group { .. } => {}
            }
        }
        Self {
            environment,
            log,
            edited,
            removed,
        }
    }

    fn check(mut self, violations: &mut Violations) {
        let environment = self.environment;
        let mut held: HashMap<&Name, Words> = HashMap::new();
        let mut found: HashMap<&str, Vec<u64>> = HashMap::new();
        for Revision {
            number, items, actor, ..
        } in &self.log.revisions
        {
            for item in items {
                let (before, now) = (held.remove(&item.name).unwrap_or_default(), Words::of(item));
                let markers = self.edited.iter();
                let markers =
                    markers.filter(|(marker, name)| **name == &item.name && now.has(marker) && !before.has(marker));
                let markers: Vec<_> = markers.map(|(marker, _)| *marker).collect();
                let mut tell = |kind, words| {
                    let name = &item.name;
                    violations.add(
                        kind,
                        format!("{environment}: revision {number}, {name:?}, of {actor}: {words}"),
                    );
                };
                if actor == DATABASE {
                    let is_removed = item.form.is_none() && self.takes_away(&item.name);
                    if markers.is_empty() && !is_removed {
                        tell(Kind::Phantom, "nobody edited it so".to_owned());
                    }
                } else {
                    for marker in &markers {
                        tell(Kind::Phantom, format!("{marker} was written by hand"));
                    }
                    let lost: Vec<_> = before.kept.difference(&now.kept).collect();
                    if !lost.is_empty() {
                        tell(Kind::Lost, format!("it takes back {lost:?}"));
                    }
                }
                for marker in markers {
                    found.entry(marker).or_default().push(*number);
                }
                held.insert(&item.name, now);
            }
        }
        for (marker, name) in &self.edited {
            match found.get(marker).map(Vec::as_slice) {
                None => violations.add(
                    Kind::Lost,
                    format!("{environment}: {marker} of {name:?} was edited and is not in the history"),
                ),
                Some([_]) => {}
                Some(revisions) => violations.add(
                    Kind::Duplicate,
                    format!("{environment}: {marker} of {name:?} is {revisions:?}"),
                ),
            }
        }
        for (name, count) in self.removed.iter().filter(|(_, count)| **count > 0) {
            violations.add(
                Kind::Lost,
                format!("{environment}: {name:?} was deleted {count} times more than the history says"),
            );
        }
    }

    /// Whether the row was deleted once more than is accounted for.
    fn takes_away(&mut self, name: &Name) -> bool {
        let left = self.removed.get_mut(name).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }
}

impl Words {
    fn of(item: &LoggedItem) -> Self {
        let form = item.form.as_deref().map(serde_json::from_slice::<Value>);
        let Some(Ok(form)) = form else {
            return Self::default();
        };
        let text = |place: &str| form.pointer(place).and_then(Value::as_str).map(str::to_owned);
        if item.name.0 == ItemKind::FlagDefinition.name() {
            let described = text("/variants/0/description").into_iter();
            return Self {
                rule: None,
                kept: described.collect(),
            };
        }
        Self {
            rule: text("/rules/0/key"),
            kept: text("/salt").into_iter().collect(),
        }
    }

    fn has(&self, marker: &str) -> bool {
        self.rule.as_deref() == Some(marker) || self.kept.contains(marker)
    }
}
