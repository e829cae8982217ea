//! Writers that wait for each other, and those who do not wait to the end.

use std::time::Duration;

use halyard::store::configurations::{FlagConfiguration, Toggle};
use halyard::store::feed::Hints;
use halyard::store::flags::FlagPatch;
use halyard::store::{Error, Mutation, Outcome, Settings, Store};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::cluster;
use crate::support::{eventually, within};
use crate::world::*;

const WAITING: &str = "pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

async fn toggle(store: Store, by: Mutation, at: &str) -> Result<Outcome<Vec<FlagConfiguration>>, Error> {
    let at = environment(at);
    let toggles = [Toggle {
        flag: flag("f"),
        enabled: true,
    }];
    store.toggle_flags(&by, shop(&at), &toggles, respond).await
}

/// Another session that holds a lock until it is dropped.
async fn holding(world: &World, lock: &str) -> Client {
    let client = cluster::client(&world.config).await;
    client.batch_execute("begin").await.unwrap();
    client.execute(lock, &[]).await.unwrap();
    client
}

/// Waits until so many statements wait for locks.
async fn waiting(world: &World, statements: i64) {
    let what = format!("{statements} statements that wait");
    eventually(&what, async || (world.count(WAITING).await == statements).then_some(())).await;
}

#[tokio::test]
async fn abandoned_writes_hold_up_nobody() {
    let world = world().await;
    world.flag("f").await;
    let lock = "select from environment_heads h join environments e on e.id = h.environment_id
        where e.key = 'dev' for update of h";
    let mut settings = Settings::new(world.config.clone());
    settings.pool_size = 16;
    // Longer than anybody waits here: who no longer waits was cancelled.
    settings.statement_timeout = Duration::from_mins(10);
    let store = Store::connect(&settings, Hints::new()).await.unwrap();
    let holder = holding(&world, lock).await;
    for _ in 0..12 {
        let toggle = toggle(store.clone(), world.by_owner(), "dev");
        assert!(timeout(Duration::from_millis(100), toggle).await.is_err());
    }
    let read = within("a read", store.get_flag(&project("shop"), &flag("f"))).await;
    assert!(read.is_ok(), "{read:?}");
    // The abandoned statements.
    waiting(&world, 0).await;
    drop(holder);
    done(within("the next toggle", toggle(store, world.by_owner(), "dev")).await);
}

#[tokio::test]
async fn toggles_do_not_overtake_a_definition_that_waits() {
    let world = world().await;
    world.flag("f").await;
    let holder = holding(&world, "select from audit_heads for update").await;
    let spawn_toggle = |at| tokio::spawn(toggle(world.store.clone(), world.by_owner(), at));
    let first = spawn_toggle("dev");
    waiting(&world, 1).await;
    let (store, by) = (world.store.clone(), world.by_owner());
    let definition = tokio::spawn(async move {
        let patch = FlagPatch {
            client_visible: Some(true),
            ..FlagPatch::default()
        };
        store
            .update_flag(&by, &project("shop"), &flag("f"), patch, "", respond)
            .await
    });
    waiting(&world, 2).await;
    let second = spawn_toggle("prod");
    waiting(&world, 3).await;
    drop(holder);
    done(within("the first toggle", first).await.unwrap());
    done(within("the definition", definition).await.unwrap());
    done(within("the second toggle", second).await.unwrap());
    let query = "select action || ' ' || environment from audit_entries
        where action in ('flag.update', 'flag_configuration.toggle') order by sequence";
    let rows = world.sql.query(query, &[]).await.unwrap();
    let order: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        order,
        [
            "flag_configuration.toggle dev",
            "flag.update ",
            "flag_configuration.toggle prod"
        ]
    );
}

#[tokio::test]
async fn a_transaction_that_does_nothing_is_ended() {
    let world = world().await;
    let client = world.store.pool().get().await.unwrap();
    let limit = client
        .query_one("show idle_in_transaction_session_timeout", &[])
        .await
        .unwrap();
    assert_eq!(limit.get::<_, String>(0), "10s");
}

#[tokio::test]
async fn deleting_what_holds_much_may_take_longer_than_a_statement() {
    let world = world().await;
    world.flag("f").await;
    // Stands for the rows of years.
    let slow =
        "create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return old; end $$;
        create trigger dawdle before delete on environments for each row execute function dawdle()";
    world.sql.batch_execute(slow).await.unwrap();
    let mut settings = Settings::new(world.config.clone());
    settings.statement_timeout = Duration::from_millis(500);
    let store = Store::connect(&settings, Hints::new()).await.unwrap();
    let (owner, shop_key, dev) = (world.by_owner(), project("shop"), environment("dev"));
    done(store.delete_environment(&owner, shop(&dev), "", respond).await);
    done(store.delete_project(&owner, &shop_key, "", respond).await);
    // The connection is what it was.
    let client = store.pool().get().await.unwrap();
    let limit = client.query_one("show statement_timeout", &[]).await.unwrap();
    assert_eq!(limit.get::<_, String>(0), "500ms");
}
