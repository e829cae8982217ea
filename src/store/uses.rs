//! When credentials were last used. Written now and then for all of them, from what a replica has in memory; see the migration
//! for why it is a table of its own.

use super::error::Error;
use super::{Store, pipeline};
use crate::domain::access::TokenId;

/// In the order of the key, so that replicas that write at the same time wait for each other and never in a circle.
const RECORD: &str = "
    insert into credential_uses (kind, id, used_at)
    select u.kind, u.id, clock_timestamp()
    from (
        select 'key' as kind, k.id from unnest($1::text[]) as k (id)
        union
        select 'service_token', t.id from unnest($2::text[]) as t (id)
    ) u
    order by u.kind, u.id
    on conflict (kind, id) do update set used_at = greatest(credential_uses.used_at, excluded.used_at)";
const PURGE: &str = "
    delete from credential_uses u
    where not exists (select from environment_keys k where u.kind = 'key' and k.id = u.id)
        and not exists (select from service_tokens t where u.kind = 'service_token' and t.id = u.id)";

impl Store {
    /// Notes that these environment keys and service tokens were used until now. One statement; it waits for nobody else's.
    pub async fn record_uses<K: AsRef<str>>(&self, keys: &[K], tokens: &[TokenId]) -> Result<(), Error> {
        let keys: Vec<_> = keys.iter().map(AsRef::as_ref).collect();
        let tokens: Vec<_> = tokens.iter().map(TokenId::to_string).collect();
        pipeline::one(&*self.reader().await?, (RECORD, &[&keys, &tokens])).await?;
        Ok(())
    }

    /// Deletes what is noted of credentials that are gone, and returns how many there were. For a task that calls it now and
    /// then; nothing depends on it but the size of the table.
    pub async fn purge_uses(&self) -> Result<u64, Error> {
        let client = self.reader().await?;
        let statement = client.prepare_cached(PURGE).await?;
        Ok(client.execute(&statement, &[]).await?)
    }
}
