//! Reading a chain from its first entry to its last: to verify it, or to hand it out.
//!
//! However long the chain is, there is one entry of it in memory, no statement lasts, and no connection is kept from others.

use std::ops::ControlFlow;

use futures_util::{StreamExt as _, pin_mut};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::INSTANCE;
use super::chains::head_from_row;
use super::read::{columns, linked_from_row};
use crate::domain::audit::verify::{Break, Flaw, Verdict, Verifier};
use crate::domain::audit::{Head, Linked};
use crate::store::error::Error;
use crate::store::{Store, pipeline, rows};

/// Entries that one statement reads.
const BATCH: i64 = 500;
/// One statement, so that what is appended meanwhile is not taken for entries beyond the head.
const ENDS: &str = "
    select h.sequence, h.hash, (select max(e.sequence) from audit_entries e where e.chain = $1) as last
    from (values (1)) one
    left join audit_heads h on h.chain = $1";
const ENTRIES: &str = columns!(
    "select",
    "from audit_entries e where e.chain = $1 and e.sequence > $2 and e.sequence <= $3 order by e.sequence limit $4"
);

impl Store {
    /// Recomputes a chain, and compares it with what was its head once. Entries appended meanwhile are not looked at.
    pub async fn verify_chain(&self, chain: &str, kept: Option<Head>) -> Result<Verdict, Error> {
        let (head, last) = self.ends(chain).await?;
        let mut verifier = Verifier::new(kept);
        let follow = |row: &Row| match follow(&mut verifier, row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(broken) => ControlFlow::Break(broken),
        };
        if let ControlFlow::Break(broken) = self.walk(chain, last, follow).await? {
            return Ok(Verdict::Broken(broken));
        }
        // The chain of a project begins with its creation.
        let emptied = verifier.last().sequence == 0 && chain != INSTANCE;
        Ok(match head {
            None => Verdict::Broken(verifier.here(Flaw::Head)),
            Some(_) if emptied => Verdict::Broken(verifier.here(Flaw::Missing)),
            Some(_) => verifier.finish(head),
        })
    }

    /// Hands out every entry of a chain, from the first, until one breaks it off. Entries appended meanwhile are left out.
    pub async fn read_chain<B>(
        &self,
        chain: &str,
        mut each: impl FnMut(Linked) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        let (_, last) = self.ends(chain).await?;
        let read = |row: &Row| match linked_from_row(row) {
            Ok(linked) => each(linked).map_break(Ok),
            Err(unreadable) => ControlFlow::Break(Err(unreadable)),
        };
        match self.walk(chain, last, read).await? {
            ControlFlow::Continue(()) => Ok(ControlFlow::Continue(())),
            ControlFlow::Break(broken_off) => broken_off.map(ControlFlow::Break),
        }
    }

    /// The head of a chain, and the place of its last entry; zero: it has none.
    async fn ends(&self, chain: &str) -> Result<(Option<Head>, i64), Error> {
        let row = pipeline::row(&*self.reader().await?, (ENDS, &[&chain])).await?;
        let last = rows::get::<Option<i64>>(&row, "last")?.unwrap_or_default();
        Ok((head_from_row(&row)?, last))
    }

    /// Every row of a chain in the order of their places, as far as `last`; also those before the first place, where none
    /// should be.
    async fn walk<B>(
        &self,
        chain: &str,
        last: i64,
        mut each: impl FnMut(&Row) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        let mut after = i64::MIN;
        loop {
            let client = self.reader().await?;
            let statement = client.prepare_cached(ENTRIES).await?;
            let parameters: [&(dyn ToSql + Sync); 4] = [&chain, &after, &last, &BATCH];
            let found = client.query_raw(&statement, parameters).await?;
            pin_mut!(found);
            let mut count = 0;
            while let Some(row) = found.next().await {
                let row = row?;
                after = rows::get(&row, "sequence")?;
                count += 1;
                if let ControlFlow::Break(broken_off) = each(&row) {
                    return Ok(ControlFlow::Break(broken_off));
                }
            }
            if count < BATCH {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }
}

fn follow(verifier: &mut Verifier, row: &Row) -> Result<(), Break> {
    let linked = linked_from_row(row).map_err(|_| verifier.here(Flaw::Unreadable))?;
    verifier.follow(&linked)
}
