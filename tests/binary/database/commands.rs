//! The program over TLS: every connection of a server, the commands, and what they say when there is none.

use std::collections::BTreeMap;

use rustix::process::Signal;

use super::encrypted::Encrypted;
use crate::serve::free_address;
use crate::support::cluster::database;
use crate::support::eventually;
use crate::support::program::{Program, halyard, run_halyard};

const SIGNING_KEY: (&str, &str) = ("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more");

#[tokio::test]
async fn every_connection_of_a_server_and_of_every_command_is_encrypted() {
    let server = Encrypted::start().await;
    let url = server.verified();
    let variables = [
        SIGNING_KEY,
        ("DATABASE_URL", url.as_str()),
        ("HALYARD_ADMIN_PASSWORD", "correct horse battery staple"),
    ];
    // The server accepts no others over TCP, and there is no other way to it.
    run_halyard(&["migrate"], &variables).done();
    run_halyard(&["create-admin", "--email", "ada@example.com"], &variables).done();
    run_halyard(&["audit", "verify"], &variables).done();
    assert!(
        !run_halyard(&["audit", "export", "--instance"], &variables)
            .done()
            .is_empty()
    );

    let address = free_address();
    let mut command = halyard();
    command
        .args(["serve", "--drain-window", "0s", "--listen", &address])
        .envs(variables);
    let mut program = Program::start(command);
    let look = server.look().await;
    let listed = "select application_name, bool_and(ssl) from pg_stat_activity join pg_stat_ssl using (pid)
        where application_name like 'halyard%' group by 1";
    let connections = async || {
        let rows = look.query(listed, &[]).await.unwrap();
        let rows = rows.iter().map(|row| (row.get(0), row.get(1)));
        rows.collect::<BTreeMap<String, bool>>()
    };
    let all = eventually("its connections", async || {
        let all = connections().await;
        ["halyard", "halyard feed", "halyard listener"]
            .iter()
            .all(|name| all.contains_key(*name))
            .then_some(all)
    })
    .await;
    assert!(all.values().all(|encrypted| *encrypted), "{all:?}");
    program.signal(Signal::TERM);
    let (status, log) = program.ends();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_said_with_what_to_do() {
    let server = Encrypted::start().await;
    for (host, options, words) in [
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={}", server.other_ca),
            "give the certificate of the one that signed it in sslrootcert",
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={}", server.ca),
            "subject alternative names",
        ),
        ("localhost", "sslmode=disable".to_owned(), "no encryption"),
    ] {
        let url = server.url(host, &options).replace("postgres@", "postgres:hunter2@");
        let said = run_halyard(&["migrate"], &[("DATABASE_URL", &url)]).refused(1);
        assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
        assert!(
            said.contains(&format!("PostgreSQL at {host}:{}", server.port)),
            "{said}"
        );
    }
}

#[test]
fn a_connection_string_that_is_not_understood_is_a_wrong_configuration_and_not_shown() {
    for (url, words) in [
        (
            "postgres://u:hunter2@h/d?sslmode=hunter2",
            "none of disable, prefer, require",
        ),
        (
            "postgres://u:hunter2@h/d?sslmode=verify-full",
            "does not say whom to trust",
        ),
        ("postgres://u:hunter2/@h/d?sslmode=require", "percent-encoded"),
        (
            "host=h password=hunter2;sslmode=require",
            "inside of another option's value",
        ),
    ] {
        let said = run_halyard(&["serve", "--listen", "hunter3"], &[SIGNING_KEY, ("DATABASE_URL", url)]).refused(64);
        // With everything else that is wrong.
        assert!(said.contains(words) && said.contains("--listen is not"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_password_may_come_alone() {
    let database = database().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let file = file.to_str().unwrap();
    // The private server of the tests asks for none, so that it goes through.
    let url = ("DATABASE_URL", database.url.as_str());
    run_halyard(&["migrate"], &[url, ("HALYARD_DATABASE_PASSWORD", "hunter2")]).done();
    run_halyard(&["migrate", "--database-password-file", file], &[url]).done();
    run_halyard(&["migrate", "--database-password", "hunter2"], &[url]).refused(64);
    let with_another = ("DATABASE_URL", "postgres://u:hunter3@h/d");
    let said = run_halyard(&["migrate", "--database-password-file", file], &[with_another]).refused(64);
    assert!(said.contains("another one is given beside it"), "{said}");
    assert!(!said.contains("hunter"), "{said}");
    let said = run_halyard(&["migrate", "--embedded", "--database-password-file", file], &[]).refused(64);
    assert!(said.contains("--database-password-file means nothing"), "{said}");
}
