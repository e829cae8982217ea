//! Schemas that are older and newer than the program.

use crate::serve::free_address;
use crate::support::cluster::{Database, blank_database, database};
use crate::support::program::run_halyard;

const SIGNING_KEY: (&str, &str) = ("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more");

/// What `serve` says when it does not start.
fn refused(database: &Database, options: &[&str]) -> String {
    let address = free_address();
    let arguments = [&["serve", "--listen", &address], options].concat();
    run_halyard(&arguments, &[SIGNING_KEY, ("DATABASE_URL", &database.url)]).refused(1)
}

#[tokio::test]
async fn a_server_that_must_not_migrate_says_what_to_run() {
    let database = blank_database().await;
    let said = refused(&database, &["--migrate", "never"]);
    assert!(
        said.contains("has no schema of Halyard's") && said.contains("halyard migrate"),
        "{said}"
    );
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    let tables: i64 = database.client().await.query_one(tables, &[]).await.unwrap().get(0);
    assert_eq!(tables, 0);

    run_halyard(&["migrate"], &[("DATABASE_URL", &database.url)]).done();
    let latest =
        "delete from refinery_schema_history where version = (select max(version) from refinery_schema_history)
        returning version";
    let latest: i64 = database.client().await.query_one(latest, &[]).await.unwrap().get(0);
    let said = refused(&database, &["--migrate", "never"]);
    let words = format!("is at version {}, and this Halyard needs {latest}", latest - 1);
    assert!(said.contains(&words) && said.contains("halyard migrate"), "{said}");
}

#[tokio::test]
async fn a_newer_schema_is_refused_at_the_start_and_by_migrate() {
    let database = database().await;
    let newer = "
        insert into refinery_schema_history
        select later.version, 'later', first.applied_on, first.checksum
        from refinery_schema_history first, (values (1000), (999)) as later (version)
        where first.version = 1";
    database.client().await.execute(newer, &[]).await.unwrap();
    let migrate = run_halyard(&["migrate"], &[("DATABASE_URL", &database.url)]).refused(1);
    for said in [
        refused(&database, &[]),
        refused(&database, &["--migrate", "never"]),
        migrate,
    ] {
        assert!(
            said.contains("has migration 999, which this Halyard does not know"),
            "{said}"
        );
        assert!(said.contains("newer version"), "{said}");
    }
    let said = run_halyard(
        &["create-admin", "--email", "ada@example.com"],
        &[
            ("DATABASE_URL", &database.url),
            ("HALYARD_ADMIN_PASSWORD", "correct horse battery staple"),
        ],
    )
    .refused(1);
    assert!(said.contains("migration 999"), "{said}");
}

#[tokio::test]
async fn a_schema_with_a_gap_is_called_that_and_not_newer_or_older() {
    let database = database().await;
    let gap = "delete from refinery_schema_history where version in (3, 5)";
    assert_eq!(database.client().await.execute(gap, &[]).await.unwrap(), 2);
    let migrate = run_halyard(&["migrate"], &[("DATABASE_URL", &database.url)]).refused(1);
    for said in [
        refused(&database, &[]),
        refused(&database, &["--migrate", "never"]),
        migrate,
    ] {
        assert!(said.contains("lacks migration 3, and has "), "{said}");
        assert!(!said.contains("newer") && !said.contains("halyard migrate"), "{said}");
    }
}
