//! People of an OpenID Connect issuer: the account that their first use makes, and the roles that their tokens claim.
//!
//! One transaction, under the locks of the identity, of the projects whose members change and of the installation's chain: of several
//! first uses of one identity the first makes the account, and of several tokens only a newer one changes anything.
//!
//! In a project in which the claim gives a role, the claim wins. What the claim gave it takes away again, unless people have
//! changed it since; what was so already stays whoever's it was. See `docs/decisions/openid-connect.md`.

mod hold;
mod plan;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::audit::Record;
use super::error::{Entity, Error};
use super::journal::Journal;
use super::members::{self, Member};
use super::mutation::{Actor, Caller, Mutation, Written};
use super::users::{self, Linked, User};
use super::{Store, pipeline};
use crate::domain::access::{InstanceRole, Role};
use crate::domain::identity::Presented;
use hold::{Held, Known, hold};
use plan::{Change, Plan};

const INSERT_USER: &str = "
    insert into users (id, email, instance_role, active, created_at, updated_at) values ($1, $2, $3, true, $4, $4)";
const INSERT: &str = "
    insert into identities (issuer, subject, user_id, email, administrator, synced_at, created_at)
    values ($1, $2, $3, $4, $5, $6, $7)";
const UPDATE_USER: &str = "
    update users set email = $2, instance_role = $3, version = version + 1, updated_at = $4 where id = $1";
const UPDATE: &str = "
    update identities set email = $3, administrator = $4, synced_at = $5 where issuer = $1 and subject = $2";
const SET_MEMBER: &str = "
    insert into members (project_id, user_id, role, claimed_issuer, claimed_subject) values ($1, $2, $3, $4, $5)
    on conflict (project_id, user_id) do update
    set role = excluded.role, claimed_issuer = excluded.claimed_issuer, claimed_subject = excluded.claimed_subject,
        version = nextval('member_versions')";
const DELETE_MEMBER: &str = "delete from members where project_id = $1 and user_id = $2";

impl Store {
    /// Makes the account of an identity that is used for the first time, and brings an account's roles to what a newer token
    /// claims. `new` names the account if there is none yet; `peer` is the network address, empty if it is unknown.
    pub async fn synchronise(&self, presented: &Presented, new: Uuid, peer: &str) -> Result<(), Error> {
        let mutation = users::internal(users::themselves(None, peer), "OpenID Connect");
        let synchronised = self.mutate(
            &mutation,
            |_| Vec::new(),
            async |transaction| synchronise(transaction, presented, new, peer).await,
        );
        users::done(synchronised.await?)
    }
}

async fn synchronise(
    transaction: &Transaction<'_>,
    presented: &Presented,
    new: Uuid,
    peer: &str,
) -> Result<Written<()>, Error> {
    let held = hold(transaction, presented).await?;
    let now = held.installation.now;
    if let Some(known) = &held.known {
        let outdated = known
            .synced_at
            .is_some_and(|synced_at| synced_at >= presented.issued_at);
        if outdated || !known.user.active {
            return Ok(Written::unchanged(()));
        }
    }
    let plan = held.plan(presented);
    let before = held.known.as_ref().map(|known| &known.user);
    let after = held.after(presented, new, &plan);
    let mutation = users::internal(caller(&after, presented, peer), "OpenID Connect");

    write_account(transaction, &held, presented, &after, &plan, now).await?;
    for change in &plan.changes {
        write_member(transaction, &mutation, &held, presented, &after, change).await?;
    }
    let mut journal = Journal::of_chain(&mutation, held.installation.audit.clone(), now);
    if before.is_none_or(|before| differs(before, &after)) || !plan.changes.is_empty() {
        journal.record(record(before, &after, presented, &plan));
    }
    journal.touch_access();
    journal.write(transaction, &[], ()).await
}

impl Held {
    fn plan(&self, presented: &Presented) -> Plan {
        let instance = plan::Instance {
            role: self.known.as_ref().and_then(|known| known.user.role),
            given: self.known.as_ref().is_some_and(|known| known.administrator_claimed),
            alone: self.other_administrators == 0,
        };
        let plan = Plan::new(&presented.claimed, instance, &self.standings);
        for skipped in &plan.skipped {
            tracing::warn!(
                issuer = presented.key.issuer,
                subject = presented.key.subject,
                "a role that a claim asks for is passed over: {skipped}"
            );
        }
        plan
    }

