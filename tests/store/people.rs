//! Short words for accounts and sessions.

use halyard::domain::access::InstanceRole;
use halyard::domain::change::Digest;
use halyard::domain::email::Email;
use halyard::store::Mutation;
use halyard::store::sessions::{NewSession, PasswordChange, Refresh, TokenHashes};
use halyard::store::users::{NewAccount, NewUser};
use uuid::Uuid;

use crate::world::{World, by};

pub fn email(text: &str) -> Email {
    Email::new(text).unwrap()
}

pub fn new_user(address: &str) -> NewUser {
    NewUser {
        id: Uuid::new_v4(),
        email: email(address),
        role: None,
        password_hash: Some("hash".into()),
        identities: Vec::new(),
    }
}

pub fn new_administrator(address: &str) -> NewUser {
    NewUser {
        role: Some(InstanceRole::Administrator),
        ..new_user(address)
    }
}

pub fn new_account(address: &str) -> NewAccount {
    NewAccount {
        id: Uuid::new_v4(),
        email: email(address),
        password_hash: "hash".into(),
        peer: "192.0.2.7".into(),
    }
}

/// What an administrator does, who is there now.
pub async fn administrator(world: &World) -> Mutation {
    by(world.user("root@example.com", Some("administrator")).await)
}

pub async fn set_password(world: &World, hash: &str) {
    let set = "update users set password_hash = $2 where id = $1";
    world.sql.execute(set, &[&world.owner, &hash]).await.unwrap();
}

/// A session to be of the owner, whose first token is `token(1)`.
pub fn new_session(world: &World, password_hash: &str) -> NewSession {
    NewSession {
        id: Uuid::new_v4(),
        user: world.owner,
        password_hash: password_hash.into(),
        token: Some(token(1)),
        peer: "192.0.2.7".into(),
    }
}

/// One of the family.
pub fn token(n: u8) -> TokenHashes {
    TokenHashes {
        family: Digest([100; 32]),
        token: Digest([n; 32]),
    }
}

/// A token of the family that is neither the first nor any that a test makes.
pub fn stolen() -> TokenHashes {
    token(99)
}

/// Shows a token; the next is one further.
pub fn refresh(session: Uuid, shown: TokenHashes) -> Refresh {
    Refresh {
        session,
        shown,
        next: Digest([shown.token.0[0] + 1; 32]),
        peer: "192.0.2.7".into(),
    }
}

pub fn password_change(world: &World, verified: &str) -> PasswordChange {
    PasswordChange {
        user: world.owner,
        verified_hash: verified.into(),
        new_hash: "new hash".into(),
        session: None,
    }
}
