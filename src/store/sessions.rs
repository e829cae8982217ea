//! Logins: how they are opened, refreshed and ended. The store knows the hashes of refresh tokens, never the tokens.
//!
//! Everything here holds the lock of the installation's audit chain, so that of two that use one token the second sees what the
//! first did.

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

use super::audit::Record;
use super::error::{Entity, Error};
use super::journal::Journal;
use super::lock::{self, Installation};
use super::mutation::{Caller, Mutation, Outcome, Versioned, Written};
use super::users::{self, Credentials, FIND_BY_ID, User};
use super::{Store, pipeline, rows};
use crate::domain::change::Digest;
use crate::domain::limits;

const INSERT: &str = "
    insert into sessions (id, user_id, family_hash, token_hash, created_at, last_used_at, expires_at)
    values ($1, $2, $3, $4, $5, $5, $6)";
/// The sessions of a user that there is no room for beside a new one.
const SUPERNUMERARY: &str = "
    select id from sessions
    where user_id = $1 and revoked_at is null and expires_at > clock_timestamp()
    order by last_used_at desc, id desc offset $2";
const REVOKE: &str = "update sessions set revoked_at = $2 where id = any($1) and revoked_at is null";
/// Ends all sessions of a user.
pub(super) const REVOKE_ALL: &str = "
    update sessions set revoked_at = $2 where user_id = $1 and revoked_at is null";
const REVOKE_OTHERS: &str = "
    update sessions set revoked_at = $2 where user_id = $1 and revoked_at is null and id is distinct from $3";
const FIND: &str = "
    select s.family_hash, s.token_hash, s.rotated_at, s.created_at as opened_at, s.expires_at, s.revoked_at, u.id, u.email, u.password_hash, u.instance_role, u.active, u.version, u.created_at, u.updated_at
    from sessions s
    join users u on u.id = s.user_id
    where s.id = $1";
const ROTATE: &str = "
    update sessions set token_hash = $2, rotated_at = $3, last_used_at = $3, expires_at = $4 where id = $1";
const SET_PASSWORD: &str = "
    update users set password_hash = $2, version = version + 1, updated_at = $3 where id = $1";
/// What nobody will ask for any more; revoked ones outlive their access tokens.
const PURGE: &str = "
    delete from sessions
    where expires_at < now() - interval '1 day' or revoked_at < now() - interval '1 day'";

/// A session to be, of somebody whose password was verified.
#[derive(Clone)]
pub struct NewSession {
    /// Names it.
    pub id: Uuid,
    /// Whose.
    pub user: Uuid,
    /// The hash that the password was verified against. If it is another by now, there is no session.
    pub password_hash: String,
    /// Its first refresh token. `None`: it ends with its access token.
    pub token: Option<TokenHashes>,
    /// The network address. Empty: unknown.
    pub peer: String,
}

/// What is stored of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHashes {
    /// Of what all tokens of the session share.
    pub family: Digest,
    /// Of this one alone.
    pub token: Digest,
}

/// A refresh token that is shown, and the one to take its place.
#[derive(Debug, Clone)]
pub struct Refresh {
    /// The session that it is of.
    pub session: Uuid,
    /// What is shown.
    pub shown: TokenHashes,
    /// The hash of the next token.
    pub next: Digest,
    /// The network address. Empty: unknown.
    pub peer: String,
}

/// A session that was opened or refreshed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub user: User,
    /// Until when it can be refreshed.
    pub expires_at: Timestamp,
}

/// What became of a refresh token that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// It was the current one, and the next is now.
    Rotated(Session),
    /// It was used a moment ago: another won the race.
    Raced,
    /// It was used longer ago: it was copied, and the session is over.
    Stolen,
    /// There is no such session, or it is over.
    Unknown,
}

/// A new password for oneself, the current one having been verified.
#[derive(Clone)]
pub struct PasswordChange {
    /// Whose.
    pub user: Uuid,
    /// The hash that the current password was verified against.
    pub verified_hash: String,
    /// The hash of the new one.
    pub new_hash: String,
    /// The session that goes on.
    pub session: Option<Uuid>,
}

struct SessionRow {
    user: User,
    current: Option<TokenHashes>,
    rotated_at: Option<Timestamp>,
    opened_at: Timestamp,
    expires_at: Timestamp,
    revoked: bool,
}

impl Versioned for Refreshed {}
impl Versioned for Option<Session> {}
impl Versioned for bool {}

