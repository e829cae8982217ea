//! How far the streams of each replica have come, as replicas tell each other. See the migration for why it is a table of its own.
//!
//! Written once a second for all environments of a replica, from what it has in memory. What it says is `domain::propagation`'s.

use tokio_postgres::types::Json;
use uuid::Uuid;

use super::environments::Address;
use super::error::Error;
use super::{Store, pipeline};
use crate::domain::change::EnvironmentId;
use crate::domain::propagation::{Acknowledgement, Report};

/// In the order of the key. Rows of different replicas are never the same, so that nobody waits.
const WRITE: &str = "
    insert into propagation (environment, replica, written_at, report, elsewhere)
    select r.environment, $1, clock_timestamp(), r.report, r.elsewhere
    from unnest($2::bigint[], $3::jsonb[], $4::jsonb[]) as r (environment, report, elsewhere)
    order by r.environment
    on conflict (environment, replica) do update
    set written_at = excluded.written_at, report = excluded.report, elsewhere = excluded.elsewhere";
const DELETE: &str = "delete from propagation where replica = $1 and environment = any ($2)";
const ELSEWHERE: &str = "
    select environment, elsewhere
    from propagation
    where replica <> $1 and elsewhere <> '[]'::jsonb and written_at > clock_timestamp() - interval '30 seconds'";
/// Several times as long as a replica takes to write that nothing has changed: then it is dead, or cannot say.
const READ: &str = "
    select p.report
    from propagation p
    where p.environment = (
            select e.id
            from environments e
            join projects o on o.id = e.project_id
            where o.key = $1 and e.key = $2
        )
        and p.written_at > clock_timestamp() - interval '30 seconds'
    order by p.replica";
const PURGE: &str = "delete from propagation where written_at < clock_timestamp() - interval '5 minutes'";

/// What a replica tells of an environment.
#[derive(Debug)]
pub struct Told {
    /// Which environment.
    pub environment: EnvironmentId,
    /// Where its streams stand. `None`: it has none.
    pub report: Option<Report>,
    /// What clients said of streams that it does not have.
    pub elsewhere: Vec<Acknowledgement>,
}

impl Store {
    /// Has the other replicas know what this one tells: rows of these environments in place of those before, and none any more of
    /// those that are `over`. Returns what clients told the others about streams that those do not have.
    pub async fn tell_propagation(
        &self,
        replica: Uuid,
        told: &[Told],
        over: &[EnvironmentId],
    ) -> Result<Vec<(EnvironmentId, Vec<Acknowledgement>)>, Error> {
        let environments: Vec<_> = told.iter().map(|told| told.environment.0).collect();
        let reports: Vec<_> = told.iter().map(|told| Json(&told.report)).collect();
        let elsewhere: Vec<_> = told.iter().map(|told| Json(&told.elsewhere)).collect();
        let over: Vec<_> = over.iter().map(|environment| environment.0).collect();
        let client = self.reader().await?;
        if !told.is_empty() {
            pipeline::one(&client, (WRITE, &[&replica, &environments, &reports, &elsewhere])).await?;
        }
        if !over.is_empty() {
            pipeline::one(&client, (DELETE, &[&replica, &over])).await?;
        }
        let rows = pipeline::one(&client, (ELSEWHERE, &[&replica])).await?;
        let read = rows.iter().map(|row| {
            let Json(acknowledgements) = row.try_get::<_, Json<Vec<Acknowledgement>>>("elsewhere")?;
            Ok((EnvironmentId(row.try_get("environment")?), acknowledgements))
        });
        read.collect()
    }

    /// What the replicas that are alive and have streams of an environment tell of it.
    pub async fn get_propagation(&self, at: Address<'_>) -> Result<Vec<Report>, Error> {
        self.get_environment(at).await?;
        let client = self.reader().await?;
        let rows = pipeline::one(&client, (READ, &[&at.project.as_str(), &at.environment.as_str()])).await?;
        let mut reports = Vec::with_capacity(rows.len());
        for row in &rows {
            let Json(report) = row.try_get::<_, Json<Option<Report>>>("report")?;
            reports.extend(report);
        }
        Ok(reports)
    }

    /// Deletes what replicas told that are long dead, and returns how much that was. For a task that calls it now and then.
    pub async fn purge_propagation(&self) -> Result<u64, Error> {
        let client = self.reader().await?;
        let statement = client.prepare_cached(PURGE).await?;
        Ok(client.execute(&statement, &[]).await?)
    }
}
