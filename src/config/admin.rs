//! What the commands of whoever runs the installation are configured with.

use super::database::{self, Database};
use super::reader::{Noted, Reader};
use super::secret::Secret;
use super::setting::Setting;
use crate::domain::email::Email;

/// `halyard migrate`: brings the database's schema up to date.
#[derive(Debug)]
pub struct Migrate {
    /// Which database.
    pub database: Database,
}

/// `halyard create-admin`: creates the first administrator.
#[derive(Debug)]
pub struct CreateAdmin {
    /// In which database.
    pub database: Database,
    /// Who it is to be.
    pub email: Email,
    /// What they will log in with.
    pub password: Password,
}

/// Where a password comes from; never from an argument, which other users of the machine can see.
#[derive(Debug)]
pub enum Password {
    /// From a variable or a file.
    Given(Secret),
    /// From the person at the terminal.
    Prompt,
}

/// The settings of `create-admin` beside the database's.
pub(super) const CREATE_ADMIN: &[Setting] = &[ADMIN_EMAIL, ADMIN_PASSWORD];
const ADMIN_EMAIL: Setting =
    Setting::value("email", "ADDRESS", "The administrator's e-mail address").variable("HALYARD_ADMIN_EMAIL");
const ADMIN_PASSWORD: Setting =
    Setting::hidden("password", "the administrator's password").variable("HALYARD_ADMIN_PASSWORD");

pub(super) fn migrate(reader: &mut Reader<'_>) -> Result<Migrate, Noted> {
    let database = database::read(reader)?;
    Ok(Migrate { database })
}

pub(super) fn create_admin(reader: &mut Reader<'_>) -> Result<CreateAdmin, Noted> {
    let database = database::read(reader);
    let email = reader.required(ADMIN_EMAIL, email);
    let password = password(reader, ADMIN_PASSWORD);
    Ok(CreateAdmin {
        database: database?,
        email: email?,
        password: password?,
    })
}

/// A password that was given, or else will be asked for.
pub(super) fn password(reader: &mut Reader<'_>, setting: Setting) -> Result<Password, Noted> {
    match reader.secret(setting)? {
        Some(password) => Ok(Password::Given(password)),
        None if reader.is_interactive() => Ok(Password::Prompt),
        None => Err(reader.missing(setting)),
    }
}

pub(super) fn email(text: &str) -> Result<Email, String> {
    Email::new(text).map_err(|violations| {
        let all: Vec<_> = violations
            .iter()
            .map(|violation| violation.description.as_str())
            .collect();
        all.join(", ")
    })
}
