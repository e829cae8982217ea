//! What operators are told is told of in the documentation, and what they are shown exists.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod dashboard;
mod logs;
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap()
}

/// The metrics of docs/metrics.md, with their type and the names of their labels. Another test keeps them equal to what is served.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = read("docs/metrics.md");
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `halyard_") || line.starts_with("| `process_"));
    let metrics: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let names = cells[3].split(':').next().unwrap().split(',');
            let names = names.map(|name| name.trim().trim_matches('`').to_owned());
            let labels = names.filter(|name| !name.is_empty()).collect();
            (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
        })
        .collect();
    assert!(metrics.len() > 40, "the table is not where it is looked for");
    metrics
}
