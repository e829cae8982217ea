//! One lot of assignments: one statement that writes what is new and reads what is there, and a second for what somebody else wrote
//! in between.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

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
/// does not have is passed over: it must not fail what others wait for. So is one that somebody is deleting, with its environment
/// perhaps, which can take minutes: the reference to it would wait for that.
///
/// What is there is asked for unit by unit, with a limit that keeps it from being planned as a join: one that was planned while the
/// table was nearly empty looks at all units of an experiment for each.
const STORE: &str = "
    with wanted as (
        select e.id, w.salt, w.unit, w.arm, w.iteration, k.arm as known_arm, k.iteration as known_iteration
        from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[]) as w (salt, unit, arm, iteration)
        join experiments e on e.salt = w.salt
        left join lateral (
            select k.arm, k.iteration from experiment_assignments k where k.experiment_id = e.id and k.unit = w.unit limit 1
        ) k on true
    ), new as (
        select id, arm, array_agg(unit) as units, array_agg(iteration) as iterations
        from wanted
        where known_arm is null and arm is not null
        group by id, arm
    ), allowed as (
        select n.id, n.arm, n.units, n.iterations
        from new n
        cross join lateral (
            select true from experiment_arms a where a.experiment_id = n.id and a.variant = n.arm for key share skip locked
        ) as a
    ), stored as (
        insert into experiment_assignments (experiment_id, unit, arm, iteration, assigned_at)
        select n.id, w.unit, n.arm, w.iteration, clock_timestamp()
        from allowed n
        cross join lateral unnest(n.units, n.iterations) as w (unit, iteration)
        order by n.id, w.unit
        on conflict (experiment_id, unit) do nothing
        returning experiment_id, unit, arm, iteration
    )
    select salt, unit, known_arm as arm, known_iteration as iteration from wanted where known_arm is not null
    union all
    select e.salt, s.unit, s.arm, s.iteration from stored s join experiments e on e.id = s.experiment_id";
/// What another replica stored while the statement above waited for it: that one cannot see it.
const LOST: &str = "
    select w.salt, w.unit, k.arm, k.iteration
    from unnest($1::uuid[], $2::text[]) as w (salt, unit)
    join experiments e on e.salt = w.salt
    cross join lateral (
        select k.arm, k.iteration from experiment_assignments k where k.experiment_id = e.id and k.unit = w.unit limit 1
    ) k";
/// How many statements are tried to find those of a lot that PostgreSQL refuses: a few among thousands.
const ATTEMPTS: usize = 64;

/// An experiment's salt, and a unit as it is stored.
type Key = (Uuid, Arc<str>);

/// An arm, and the iteration that it was given in.
type Stored = (key::Variant, u32);

/// What was found out.
#[derive(Default)]
pub(super) struct Found {
    /// `None`: it is stored, and cannot be read.
    arms: HashMap<Key, Option<Stored>, RandomState>,
    /// What PostgreSQL refuses, or refused together with others.
    unanswered: HashSet<Key, RandomState>,
    /// What PostgreSQL refuses even alone.
    pub(super) refused: Vec<Key>,
}

impl Found {
    /// What is known now of what was wanted.
    pub(super) fn of(&self, wanted: &Wanted) -> Assigned {
        let key = wanted.key();
        match self.arms.get(&key) {
            Some(Some((arm, iteration))) => Assigned::Arm {
                arm: arm.clone(),
                iteration: *iteration,
            },
            None if wanted.arm.is_none() && !self.unanswered.contains(&key) => Assigned::Nothing,
            // It makes no sense; or the experiment is gone, or does not have the arm.
            Some(None) | None => Assigned::Unreachable,
        }
    }

    fn take(&mut self, found: &[Row]) -> Result<(), Error> {
        for row in found {
            let key = (rows::get(row, "salt")?, rows::get::<&str>(row, "unit")?.into());
            let assigned = read(row).inspect_err(|error| {
                // Somebody edited it by hand. Whoever else is in the lot must not suffer for it.
                tracing::error!(error = error.summary(), "a stored assignment makes no sense");
            });
            self.arms.insert(key, assigned.ok());
        }
        Ok(())
    }
}

