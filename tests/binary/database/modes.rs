//! Each `sslmode` against servers with TLS and without, by the right name and another, trusting the right authority and another.

use halyard::domain::email::Email;
use halyard::store::feed::Hints;
use halyard::store::users::NewAdministrator;
use halyard::store::{Actor, Caller, Settings, Store, migrate};

use super::encrypted::{Encrypted, Outcome, connect};
use crate::serve::free_address;
use crate::support::cluster::Folder;
use crate::support::eventually;
use crate::support::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Encrypted,
    Plain,
    /// In words that hold these.
    Failed(&'static str),
}
use Expected::{Encrypted as Tls, Failed, Plain};

const NAME: &str = "is not for the host that was connected to";
const AUTHORITY: &str = "is not signed by an authority that is trusted";
const NO_TLS: &str = "does not speak TLS";

async fn check(text: &str, expected: Expected) {
    let found = match connect(text).await {
        Outcome::Malformed(wrong) => panic!("{text}: {wrong}"),
        Outcome::Failed(why) => match expected {
            Failed(words) if why.contains(words) => return,
            Tls | Plain | Failed(_) => panic!("{text}: {why} instead of {expected:?}"),
        },
        Outcome::Connected(client) => {
            let asked = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            let row = client.query_one(asked, &[]).await.unwrap();
            if row.get("ssl") { Tls } else { Plain }
        }
    };
    assert_eq!(found, expected, "{text}");
}

#[tokio::test]
async fn each_mode_does_what_it_says() {
    let server = Encrypted::start().await;
    let (ca, other) = (
        format!("&sslrootcert={}", server.ca),
        format!("&sslrootcert={}", server.other_ca),
    );
    let (ca, other) = (ca.as_str(), other.as_str());
    for (mode, authority, by_name, by_address) in [
        ("disable", "", Failed("no encryption"), Failed("no encryption")),
        ("prefer", "", Tls, Tls),
        ("require", "", Tls, Tls),
        ("require", ca, Tls, Tls),
        ("require", other, Failed(AUTHORITY), Failed(AUTHORITY)),
        ("verify-ca", ca, Tls, Tls),
        ("verify-ca", other, Failed(AUTHORITY), Failed(AUTHORITY)),
        ("verify-full", ca, Tls, Failed(NAME)),
        ("verify-full", other, Failed(AUTHORITY), Failed(AUTHORITY)),
        (
            "verify-full",
            "&sslrootcert=system",
            Failed(AUTHORITY),
            Failed(AUTHORITY),
        ),
    ] {
        for (host, expected) in [("localhost", by_name), ("127.0.0.1", by_address)] {
            let options = format!("sslmode={mode}{authority}");
            check(&server.url(host, &options), expected).await;
            let pairs = options.replace('&', " ");
            let pairs = format!("host='{host}' port = {} user=postgres {pairs}", server.port);
            check(&pairs, expected).await;
        }
    }
    // Whoever says nothing gets it where it is to be had.
    check(&server.url("127.0.0.1", "application_name=x"), Tls).await;
    // Where the name to verify is one and the address another.
    let both = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=postgres sslmode=verify-full sslrootcert={}",
        server.port, server.ca
    );
    check(&both, Tls).await;
    // The first host has nobody who answers, the second does.
    let port = server.port;
    let two = format!("postgres://postgres@127.0.0.1:1,localhost:{port}/postgres?sslmode=verify-full{ca}");
    check(&two, Tls).await;
    // On a socket there is none, and it is not missed.
    let socket = server.folder();
    let socket = socket.display();
    check(
        &format!("host={socket} port={port} user=postgres sslmode=require"),
        Plain,
    )
    .await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_whoever_asks_for_it() {
    let folder = Folder::new();
    let port: u16 = free_address().rsplit(':').next().unwrap().parse().unwrap();
    let settings = ["listen_addresses=127.0.0.1", &format!("port={port}"), "fsync=off"];
    let mut server = Server::below(&folder.path, &settings);
    server.initialise();
    server.start().await;
    let ca = folder.path.join("ca.pem");
    let made = rcgen::generate_simple_self_signed(["authority".to_owned()]).unwrap();
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let ca = ca.display();
    for (options, expected) in [
        ("sslmode=disable".to_owned(), Plain),
        ("sslmode=prefer".to_owned(), Plain),
        ("sslmode=require".to_owned(), Failed(NO_TLS)),
        (format!("sslmode=require&sslrootcert={ca}"), Failed(NO_TLS)),
        (format!("sslmode=verify-ca&sslrootcert={ca}"), Failed(NO_TLS)),
        (format!("sslmode=verify-full&sslrootcert={ca}"), Failed(NO_TLS)),
    ] {
        check(
            &format!("postgres://postgres@127.0.0.1:{port}/postgres?{options}"),
            expected,
        )
        .await;
    }
}

#[tokio::test]
async fn a_certificate_is_shown_where_one_is_given() {
    let server = Encrypted::start().await;
    let (certificate, key) = &server.identity;
    for (options, expected) in [
        (String::new(), None),
        (
            format!("&sslcert={certificate}&sslkey={key}"),
            Some("/CN=halyard-client"),
        ),
    ] {
        let Outcome::Connected(client) = connect(&format!("{}{options}", server.verified())).await else {
            panic!("no connection with {options}");
        };
        let asked = "select client_dn from pg_stat_ssl where pid = pg_backend_pid()";
        let row = client.query_one(asked, &[]).await.unwrap();
        assert_eq!(row.get::<_, Option<&str>>("client_dn"), expected);
    }
}

/// A request to cancel comes on a connection of its own.
#[tokio::test]
async fn what_is_abandoned_is_cancelled_over_tls_too() {
    let server = Encrypted::start().await;
    let target = halyard::store::connect::parse(&server.verified()).unwrap();
    migrate::run(&target).await.unwrap();
    let store = Store::connect(&Settings::new(&target), Hints::new()).await.unwrap();
    let locker = server.look().await;
    locker
        .batch_execute("begin; lock table users in access exclusive mode")
        .await
        .unwrap();
    let creating = tokio::spawn(async move {
        let caller = Caller {
            actor: Actor::CommandLine,
            name: String::new(),
            credential: String::new(),
            peer: String::new(),
            reason: String::new(),
        };
        let new = NewAdministrator {
            id: uuid::Uuid::now_v7(),
            email: Email::new("ada@example.com").unwrap(),
            password_hash: String::new(),
        };
        store.create_administrator(caller, &new).await.map(drop)
    });
    let waiting = async || {
        let asked =
            "select count(*) from pg_stat_activity where application_name = 'halyard' and wait_event_type = 'Lock'";
        locker.query_one(asked, &[]).await.unwrap().get::<_, i64>(0)
    };
    eventually("a statement that waits", async || (waiting().await == 1).then_some(())).await;
    creating.abort();
    eventually("its end", async || (waiting().await == 0).then_some(())).await;
}
