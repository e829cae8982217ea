//! How far the streams of each replica have come, as replicas tell each other. See the migration for why it is a table of its own.
//!
//! Written once a second for all environments of a replica, from what it has in memory. What it says is `domain::propagation`'s.

use tokio_postgres::types::Json;
use uuid::Uuid;

use super::environments::Address;
use super::error::Error;
use super::{Store, pipeline, rows};
use crate::domain::change::EnvironmentId;
use crate::domain::propagation::{Acknowledgement, Report, Spread};

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
/// Several times as long as a replica takes to write that nothing has changed: then it is dead, or cut off from the database. The row
/// without a report is there for the head.
const READ: &str = "
    select identity.generation, head.revision, p.report,
        p.written_at > clock_timestamp() - interval '30 seconds' as heard
    from environments e
    join projects o on o.id = e.project_id
    join environment_heads head on head.environment_id = e.id
    cross join store_identity identity
    left join propagation p on p.environment = e.id
    where o.key = $1 and e.key = $2
    order by p.replica";
/// Until then an administrator is told that a replica has not been heard of.
const PURGE: &str = "delete from propagation where written_at < clock_timestamp() - interval '1 hour'";

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
            pipeline::one(&*client, (WRITE, &[&replica, &environments, &reports, &elsewhere])).await?;
        }
        if !over.is_empty() {
            pipeline::one(&*client, (DELETE, &[&replica, &over])).await?;
        }
        let rows = pipeline::one(&*client, (ELSEWHERE, &[&replica])).await?;
        let read = rows.iter().map(|row| {
            let Json(acknowledgements) = row.try_get::<_, Json<Vec<Acknowledgement>>>("elsewhere")?;
            Ok((EnvironmentId(row.try_get("environment")?), acknowledgements))
        });
        read.collect()
    }

    /// How far an environment's changes have spread, as its replicas tell.
    pub async fn get_propagation(&self, at: Address<'_>) -> Result<Spread, Error> {
        let client = self.reader().await?;
        let rows = pipeline::one(&*client, (READ, &[&at.project.as_str(), &at.environment.as_str()])).await?;
        let Some(first) = rows.first() else {
            drop(client);
            // It says which of the two is missing.
            self.get_environment(at).await?;
            return Ok(Spread::default());
        };
        let mut spread = Spread {
            head: (rows::number(first, "generation")?, rows::number(first, "revision")?),
            ..Spread::default()
        };
        for row in &rows {
            let report: Option<Json<Option<Report>>> = row.try_get("report")?;
            if let Some(Json(Some(report))) = report {
                let heard = row.try_get("heard")?;
                let reports = if heard { &mut spread.heard } else { &mut spread.unheard };
                reports.push(report);
            }
        }
        Ok(spread)
    }

    /// Deletes what replicas told that are long dead, and returns how much that was. For a task that calls it now and then.
    pub async fn purge_propagation(&self) -> Result<u64, Error> {
        let client = self.reader().await?;
        let statement = client.prepare_cached(PURGE).await?;
        Ok(client.execute(&statement, &[]).await?)
    }
}
