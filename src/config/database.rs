//! Which database: the PostgreSQL of a URL, or a private one.

use std::path::PathBuf;

use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::{postgres, values};
use crate::store::connect::Target;

/// Where everything is stored.
#[derive(Debug)]
pub enum Database {
    /// In this PostgreSQL.
    Url(Target),
    /// In a private PostgreSQL of our own.
    Embedded(Embedded),
}

/// A private PostgreSQL of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded {
    /// Where its data lies. `None`: in the user's data directory.
    pub data_dir: Option<PathBuf>,
    /// Where PostgreSQL's programs lie. `None`: where the machine keeps them.
    pub postgres_bin_dir: Option<PathBuf>,
}

const EMBEDDED: Setting = Setting::switch("embedded", "Start a private PostgreSQL from the machine's programs");
const DATA_DIR: Setting = Setting::value(
    "data-dir",
    "PATH",
    "Where the private PostgreSQL keeps its data; by default in the user's data directory",
);
const POSTGRES_BIN_DIR: Setting = Setting::value(
    "postgres-bin-dir",
    "PATH",
    "Where PostgreSQL's programs lie; by default where the machine keeps them",
);

/// The settings that say which database; for every command that opens it.
pub(super) const DATABASE: &[Setting] = &[postgres::URL, postgres::PASSWORD, EMBEDDED, DATA_DIR, POSTGRES_BIN_DIR];
/// The settings of one that is private in any case.
pub(super) const PRIVATE: &[Setting] = &[DATA_DIR, POSTGRES_BIN_DIR];

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Database, Noted> {
    let url = postgres::target(reader);
    let switch = reader.switch(EMBEDDED);
    let embedded = embedded(reader);
    let (url, switch, embedded) = (url?, switch?, embedded?);
    match (url, switch) {
        (Some(_), true) => Err(reader.refuse(
            EMBEDDED.argument(),
            "and a database URL are both given: leave out --embedded (HALYARD_EMBEDDED) to use the PostgreSQL of the URL, \
             or --database-url (HALYARD_DATABASE_URL, DATABASE_URL) to use a private one",
        )),
        (None, false) => Err(reader.refuse(
            postgres::URL.argument(),
            "and --embedded are both missing: give --database-url (or DATABASE_URL, HALYARD_DATABASE_URL_FILE) to use your \
             PostgreSQL, or --embedded to have a private one started from the machine's PostgreSQL programs, with its data \
             under --data-dir",
        )),
        (None, true) => {
            if reader.origin(postgres::PASSWORD).is_some() {
                let name = postgres::PASSWORD.argument();
                return Err(reader.refuse(name, "means nothing without --database-url: a private PostgreSQL asks for none"));
            }
            Ok(Database::Embedded(embedded))
        }
        (Some(target), false) => {
            let Embedded {
                data_dir,
                postgres_bin_dir,
            } = embedded;
            for (setting, given) in [(DATA_DIR, data_dir), (POSTGRES_BIN_DIR, postgres_bin_dir)] {
                if given.is_some() {
                    let name = setting.argument();
                    reader.refuse(name, "means nothing without --embedded: the database of the URL keeps its own data");
                }
            }
            Ok(Database::Url(target))
        }
    }
}

pub(super) fn embedded(reader: &mut Reader<'_>) -> Result<Embedded, Noted> {
    let data_dir = reader.optional(DATA_DIR, values::path);
    let postgres_bin_dir = reader.optional(POSTGRES_BIN_DIR, values::path);
    Ok(Embedded {
        data_dir: data_dir?,
        postgres_bin_dir: postgres_bin_dir?,
    })
}
