//! Writes: what was acknowledged is in the history, once; what was refused is not; and nothing else is there.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use halyard::domain::form::Kind as ItemKind;

use super::edits::DATABASE;
use super::history::configured;
use super::{Kind, Violations};
use crate::evidence::{Content, Era, Log, Outcome, Revision, Write};

pub fn check(writes: &[Write], eras: &[Era], violations: &mut Violations) {
    for (number, era) in eras.iter().enumerate() {
        let before = number.checked_sub(1).and_then(|number| eras[number].saved);
        for (environment, log) in &era.logs {
            let of_environment: Vec<_> = writes
                .iter()
                .filter(|write| write.environment == *environment)
                .collect();
            let book = Book::read(environment, log, &of_environment);
            book.check(era, before, violations);
        }
    }
}

/// An era answers for what was written after the one before it was saved and before it was saved itself.
pub fn answers_for(era: &Era, after: Option<Instant>, write: &Write) -> bool {
    after.is_none_or(|after| write.ended > after) && era.saved.is_none_or(|saved| write.ended <= saved)
}

/// The writes of one environment beside its log.
struct Book<'a> {
    environment: &'a str,
    writes: &'a [&'a Write],
    /// Where each marker is.
    marked: HashMap<String, Vec<u64>>,
    /// Revisions that touch a group's flags, with how they set them.
    grouped: HashMap<u64, (Vec<String>, Vec<bool>)>,
}

impl<'a> Book<'a> {
    fn read(environment: &'a str, log: &'a Log, writes: &'a [&'a Write]) -> Self {
        let group: HashSet<&str> = writes
            .iter()
            .filter_map(|write| match &write.content {
                Content::Group { flags, .. } => Some(flags.iter().map(String::as_str)),
                Content::Marked { .. } | Content::Edited { .. } | Content::Removed { .. } => None,
            })
            .flatten()
            .collect();
        let (mut marked, mut grouped) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, (Vec<_>, Vec<_>)>::new());
        for Revision {
            number, items, actor, ..
        } in &log.revisions
        {
            for item in items {
                let (kind, key) = &item.name;
                let Some(form) = item
                    .form
                    .as_ref()
                    .filter(|_| kind == ItemKind::FlagConfiguration.name())
                else {
                    continue;
                };
                let configured = configured(form);
                if group.contains(key.as_str()) {
                    if actor == DATABASE {
                        // That is no toggle: `edits` looks at it.
                        continue;
                    }
                    let (flags, enabled) = grouped.entry(*number).or_default();
                    flags.push(key.clone());
                    enabled.push(configured.enabled);
                } else if !configured.rule.is_empty() {
                    marked.entry(configured.rule).or_default().push(*number);
                }
            }
        }
        Self {
            environment,
            writes,
            marked,
            grouped,
        }
    }

    fn check(&self, era: &Era, after: Option<Instant>, violations: &mut Violations) {
        let answers_for = |write: &Write| answers_for(era, after, write);
        let mut known = HashSet::new();
        let (mut toggles, mut perhaps) = (HashSet::new(), 0);
        for write in self.writes {
            match &write.content {
                Content::Marked { marker, .. } => {
                    known.insert(marker.as_str());
                    self.check_marked(write, marker, answers_for(write), violations);
                }
                Content::Edited { marker, .. } => drop(known.insert(marker.as_str())),
                Content::Removed { .. } => {}
                Content::Group { flags, enabled } => match write.outcome {
                    Outcome::Acknowledged(Some(revision)) => {
                        toggles.insert(revision);
                        if answers_for(write) {
                            self.check_group(revision, flags, *enabled, violations);
                        }
                    }
                    Outcome::Unknown(_) => perhaps += 1,
                    Outcome::Acknowledged(None) | Outcome::Refused(_) => {}
                },
            }
        }
        let environment = self.environment;
        for (marker, revisions) in &self.marked {
            if !known.contains(marker.as_str()) {
                violations.add(
                    Kind::Phantom,
                    format!("{environment}: nobody wrote {marker} of {revisions:?}"),
                );
            }
            if revisions.len() > 1 {
                violations.add(
                    Kind::Duplicate,
                    format!("{environment}: {marker} was written as {revisions:?}"),
                );
            }
        }
        let unexplained: Vec<_> = self
            .grouped
            .keys()
            .filter(|revision| !toggles.contains(revision))
            .collect();
        if unexplained.len() > perhaps {
            let words = format!(
                "{environment}: {unexplained:?} toggled the group, of {perhaps} writes nobody knows what became"
            );
            violations.add(Kind::Phantom, words);
        }
    }

    fn check_marked(&self, write: &Write, marker: &str, is_answered_for: bool, violations: &mut Violations) {
        let (environment, found) = (self.environment, self.marked.get(marker));
        match (&write.outcome, found) {
            (Outcome::Acknowledged(revision), None) if is_answered_for => {
                let words =
                    format!("{environment}: {marker} was acknowledged as {revision:?} and is not in the history");
                violations.add(Kind::Lost, words);
            }
            (Outcome::Acknowledged(Some(revision)), Some(revisions))
                if is_answered_for && !revisions.contains(revision) =>
            {
                let words = format!("{environment}: {marker} was acknowledged as {revision} and is {revisions:?}");
                violations.add(Kind::Lost, words);
            }
            (Outcome::Refused(code), Some(revisions)) => {
                let words = format!("{environment}: {marker} was refused as {code:?} and is {revisions:?}");
                violations.add(Kind::Refused, words);
            }
            (Outcome::Acknowledged(_) | Outcome::Refused(_) | Outcome::Unknown(_), _) => {}
        }
    }

    fn check_group(&self, revision: u64, flags: &[String], enabled: bool, violations: &mut Violations) {
        let environment = self.environment;
        let Some((changed, values)) = self.grouped.get(&revision) else {
            let words = format!("{environment}: the group was acknowledged as {revision}, which does not change it");
            violations.add(Kind::Lost, words);
            return;
        };
        if changed.len() != flags.len() || values.iter().any(|value| *value != enabled) {
            let words =
                format!("{environment}: {revision} should turn {flags:?} {enabled}, and is {changed:?} {values:?}");
            violations.add(Kind::Torn, words);
        }
    }
}
