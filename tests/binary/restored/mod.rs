//! The ways of restoring that docs/operations.md describes, with PostgreSQL's own programs, and what replicas, streams, sidecars and
//! callers see of them.

mod installation;
mod keys;

use std::fs;

use crate::serve::free_address;
use crate::support::eventually;
use installation::{Installation, Replica};

/// Puts a dump into the place of a database that replicas use.
const SWAP: &str = "\
    alter database flags allow_connections false;
    select pg_terminate_backend(pid) from pg_stat_activity where datname = 'flags';
    alter database flags rename to flags_before;
    alter database flags_restored rename to flags;";

fn dump(world: &Installation) {
    world.tool("pg_dump", &["--format=custom", "--file=flags.dump", "flags"]);
}

/// Into a database of its own, which nobody uses yet.
fn restore_dump(world: &Installation) {
    world.tool("createdb", &["flags_restored"]);
    let arguments = ["--exit-on-error", "--no-owner", "--dbname=flags_restored", "flags.dump"];
    world.tool("pg_restore", &arguments);
}

#[tokio::test]
async fn a_dump_takes_the_databases_place_under_replicas_that_run() {
    let world = Installation::start().await;
    under_replicas_that_run(world, dump, async |world| {
        restore_dump(world);
        let mut psql = vec!["--set=ON_ERROR_STOP=1", "--dbname=postgres"];
        psql.extend(SWAP.lines().flat_map(|line| ["--command", line.trim()]));
        world.tool("psql", &psql);
    })
    .await;
}

#[tokio::test]
async fn a_physical_copy_takes_the_servers_place_under_replicas_that_run() {
    let world = Installation::start().await;
    let copy = |world: &Installation| world.tool("pg_basebackup", &["--checkpoint=fast", "--pgdata=copy"]);
    under_replicas_that_run(world, copy, async |world| {
        world.postgres.shut_down();
        fs::rename(world.postgres.data(), world.folder.path.join("before")).unwrap();
        fs::rename(world.folder.path.join("copy"), world.postgres.data()).unwrap();
        world.postgres.start().await;
    })
    .await;
}

/// What was changed after the backup is gone, and everybody is told without being asked.
async fn under_replicas_that_run(
    mut world: Installation,
    back_up: impl FnOnce(&Installation),
    restore: impl AsyncFnOnce(&mut Installation),
) {
    let replicas = [
        world.serve("flags", &free_address()).await,
        world.serve("flags", &free_address()).await,
    ];
    let side = world.sidecar(&replicas[1]).await;
    let everybody: Vec<&Replica> = replicas.iter().chain([&side]).collect();
    let kept = replicas[0].toggle("on");
    back_up(&world);
    let mut watching: Vec<_> = everybody.iter().map(|replica| world.watch(replica)).collect();
    let lost = ["off", "on", "off"].map(|to| replicas[0].toggle(to))[2];
    assert_eq!(lost, kept + 3);
    for watching in &mut watching {
        watching.reaches(lost);
    }

    restore(&mut world).await;
    let mut generations = Vec::new();
    for watching in &mut watching {
        let step = watching.next_step();
        assert_eq!(
            (&step["intent"], &step["reason"]),
            (&"SNAPSHOT".into(), &"DIVERGED".into())
        );
        assert_eq!(step["revision"], kept, "{step}");
        generations.push(step["generation"].as_u64().unwrap());
    }
    assert_eq!(generations, [2, 2, 2], "it rises once, whoever finds it");
    for replica in &everybody {
        assert_eq!(world.answer(replica), (kept, "on".to_owned()));
        // Who waits for a change that is gone waits in vain, and is told to come again.
        let said = world.evaluate(replica, lost).refused(69);
        assert!(said.contains("cannot answer now") || said.contains("in time"), "{said}");
    }
    let mut found = 0;
    for replica in &replicas {
        found += replica.count("halyard_feed_divergences_total").await;
    }
    assert!(found > 0, "nobody could be alerted");

    // Everything goes on from there, for replicas that come later too.
    let next = replicas[1].toggle("off");
    assert_eq!(next, kept + 1);
    for watching in &mut watching {
        watching.reaches(next);
    }
    let later = world.serve("flags", &free_address()).await;
    assert_eq!(world.answer(&later), (next, "off".to_owned()));
}

#[tokio::test]
async fn a_client_that_is_ahead_of_what_was_restored_is_told_by_a_replica_that_never_saw_it() {
    let world = Installation::start().await;
    let address = free_address();
    let before = world.serve("flags", &address).await;
    let kept = before.toggle("on");
    dump(&world);
    let mut watching = world.watch(&before);
    let lost = before.toggle("off");
    watching.reaches(lost);
    before.stop();

    restore_dump(&world);
    let after = world.serve("flags_restored", &address).await;
    assert_eq!(world.answer(&after), (kept, "on".to_owned()));
    // It comes by itself and shows what it holds.
    let step = watching.next_step();
    assert_eq!(
        (&step["intent"], &step["reason"]),
        (&"SNAPSHOT".into(), &"DIVERGED".into())
    );
    assert_eq!(step["revision"], kept, "{step}");
    let next = after.toggle("off");
    watching.reaches(next);
    eventually("the change", async || (world.answer(&after).0 == next).then_some(())).await;
}
