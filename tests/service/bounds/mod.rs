//! What bounds requests: deadlines, how many one credential makes, and how many are in flight.

mod commits;
mod deadlines;
mod floods;
mod overload;
mod rates;

use std::net::SocketAddr;

use halyard::rpc::front::Limits;
use halyard::server::Server;
use tokio_postgres::{Client, Transaction};
use tonic::transport::Channel;

use crate::app::{self, App, connect};
use crate::support::{Scrape, eventually, within};

/// Another replica on the same database, with limits of its own, so that what a test needs first can be made without them.
pub struct Bounded {
    pub server: Server,
    pub channel: Channel,
}

impl Bounded {
    pub async fn start(app: &App, pool_size: usize, limits: Limits) -> Self {
        let mut options = app::options(&app.database);
        options.metrics = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        options.store.pool_size = pool_size;
        options.requests = limits;
        let server = Server::start(options).await.unwrap();
        within("the first state", server.ready()).await;
        let channel = connect(&server).await;
        Self { server, channel }
    }

    pub async fn scrape(&self) -> Scrape {
        Scrape::of(self.server.metrics_address().unwrap()).await
    }

    /// Waits until so many calls of a kind are in flight.
    pub async fn in_flight(&self, kind: &str, count: u64) {
        let name = format!("halyard_request_slots_taken{{kind=\"{kind}\"}}");
        eventually("calls in flight", async || {
            (self.scrape().await.count(&name) == count).then_some(())
        })
        .await;
    }

    pub async fn refused(&self, reason: &str) -> u64 {
        let name = format!("halyard_requests_refused_total{{reason=\"{reason}\"}}");
        self.scrape().await.count(&name)
    }
}

/// Locks the rows that every change of an environment needs.
pub async fn lock_heads(client: &mut Client) -> Transaction<'_> {
    let lock = client.transaction().await.unwrap();
    let sql = "select from environment_heads for update";
    lock.batch_execute(sql).await.unwrap();
    lock
}

/// Waits until so many statements wait for a lock.
pub async fn waiting_for_locks(observer: &Client, count: i64) {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("statements that wait for a lock", async || {
        let waiting: i64 = observer.query_one(sql, &[]).await.unwrap().get(0);
        (waiting == count).then_some(())
    })
    .await;
}

/// Waits until PostgreSQL is at nothing, and in no transaction, but the one that locks. Everything else in this database is asked
/// for a moment only.
pub async fn nothing_is_left(observer: &Client) {
    let sql = "
        select count(*) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
            and query not like '%environment_heads for update' and query not like 'lock table%'";
    eventually("an end of all statements", async || {
        let left: i64 = observer.query_one(sql, &[]).await.unwrap().get(0);
        (left == 0).then_some(())
    })
    .await;
}
