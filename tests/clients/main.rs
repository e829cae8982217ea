//! Clients in other languages: each generates or loads its stubs from `proto/` as its users would, and makes one journey, from a
//! login to a change that arrives on a stream, against the built binary. Two of them also certify it by the vectors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and long ones report"
)]
#![allow(missing_docs, reason = "tests are named by what they show")]

mod load;
mod mixed;
mod replica;
mod rolling;
mod soak;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;

use std::path::Path;

use support::cluster::Folder;
use support::program::{dev_with, run, with_dev_settings};
use support::tls::{Authority, dev_over_tls};

fn prepared(path: &str) {
    assert!(
        Path::new(path).exists(),
        "{path} is missing; `make test` prepares it and everything else that the clients in other languages need"
    );
}

/// The same journey over TLS, with a client certificate that the server asks for.
fn check_over_tls(needed: &str, journey: &str) {
    prepared(needed);
    let folder = Folder::new();
    let (data, authority) = (folder.path.join("data"), Authority::new(&folder.path, "authority"));
    let own = authority.pair(&folder.path, "server", &["localhost", "127.0.0.1"]);
    let client = authority.pair(&folder.path, "client", &["client.example.org"]);
    let _server = dev_over_tls(&data, &own, &authority);
    let mut command = with_dev_settings(&data, journey);
    command.env("HALYARD_SERVER_CA_FILE", &authority.file);
    command.env("HALYARD_OWN_CERTIFICATE_FILE", &client.certificate);
    command.env("HALYARD_OWN_KEY_FILE", &client.key);
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

/// What `make test` prepares, and the command that makes the journey.
fn check(needed: &str, journey: &str) {
    check_with(&[], needed, journey);
}

/// The same, of a server with further options.
fn check_with(options: &[&str], needed: &str, journey: &str) {
    prepared(needed);
    let folder = Folder::new();
    let data = folder.path.join("data");
    let _server = dev_with(&data, options);
    let ended = run(with_dev_settings(&data, journey));
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn a_python_program_makes_the_journey() {
    let python = "target/clients/python/bin/python";
    check(python, &format!("{python} tests/clients/python/flag_journey.py"));
}

#[test]
fn a_node_program_makes_the_journey() {
    let modules = "target/clients/node/node_modules";
    check(
        modules,
        &format!("NODE_PATH={modules} node tests/clients/node/flag_journey.js"),
    );
}

/// As a browser would call: over gRPC-Web, from a page that may.
#[test]
fn a_page_makes_the_journey() {
    let modules = "target/clients/node/node_modules";
    let origin = "https://shop.example";
    let options = ["--cors-evaluation-origins", origin, "--cors-admin-origins", origin];
    let journey = format!("NODE_PATH={modules} node tests/clients/node/browser_journey.js");
    check_with(&options, modules, &journey);
}

#[test]
fn a_python_program_certifies_the_server() {
    let python = "target/clients/python/bin/python";
    check(python, &format!("{python} tests/clients/python/certify.py"));
}

#[test]
fn a_typescript_program_certifies_the_server() {
    let certify = "tests/clients/node/build && node target/clients/node/built/certify.js";
    check("target/clients/node/node_modules/typescript", certify);
}

/// One test, since both use what is built.
#[test]
fn a_go_program_makes_the_journey_in_clear_and_over_tls() {
    let journey = "export HALYARD_SERVICE_CONFIG=docs/service-config.json
        tests/clients/go/build && target/clients/go/flag-journey";
    check("target/tools/bin/protoc-gen-go-grpc", journey);
    check_over_tls("target/tools/bin/protoc-gen-go-grpc", journey);
}

#[test]
fn a_python_program_makes_the_journey_over_tls() {
    let python = "target/clients/python/bin/python";
    let journey = "tests/clients/python/flag_journey.py --stubs flag_journey_tls";
    check_over_tls(python, &format!("{python} {journey}"));
}
