//! Where PostgreSQL is, how it is reached, and who brings its schema up to date.

use super::reader::{Noted, Reader};
use super::setting::Setting;
use crate::store::connect::{self, Target};

pub(super) const URL: Setting = Setting::secret(
    "database-url",
    "URL",
    "The PostgreSQL (14 or newer) that stores everything: postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=FILE",
)
.also_variable("DATABASE_URL");
pub(super) const PASSWORD: Setting = Setting::hidden(
    "database-password",
    "the password to PostgreSQL, for a --database-url without one",
);

pub(super) const MIGRATE: Setting = Setting::value(
    "migrate",
    "WHEN",
    "When the server brings the database's schema up to date: at-start, or never where halyard migrate does it before",
)
.default("at-start");

/// Who brings the schema up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrations {
    /// The server, before anything else.
    AtStart,
    /// Somebody else, before the server starts.
    Never,
}

pub(super) fn migrations(reader: &mut Reader<'_>) -> Result<Migrations, Noted> {
    reader.required(MIGRATE, |text| match text {
        "at-start" => Ok(Migrations::AtStart),
        "never" => Ok(Migrations::Never),
        _ => Err("is neither at-start nor never".to_owned()),
    })
}

/// Reads both. `None`: neither is given. What is wrong with them is not shown: there is a password in them.
pub(super) fn target(reader: &mut Reader<'_>) -> Result<Option<Target>, Noted> {
    let url = reader.secret(URL);
    let password = reader.secret(PASSWORD);
    let (Some(url), password) = (url?, password?) else {
        return Ok(None);
    };
    let target = connect::parse(url.expose()).map_err(|wrong| reader.refuse(URL.argument(), wrong.to_string()))?;
    let target = match password {
        None => Ok(target),
        Some(password) => target.with_password(password.expose()),
    };
    let target = target.map_err(|wrong| reader.refuse(URL.argument(), wrong.to_string()))?;
    reader.note(URL, &format!("{target}, sslmode={}", target.mode()));
    Ok(Some(target))
}