impl Store {
    /// Opens a session, and records the login. `None`: the password is another by now, or the user inactive or gone.
    pub async fn open_session(&self, new: &NewSession) -> Result<Option<Session>, Error> {
        let mutation = of_session(new.id, None, &new.peer, "Login");
        let outcome = self
            .mutate(
                &mutation,
                |_| Vec::new(),
                async |transaction| open(transaction, new).await,
            )
            .await?;
        users::done(outcome)
    }

    /// Exchanges a refresh token.
    pub async fn refresh_session(&self, refresh: &Refresh) -> Result<Refreshed, Error> {
        // Without the lock first: who only guesses is not to keep others waiting.
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (FIND, &[&refresh.session])).await?;
        drop(client);
        let found = found.first().map(from_row).transpose()?;
        if !found.is_some_and(|row| row.knows(refresh.shown)) {
            return Ok(Refreshed::Unknown);
        }
        let mutation = of_session(refresh.session, None, &refresh.peer, "Refresh");
        let outcome = self
            .mutate(
                &mutation,
                |_| Vec::new(),
                async |transaction| rotate(transaction, refresh).await,
            )
            .await?;
        users::done(outcome)
    }

    /// Ends a session of the caller's. False: it was over already.
    pub async fn close_session(&self, mutation: &Mutation, session: Uuid) -> Result<bool, Error> {
        let outcome = self
            .mutate(
                mutation,
                |_| Vec::new(),
                async |transaction| close(transaction, mutation, session).await,
            )
            .await?;
        match outcome {
            Outcome::Done(written) => Ok(written.changed),
            Outcome::Replayed(_) => Err(Error::RequestIdReused),
        }
    }

    /// Sets the caller's own password, and ends their other sessions. False: the current one is another by now.
    pub async fn change_password(&self, mutation: &Mutation, change: &PasswordChange) -> Result<bool, Error> {
        let outcome = self
            .mutate(
                mutation,
                |_| Vec::new(),
                async |transaction| change_password(transaction, mutation, change).await,
            )
            .await?;
        users::done(outcome)
    }

    /// Deletes sessions that were over a day ago, and returns how many there were. Nothing depends on it but the size of the table.
    pub async fn purge_sessions(&self) -> Result<u64, Error> {
        let client = self.reader().await?;
        let statement = client.prepare_cached(PURGE).await?;
        Ok(client.execute(&statement, &[]).await?)
    }
}

impl SessionRow {
    /// Whether the session goes on, and a token is or was one of its family.
    fn knows(&self, shown: TokenHashes) -> bool {
        !self.revoked && self.user.active && self.current.is_some_and(|current| current.family == shown.family)
    }
}

/// A mutation of somebody who proves by a session, or is about to have one.
fn of_session(session: Uuid, user: Option<&User>, peer: &str, method: &'static str) -> Mutation {
    let caller = Caller {
        credential: session.to_string(),
        ..users::themselves(user, peer)
    };
    users::internal(caller, method)
}

fn from_row(row: &Row) -> Result<SessionRow, Error> {
    let digest = |column| -> Result<Option<Digest>, Error> {
        let bytes: Option<&[u8]> = rows::get(row, column)?;
        bytes.map(|_| rows::digest(row, column)).transpose()
    };
    let (family, token) = (digest("family_hash")?, digest("token_hash")?);
    Ok(SessionRow {
        user: users::credentials(row)?.user,
        current: family.zip(token).map(|(family, token)| TokenHashes { family, token }),
        rotated_at: rows::get(row, "rotated_at")?,
        opened_at: rows::get(row, "opened_at")?,
        expires_at: rows::get(row, "expires_at")?,
        revoked: rows::get::<Option<Timestamp>>(row, "revoked_at")?.is_some(),
    })
}

