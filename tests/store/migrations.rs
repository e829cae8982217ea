//! Migrations, and what the schema promises the code.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use halyard::store::feed::Hints;
use halyard::store::{Error, Settings, Store, connect, error, migrate};

use crate::cluster;
use crate::world::*;

#[tokio::test]
async fn instances_that_start_together_migrate_once() {
    let config = cluster::blank_database().await.config;
    let runs = (0..4).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { migrate::run(&config).await.unwrap() })
    });
    let runs = futures_util::future::join_all(runs).await;
    let mut applied: Vec<_> = runs
        .into_iter()
        .map(Result::unwrap)
        .filter(|applied| !applied.is_empty())
        .collect();
    assert_eq!(applied.len(), 1);
    assert_eq!(applied.remove(0).first(), Some(&1));
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let config = cluster::database().await.config;
    let newer =
        "insert into refinery_schema_history select 999, 'later', applied_on, checksum from refinery_schema_history
        where version = 1";
    cluster::client(&config).await.execute(newer, &[]).await.unwrap();
    let result = migrate::run(&config).await;
    assert!(
        matches!(result, Err(migrate::Error::Newer { version: 999 })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_migration_with_other_content_is_refused() {
    let config = cluster::database().await.config;
    let alter = "update refinery_schema_history set checksum = '1' where version = 1";
    cluster::client(&config).await.execute(alter, &[]).await.unwrap();
    let result = migrate::run(&config).await;
    assert!(
        matches!(result, Err(migrate::Error::Divergent { version: 1 })),
        "{result:?}"
    );
}

#[tokio::test]
async fn every_constraint_has_a_meaning() {
    let world = empty().await;
    let query = "select conname from pg_constraint c join pg_class t on t.oid = c.conrelid
        join pg_namespace n on n.oid = t.relnamespace
        where n.nspname = 'public' and t.relname <> 'refinery_schema_history' and c.contype <> 'n'";
    let rows = world.sql.query(query, &[]).await.unwrap();
    let stored: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let known: BTreeSet<String> = error::known_constraints().map(str::to_owned).collect();
    assert_eq!(known, stored);
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_within_seconds() {
    let settings = Settings::new(connect::parse("host=/nonexistent user=nobody").unwrap());
    let begun = Instant::now();
    let result = Store::connect(&settings, Hints::new()).await;
    assert!(matches!(result, Err(Error::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_lost_connection_is_unavailable_and_the_next_one_works() {
    let world = world().await;
    let terminate = "select pg_terminate_backend(pid, 5000) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    world.store.get_project(&project("shop")).await.unwrap();
    world.sql.query(terminate, &[]).await.unwrap();
    // The pool may hand out the dead connections, each once.
    let mut last = world.store.get_project(&project("shop")).await;
    for _ in 0..16 {
        if last.is_ok() {
            return;
        }
        assert!(matches!(last, Err(Error::Unavailable(_))), "{last:?}");
        last = world.store.get_project(&project("shop")).await;
    }
    last.unwrap();
}

#[tokio::test]
async fn a_lock_that_someone_holds_is_a_timeout() {
    let world = world().await;
    world.flag("f").await;
    let mut settings = Settings::new(world.config.clone());
    settings.statement_timeout = Duration::from_secs(1);
    let impatient = Store::connect(&settings, Hints::new()).await.unwrap();
    world
        .sql
        .batch_execute("begin; select from environment_heads for update")
        .await
        .unwrap();
    let archive = impatient
        .archive_flag(&world.by_owner(), &project("shop"), &flag("f"), "", respond)
        .await;
    assert!(matches!(refused(archive), Error::Timeout(_)));
    world.sql.batch_execute("rollback").await.unwrap();
    done(
        impatient
            .archive_flag(&world.by_owner(), &project("shop"), &flag("f"), "", respond)
            .await,
    );
}
