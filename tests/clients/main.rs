//! Clients in other languages: each generates or loads its stubs from `proto/` as its users would, and makes one journey, from a
//! login to a change that arrives on a stream, against the built binary. Two of them also certify it by the vectors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![allow(missing_docs, reason = "tests are named by what they show")]

mod rolling;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use support::cluster::Folder;
use support::program::{dev_with, run, with_dev_settings};

/// What `make test` prepares, and the command that makes the journey.
fn check(prepared: &str, journey: &str) {
    check_with(&[], prepared, journey);
}

/// The same, of a server with further options.
fn check_with(options: &[&str], prepared: &str, journey: &str) {
    assert!(
        Path::new(prepared).exists(),
        "{prepared} is missing; `make test` prepares it and everything else that the clients in other languages need"
    );
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

#[test]
fn a_go_program_makes_the_journey() {
    let journey = "export HALYARD_SERVICE_CONFIG=docs/service-config.json
        tests/clients/go/build && target/clients/go/flag-journey";
    check("target/tools/bin/protoc-gen-go-grpc", journey);
}
