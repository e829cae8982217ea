//! One lot of assignments: one statement that writes what is new, and one that reads what is there.
//!
//! Mostly units are new, and are written without looking first. PostgreSQL says only how many it stored: if that is all of them, each
//! has the arm that it was to have, and otherwise what is there is read. Of units that are mostly there, as after a restart, it is the
//! other way round: nothing is locked and nothing committed for them.

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

/// Units come in groups that are to have one arm in one iteration: an experiment is looked up once for all of a group, and nothing is
/// sorted into groups by PostgreSQL. What is written is sorted, so that two replicas with the same units wait for each other and do not
/// lock each other out. An arm that the experiment does not have is passed over: it must not fail what others wait for. So is one that
/// somebody is deleting, with its environment perhaps, which can take minutes: the reference to it would wait for that.
const STORE: &str = "
    with wanted as (
        select e.id, w.arm, w.iteration, w.first, w.last
        from unnest($1::uuid[], $2::text[], $3::integer[], $4::integer[], $5::integer[]) as w (salt, arm, iteration, first, last)
        join experiments e on e.salt = w.salt
    ), allowed as (
        select w.id, w.arm, w.iteration, w.first, w.last
        from wanted w
        cross join lateral (
            select true from experiment_arms a where a.experiment_id = w.id and a.variant = w.arm for key share skip locked
        ) as a
    ), stored as (
        insert into experiment_assignments (experiment_id, unit, arm, iteration, assigned_at)
        select a.id, w.unit, a.arm, a.iteration, clock_timestamp()
        from allowed a
        cross join lateral unnest(($6::text[])[a.first:a.last]) as w (unit)
        order by a.id, w.unit
        on conflict (experiment_id, unit) do nothing
        returning true
    )
    select count(*) as stored from stored";
/// What is there, also what another replica stored while the statement above waited for it, which cannot see that. Unit by unit, with a
/// limit that keeps it from being planned as a join: one that was planned while the table was nearly empty looks at all units of an
/// experiment for each.
const READ: &str = "
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
    /// How many were stored now.
    new: usize,
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

    /// Whether most of it was there before.
    pub(super) fn was_there(&self) -> bool {
        self.new < self.arms.len().div_ceil(2)
    }

    /// All of these were stored as they were wanted.
    fn take_stored(&mut self, stored: &[&Wanted]) {
        let arms = stored.iter().filter_map(|it| {
            let arm = it.arm.clone()?;
            Some((it.key(), Some((arm, it.iteration))))
        });
        self.arms.extend(arms);
    }

    fn take(&mut self, found: &[Row]) -> Result<(), Error> {
        for row in found {
            let key = (rows::get(row, "salt")?, rows::get::<&str>(row, "unit")?.into());
            let assigned = assignment(row).inspect_err(|error| {
                // Somebody edited it by hand. Whoever else is in the lot must not suffer for it.
                tracing::error!(error = error.summary(), "a stored assignment makes no sense");
            });
            self.arms.insert(key, assigned.ok());
        }
        Ok(())
    }
}

fn assignment(row: &Row) -> Result<Stored, Error> {
    let arm = rows::parsed(row, "arm", key::Variant::new)?;
    let iteration = u32::try_from(rows::get::<i32>(row, "iteration")?);
    Ok((arm, iteration.map_err(|_| rows::corrupt("iteration", Flaw::Range))?))
}

/// Has PostgreSQL prepare the statements of this connection.
pub(super) async fn prepare(client: &Object) -> Result<(), Error> {
    for statement in [STORE, READ] {
        client.prepare_cached(statement).await?;
    }
    Ok(())
}

