//! The layers hold: who may import whom, who alone may use which library, and which rooms are pure.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// A room, what it may import of ours, and the libraries that others may not use.
struct Room {
    name: &'static str,
    imports: &'static [&'static str],
    /// Places of other rooms that are open to it although the rooms are not.
    doors: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room {
        name: "domain",
        imports: &[],
        doors: &[],
    },
    Room {
        name: "evaluate",
        imports: &["domain"],
        doors: &[],
    },
    Room {
        name: "auth",
        imports: &["domain"],
        doors: &[],
    },
    Room {
        name: "watch",
        imports: &["domain", "evaluate"],
        doors: &[],
    },
    Room {
        name: "store",
        imports: &["domain", "evaluate", "trace"],
        doors: &["watch::source"],
    },
    Room {
        name: "issuer",
        imports: &["domain", "auth"],
        doors: &[],
    },
    Room {
        name: "upstream",
        imports: &["domain", "pb", "tls"],
        doors: &["watch::source", "watch::Token", "watch::Shown"],
    },
    Room {
        name: "rpc",
        imports: &["domain", "evaluate", "auth", "watch", "store", "issuer", "pb", "trace"],
        doors: &[],
    },
    Room {
        name: "embedded",
        imports: &[],
        doors: &[],
    },
    Room {
        name: "config",
        imports: &["auth", "domain", "embedded", "tls"],
        doors: &["store::connect"],
    },
    Room {
        name: "telemetry",
        imports: &["config"],
        doors: &[],
    },
    Room {
        name: "tls",
        imports: &[],
        doors: &[],
    },
    Room {
        name: "trace",
        imports: &["tls"],
        doors: &[],
    },
    Room {
        name: "shutdown",
        imports: &["telemetry"],
        doors: &[],
    },
    Room {
        name: "pb",
        imports: &[],
        doors: &["rpc::codec"],
    },
];
/// These wire everything together.
const FREE: &[&str] = &["server", "cli", "main", "lib"];

/// Libraries that only some rooms may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("tokio_postgres", &["store", "embedded", "server", "cli"]),
    ("deadpool_postgres", &["store"]),
    ("refinery", &["store"]),
    ("jsonwebtoken", &["auth"]),
    ("argon2", &["auth"]),
    ("reqwest", &["issuer"]),
    ("prometheus_client", &["server"]),
    // What leaves in spans is written in one place.
    ("opentelemetry", &["trace"]),
    ("opentelemetry_sdk", &["trace"]),
    ("opentelemetry_otlp", &["trace"]),
    ("hyper", &["server"]),
    ("h2", &["server"]),
    ("prost", &["rpc", "pb"]),
    ("prost_types", &["rpc", "pb", "upstream", "cli"]),
    // In `tls` for the address that a connector is asked for, which the transport must not take for its own to secure; in `trace` for the
    // channel to the collector.
    ("tonic", &["rpc", "pb", "upstream", "server", "cli", "tls", "trace"]),
    // In `rpc` for the threads that hash passwords, which give way to others; in `server` for the numbers of the process.
    ("rustix", &["embedded", "cli", "rpc", "server"]),
    // Values of conditions are parsed in one place, and compared in another.
    ("regex", &["domain", "evaluate"]),
    ("semver", &["domain", "evaluate"]),
    ("ipnet", &["domain", "evaluate"]),
    ("statrs", &["domain"]),
];

/// What a pure room must not contain.
const IMPURE: &[&str] = &[
    "async fn",
    ".await",
    "tokio",
    "std::time",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "std::fs",
    // Addresses are values like any other; what connects is not.
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "std::env",
    "getrandom",
    "fastrand",
    "new_v4",
    "now_v7",
];
const PURE: &[&str] = &["domain", "evaluate"];

