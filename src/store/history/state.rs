//! An environment's state as of a revision, as far as the answers of some flags depend on it.
//!
//! It is gathered from the flags on: their items, then those of what they depend on, and so forth. Of a segment's key list only
//! the chunk is fetched that can hold the context's targeting key, so that a list of a million costs no more than any other.

use std::collections::HashSet;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::committed_at;
use crate::domain::experiment::Running;
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::key;
use crate::domain::segment::chunk_item;
use crate::evaluate::key_chunk;
use crate::store::environments::Address;
use crate::store::error::Error;
use crate::store::{Store, pipeline, rows};

/// Items as of a revision, by kind and key; without those that were deleted.
const NAMED: &str = "
    select n.kind, n.key, i.form
    from unnest($3::text[], $4::text[]) as n (kind, key)
    cross join lateral (
        select c.form from change_items c
        where c.environment_id = $1 and c.kind = n.kind and c.key = n.key and c.revision <= $2
        order by c.revision desc limit 1
    ) i
    where i.form is not null";
/// Every flag's.
const FLAGS: &str = "
    select i.kind, i.key, i.form
    from (
        select distinct on (c.kind, c.key) c.kind, c.key, c.form from change_items c
        where c.environment_id = $1 and c.kind in ('flag_configuration', 'flag_definition') and c.revision <= $2
        order by c.kind, c.key, c.revision desc
    ) i
    where i.form is not null";

/// Every experiment that ran: which flags they are on stands in their forms.
const EXPERIMENTS: &str = "
    select i.kind, i.key, i.form
    from (
        select distinct on (c.key) c.kind, c.key, c.form from change_items c
        where c.environment_id = $1 and c.kind = 'experiment' and c.revision <= $2
        order by c.key, c.revision desc
    ) i
    where i.form is not null";

/// What an environment held at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastState {
    /// When the revision was committed.
    pub committed_at: Timestamp,
    /// The items with their forms.
    pub items: Vec<(ItemId, Vec<u8>)>,
}

impl Store {
    /// The state of an environment as of a revision: all that the answers of these flags (`None`: of all flags) for a context
    /// of this targeting key (`None`: without) depend on.
    pub async fn state_at(
        &self,
        at: Address<'_>,
        revision: u64,
        flags: Option<&[key::Flag]>,
        targeting_key: Option<&str>,
    ) -> Result<PastState, Error> {
        let environment = self.get_environment(at).await?;
        let client = self.reader().await?;
        let committed_at = committed_at(&*client, &environment, revision).await?;
        let (revision_number, id, revision) = (revision, environment.id.0, rows::to_sql(revision));
        let mut gathered = Gathered::new(targeting_key);
        gathered.take(&pipeline::one(&*client, (EXPERIMENTS, &[&id, &revision])).await?)?;
        match flags {
            None => gathered.take(&pipeline::one(&*client, (FLAGS, &[&id, &revision])).await?)?,
            Some(flags) => flags.iter().for_each(|flag| gathered.want_flag(flag.as_str())),
        }
        while !gathered.wanted.is_empty() {
            let wanted = std::mem::take(&mut gathered.wanted);
            let (kinds, keys): (Vec<_>, Vec<_>) = wanted.iter().map(|id| (id.kind.name(), &*id.key)).unzip();
            let found = pipeline::one(&*client, (NAMED, &[&id, &revision, &kinds, &keys])).await?;
            gathered.take(&found)?;
        }
        // Rows may have been taken away meanwhile, but not before the floor was raised.
        super::committed_at(&*client, &environment, revision_number).await?;
        Ok(PastState {
            committed_at,
            items: gathered.items,
        })
    }
}

struct Gathered<'a> {
    targeting_key: Option<&'a str>,
    /// Whatever was ever wanted: nothing is fetched twice, which also ends cycles that someone wrote by hand.
    known: HashSet<ItemId>,
    wanted: Vec<ItemId>,
    items: Vec<(ItemId, Vec<u8>)>,
}

impl<'a> Gathered<'a> {
    fn new(targeting_key: Option<&'a str>) -> Self {
        Self {
            targeting_key,
            known: HashSet::new(),
            wanted: Vec::new(),
            items: Vec::new(),
        }
    }

    fn want(&mut self, kind: Kind, key: &str) {
        let id = ItemId { kind, key: key.into() };
        if self.known.insert(id.clone()) {
            self.wanted.push(id);
        }
    }

    fn want_flag(&mut self, flag: &str) {
        self.want(Kind::FlagDefinition, flag);
        self.want(Kind::FlagConfiguration, flag);
    }

    /// Takes items, and wants what they depend on.
    fn take(&mut self, found: &[Row]) -> Result<(), Error> {
        let mut taken: Vec<(ItemId, Vec<u8>)> = Vec::with_capacity(found.len());
        for row in found {
            let id = ItemId {
                kind: rows::named(row, "kind", Kind::from_name)?,
                key: rows::get::<&str>(row, "key")?.into(),
            };
            self.known.insert(id.clone());
            taken.push((id, rows::get(row, "form")?));
        }
        // After all of them are known: of a whole environment's flags none is wanted again.
        for (id, form) in &taken {
            self.follow(id, form);
        }
        self.items.extend(taken);
        Ok(())
    }

    /// Wants what an item depends on. One that cannot be read depends on nothing: its flag is malformed, as it was then.
    fn follow(&mut self, id: &ItemId, form: &[u8]) {
        match id.kind {
            Kind::Experiment => {
                for segment in form::read_experiment(form).iter().flat_map(Running::segments) {
                    self.want(Kind::SegmentConfiguration, segment);
                }
            }
            Kind::FlagDefinition | Kind::SegmentKeys => {}
            Kind::FlagConfiguration => {
                let configuration = form::read_configuration(form).unwrap_or_default();
                for prerequisite in &configuration.prerequisites {
                    self.want_flag(prerequisite.flag.as_str());
                }
                for segment in configuration.segments() {
                    self.want(Kind::SegmentConfiguration, segment);
                }
            }
            Kind::SegmentConfiguration => {
                let configuration = form::read_segment(form).unwrap_or_default();
                for segment in configuration.segments() {
                    self.want(Kind::SegmentConfiguration, segment);
                }
                if let Some((list, key)) = configuration.key_list.zip(self.targeting_key) {
                    let chunk = key_chunk(key, list.chunks);
                    self.want(Kind::SegmentKeys, &chunk_item(&id.key, chunk));
                }
            }
        }
    }
}
