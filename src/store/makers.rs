//! Who made what gives a role: an invitation, or a service token.

use std::fmt;

use tokio_postgres::Row;
use uuid::Uuid;

use super::error::{Error, Flaw};
use super::mutation::{Actor, Caller};
use super::rows;
use crate::domain::access::{Principal, TokenId};

/// Who made something, where it was a person or a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// Whose credential it was; the account or the token may be gone by now.
    pub principal: Principal,
    /// For people: the account's e-mail address, or the token's name. Empty: it has none, or is gone.
    pub name: String,
}

impl fmt::Display for Maker {
    /// As the audit log names them: `user:<id>`, `token:<id>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Actor::from(self.principal).fmt(f)
    }
}

impl Maker {
    /// Who calls. `None`: whoever may do anything, and is asked for nothing later.
    pub(super) fn of(caller: &Caller) -> Option<Self> {
        let principal = match caller.actor {
            Actor::User(id) => Principal::User(id),
            Actor::ServiceToken(id) => Principal::ServiceToken(id),
            Actor::CommandLine | Actor::System | Actor::Database => return None,
        };
        Some(Self {
            principal,
            name: caller.name.clone(),
        })
    }

    /// As two columns, at most one of which is not null.
    pub(super) fn columns(maker: Option<&Self>) -> (Option<Uuid>, Option<String>) {
        match maker.map(|maker| maker.principal) {
            Some(Principal::User(id)) => (Some(id), None),
            Some(Principal::ServiceToken(id)) => (None, Some(id.to_string())),
            None => (None, None),
        }
    }

    /// Of the columns `created_by_user`, `created_by_token` and `created_by_name`.
    pub(super) fn from_row(row: &Row) -> Result<Option<Self>, Error> {
        let principal = match (
            rows::get::<Option<Uuid>>(row, "created_by_user")?,
            rows::get::<Option<&str>>(row, "created_by_token")?,
        ) {
            (Some(id), _) => Principal::User(id),
            (None, Some(id)) => {
                let id = TokenId::parse(id).ok_or_else(|| rows::corrupt("created_by_token", Flaw::Range))?;
                Principal::ServiceToken(id)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            principal,
            name: rows::get(row, "created_by_name")?,
        }))
    }
}