/// Stores what is wanted and not there yet, and answers with what is there then. What PostgreSQL refuses for a reason of its own is
/// looked for by halves, so that the others need not suffer for it. An error: PostgreSQL cannot be asked, or refuses all.
///
/// `read_first`: most of it is expected to be there.
pub(super) async fn settle(client: &Object, wanted: &[&Wanted], read_first: bool) -> Result<Found, Error> {
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
        match store(client, lot, read_first, &mut found).await {
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
        Error::Unavailable(_)
        | Error::Unanswered(_)
        | Error::Timeout(_)
        | Error::Busy
        | Error::Crowded
        | Error::Late => false,
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
async fn store(client: &Object, lot: &[&Wanted], read_first: bool, found: &mut Found) -> Result<(), Error> {
    if read_first {
        read(client, lot, found).await?;
    }
    let new = lot.iter().filter(|it| !found.arms.contains_key(&it.key()));
    let new: Vec<_> = new.copied().filter(|it| it.arm.is_some()).collect();
    if !new.is_empty() {
        let groups = Groups::of(&new);
        let stored: i64 = rows::get(&pipeline::row(client, (STORE, &groups.parameters())).await?, "stored")?;
        let stored = usize::try_from(stored).map_err(|_| rows::corrupt("stored", Flaw::Range))?;
        found.new += stored;
        if stored == new.len() {
            found.take_stored(&new);
        }
    }
    if read_first && new.iter().all(|it| found.arms.contains_key(&it.key())) {
        return Ok(());
    }
    read(client, lot, found).await
}

/// What is there of those of which nothing was found yet.
async fn read(client: &Object, lot: &[&Wanted], found: &mut Found) -> Result<(), Error> {
    let absent = lot.iter().filter(|it| !found.arms.contains_key(&it.key()));
    let absent: Vec<_> = absent.copied().collect();
    if absent.is_empty() {
        return Ok(());
    }
    let (experiments, units) = columns(&absent);
    found.take(&pipeline::one(client, (READ, &[&experiments, &units])).await?)
}

fn columns<'a>(wanted: &[&'a Wanted]) -> (Vec<Uuid>, Vec<&'a str>) {
    wanted.iter().map(|it| (it.experiment, &*it.unit)).unzip()
}

/// What is to be stored, as [`STORE`] takes it: units, and which of them are to have one arm of an experiment in one iteration.
#[derive(Default)]
struct Groups<'a> {
    experiments: Vec<Uuid>,
    arms: Vec<&'a str>,
    iterations: Vec<i32>,
    /// The places of each group's first and last unit, counted from 1.
    firsts: Vec<i32>,
    lasts: Vec<i32>,
    units: Vec<&'a str>,
}

impl<'a> Groups<'a> {
    fn of(wanted: &[&'a Wanted]) -> Self {
        let group = |it: &&'a Wanted| {
            (
                it.experiment,
                it.arm.as_ref().map_or("", key::Variant::as_str),
                it.iteration,
            )
        };
        let mut sorted = wanted.to_vec();
        // Stable: the units of a group stay sorted.
        sorted.sort_by(|a, b| group(a).cmp(&group(b)));
        let mut groups = Self::default();
        for of_group in sorted.chunk_by(|a, b| group(a) == group(b)) {
            let Some((experiment, arm, iteration)) = of_group.first().map(group) else {
                continue;
            };
            groups.experiments.push(experiment);
            groups.arms.push(arm);
            groups.iterations.push(i32::try_from(iteration).unwrap_or(i32::MAX));
            groups.firsts.push(place(groups.units.len() + 1));
            groups.units.extend(of_group.iter().map(|it| &*it.unit));
            groups.lasts.push(place(groups.units.len()));
        }
        groups
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        let Self {
            experiments,
            arms,
            iterations,
            firsts,
            lasts,
            units,
        } = self;
        [experiments, arms, iterations, firsts, lasts, units]
    }
}

/// A place in an array of PostgreSQL. A lot has some thousand units.
fn place(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_in_the_group_of_its_arm_and_iteration() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let all = [
            (one, "a", "on", 1),
            (one, "b", "off", 1),
            (one, "c", "on", 1),
            (one, "d", "on", 2),
            (other, "a", "on", 1),
        ];
        let wanted = all.map(|(experiment, unit, arm, iteration)| Wanted {
            experiment,
            iteration: u32::try_from(iteration).unwrap(),
            unit: unit.into(),
            arm: Some(arm.parse().unwrap()),
        });
        let wanted: Vec<&Wanted> = wanted.iter().collect();
        let groups = Groups::of(&wanted);
        let mut found = Vec::new();
        for n in 0..groups.experiments.len() {
            let units = usize::try_from(groups.firsts[n]).unwrap() - 1..usize::try_from(groups.lasts[n]).unwrap();
            let of_group: Vec<_> = groups.units[units].to_vec();
            assert!(of_group.is_sorted(), "{of_group:?}");
            found.extend(
                of_group
                    .iter()
                    .map(|it| (groups.experiments[n], *it, groups.arms[n], groups.iterations[n])),
            );
        }
        found.sort_unstable();
        let mut expected = all;
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(groups.experiments.len(), 4);
    }

    #[test]
    fn nothing_is_no_group() {
        assert!(Groups::of(&[]).experiments.is_empty());
    }
}
