//! Where events go: an experiment, and days whose ids are known.

use tokio_postgres::Client;

use crate::support::Result;
use crate::support::world::FLAG;

/// Where events go.
pub struct Place {
    pub environment: i64,
    pub experiment: i64,
}

/// An experiment, and days before that are full of ids.
pub async fn prepare(sql: &Client, known: u32) -> Result<Place> {
    sql.batch_execute("set halyard.journal = 'on'").await?;
    let experiment = "
        insert into experiments (project_id, environment_id, flag_id, key, name, description, hypothesis, owner, state, audience,
            allocation, largest_allocation, sticky, primary_metric, guardrail_metrics, salt, iteration, created_at, updated_at,
            started_at)
        select e.project_id, e.id, f.id, 'checkout', '', '', '', '', 'paused', '[]', 1000000, 1000000, true,
            '{\"key\": \"revenue\", \"kind\": \"value\", \"goal\": \"increase\"}', '[]', gen_random_uuid(), 1, now(), now(), now()
        from environments e join flags f on f.project_id = e.project_id
        where f.key = $1
        returning id, environment_id";
    let row = sql.query_one(experiment, &[&FLAG]).await?;
    let place = Place {
        experiment: row.try_get(0)?,
        environment: row.try_get(1)?,
    };
    let arms = "insert into experiment_arms values ($1, 1, 'off', 1, true), ($1, 2, 'on', 1, false)";
    sql.execute(arms, &[&place.experiment]).await?;
    for days in 1..=4 {
        let fill = format!(
            "do $$
            declare
                past date := (now() at time zone 'utc')::date - {days};
            begin
                execute format('create table event_ids_%s partition of event_ids for values from (%L) to (%L)',
                    to_char(past, 'YYYYMMDD'), past, past + 1);
                insert into event_ids (day, environment_id, id)
                select past, {}, gen_random_uuid() from generate_series(1, {known});
            end $$",
            place.environment
        );
        sql.batch_execute(&fill).await?;
    }
    sql.batch_execute("vacuum analyze event_ids").await?;
    Ok(place)
}
