//! Looking things up in the audit log.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::domain::audit::{Entry, Linked};
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::store::error::{Entity, Error};
use crate::store::page::{Page, PageRequest};
use crate::store::{Store, pipeline, rows};

/// The columns of [`linked_from_row`].
macro_rules! columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " e.sequence, e.id, e.at, e.actor, e.actor_name, e.credential, e.action, e.entity, e.entity_key, e.project,
            e.environment, e.before, e.after, e.request_id, e.peer, e.reason, e.previous_hash, e.hash ",
            $after
        )
    };
}
pub(super) use columns;

/// As many entries as the page may have, and no more once they exceed its bytes.
///
/// It is planned anew for the filters of each request: a chain may have millions of entries, and which index finds the page
/// depends on what is asked. The order is that of time, which every index has; that of places differs from it only where the
/// database's clock was set back.
const LIST: &str = columns!(
    "
    with found as (
        select at, sequence, octet_length(coalesce(before, '')) + octet_length(coalesce(after, '')) as bytes
        from audit_entries
        where chain = $1
            and ($2::timestamptz is null or (at, sequence) < ($2, $3))
            and ($5 = '' or entity = $5)
            and ($6 = '' or entity_key = $6)
            and ($7 = '' or action = $7)
            and ($8 = '' or actor = $8)
            and ($9 = '' or environment = $9)
            and ($10::timestamptz is null or at >= $10)
            and ($11::timestamptz is null or at < $11)
        order by at desc, sequence desc limit $4
    ), counted as (
        select at, sequence, sum(bytes) over (order by at desc, sequence desc) - bytes as bytes_before from found
    )
    select",
    ", (select count(*) from found) as found
    from counted c
    join audit_entries e on e.chain = $1 and e.sequence = c.sequence
    where c.bytes_before < $12
    order by c.at desc, c.sequence desc"
);
const FIND: &str = columns!("select", "from audit_entries e where e.chain = $1 and e.id = $2");

/// Which entries to list: those that pass every filter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only entries about this kind of thing. Empty: any.
    pub entity: String,
    /// Only entries about what has this key. Empty: any.
    pub entity_key: String,
    /// Only entries of this action. Empty: any.
    pub action: String,
    /// Only entries of this actor. Empty: any.
    pub actor: String,
    /// Only entries about this environment. Empty: any, and none.
    pub environment: String,
    /// Only entries from this time on. `None`: from the beginning.
    pub from: Option<Timestamp>,
    /// Only entries before this time. `None`: to the end.
    pub to: Option<Timestamp>,
}

impl Store {
    /// Lists a chain's entries, newest first. What is appended meanwhile moves nothing from page to page.
    pub async fn list_entries(&self, chain: &str, filter: &Filter, page: &PageRequest) -> Result<Page<Linked>, Error> {
        let Filter {
            entity,
            entity_key,
            action,
            actor,
            environment,
            from,
            to,
        } = filter;
        let (before, place) = before(chain, &page.after)?.unzip();
        let (limit, bytes) = (page.limit(), rows::to_sql(limits::AUDIT_PAGE_BYTES as u64));
        let parameters: [(&(dyn ToSql + Sync), Type); 12] = [
            (&chain, Type::TEXT),
            (&before, Type::TIMESTAMPTZ),
            (&place, Type::INT8),
            (&limit, Type::INT8),
            (entity, Type::TEXT),
            (entity_key, Type::TEXT),
            (action, Type::TEXT),
            (actor, Type::TEXT),
            (environment, Type::TEXT),
            (from, Type::TIMESTAMPTZ),
            (to, Type::TIMESTAMPTZ),
            (&bytes, Type::INT8),
        ];
        let listed = self.reader().await?.query_typed(LIST, &parameters).await?;
        let found = listed.first().map(|row| rows::number(row, "found")).transpose()?;
        let mut items = listed.iter().map(linked_from_row).collect::<Result<Vec<_>, _>>()?;
        items.truncate(page.size);
        let more = found.unwrap_or_default() > items.len() as u64;
        let next = items.last().filter(|_| more).map(|last| next(chain, last));
        Ok(Page { items, next })
    }

    /// Reads an entry of a chain.
    pub async fn get_entry(&self, chain: &str, id: Uuid) -> Result<Linked, Error> {
        let found = pipeline::one(&*self.reader().await?, (FIND, &[&chain, &id])).await?;
        let row = found.first().ok_or_else(|| Error::not_found(Entity::AuditEntry, id))?;
        linked_from_row(row)
    }
}

/// Where the next page begins: of this chain, whatever chain the same question is about by then.
fn next(chain: &str, last: &Linked) -> String {
    format!("{chain}:{}:{}", last.entry.at.as_microsecond(), last.sequence)
}

/// The time and the place before which a page begins. `None`: it is the first.
fn before(chain: &str, after: &str) -> Result<Option<(Timestamp, i64)>, Violations> {
    if after.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (of, rest) = after.split_once(':')?;
        let (at, place) = rest.split_once(':').filter(|_| of == chain)?;
        let at = Timestamp::from_microsecond(at.parse().ok()?).ok()?;
        Some((at, place.parse().ok()?))
    };
    match read() {
        Some(before) => Ok(Some(before)),
        None => Err(Violations::one(
            "page_token",
            "is not the token of a page of this chain",
        )),
    }
}

/// Reads an entry with all its columns.
pub(super) fn linked_from_row(row: &Row) -> Result<Linked, Error> {
    Ok(Linked {
        sequence: rows::number(row, "sequence")?,
        previous: rows::digest(row, "previous_hash")?,
        hash: rows::digest(row, "hash")?,
        entry: Entry {
            id: rows::get(row, "id")?,
            at: rows::get(row, "at")?,
            actor: rows::get(row, "actor")?,
            actor_name: rows::get(row, "actor_name")?,
            credential: rows::get(row, "credential")?,
            action: rows::get(row, "action")?,
            entity: rows::get(row, "entity")?,
            entity_key: rows::get(row, "entity_key")?,
            project: rows::get(row, "project")?,
            environment: rows::get(row, "environment")?,
            before: rows::get(row, "before")?,
            after: rows::get(row, "after")?,
            request_id: rows::get(row, "request_id")?,
            peer: rows::get(row, "peer")?,
            reason: rows::get(row, "reason")?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_another_chain_is_refused() {
        let at = Timestamp::from_microsecond(1_700).unwrap();
        assert_eq!(before("17", "17:1700:42"), Ok(Some((at, 42))));
        assert_eq!(before("17", ""), Ok(None));
        for other in ["18:1700:42", "17:42", "17:", "17:x:42", "17:1700:x", ":"] {
            assert!(before("17", other).is_err(), "{other}");
        }
    }
}
