//! Compaction: how far the horizon and the floor move, what is deleted, and that nothing else is.

use std::collections::BTreeMap;
use std::time::Duration;

use halyard::domain::change::{self, Digest, EnvironmentId, ItemChange};
use halyard::domain::form::{ItemId, Kind};
use halyard::store::compaction::{Compacted, Kept};
use halyard::store::{Error, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::cluster;
use crate::world::*;

/// Items by kind and key; `None`: deleted.
type Revision = BTreeMap<u8, Option<u8>>;
type State = BTreeMap<String, Vec<u8>>;

const HOUR: Duration = Duration::from_hours(1);

/// Writes a history of `dev` from its revision 1 on, of configurations that nobody reads; revision n was committed as many hours ago
/// as `age` says.
async fn write(world: &World, history: &[Revision], age: impl Fn(usize) -> i32) {
    let id = dev(world).await;
    let mut previous = Digest::default();
    world
        .sql
        .execute("delete from changes where environment_id = $1", &[&id])
        .await
        .unwrap();
    for (n, items) in (1..).zip(history) {
        let named: Vec<_> = items
            .iter()
            .map(|(key, form)| (item(*key), form.map(|form| vec![form])))
            .collect();
        let changes: Vec<_> = named
            .iter()
            .map(|(id, form)| ItemChange {
                id,
                version: n as u64,
                form: form.as_deref(),
            })
            .collect();
        let digest = change::digest(previous, n as u64, &changes);
        let revision = i64::try_from(n).unwrap();
        let insert = "insert into changes (environment_id, revision, previous_digest, digest, committed_at, actor)
            values ($1, $2, $3, $4, now() - make_interval(hours => $5), 'system')";
        world
            .sql
            .execute(
                insert,
                &[&id, &revision, &previous.0.as_slice(), &digest.0.as_slice(), &age(n)],
            )
            .await
            .unwrap();
        for (item, form) in &named {
            let insert = "insert into change_items (environment_id, revision, kind, key, version, form) values ($1, $2, $3, $4, $2, $5)";
            let (kind, key) = (item.kind.name(), &*item.key);
            world
                .sql
                .execute(insert, &[&id, &revision, &kind, &key, form])
                .await
                .unwrap();
        }
        previous = digest;
    }
    let head = "update environment_heads set revision = $2, digest = $3, compacted_revision = 0, history_revision = 0
        where environment_id = $1";
    let revision = i64::try_from(history.len()).unwrap();
    world
        .sql
        .execute(head, &[&id, &revision, &previous.0.as_slice()])
        .await
        .unwrap();
}

fn item(key: u8) -> ItemId {
    ItemId {
        kind: Kind::FlagConfiguration,
        key: format!("f{key}").into(),
    }
}

async fn dev(world: &World) -> i64 {
    let EnvironmentId(id) = world.store.get_environment(shop(&environment("dev"))).await.unwrap().id;
    id
}

/// The horizon and the floor of `dev`.
async fn bounds(world: &World) -> (i64, i64) {
    let query = "select compacted_revision, history_revision from environment_heads where environment_id = $1";
    let row = world.sql.query_one(query, &[&dev(world).await]).await.unwrap();
    (row.get(0), row.get(1))
}

fn kept(revisions: u64, age: Duration, history: Option<Duration>) -> Kept {
    Kept {
        revisions,
        age,
        history,
    }
}

/// A history in which every revision changes the same item, each an hour younger than the one before; the newest is half an hour old.
async fn hourly(world: &World, revisions: usize) {
    let history: Vec<_> = (0..revisions)
        .map(|n| Revision::from([(0, u8::try_from(n % 200).ok())]))
        .collect();
    write(world, &history, |n| i32::try_from(revisions - n).unwrap()).await;
}

#[tokio::test]
async fn the_horizon_keeps_whatever_either_bound_keeps() {
    let world = world().await;
    hourly(&world, 50).await;
    let half = Duration::from_mins(30);
    // Revision 50 was committed just now, 49 an hour ago, and so on.
    for (revisions, age, expected) in [
        (60, HOUR, 0),
        (50, HOUR, 0),
        (49, HOUR, 1),
        (10, 30 * HOUR + half, 19),
        (10, 20 * HOUR + half, 29),
        (20, 10 * HOUR + half, 30),
        (10, half, 40),
        (1, half, 49),
        // It never goes back.
        (40, 40 * HOUR, 49),
    ] {
        world.store.compact(&kept(revisions, age, None)).await.unwrap();
        assert_eq!(bounds(&world).await, (expected, 0), "{revisions} revisions, {age:?}");
    }
    assert_eq!(
        world.count("changes where revision < 50").await,
        49 + world
            .count("changes c join environments e on e.id = c.environment_id where e.key = 'prod' and c.revision < 50")
            .await
    );
    // What others look for is not touched: nobody is woken.
    let moved = world.store.compact(&kept(1, half, None)).await.unwrap();
    assert_eq!(moved, Compacted::default());
}

#[tokio::test]
async fn a_clock_that_went_back_lets_nothing_go_too_early() {
    let world = world().await;
    let history = vec![Revision::from([(0, Some(1))]); 10];
    write(&world, &history, |n| if n == 4 { 0 } else { 100 }).await;
    world.store.compact(&kept(1, HOUR, None)).await.unwrap();
    assert_eq!(bounds(&world).await, (3, 0));
}

#[tokio::test]
async fn the_floor_never_passes_the_horizon() {
    let world = world().await;
    hourly(&world, 20).await;
    let compacted = world
        .store
        .compact(&kept(15, Duration::ZERO, Some(HOUR)))
        .await
        .unwrap();
    assert_eq!(bounds(&world).await, (5, 5));
    // Four items and four revisions: the fifth has replaced them.
    assert_eq!(compacted.deleted, 8);
    let compacted = world
        .store
        .compact(&kept(1, Duration::ZERO, Some(10 * HOUR + HOUR / 2)))
        .await
        .unwrap();
    assert_eq!(bounds(&world).await, (19, 9));
    assert_eq!(compacted.deleted, 8);
}

#[tokio::test]
async fn without_a_retention_nothing_is_ever_deleted() {
    let world = world().await;
    hourly(&world, 30).await;
    let before = world.log_sizes().await;
    let compacted = world.store.compact(&kept(1, Duration::ZERO, None)).await.unwrap();
    assert_eq!((compacted.deleted, bounds(&world).await), (0, (29, 0)));
    assert_eq!(world.log_sizes().await, before);
}

#[tokio::test]
async fn one_replica_works_and_the_others_pass() {
    let world = world().await;
    hourly(&world, 20).await;
    let holder = cluster::client(&world.config).await;
    holder
        .batch_execute("begin; select pg_advisory_xact_lock(x'00636f6d70616374'::bigint)")
        .await
        .unwrap();
    let kept = kept(1, Duration::ZERO, Some(HOUR));
    let passed = world.store.compact(&kept).await.unwrap();
    assert_eq!((passed.passed, passed.deleted, bounds(&world).await), (true, 0, (0, 0)));
    holder.batch_execute("rollback").await.unwrap();
    let rounds = futures_util::future::join_all((0..4).map(|_| world.store.compact(&kept))).await;
    let rounds: Vec<_> = rounds.into_iter().map(Result::unwrap).collect();
    // Whoever passed leaves the rest to the one who did not, or to the next round.
    world.store.compact(&kept).await.unwrap();
    assert_eq!(bounds(&world).await, (19, 19), "{rounds:?}");
    assert_eq!(world.count("change_items where kind = 'flag_configuration'").await, 2);
}

#[tokio::test]
async fn what_was_stopped_in_the_middle_goes_on() {
    let world = world().await;
    hourly(&world, 20).await;
    let raised =
        "update environment_heads set compacted_revision = 19, history_revision = 19 where environment_id = $1";
    world.sql.execute(raised, &[&dev(&world).await]).await.unwrap();
    let kept = kept(1, Duration::ZERO, Some(HOUR));
    assert_eq!(world.store.compact(&kept).await.unwrap().deleted, 18 * 2);
    assert_eq!(world.store.compact(&kept).await.unwrap(), Compacted::default());
}

#[tokio::test]
async fn a_head_that_is_written_is_passed_over() {
    let world = world().await;
    hourly(&world, 20).await;
    let holder = cluster::client(&world.config).await;
    holder
        .batch_execute("begin; select from environment_heads for update")
        .await
        .unwrap();
    let kept = kept(1, Duration::ZERO, Some(HOUR));
    assert_eq!(world.store.compact(&kept).await.unwrap(), Compacted::default());
    holder.batch_execute("rollback").await.unwrap();
    assert_ne!(world.store.compact(&kept).await.unwrap().deleted, 0);
}

#[tokio::test]
async fn more_than_one_batch_goes_in_one_round() {
    let world = world().await;
    let history: Vec<_> = (0..30).map(|n| (0..120).map(|key| (key, Some(n))).collect()).collect();
    write(&world, &history, |_| 100).await;
    let compacted = world.store.compact(&kept(1, HOUR, Some(HOUR))).await.unwrap();
    assert_eq!(bounds(&world).await, (29, 29));
    assert_eq!(compacted.deleted, 28 * 120 + 28);
}

/// The state of `dev` at a revision, as history is read.
async fn state_at(store: &Store, revision: u64) -> Result<State, Error> {
    let dev = environment("dev");
    let state = store.state_at(shop(&dev), revision, None, None).await?;
    Ok(state
        .items
        .into_iter()
        .map(|(id, form)| (id.key.to_string(), form))
        .collect())
}

fn histories() -> impl Strategy<Value = (Vec<Revision>, usize, usize)> {
    let form = prop::option::weighted(0.7, any::<u8>());
    let revision = prop::collection::btree_map(0..6_u8, form, 0..4);
    prop::collection::vec(revision, 1..25).prop_flat_map(|history| {
        let most = history.len();
        (Just(history), 1..=most, 0..=most)
    })
}

/// Checks one history against a model: with so many revisions kept for streams, and the oldest so many beyond the retention.
async fn check(world: &World, history: &[Revision], recent: usize, old: usize) {
    write(world, history, |n| if n <= old { 100 } else { 0 }).await;
    let (id, kept) = (dev(world).await, kept(recent as u64, Duration::ZERO, Some(HOUR)));
    world.store.compact(&kept).await.unwrap();
    let horizon = history.len() - recent;
    let floor = horizon.min(old);
    let sql = |number: usize| i64::try_from(number).unwrap();
    assert_eq!(bounds(world).await, (sql(horizon), sql(floor)));

    // Exactly what may go has gone.
    let replaced = |key: &u8, n: usize| (n + 1..=floor).any(|later| history[later - 1].contains_key(key));
    let items = |n: usize| history[n - 1].keys().filter(move |key| !replaced(key, n));
    let expected: Vec<_> = (1..=history.len())
        .flat_map(|n| items(n).map(move |key| (sql(n), format!("f{key}"))))
        .collect();
    let query = "select revision, key from change_items where environment_id = $1 order by revision, key";
    let found = world.sql.query(query, &[&id]).await.unwrap();
    let found: Vec<(i64, String)> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found, expected);
    let query = "select revision, previous_digest, digest from changes where environment_id = $1 order by revision";
    let changes = world.sql.query(query, &[&id]).await.unwrap();
    let left: Vec<i64> = changes.iter().map(|row| row.get(0)).collect();
    let expected = (1..=history.len()).filter(|&n| n >= floor || items(n).next().is_some());
    assert_eq!(left, expected.map(sql).collect::<Vec<_>>());
    // The chain leads from the floor to the head.
    let mut previous: Option<Vec<u8>> = None;
    for row in changes.iter().filter(|row| row.get::<_, i64>(0) >= sql(floor)) {
        assert!(previous.is_none_or(|previous| previous == row.get::<_, &[u8]>(1)));
        previous = Some(row.get(2));
    }

    // Every state from the floor on can be rebuilt, and none before it is made up.
    let mut model = State::new();
    for (n, revision) in (1..).zip(history) {
        for (key, form) in revision {
            match form {
                Some(form) => model.insert(format!("f{key}"), vec![*form]),
                None => model.remove(&format!("f{key}")),
            };
        }
        let state = state_at(&world.store, n as u64).await;
        if n < floor {
            assert!(
                matches!(&state, Err(Error::Blocked { description, .. }) if description.contains("begins at revision"))
            );
        } else {
            assert_eq!(state.unwrap(), model, "at {n} with the floor {floor}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retention_deletes_exactly_what_it_may() {
    let world = world().await;
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let runtime = tokio::runtime::Handle::current();
    let run = |(history, recent, old): (Vec<Revision>, usize, usize)| {
        tokio::task::block_in_place(|| runtime.block_on(check(&world, &history, recent, old)));
        Ok(())
    };
    runner.run(&histories(), run).unwrap();
}

#[tokio::test]
async fn writing_goes_on_while_history_goes() {
    let world = world().await;
    world.flag("f").await;
    let toggles = async {
        for n in 0..40 {
            let (dev, flag) = (environment("dev"), flag("f"));
            let toggles = [halyard::store::configurations::Toggle {
                flag,
                enabled: n % 2 == 0,
            }];
            let mutation = world.by_owner();
            done(world.store.toggle_flags(&mutation, shop(&dev), &toggles, respond).await);
        }
    };
    let compacting = async {
        let mut deleted = 0;
        for _ in 0..40 {
            let kept = kept(2, Duration::ZERO, Some(Duration::ZERO));
            deleted += world.store.compact(&kept).await.unwrap().deleted;
        }
        deleted
    };
    let ((), deleted) = tokio::join!(toggles, compacting);
    assert_ne!(deleted, 0);
    let head = world.revision("dev").await;
    let (horizon, floor) = bounds(&world).await;
    assert!(horizon <= i64::try_from(head).unwrap() - 2 && floor <= horizon);
    for revision in u64::try_from(floor).unwrap().max(1)..=head {
        assert!(
            state_at(&world.store, revision).await.unwrap().contains_key("f"),
            "{revision}"
        );
    }
}
