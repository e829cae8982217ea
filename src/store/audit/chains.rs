//! Which chains there are: one of the installation, and one of every project that ever was, named by the project's id.

use tokio_postgres::Row;

use super::INSTANCE;
use crate::domain::audit::Head;
use crate::domain::key;
use crate::store::error::{Entity, Error};
use crate::store::page::{Page, PageRequest};
use crate::store::{Store, pipeline, rows};

const LIVING: &str = "select id::text as chain from projects where key = $1";
/// Of projects that are gone, the one that was made last: its first entry says which it was of.
const EVER: &str = "
    select chain from (
        select id::text as chain, true as living, null::timestamptz as at from projects where key = $1
        union all
        select chain, false, at from audit_entries where sequence = 1 and project = $1 and chain <> 'instance'
    ) chains
    order by living desc, at desc limit 1";
const NAMED: &str = "
    select $1 as chain where exists (select from audit_heads where chain = $1)
        or exists (select from audit_entries where chain = $1)
        or exists (select from projects where id::text = $1)";
/// A chain is known by its head, by its project, or by its first entry: what was taken away of one is missed by the others.
const LIST: &str = "
    select c.chain, h.sequence, h.hash, coalesce(p.key, e.project, '') as project,
        c.chain <> 'instance' and p.id is null as deleted
    from (
        select chain from audit_heads
        union select id::text from projects
        union select chain from audit_entries where sequence = 1
    ) c
    left join audit_heads h on h.chain = c.chain
    left join projects p on p.id::text = c.chain
    left join audit_entries e on e.chain = c.chain and e.sequence = 1
    where c.chain > $1
    order by c.chain limit $2";

/// Whose chain.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// The installation's.
    Instance,
    /// A project's that there is.
    Living(&'a key::Project),
    /// A project's, or of the last one that had this key if there is none: for those who may see every project.
    Ever(&'a key::Project),
    /// The chain of this name.
    Named(&'a str),
}

/// A chain, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// The key of its project. Empty: it is the installation's.
    pub project: String,
    /// Whether the project is gone.
    pub deleted: bool,
    /// Its last entry. `None`: the head was taken away.
    pub head: Option<Head>,
}

impl Store {
    /// The name of a chain.
    pub async fn audit_chain(&self, which: Which<'_>) -> Result<String, Error> {
        let (query, key, missing) = match which {
            Which::Instance => return Ok(INSTANCE.to_owned()),
            Which::Living(project) => (LIVING, project.as_str(), Entity::Project),
            Which::Ever(project) => (EVER, project.as_str(), Entity::Project),
            Which::Named(chain) => (NAMED, chain, Entity::AuditChain),
        };
        let found = pipeline::one(&*self.reader().await?, (query, &[&key])).await?;
        let row = found.first().ok_or_else(|| Error::not_found(missing, key))?;
        rows::get(row, "chain")
    }

    /// Lists every chain, by name.
    pub async fn list_chains(&self, page: &PageRequest) -> Result<Page<Chain>, Error> {
        let query: pipeline::Query<'_> = (LIST, &[&page.after, &page.limit()]);
        let found = pipeline::one(&*self.reader().await?, query).await?;
        let chains = found.iter().map(chain_from_row).collect::<Result<_, _>>()?;
        Ok(page.page(chains, |chain: &Chain| chain.name.clone()))
    }
}

fn chain_from_row(row: &Row) -> Result<Chain, Error> {
    Ok(Chain {
        name: rows::get(row, "chain")?,
        project: rows::get(row, "project")?,
        deleted: rows::get(row, "deleted")?,
        head: head_from_row(row)?,
    })
}

/// Reads a head that may be absent.
pub(super) fn head_from_row(row: &Row) -> Result<Option<Head>, Error> {
    if rows::get::<Option<i64>>(row, "sequence")?.is_none() {
        return Ok(None);
    }
    Ok(Some(Head {
        sequence: rows::number(row, "sequence")?,
        hash: rows::digest(row, "hash")?,
    }))
}
