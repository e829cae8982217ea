//! Two versions at once: replicas that a newer version has migrated under, and an upgrade from an older program to this one.

use std::path::PathBuf;

use crate::load::Load;
use crate::mixed::Report;
use crate::replica::{Installation, Replica, free_address};
use crate::support::cluster::{Database, blank_database, database};

/// Many enough that every connection of a pool has had its turn on the newer schema.
const CHANGES: u64 = 20;
const REPLICAS: usize = 2;

/// What a newer version may do to a schema that this one runs on: add. A column on every table meets every statement that was prepared
/// before, and whoever asked for all columns is told so by PostgreSQL.
async fn migrate_as_a_newer_program(database: &Database) {
    let client = database.client().await;
    let tables = "select c.oid::regclass::text as name from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
            and c.relname <> 'refinery_schema_history'";
    let tables = client.query(tables, &[]).await.unwrap();
    assert!(tables.len() > 30);
    for row in tables {
        let name: String = row.get("name");
        let add = format!("alter table {name} add column added_later text not null default 'later'");
        client.batch_execute(&add).await.unwrap();
    }
    let add = "
        create table later (id bigint primary key, environment_id bigint references environments (id) on delete cascade);
        create index later_changes_idx on changes (environment_id, digest);
        insert into refinery_schema_history select 999, 'later', applied_on, checksum from refinery_schema_history
            where version = 1";
    client.batch_execute(add).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_run_go_on_after_a_newer_program_has_migrated() {
    let database = database().await;
    let installation = Installation::of(database.url.clone());
    installation.create_administrator();
    let replicas = [Replica::start(&installation).await, Replica::start(&installation).await];
    let load = Load::mixed(&replicas, 50);
    for replica in &replicas {
        replica.is_at_work().await;
    }
    migrate_as_a_newer_program(&database).await;
    for replica in &replicas {
        replica.goes_on(CHANGES).await;
    }
    let (report, outcome) = Report::of(load);
    outcome.unwrap();
    report.nothing_failed(0);
    report.is_what_is_stored(&database, &installation).await;
}

async fn version(database: &Database) -> i64 {
    let newest = "select max(version)::bigint from refinery_schema_history";
    database.client().await.query_one(newest, &[]).await.unwrap().get(0)
}

/// What a replica of the older program that crashes comes to, and whoever wants to go back: the first version that it does not know is named.
fn is_refused(old: &Installation, version: i64) {
    let address = free_address();
    let said = old.run(&["serve", "--listen", &address]).refused(1);
    let found = format!("version {version}");
    assert!(said.contains(&found) && said.contains("does not know"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an older program; make test-upgrade builds one"]
async fn an_older_program_is_replaced_by_this_one() {
    let program = std::env::var_os("UPGRADE_FROM").expect("UPGRADE_FROM is the path of an older program");
    let database = blank_database().await;
    let new = Installation::of(database.url.clone());
    let old = new.with(&PathBuf::from(program));
    old.run(&["migrate"]).done();
    old.create_administrator();
    let before = version(&database).await;
    let mut replicas = vec![Replica::start(&old).await, Replica::start(&old).await];
    let load = Load::rolling(&replicas);
    for replica in &replicas {
        replica.is_at_work().await;
    }

    new.run(&["migrate"]).done();
    let after = version(&database).await;
    for replica in &replicas {
        replica.goes_on(CHANGES).await;
    }
    // Where nothing was migrated the way back is open.
    if after > before {
        is_refused(&old, before + 1);
    }

    for _ in 0..REPLICAS {
        let newest = replicas.remove(0).replace(&new).await;
        newest.is_at_work().await;
        replicas.push(newest);
    }
    for replica in &replicas {
        replica.goes_on(CHANGES).await;
    }
    println!("from version {before} of the schema to {after}");
    load.ends_well(REPLICAS as u64);
}
