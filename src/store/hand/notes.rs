//! What the triggers noted of a project: which items were edited, and by whom.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio_postgres::Row;

use super::clipped;
use crate::domain::change::EnvironmentId;
use crate::domain::form::{ItemId, Kind};
use crate::domain::limits;
use crate::store::error::Error;
use crate::store::mutation::Caller;
use crate::store::rows;

/// What was edited of one project, and by whom.
pub(super) struct Notes {
    pub(super) ids: Vec<i64>,
    /// What to compare in every environment.
    everywhere: Wanted,
    /// The same of single environments.
    within: BTreeMap<EnvironmentId, Wanted>,
    pub(super) caller: Caller,
}

/// Which items to compare: these, or all that there are or ever were.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) items: BTreeSet<ItemId>,
    pub(super) all: bool,
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && !self.all
    }

    fn add(&mut self, item: Option<ItemId>) {
        match item {
            Some(item) => {
                self.items.insert(item);
            }
            None => self.all = true,
        }
    }
}

impl Notes {
    pub(super) fn read(found: &[Row]) -> Result<Self, Error> {
        let mut notes = Self {
            ids: Vec::with_capacity(found.len()),
            everywhere: Wanted::default(),
            within: BTreeMap::new(),
            caller: Caller::database(),
        };
        let (mut names, mut peers, mut edits) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for row in found {
            notes.ids.push(rows::get(row, "id")?);
            let environment: Option<i64> = rows::get(row, "environment_id")?;
            let wanted = match environment {
                Some(id) => notes.within.entry(EnvironmentId(id)).or_default(),
                None => &mut notes.everywhere,
            };
            let kind = rows::get::<Option<&str>>(row, "kind")?.and_then(Kind::from_name);
            let key = rows::get::<Option<&str>>(row, "key")?;
            // A kind of a newer version: everything is looked at.
            wanted.add(kind.zip(key).map(|(kind, key)| ItemId { kind, key: key.into() }));
            let (by, application): (&str, &str) = (rows::get(row, "edited_by")?, rows::get(row, "application")?);
            names.insert(by);
            peers.insert(rows::get::<&str>(row, "address")?);
            edits.insert((rows::get::<Timestamp>(row, "edited_at")?, by, application));
        }
        peers.remove("");
        notes.caller.name = joined(names);
        notes.caller.peer = joined(peers);
        let edits = edits.into_iter().map(|(at, by, application)| match application {
            "" => format!("by {by} at {at}"),
            application => format!("by {by} ({application}) at {at}"),
        });
        let reason = format!("edited in the database {}", joined(edits));
        notes.caller.reason = clipped(&reason, limits::REASON_CHARS);
        Ok(notes)
    }

    pub(super) fn of(&self, environment: EnvironmentId) -> Wanted {
        let mut wanted = self.everywhere.clone();
        if let Some(within) = self.within.get(&environment) {
            wanted.items.extend(within.items.iter().cloned());
            wanted.all |= within.all;
        }
        wanted
    }
}

fn joined(words: impl IntoIterator<Item = impl Into<String>>) -> String {
    words.into_iter().map(Into::into).collect::<Vec<_>>().join(", ")
}