    /// The account as it will be.
    fn after(&self, presented: &Presented, new: Uuid, plan: &Plan) -> User {
        let now = self.installation.now;
        let linked = Linked {
            key: presented.key.clone(),
            email: presented.email.clone(),
        };
        match &self.known {
            Some(Known { user, addressed, .. }) => User {
                email: if *addressed {
                    user.email.clone()
                } else {
                    presented.shown.clone()
                },
                role: plan.role,
                ..user.clone()
            },
            None => User {
                id: new,
                email: presented.shown.clone(),
                role: plan.role,
                active: true,
                created_at: now,
                updated_at: now,
                etag: String::new(),
                identities: vec![linked],
            },
        }
    }
}

/// The person itself, by the token.
fn caller(user: &User, presented: &Presented, peer: &str) -> Caller {
    Caller {
        actor: Actor::User(user.id),
        name: user.email.clone(),
        credential: presented.audited_credential(),
        peer: peer.to_owned(),
        reason: String::new(),
    }
}

fn differs(before: &User, after: &User) -> bool {
    (&before.email, before.role) != (&after.email, after.role)
}

async fn write_account(
    transaction: &Transaction<'_>,
    held: &Held,
    presented: &Presented,
    after: &User,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), Error> {
    let Presented {
        key, email, issued_at, ..
    } = presented;
    let role = after.role.map(InstanceRole::name);
    let insert_user: [&(dyn ToSql + Sync); 4] = [&after.id, &after.email, &role, &now];
    let insert: [&(dyn ToSql + Sync); 7] = [
        &key.issuer,
        &key.subject,
        &after.id,
        email,
        &plan.administrator_given,
        issued_at,
        &now,
    ];
    let update: [&(dyn ToSql + Sync); 5] = [&key.issuer, &key.subject, email, &plan.administrator_given, issued_at];
    let mut writes: Vec<pipeline::Query<'_>> = Vec::new();
    match &held.known {
        None => writes.extend([(INSERT_USER, insert_user.as_slice()), (INSERT, insert.as_slice())]),
        Some(known) => {
            if differs(&known.user, after) {
                writes.push((UPDATE_USER, &insert_user));
            }
            writes.push((UPDATE, &update));
        }
    }
    pipeline::run(transaction, &writes).await?;
    Ok(())
}

/// Changes a membership, and tells it in the project's chain.
async fn write_member(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    held: &Held,
    presented: &Presented,
    user: &User,
    change: &Change,
) -> Result<(), Error> {
    let member = |role| Member {
        user: user.id,
        email: user.email.clone(),
        role,
        active: true,
        etag: String::new(),
    };
    let (before, after) = (change.before.map(member), change.after.map(member));
    let action = match (&before, &after) {
        (None, _) => "member.add",
        (Some(_), Some(_)) => "member.update",
        (Some(_), None) => "member.remove",
    };
    let chain = held.chains.iter().find(|head| head.chain == change.id.to_string());
    let chain = chain.ok_or(Error::Bug(super::error::Cause::NoRow))?;
    let mut journal = Journal::of_chain(mutation, chain.clone(), held.installation.now);
    journal.record(members::record(
        action,
        &change.project,
        before.as_ref(),
        after.as_ref(),
    )?);
    let role = change.after.map(Role::name);
    let (issuer, subject) = (&presented.key.issuer, &presented.key.subject);
    let set: [&(dyn ToSql + Sync); 5] = [&change.id, &user.id, &role, issuer, subject];
    let delete: [&(dyn ToSql + Sync); 2] = [&change.id, &user.id];
    let write: pipeline::Query<'_> = if role.is_some() {
        (SET_MEMBER, &set)
    } else {
        (DELETE_MEMBER, &delete)
    };
    journal.write(transaction, &[write], ()).await?;
    Ok(())
}

/// The entry of the account, which says of every project what changed there.
fn record(before: Option<&User>, after: &User, presented: &Presented, plan: &Plan) -> Record {
    let content = |user: &User, role: fn(&Change) -> Option<Role>| {
        let mut content = users::json(user);
        content["identities"] = json!([{ "issuer": presented.key.issuer, "subject": presented.key.subject }]);
        for change in &plan.changes {
            content["memberships"][change.project.as_str()] = role(change).map(Role::name).into();
        }
        content.to_string()
    };
    let action = if before.is_none() {
        "user.create"
    } else {
        "user.synchronise"
    };
    Record {
        action,
        entity: Entity::User,
        key: after.id.to_string(),
        project: String::new(),
        environment: String::new(),
        before: before.map(|before| content(before, |change| change.before)),
        after: Some(content(after, |change| change.after)),
    }
}