fn read(row: &Row) -> Result<Stored, Error> {
    let arm = rows::parsed(row, "arm", key::Variant::new)?;
    let iteration = u32::try_from(rows::get::<i32>(row, "iteration")?);
    Ok((arm, iteration.map_err(|_| rows::corrupt("iteration", Flaw::Range))?))
}

/// Has PostgreSQL prepare the statements of this connection.
pub(super) async fn prepare(client: &Object) -> Result<(), Error> {
    for statement in [STORE, LOST] {
        client.prepare_cached(statement).await?;
    }
    Ok(())
}

/// Stores what is wanted and not there yet, and answers with what is there then. What PostgreSQL refuses for a reason of its own is
/// looked for by halves, so that the others need not suffer for it. An error: PostgreSQL cannot be asked, or refuses all.
pub(super) async fn settle(client: &Object, wanted: &[&Wanted]) -> Result<Found, Error> {
    let mut sorted = wanted.to_vec();
    // Of two that want the same, one that may store comes first.
    sorted.sort_unstable_by(|a, b| {
        let (of_a, of_b) = ((a.experiment, &a.unit), (b.experiment, &b.unit));
        of_a.cmp(&of_b).then(a.arm.is_none().cmp(&b.arm.is_none()))
    });
    sorted.dedup_by(|a, b| (a.experiment, &a.unit) == (b.experiment, &b.unit));
    let mut found = Found::default();
    found.arms.reserve(sorted.len());
    let (mut lots, mut attempts, mut refusal) = (vec![sorted.as_slice()], 0, None);
    while let Some(lot) = lots.pop() {
        attempts += 1;
        match store(client, lot, &mut found).await {
            Ok(()) => {}
            Err(error) if !is_of_the_lot(&error) => return Err(error),
            Err(_) if lot.len() > 1 && attempts < ATTEMPTS => {
                let (first, second) = lot.split_at(lot.len() / 2);
                lots.extend([second, first]);
            }
            Err(error) => {
                found.unanswered.extend(lot.iter().map(|it| it.key()));
                if let [refused] = lot {
                    found.refused.push(refused.key());
                }
                refusal = Some(error);
            }
        }
    }
    let Some(error) = refusal else { return Ok(found) };
    let units = found.unanswered.len();
    if units == sorted.len() && units > 1 {
        return Err(error);
    }
    tracing::error!(
        error = error.summary(),
        units,
        "PostgreSQL refuses assignments of some units: they get what the hash says"
    );
    Ok(found)
}

/// Whether it is for something in the lot that PostgreSQL refused it, so that the rest of the lot may be taken.
fn is_of_the_lot(error: &Error) -> bool {
    match error {
        Error::Unavailable(_) | Error::Timeout(_) | Error::Busy => false,
        Error::Invalid(_)
        | Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Stale { .. }
        | Error::Denied
        | Error::Blocked { .. }
        | Error::LimitReached { .. }
        | Error::RequestIdReused
        | Error::Conflict(_)
        | Error::HandEdited
        | Error::Corrupt { .. }
        | Error::Bug(_) => true,
    }
}

/// One lot, sorted, in which nothing is wanted twice.
async fn store(client: &Object, lot: &[&Wanted], found: &mut Found) -> Result<(), Error> {
    let experiments: Vec<_> = lot.iter().map(|it| it.experiment).collect();
    let units: Vec<&str> = lot.iter().map(|it| &*it.unit).collect();
    let arms: Vec<_> = lot.iter().map(|it| it.arm.as_ref().map(key::Variant::as_str)).collect();
    let iterations: Vec<_> = lot
        .iter()
        .map(|it| i32::try_from(it.iteration).unwrap_or(i32::MAX))
        .collect();
    let parameters: [&(dyn ToSql + Sync); 4] = [&experiments, &units, &arms, &iterations];
    found.take(&pipeline::one(client, (STORE, &parameters)).await?)?;
    let absent = lot
        .iter()
        .filter(|it| it.arm.is_some() && !found.arms.contains_key(&it.key()));
    let (experiments, units): (Vec<_>, Vec<&str>) = absent.map(|it| (it.experiment, &*it.unit)).unzip();
    if !units.is_empty() {
        found.take(&pipeline::one(client, (LOST, &[&experiments, &units])).await?)?;
    }
    Ok(())
}