async fn open(transaction: &Transaction<'_>, new: &NewSession) -> Result<Written<Option<Session>>, Error> {
    let room = rows::to_sql(limits::SESSIONS as u64 - 1);
    let reads: [pipeline::Query<'_>; 2] = [(FIND_BY_ID, &[&new.user]), (SUPERNUMERARY, &[&new.user, &room])];
    let (Installation { audit, now }, [found, supernumerary]) = lock::installation(transaction, reads).await?;
    let found = found.first().map(users::credentials).transpose()?;
    let still = |found: &Credentials| found.user.active && found.password_hash.as_ref() == Some(&new.password_hash);
    let Some(user) = found.filter(still).map(|found| found.user) else {
        return Ok(Written::unchanged(None));
    };
    let expires_at = if new.token.is_some() {
        later(now, limits::SESSION_IDLE_SECONDS)
    } else {
        later(now, limits::ACCESS_TOKEN_SECONDS)
    };
    let ousted: Vec<Uuid> = supernumerary
        .iter()
        .map(|row| rows::get(row, "id"))
        .collect::<Result<_, _>>()?;

    let mutation = of_session(new.id, Some(&user), &new.peer, "Login");
    let mut journal = Journal::of_chain(&mutation, audit, now);
    journal.record(users::mention("user.login", user.id));
    if !ousted.is_empty() {
        journal.touch_access();
    }
    let (family, token) = (new.token.map(|token| token.family), new.token.map(|token| token.token));
    let (family, token) = (family.as_ref().map(bytes), token.as_ref().map(bytes));
    let insert: pipeline::Query<'_> = (INSERT, &[&new.id, &user.id, &family, &token, &now, &expires_at]);
    let writes: [pipeline::Query<'_>; 2] = [(REVOKE, &[&ousted, &now]), insert];
    let session = Session {
        user: user.clone(),
        expires_at,
    };
    journal.write(transaction, &writes, Some(session)).await
}

async fn rotate(transaction: &Transaction<'_>, refresh: &Refresh) -> Result<Written<Refreshed>, Error> {
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&refresh.session])];
    let (Installation { audit, now }, [found]) = lock::installation(transaction, reads).await?;
    let found = found.first().map(from_row).transpose()?;
    let Some(row) = found.filter(|row| row.knows(refresh.shown) && now < row.expires_at) else {
        return Ok(Written::unchanged(Refreshed::Unknown));
    };
    let mutation = of_session(refresh.session, Some(&row.user), &refresh.peer, "Refresh");
    let mut journal = Journal::of_chain(&mutation, audit, now);
    if row.current.is_some_and(|current| current.token == refresh.shown.token) {
        let idle = later(now, limits::SESSION_IDLE_SECONDS);
        let expires_at = idle.min(later(row.opened_at, limits::SESSION_SECONDS));
        journal.record(record("session.refresh", refresh.session));
        let write: pipeline::Query<'_> = (ROTATE, &[&refresh.session, &bytes(&refresh.next), &now, &expires_at]);
        let user = row.user.clone();
        let rotated = Refreshed::Rotated(Session { user, expires_at });
        return journal.write(transaction, &[write], rotated).await;
    }
    // A token that was used already. Which of them, only the time since the last rotation tells; a thief gets nothing either way.
    let race = SignedDuration::from_secs(limits::REFRESH_RACE_SECONDS.into());
    if row.rotated_at.is_some_and(|at| now.duration_since(at) < race) {
        return Ok(Written::unchanged(Refreshed::Raced));
    }
    journal.record(record("session.stolen", refresh.session));
    journal.touch_access();
    let write: pipeline::Query<'_> = (REVOKE, &[&vec![refresh.session], &now]);
    journal.write(transaction, &[write], Refreshed::Stolen).await
}

async fn close(transaction: &Transaction<'_>, mutation: &Mutation, session: Uuid) -> Result<Written<()>, Error> {
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&session])];
    let (Installation { audit, now }, [found]) = lock::installation(transaction, reads).await?;
    let Some(row) = found.first().map(from_row).transpose()?.filter(|row| !row.revoked) else {
        return Ok(Written::unchanged(()));
    };
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(users::mention("user.logout", row.user.id));
    journal.touch_access();
    let write: pipeline::Query<'_> = (REVOKE, &[&vec![session], &now]);
    journal.write(transaction, &[write], ()).await
}

async fn change_password(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    change: &PasswordChange,
) -> Result<Written<bool>, Error> {
    let reads: [pipeline::Query<'_>; 1] = [(FIND_BY_ID, &[&change.user])];
    let (Installation { audit, now }, [found]) = lock::installation(transaction, reads).await?;
    let found = found.first().map(users::credentials).transpose()?;
    let still = |found: &Credentials| found.user.active && found.password_hash.as_ref() == Some(&change.verified_hash);
    if !found.is_some_and(|found| still(&found)) {
        return Ok(Written::unchanged(false));
    }
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(users::mention("user.change_password", change.user));
    journal.touch_access();
    let writes: [pipeline::Query<'_>; 2] = [
        (SET_PASSWORD, &[&change.user, &change.new_hash, &now]),
        (REVOKE_OTHERS, &[&change.user, &now, &change.session]),
    ];
    journal.write(transaction, &writes, true).await
}

fn record(action: &'static str, session: Uuid) -> Record {
    Record {
        action,
        entity: Entity::Session,
        key: session.to_string(),
        project: String::new(),
        environment: String::new(),
        before: None,
        after: None,
    }
}

fn bytes(digest: &Digest) -> &[u8] {
    &digest.0
}

fn later(time: Timestamp, seconds: u32) -> Timestamp {
    let duration = SignedDuration::from_secs(seconds.into());
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}
