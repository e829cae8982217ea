//! What is stored of units, for people: looking one up, deleting it, exporting everything.
//!
//! First answers are stored elsewhere: see [`assignments`](crate::store::assignments).

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use uuid::Uuid;

use super::rows::small;
use crate::domain::access::Permission;
use crate::domain::experiment::stored_unit;
use crate::domain::key;
use crate::store::audit::{self, Record};
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Scope};
use crate::store::mutation::{Mutation, Outcome, Versioned, Written};
use crate::store::{Store, pipeline, rows};

/// A unit's in every experiment of an environment.
const OF_UNIT: &str = "
    select e.key as experiment, e.salt, a.unit, a.arm, a.iteration, a.assigned_at
    from projects p
    join environments v on v.project_id = p.id
    join experiments e on e.environment_id = v.id
    join experiment_assignments a on a.experiment_id = e.id and a.unit = $3
    where p.key = $1 and v.key = $2
    order by e.key";
/// An experiment's, by the units' texts. The experiment is not joined: the index has one experiment's units in order, and only who asks
/// for one experiment reads no more of it than a page.
const OF_EXPERIMENT: &str = "
    select $3::text as experiment, a.unit, a.arm, a.iteration, a.assigned_at
    from experiment_assignments a
    where a.experiment_id = (
        select e.id
        from projects p
        join environments v on v.project_id = p.id
        join experiments e on e.environment_id = v.id
        where p.key = $1 and v.key = $2 and e.key = $3::text
    ) and a.unit > $4
    order by a.unit limit $5";
const DELETE: &str = "
    delete from experiment_assignments a using experiments e
    where a.experiment_id = e.id and e.environment_id = $1 and a.unit = $2";

/// A stored assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAssignment {
    /// The experiment.
    pub experiment: key::Experiment,
    /// The unit, or its hash where it is stored so.
    pub unit: String,
    /// Its arm.
    pub arm: key::Variant,
    /// The iteration that assigned it.
    pub iteration: u32,
    /// When.
    pub assigned_at: Timestamp,
}

/// The experiments whose assignments of a unit were deleted, by their salts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted(pub Vec<Uuid>);

impl Versioned for Deleted {}

impl Store {
    /// The assignments of a unit in an environment, by experiment.
    pub async fn unit_assignments(&self, at: Address<'_>, unit: &str) -> Result<Vec<StoredAssignment>, Error> {
        self.get_environment(at).await?;
        let client = self.reader().await?;
        let (unit, project, environment) = (stored_unit(unit), at.project.as_str(), at.environment.as_str());
        let found = pipeline::one(&*client, (OF_UNIT, &[&project, &environment, &unit.as_ref()])).await?;
        found.iter().map(assignment).collect()
    }

    /// The assignments of an experiment after a unit (empty: from the first), at most so many; sorted by unit.
    pub async fn experiment_assignments(
        &self,
        at: Address<'_>,
        experiment: &key::Experiment,
        after: &str,
        count: usize,
    ) -> Result<Vec<StoredAssignment>, Error> {
        let client = self.reader().await?;
        let list: pipeline::Query<'_> = (
            OF_EXPERIMENT,
            &[
                &at.project.as_str(),
                &at.environment.as_str(),
                &experiment.as_str(),
                &after,
                &rows::to_sql(count as u64),
            ],
        );
        let found = pipeline::one(&*client, list).await?;
        found.iter().map(assignment).collect()
    }

    /// Deletes what is stored of a unit in the experiments of an environment. Replicas may know it for a while longer.
    pub async fn delete_unit_assignments(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        unit: &str,
        respond: impl FnOnce(&Written<Deleted>) -> Vec<u8>,
    ) -> Result<Outcome<Deleted>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            delete(transaction, mutation, at, unit).await
        })
        .await
    }
}

async fn delete(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    unit: &str,
) -> Result<Written<Deleted>, Error> {
    let stored = stored_unit(unit);
    let reads: [pipeline::Query<'_>; 1] = [(
        OF_UNIT,
        &[&at.project.as_str(), &at.environment.as_str(), &stored.as_ref()],
    )];
    let (locked, [found]) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require(Permission::Delete)?;
    let environment = locked.environment(at.environment)?;
    if found.is_empty() {
        return Ok(Written::unchanged(Deleted::default()));
    }
    let experiments: Vec<_> = found
        .iter()
        .map(|row| rows::get::<&str>(row, "experiment"))
        .collect::<Result<_, _>>()?;
    let salts = found
        .iter()
        .map(|row| rows::get(row, "salt"))
        .collect::<Result<_, _>>()?;
    let mut journal = Journal::new(mutation, &locked);
    journal.record(Record {
        action: "assignment.delete",
        entity: Entity::Assignment,
        // The entry outlives the unit, which is not to be read in it.
        key: format!("sha256:{}", hex::encode(Sha256::digest(unit))),
        project: at.project.to_string(),
        environment: at.environment.to_string(),
        before: Some(audit::json(&serde_json::json!({ "experiments": experiments }))?),
        after: None,
    });
    let delete: pipeline::Query<'_> = (DELETE, &[&environment.environment.id.0, &stored.as_ref()]);
    journal.write(transaction, &[delete], Deleted(salts)).await
}

fn assignment(row: &Row) -> Result<StoredAssignment, Error> {
    Ok(StoredAssignment {
        experiment: rows::parsed(row, "experiment", key::Experiment::new)?,
        unit: rows::get(row, "unit")?,
        arm: rows::parsed(row, "arm", key::Variant::new)?,
        iteration: small(row, "iteration")?,
        assigned_at: rows::get(row, "assigned_at")?,
    })
}
