//! One lot of assignments: one statement that writes what is new and reads what is there, and a second for what somebody else wrote
//! in between.

use std::collections::HashMap;

use deadpool_postgres::{GenericClient as _, Object};
use foldhash::fast::RandomState;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Wanted;
use crate::domain::key;
use crate::evaluate::Assigned;
use crate::store::error::{Error, Flaw};
use crate::store::{pipeline, rows};

/// Sorted, so that two replicas with the same units wait for each other and do not lock each other out. An arm that the experiment
/// does not have is passed over: it must not fail what others wait for.
const STORE: &str = "
    with wanted as (
        select e.id, w.salt, w.unit, w.arm, w.iteration
        from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[]) as w (salt, unit, arm, iteration)
        join experiments e on e.salt = w.salt
    ), stored as (
        insert into experiment_assignments (experiment_id, unit, arm, iteration, assigned_at)
        select w.id, w.unit, w.arm, w.iteration, clock_timestamp()
        from wanted w
        join experiment_arms a on a.experiment_id = w.id and a.variant = w.arm
        order by w.id, w.unit
        on conflict (experiment_id, unit) do nothing
        returning experiment_id, unit, arm, iteration
    )
    select w.salt, w.unit, coalesce(s.arm, k.arm) as arm, coalesce(s.iteration, k.iteration) as iteration
    from wanted w
    left join stored s on s.experiment_id = w.id and s.unit = w.unit
    left join experiment_assignments k on k.experiment_id = w.id and k.unit = w.unit";
/// What another replica stored while the statement above waited for it: that one cannot see it.
const LOST: &str = "
    select w.salt, w.unit, k.arm, k.iteration
    from unnest($1::uuid[], $2::text[]) as w (salt, unit)
    join experiments e on e.salt = w.salt
    join experiment_assignments k on k.experiment_id = e.id and k.unit = w.unit";

/// What was found out: by experiment and unit as it is stored.
pub(super) struct Found {
    arms: HashMap<(Uuid, String), (key::Variant, u32), RandomState>,
}

impl Found {
    /// What is known now of what was wanted.
    pub(super) fn of(&self, wanted: &Wanted) -> Assigned {
        let key = (wanted.experiment, wanted.stored.clone());
        match self.arms.get(&key) {
            Some((arm, iteration)) => Assigned::Arm {
                arm: arm.clone(),
                iteration: *iteration,
            },
            None if wanted.arm.is_none() => Assigned::Nothing,
            // The experiment is gone, or does not have the arm.
            None => Assigned::Unreachable,
        }
    }

    fn take(&mut self, found: &[Row]) -> Result<(), Error> {
        for row in found {
            let Some(arm) = rows::get::<Option<&str>>(row, "arm")? else {
                continue;
            };
            let arm = key::Variant::new(arm).map_err(|violations| rows::corrupt("arm", violations))?;
            let iteration = u32::try_from(rows::get::<i32>(row, "iteration")?);
            let iteration = iteration.map_err(|_| rows::corrupt("iteration", Flaw::Range))?;
            let key = (rows::get(row, "salt")?, rows::get(row, "unit")?);
            self.arms.insert(key, (arm, iteration));
        }
        Ok(())
    }
}

/// Has PostgreSQL prepare the statements of this connection.
pub(super) async fn prepare(client: &Object) -> Result<(), Error> {
    for statement in [STORE, LOST] {
        client.prepare_cached(statement).await?;
    }
    Ok(())
}

/// Stores what is wanted and not there yet, and answers with what is there then.
pub(super) async fn settle(client: &Object, wanted: &[&Wanted]) -> Result<Found, Error> {
    let mut sorted = wanted.to_vec();
    // Of two that want the same, one that may store comes first.
    sorted.sort_unstable_by(|a, b| {
        let (of_a, of_b) = ((a.experiment, &a.stored), (b.experiment, &b.stored));
        of_a.cmp(&of_b).then(a.arm.is_none().cmp(&b.arm.is_none()))
    });
    sorted.dedup_by(|a, b| (a.experiment, &a.stored) == (b.experiment, &b.stored));
    let experiments: Vec<_> = sorted.iter().map(|it| it.experiment).collect();
    let units: Vec<_> = sorted.iter().map(|it| it.stored.as_str()).collect();
    let arms: Vec<_> = sorted
        .iter()
        .map(|it| it.arm.as_ref().map(key::Variant::as_str))
        .collect();
    let iterations: Vec<_> = sorted
        .iter()
        .map(|it| i32::try_from(it.iteration).unwrap_or(i32::MAX))
        .collect();
    let parameters: [&(dyn ToSql + Sync); 4] = [&experiments, &units, &arms, &iterations];
    let mut found = Found {
        arms: HashMap::with_capacity_and_hasher(sorted.len(), RandomState::default()),
    };
    found.take(&pipeline::one(client, (STORE, &parameters)).await?)?;
    let lost = sorted
        .iter()
        .filter(|it| it.arm.is_some() && found.of(it) == Assigned::Unreachable);
    let (experiments, units): (Vec<_>, Vec<_>) = lost.map(|it| (it.experiment, it.stored.as_str())).unzip();
    if !units.is_empty() {
        found.take(&pipeline::one(client, (LOST, &[&experiments, &units])).await?)?;
    }
    Ok(found)
}
