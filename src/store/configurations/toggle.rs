//! Many switches at once: all or none. Nothing has to be checked again, since what a configuration depends on is the same
//! whether it is on or off.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::write::{Edit, write};
use super::{FlagConfiguration, Toggle, find, from_row, is_archived};
use crate::domain::flag::Configuration;
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::store::environments::{Address, Environment};
use crate::store::error::Error;
use crate::store::mutation::{Mutation, Written};
use crate::store::rows;

pub(super) async fn toggle(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    toggles: &[Toggle],
) -> Result<Written<Vec<FlagConfiguration>>, Error> {
    let keys: Vec<_> = toggles.iter().map(|toggle| toggle.flag.as_str()).collect();
    let (locked, found) = find(transaction, mutation, at, &keys).await?;
    let environment = locked.environment(at.environment)?;
    let edits = check_toggles(toggles, &found, &environment.environment)?;
    let action = "flag_configuration.toggle";
    write(transaction, mutation, &locked, environment, action, edits).await
}

fn check_toggles(toggles: &[Toggle], found: &[Row], environment: &Environment) -> Result<Vec<Edit>, Error> {
    let mut violations = Violations::new();
    if toggles.is_empty() {
        violations.add("toggles", "is empty; name at least one flag");
    }
    if toggles.len() > limits::TOGGLES {
        violations.add(
            "toggles",
            format!("has {} entries; the limit is {}", toggles.len(), limits::TOGGLES),
        );
        return Err(violations.into());
    }
    let mut by_key = HashMap::new();
    for row in found {
        by_key.insert(rows::get::<&str>(row, "key")?, row);
    }
    let mut seen = HashSet::new();
    let mut edits = Vec::with_capacity(toggles.len());
    for (n, toggle) in toggles.iter().enumerate() {
        let field = format!("toggles[{n}].flag");
        if !seen.insert(&toggle.flag) {
            violations.add(field, format!("names {} a second time", toggle.flag));
            continue;
        }
        match by_key.get(toggle.flag.as_str()) {
            None => violations.add(
                field,
                format!("names {}, which is not a flag of the project", toggle.flag),
            ),
            Some(row) if is_archived(row)? => {
                violations.add(field, format!("names {}, which is archived", toggle.flag));
            }
            Some(row) => edits.push(toggled(row, environment, toggle)?),
        }
    }
    violations.or(edits).map_err(Error::from)
}

fn toggled(row: &Row, environment: &Environment, toggle: &Toggle) -> Result<Edit, Error> {
    let before = from_row(row, environment, rows::get(row, "id")?, &toggle.flag)?;
    let after = Configuration {
        enabled: toggle.enabled,
        ..before.configuration.configuration.clone()
    };
    Ok(Edit { before, after })
}
