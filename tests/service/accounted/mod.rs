//! No mutation without its audit entry: with the audit log refusing entries, every method that writes is refused whole, and with
//! the audit log working again the same requests are carried out, each with its entry.
//!
//! The methods come from the descriptor set: a new one without a row here fails the test.

mod people;
mod rows;

use futures_util::StreamExt as _;
use prost::Message as _;
use prost_types::method_options::IdempotencyLevel;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tonic::Code;

use self::rows::{Row, UNAUDITED, World};
use crate::app::App;
use crate::refusals::refused;
use crate::support::within;

/// Every method of administration that is not marked as one that only reads, without its package.
fn mutations() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(halyard::pb::DESCRIPTORS)
        .unwrap()
        .file;
    let ours = files.into_iter().filter(|file| file.package() == "halyard.admin.v1");
    let methods = ours.flat_map(|file| file.service).flat_map(|service| {
        let name = service.name().to_owned();
        service.method.into_iter().map(move |method| (name.clone(), method))
    });
    let writing = methods.filter(|(_, method)| {
        let options = method.options.clone().unwrap_or_default();
        options.idempotency_level() != IdempotencyLevel::NoSideEffects
    });
    writing
        .map(|(service, method)| format!("{service}/{}", method.name()))
        .collect()
}

/// Every row of every table.
async fn everything(sql: &Client) -> Vec<(String, String)> {
    // When credentials were last used is written by itself, now and then.
    let tables = "select tablename::text from pg_tables
        where schemaname = 'public' and tablename <> 'credential_uses' order by tablename";
    let mut contents = Vec::new();
    for row in sql.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let rows = format!("select coalesce(string_agg(t::text, e'\\n' order by t::text), '') from {table} t");
        let rows = sql.query_one(&rows, &[]).await.unwrap();
        contents.push((table, rows.get(0)));
    }
    contents
}

/// What the replicas tell each other from now on, but for what they ask themselves.
async fn notifications(app: &App) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (client, mut connection) = app.database.config.connect(NoTls).await.unwrap();
    let (send, receive) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(|context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(said) = message
                && !said.payload().starts_with("probe ")
            {
                let _ = send.send(said.payload().to_owned());
            }
        }
    });
    client.batch_execute("listen halyard").await.unwrap();
    (client, receive)
}

async fn number(sql: &Client, query: &str) -> i64 {
    sql.query_one(query, &[]).await.unwrap().get(0)
}

/// Every mutation that is audited.
fn audited() -> impl Iterator<Item = &'static Row> {
    rows::ROWS.iter().chain(rows::EXPERIMENTS).chain(people::ROWS)
}

#[test]
fn every_mutation_has_a_row() {
    let mut rows: Vec<_> = audited().chain(UNAUDITED).map(|row| row.method).collect();
    let mut described = mutations();
    rows.sort_unstable();
    described.sort_unstable();
    assert_eq!(rows, described);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mutation_is_carried_out_without_its_entry() {
    let world = World::new().await;
    let sql = world.app.database.client().await;
    let (_listening, mut notified) = notifications(&world.app).await;
    let refuse = "
        create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
        create trigger refuse before insert on audit_entries for each row execute function refuse()";
    sql.batch_execute(refuse).await.unwrap();

    let entries = async || number(&sql, "select count(*) from audit_entries").await;
    let unaudited = entries().await;
    for Row { method, call } in UNAUDITED {
        call(&world)
            .await
            .unwrap_or_else(|status| panic!("{method}: {status:?}"));
    }
    assert_eq!(entries().await, unaudited);

    let before = everything(&sql).await;
    for Row { method, call } in audited() {
        let status = call(&world).await.expect_err(method);
        assert_eq!(status.code(), Code::Internal, "{method}: {status:?}");
        refused::<()>(Err(status), Code::Internal);
        assert_eq!(everything(&sql).await, before, "{method}");
    }

    sql.batch_execute("drop trigger refuse on audit_entries").await.unwrap();
    for (n, Row { method, call }) in audited().enumerate() {
        let before = entries().await;
        call(&world)
            .await
            .unwrap_or_else(|status| panic!("{method}: {status:?}"));
        assert!(entries().await > before, "{method} has left no entry");
        if n == 0 {
            // The first thing that anyone is told of is the first that was carried out.
            let access = number(&sql, "select revision from access_head").await;
            let first = within("a notification", notified.recv()).await;
            assert_eq!(first, Some(format!("access {access}")));
        }
    }
}
