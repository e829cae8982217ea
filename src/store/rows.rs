//! Reading rows: by column name, fallibly, through the domain's constructors. A row that breaks an invariant is an error.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::error::{Error, Flaw};
use crate::domain::change::{Digest, EnvironmentId};
use crate::domain::invalid::Violations;

/// The value of a column.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &'static str) -> Result<T, Error> {
    row.try_get(column).map_err(|error| corrupt(column, error))
}

/// A text that one of the domain's constructors accepts.
pub(super) fn parsed<T>(
    row: &Row,
    column: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Violations>,
) -> Result<T, Error> {
    parse(get(row, column)?).map_err(|violations| corrupt(column, violations))
}

/// A name that stands for one of a few values.
pub(super) fn named<T>(row: &Row, column: &'static str, of: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    of(get(row, column)?).ok_or_else(|| corrupt(column, Flaw::Range))
}

/// The same, where the column may be null.
pub(super) fn named_option<T>(
    row: &Row,
    column: &'static str,
    of: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    match get::<Option<&str>>(row, column)? {
        None => Ok(None),
        Some(name) => of(name).map(Some).ok_or_else(|| corrupt(column, Flaw::Range)),
    }
}

/// A number that is never negative.
pub(super) fn number(row: &Row, column: &'static str) -> Result<u64, Error> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| corrupt(column, Flaw::Range))
}

/// A small number that is never negative.
pub(super) fn count(row: &Row, column: &'static str) -> Result<u32, Error> {
    u32::try_from(get::<i32>(row, column)?).map_err(|_| corrupt(column, Flaw::Range))
}

/// 32 bytes.
pub(super) fn digest(row: &Row, column: &'static str) -> Result<Digest, Error> {
    Digest::from_slice(get(row, column)?).ok_or_else(|| corrupt(column, Flaw::Range))
}

/// The id of an environment.
pub(super) fn environment_id(row: &Row, column: &'static str) -> Result<EnvironmentId, Error> {
    Ok(EnvironmentId(get(row, column)?))
}

/// A number as PostgreSQL stores it. Versions and revisions begin at one and rise by one: they do not get that far.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as PostgreSQL keeps it: to the microsecond.
pub(super) fn kept(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// What is wrong with a column.
pub(super) fn corrupt(column: &'static str, flaw: impl Into<Flaw>) -> Error {
    let flaw = flaw.into();
    Error::Corrupt { column, flaw }
}
