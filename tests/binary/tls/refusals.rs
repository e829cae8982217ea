//! What the files and options of TLS are refused for, before anything is started.

use std::fs;

use super::SIGNING_KEY;
use crate::support::cluster::Folder;
use crate::support::program::run_halyard;
use crate::support::tls::{Authority, Pair, text};

/// Refused as a configuration, in words that hold all of these; gives all that was said.
fn refused(arguments: &[&str], words: &[&str]) -> String {
    let variables = [SIGNING_KEY, ("DATABASE_URL", "postgres://127.0.0.1:1/none")];
    let said = run_halyard(arguments, &variables).refused(64);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    said
}

struct Files {
    folder: Folder,
    good: Pair,
    other: Pair,
    authority: Authority,
}

fn files() -> Files {
    let folder = Folder::new();
    let authority = Authority::new(&folder.path, "authority");
    Files {
        good: authority.pair(&folder.path, "good", &["localhost"]),
        other: authority.pair(&folder.path, "other", &["localhost"]),
        authority,
        folder,
    }
}

#[test]
fn a_certificate_without_its_key_is_refused_and_a_key_without_its_certificate() {
    let files = files();
    let (certificate, key) = (text(&files.good.certificate), text(&files.good.key));
    let missing = "--tls-key-file is missing (or HALYARD_TLS_KEY_FILE): --tls-certificate-file needs it";
    refused(&["serve", "--tls-certificate-file", certificate], &[missing]);
    let missing = "--tls-certificate-file is missing (or HALYARD_TLS_CERTIFICATE_FILE): --tls-key-file needs it";
    refused(&["serve", "--tls-key-file", key], &[missing]);
    refused(&["dev", "--tls-key-file", key], &[missing]);
    let health = ["health", "--endpoint", "https://localhost", "--own-key-file", key];
    refused(
        &health,
        &["--own-certificate-file is missing", "--own-key-file needs it"],
    );
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
    let files = files();
    let (certificate, key) = (text(&files.good.certificate), text(&files.good.key));
    let at = |name: &str, content: &str| {
        let path = files.folder.path.join(name);
        fs::write(&path, content).unwrap();
        text(&path).to_owned()
    };
    let absent = text(&files.folder.path.join("absent")).to_owned();
    let cut = fs::read_to_string(certificate).unwrap();
    let cut = at("cut", &cut[..cut.len() - 60]);
    let nonsense = at(
        "nonsense",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let encrypted = at(
        "encrypted",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let broken = at(
        "broken",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let two = fs::read_to_string(key).unwrap() + &fs::read_to_string(&files.other.key).unwrap();
    let two = at("two", &two);
    for (certificate, key, option, at_fault, words) in [
        (
            &*absent,
            key,
            "--tls-certificate-file",
            &*absent,
            "it cannot be read (entity not found)",
        ),
        (
            key,
            key,
            "--tls-certificate-file",
            key,
            "it holds no certificate; it has to be PEM",
        ),
        (
            &cut,
            key,
            "--tls-certificate-file",
            &cut,
            "its certificate number 1 cannot be read",
        ),
        (
            &nonsense,
            key,
            "--tls-certificate-file",
            &nonsense,
            "its certificate number 1 cannot be read",
        ),
        (
            certificate,
            certificate,
            "--tls-key-file",
            certificate,
            "it holds no private key; it has to be PEM",
        ),
        (
            certificate,
            &encrypted,
            "--tls-key-file",
            &encrypted,
            "its private key is encrypted",
        ),
        (
            certificate,
            &broken,
            "--tls-key-file",
            &broken,
            "its private key cannot be used",
        ),
        (
            certificate,
            &two,
            "--tls-key-file",
            &two,
            "it holds more than one private key",
        ),
        (
            certificate,
            text(&files.other.key),
            "--tls-key-file",
            text(&files.other.key),
            "does not belong to the certificate in",
        ),
    ] {
        let arguments = ["serve", "--tls-certificate-file", certificate, "--tls-key-file", key];
        let said = refused(&arguments, &[&format!("{option} names {at_fault}: "), words]);
        for file in [certificate, key] {
            let Ok(content) = fs::read_to_string(file) else {
                continue;
            };
            let lines = content
                .lines()
                .filter(|line| line.len() > 3 && !line.starts_with("-----"));
            for line in lines {
                assert!(!said.contains(line), "a line of {file} is in: {said}");
            }
        }
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let files = files();
    let absent = text(&files.folder.path.join("absent")).to_owned();
    let arguments = [
        "serve",
        "--tls-certificate-file",
        &absent,
        "--tls-key-file",
        &absent,
        "--tls-client-ca-file",
        text(&files.good.key),
        "--tls-client-certificates",
        "required",
        "--max-connections",
        "0",
        "--opening-timeout",
        "1",
        "--worker-threads",
        "0",
    ];
    let words = [
        "--max-connections is not a whole number",
        "--opening-timeout is not a duration",
        "--worker-threads",
        &format!("--tls-certificate-file names {absent}"),
        &format!("--tls-key-file names {absent}"),
        "--tls-client-ca-file names",
    ];
    refused(&arguments, &words);
    let arguments = [
        "serve",
        "--tls-client-certificates",
        "sometimes",
        "--tls-key-file",
        &absent,
    ];
    refused(
        &arguments,
        &["--tls-client-certificates is neither optional nor required"],
    );
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let files = files();
    let authority = text(&files.authority.file);
    refused(
        &["serve", "--tls-client-ca-file", authority],
        &["--tls-client-ca-file means nothing without TLS"],
    );
    refused(
        &["serve", "--tls-client-certificates", "optional"],
        &["--tls-client-certificates means nothing without --tls-client-ca-file"],
    );
    let health = [
        "health",
        "--endpoint",
        "http://localhost:1",
        "--server-ca-file",
        authority,
    ];
    refused(
        &health,
        &["--server-ca-file means nothing where nothing is asked over TLS"],
    );
    let socket = format!("unix:{}", text(&files.folder.path.join("socket")));
    let sidecar = [
        "sidecar",
        "--upstream",
        "https://localhost:1",
        "--listen",
        &socket,
        "--tls-certificate-file",
        text(&files.good.certificate),
        "--tls-key-file",
        text(&files.good.key),
        "--own-certificate-file",
        text(&files.good.certificate),
        "--own-key-file",
        text(&files.other.key),
    ];
    let words = [
        "--tls-certificate-file means nothing on a unix socket",
        "--own-key-file names",
        "does not belong to the certificate in",
    ];
    refused(&sidecar, &words);
}
