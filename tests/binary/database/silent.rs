//! A PostgreSQL that accepts connections and says nothing, or nothing more: no command waits for it for ever.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use tokio_postgres::config::Host;

use crate::serve::free_address;
use crate::support::cluster::database;
use crate::support::program::{Program, halyard};

const COMMANDS: [&[&str]; 4] = [
    &["serve", "--drain-window", "0s"],
    &["migrate"],
    &["create-admin", "--email", "ada@example.com"],
    &["audit", "verify"],
];

/// Accepts, says this to what it is told first, and goes on listening. Returns its port.
fn silent_after(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            thread::spawn(move || {
                let mut said = [0; 4096];
                if connection.read(&mut said).is_ok_and(|length| length > 0) {
                    let _ = connection.write_all(answer);
                    while connection.read(&mut said).is_ok_and(|length| length > 0) {}
                }
            });
        }
    });
    port
}

/// What a command says and how it ends, if it does.
fn ends(arguments: &[&str], url: &str) -> (Option<i32>, String) {
    let mut command = halyard();
    command.args(arguments).envs([
        ("DATABASE_URL", url),
        ("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more"),
        ("HALYARD_ADMIN_PASSWORD", "correct horse battery staple"),
    ]);
    if arguments.first() == Some(&"serve") {
        command.args(["--listen", &free_address()]);
    }
    let (status, said) = Program::start(command).ends();
    (status.code(), said)
}

#[test]
fn who_accepts_and_says_nothing_is_named_with_what_was_waited_for() {
    let silent = silent_after(b"");
    for arguments in COMMANDS {
        let url = format!("postgres://u:hunter2@127.0.0.1:{silent}/d?connect_timeout=1");
        let (code, said) = ends(arguments, &url);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        let words = format!("127.0.0.1:{silent} accepted the connection and did not answer within 1s");
        assert!(said.contains(&words) && said.contains("connect_timeout"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn who_says_nothing_more_once_it_speaks_of_tls_is_not_waited_for_either() {
    let (yes, no) = (silent_after(b"S"), silent_after(b"N"));
    for (port, options, words) in [
        (yes, "connect_timeout=1", "did not end the handshake of TLS within 1s"),
        (
            yes,
            "sslmode=require&connect_timeout=1",
            "did not end the handshake of TLS within 1s",
        ),
        (no, "connect_timeout=1", "did not answer within 1s"),
        (no, "sslmode=disable&connect_timeout=1", "did not answer within 1s"),
        // What is not said is two seconds.
        (no, "application_name=x", "did not answer within 2s"),
    ] {
        let url = format!("postgres://u@127.0.0.1:{port}/d?{options}");
        let (code, said) = ends(&["migrate"], &url);
        assert_eq!(code, Some(1), "{options}: {said}");
        assert!(said.contains(words), "{options}: {said}");
    }
}

#[tokio::test]
async fn the_next_host_gets_its_turn() {
    let database = database().await;
    let config = &database.config;
    let [Host::Unix(folder)] = config.get_hosts() else {
        panic!("the cluster listens on a unix socket")
    };
    let url = format!(
        "host=127.0.0.1,{} port={},{} user={} dbname={} connect_timeout=1",
        folder.display(),
        silent_after(b""),
        config.get_ports().first().copied().unwrap_or(5432),
        config.get_user().unwrap(),
        config.get_dbname().unwrap(),
    );
    for arguments in [&["migrate"][..], &["audit", "verify"]] {
        let (code, said) = ends(arguments, &url);
        assert_eq!(code, Some(0), "{said}");
    }
}
