//! Which identities open an account, as administrators link them. What the identities' tokens do is in
//! [`store::identities`](crate::store::identities).

use tokio_postgres::Row;
use uuid::Uuid;

use super::Linked;
use crate::domain::identity::IdentityKey;
use crate::store::error::{Entity, Error};
use crate::store::rows;

/// Whose accounts some identities open already.
pub(super) const HOLDERS: &str = "
    select i.issuer, i.subject, i.user_id from identities i
    join unnest($1::text[], $2::text[]) as wanted (issuer, subject) using (issuer, subject)";
/// Links what is not linked. Those that another account has were refused, under the lock that everyone who links holds.
pub(super) const LINK: &str = "
    insert into identities (issuer, subject, user_id, email, created_at)
    select wanted.issuer, wanted.subject, $1::uuid, '', $4::timestamptz
    from unnest($2::text[], $3::text[]) as wanted (issuer, subject)
    where not exists (select from identities i where i.issuer = wanted.issuer and i.subject = wanted.subject)";
/// Unlinks all others. The roles that their claims gave stay, as if people had given them.
pub(super) const UNLINK: &str = "
    delete from identities i
    where i.user_id = $1 and not exists (
        select from unnest($2::text[], $3::text[]) as wanted (issuer, subject)
        where wanted.issuer = i.issuer and wanted.subject = i.subject)";

/// Identities as two columns.
pub(super) fn columns(keys: &[IdentityKey]) -> (Vec<&str>, Vec<&str>) {
    let both = keys.iter().map(|key| (key.issuer.as_str(), key.subject.as_str()));
    both.unzip()
}

/// Refuses identities that open another account than this one.
pub(super) fn require_free(holders: &[Row], user: Uuid) -> Result<(), Error> {
    for row in holders {
        if rows::get::<Uuid>(row, "user_id")? != user {
            let key = IdentityKey {
                issuer: rows::get(row, "issuer")?,
                subject: rows::get(row, "subject")?,
            };
            return Err(Error::AlreadyExists {
                entity: Entity::Identity,
                key: key.to_string(),
            });
        }
    }
    Ok(())
}

/// What is linked after the wanted ones, sorted, took the place of those before.
pub(super) fn linked(before: &[Linked], wanted: &[IdentityKey]) -> Vec<Linked> {
    let mut keys = wanted.to_vec();
    keys.sort();
    keys.dedup();
    let known = |key: &IdentityKey| before.iter().find(|linked| linked.key == *key).cloned();
    keys.into_iter()
        .map(|key| {
            known(&key).unwrap_or(Linked {
                key,
                email: String::new(),
            })
        })
        .collect()
}
