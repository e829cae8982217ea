//! Whether the server answers: found out by connecting, as its log is for people.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, error::SqlState};

use super::settings::DATABASE;

/// Pauses between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Connects until it succeeds, and makes Halyard's database when it is not there yet. Fails only on an answer that
/// waiting does not change. To be raced against a deadline and the server's end.
pub(super) async fn wait_until_ready(config: &Config) -> Result<(), tokio_postgres::Error> {
    // The one database that is always there.
    let mut config = config.clone();
    config.dbname("postgres");
    let mut pause = FIRST_PAUSE;
    loop {
        match greet(&config).await {
            Ok(()) => return Ok(()),
            Err(error) if may_pass(&error) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Not listening yet (no SQLSTATE), still recovering, already stopping, or full.
fn may_pass(error: &tokio_postgres::Error) -> bool {
    let passing = [
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::TOO_MANY_CONNECTIONS,
    ];
    error.code().is_none_or(|code| passing.contains(code))
}

async fn greet(config: &Config) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // The client goes when it is done, and the connection ends with it.
    let (done, _closed) = tokio::join!(ensure_database(client), connection);
    done
}

async fn ensure_database(client: Client) -> Result<(), tokio_postgres::Error> {
    let there = "select from pg_database where datname = $1";
    if client.query_opt(there, &[&DATABASE]).await?.is_none() {
        client.batch_execute(&format!("create database {DATABASE}")).await?;
    }
    Ok(())
}