#[test]
fn rooms_import_only_what_they_may() {
    let mut trespasses = Vec::new();
    for file in sources() {
        if FREE.contains(&file.room.as_str()) {
            continue;
        }
        let room = ROOMS.iter().find(|room| room.name == file.room);
        let room = room.unwrap_or_else(|| panic!("{} is in no known room; add it to the picture", file.path.display()));
        for (line, import) in file.imports() {
            let neighbour = import.split("::").next().unwrap_or_default();
            let allowed = neighbour == room.name
                || room.imports.contains(&neighbour)
                || room
                    .doors
                    .iter()
                    .any(|door| import == *door || import.starts_with(&format!("{door}::")));
            if !allowed {
                trespasses.push(format!(
                    "{}:{line}: {} imports {import}",
                    file.path.display(),
                    room.name
                ));
            }
        }
    }
    assert!(trespasses.is_empty(), "{}", trespasses.join("\n"));
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut trespasses = Vec::new();
    for file in sources() {
        for (library, rooms) in RESERVED {
            let uses = file.code().filter(|(_, line)| mentions(line, library));
            if !rooms.contains(&file.room.as_str()) {
                trespasses.extend(uses.map(|(n, _)| format!("{}:{n}: uses {library}", file.path.display())));
            }
        }
    }
    assert!(trespasses.is_empty(), "{}", trespasses.join("\n"));
}

#[test]
fn pure_rooms_are_pure() {
    let mut trespasses = Vec::new();
    for file in sources().into_iter().filter(|file| PURE.contains(&file.room.as_str())) {
        for (n, line) in file.code() {
            let found = IMPURE.iter().find(|word| line.contains(*word));
            trespasses.extend(found.map(|word| format!("{}:{n}: {word}", file.path.display())));
        }
    }
    assert!(trespasses.is_empty(), "{}", trespasses.join("\n"));
}

#[test]
fn status_codes_are_chosen_in_one_file() {
    let strays: Vec<_> = sources()
        .into_iter()
        .filter(|file| file.room == "rpc" && !file.path.ends_with("rpc/status.rs"))
        .flat_map(|file| {
            let path = file.path.display().to_string();
            let made = [
                "Status::new(",
                "Status::internal(",
                "Status::invalid_argument(",
                "Status::not_found(",
                "Status::unavailable(",
            ];
            let lines: Vec<_> = file
                .code()
                .filter(|(_, line)| made.iter().any(|call| line.contains(call)))
                .map(|(n, _)| n)
                .collect();
            lines.into_iter().map(move |n| format!("{path}:{n}"))
        })
        .collect();
    assert!(strays.is_empty(), "{}", strays.join("\n"));
}

#[test]
fn every_file_says_what_lives_in_it() {
    for file in sources() {
        assert!(
            file.text.starts_with("//!"),
            "{} does not open with a module doc",
            file.path.display()
        );
    }
}

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

impl Source {
    /// The lines of code with their numbers, without comments and without the tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let code = self.text.get(..tests).unwrap_or_default();
        let lines = code.lines().enumerate().map(|(n, line)| (n + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// What is imported from this crate, as paths behind `crate::`.
    fn imports(&self) -> Vec<(usize, String)> {
        let mut imports = Vec::new();
        for (n, line) in self.code() {
            for (at, _) in line.match_indices("crate::") {
                let path = line.get(at + "crate::".len()..).unwrap_or_default();
                if let Some(group) = path.strip_prefix('{') {
                    let names = group.trim_end_matches(['}', ';']).split(',');
                    imports.extend(names.map(|name| (n, name.trim().to_owned())));
                    continue;
                }
                let end = path
                    .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                    .unwrap_or(path.len());
                imports.push((n, path.get(..end).unwrap_or_default().trim_end_matches(':').to_owned()));
            }
        }
        imports
    }
}

fn mentions(line: &str, library: &str) -> bool {
    line.match_indices(library).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + library.len()..).unwrap_or_default();
        after.starts_with("::") && before.is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
    })
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    assert!(sources.len() > 20, "the sources are not where they are looked for");
    sources
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let within = path.strip_prefix(root).unwrap();
            let first = within.components().next().unwrap().as_os_str().to_string_lossy();
            sources.push(Source {
                room: first.trim_end_matches(".rs").to_owned(),
                text: fs::read_to_string(&path).unwrap(),
                path,
            });
        }
    }
}
