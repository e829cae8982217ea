//! An identity with all that its claim may change, under the locks.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::plan::Standing;
use crate::domain::access::Role;
use crate::domain::identity::Presented;
use crate::domain::key;
use crate::store::audit::{self, Head};
use crate::store::error::Error;
use crate::store::lock::{self, Installation};
use crate::store::users::{self, OTHER_ADMINISTRATORS, User};
use crate::store::{pipeline, rows};

/// Before everything else: of two tokens of one person the second sees which projects the first has given a role in, and so may
/// have to be locked. Others' identities that fall on the same number wait too, which harms nobody.
const LOCK_IDENTITY: &str = "select pg_advisory_xact_lock(hashtextextended($1::text || ' ' || $2::text, 1))";
/// The projects whose members may change: those that the claim names, and those in which it gave a role.
const LOCK_PROJECTS: &str = "
    select p.id from projects p
    where p.key = any($1::text[]) or exists (
        select from members m where m.project_id = p.id and m.claimed_issuer = $2 and m.claimed_subject = $3)
    order by p.id
    for update of p";
const FIND: &str = "
    select i.administrator as administrator_claimed, i.synced_at, u.id, u.email, u.email_normalized, u.password_hash,
        u.instance_role, u.active, u.version, u.created_at, u.updated_at
    from identities i
    join users u on u.id = i.user_id
    where i.issuer = $1 and i.subject = $2";
/// What the identity's account is in some projects. Null: it is no member, or there is no account yet.
const STANDINGS: &str = "
    select p.id, p.key, m.role, (m.claimed_issuer = $2 and m.claimed_subject = $3) is true as given,
        (select count(*) from members o where o.project_id = p.id) as members,
        not exists (
            select from members o join users u on u.id = o.user_id
            where o.project_id = p.id and o.role = 'owner' and u.active and o.user_id is distinct from i.user_id) as alone
    from projects p
    left join identities i on i.issuer = $2 and i.subject = $3
    left join members m on m.project_id = p.id and m.user_id = i.user_id
    where p.id = any($1::bigint[])
    order by p.id";

/// An identity under the locks.
pub(super) struct Held {
    pub installation: Installation,
    /// Its account, and what the claim did to it. `None`: this is the first use.
    pub known: Option<Known>,
    /// Active administrators beside the account.
    pub other_administrators: u64,
    /// What the account is in the projects that may change.
    pub standings: Vec<Standing>,
    /// The audit chains of these projects, by the projects' ids.
    pub chains: Vec<Head>,
}

pub(super) struct Known {
    pub user: User,
    /// Whether the account has an address of its own, which no claim changes.
    pub addressed: bool,
    pub administrator_claimed: bool,
    pub synced_at: Option<Timestamp>,
}

/// Locks, in the order of everyone: the identity, which nobody else locks, projects, their chains, the installation's.
pub(super) async fn hold(transaction: &Transaction<'_>, presented: &Presented) -> Result<Held, Error> {
    let (issuer, subject) = (&presented.key.issuer, &presented.key.subject);
    let claimed: Vec<_> = presented.claimed.projects.keys().map(key::Project::as_str).collect();
    let locks: [pipeline::Query<'_>; 2] = [
        (LOCK_IDENTITY, &[issuer, subject]),
        (LOCK_PROJECTS, &[&claimed, issuer, subject]),
    ];
    let [_, projects] = pipeline::all(transaction, locks).await?;
    let projects: Vec<i64> = projects
        .iter()
        .map(|row| rows::get(row, "id"))
        .collect::<Result<_, _>>()?;
    let chains = pipeline::one(transaction, (audit::LOCK_PROJECTS, &[&projects])).await?;
    let reads: [pipeline::Query<'_>; 2] = [(FIND, &[issuer, subject]), (STANDINGS, &[&projects, issuer, subject])];
    let (installation, [found, standings]) = lock::installation(transaction, reads).await?;
    let known = found.first().map(known).transpose()?;
    let user = known.as_ref().map_or(Uuid::nil(), |known| known.user.id);
    let others = pipeline::row(transaction, (OTHER_ADMINISTRATORS, &[&user])).await?;
    Ok(Held {
        installation,
        known,
        other_administrators: rows::number(&others, "others")?,
        standings: standings.iter().map(standing).collect::<Result<_, _>>()?,
        chains: chains.iter().map(audit::head_from_row).collect::<Result<_, _>>()?,
    })
}

fn known(row: &Row) -> Result<Known, Error> {
    Ok(Known {
        user: users::credentials(row)?.user,
        addressed: rows::get::<Option<&str>>(row, "email_normalized")?.is_some(),
        administrator_claimed: rows::get(row, "administrator_claimed")?,
        synced_at: rows::get(row, "synced_at")?,
    })
}

fn standing(row: &Row) -> Result<Standing, Error> {
    Ok(Standing {
        id: rows::get(row, "id")?,
        project: rows::parsed(row, "key", key::Project::new)?,
        role: rows::named_option(row, "role", Role::from_name)?,
        given: rows::get(row, "given")?,
        members: rows::number(row, "members")?,
        alone: rows::get(row, "alone")?,
    })
}
