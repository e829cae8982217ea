//! The table of limits in the documentation is the code's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// `name → value`, as the module says it.
fn constants(source: &str) -> BTreeMap<String, u64> {
    let lines = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(':').unwrap();
            let (_, value) = rest.split_once('=').unwrap();
            (name.to_owned(), product(value.trim().trim_end_matches(';')))
        })
        .collect()
}

/// Numbers, products and the one power of two less one.
fn product(text: &str) -> u64 {
    if text == "(1 << 31) - 1" {
        return (1 << 31) - 1;
    }
    let factors = text.split('*').map(|factor| factor.trim().replace('_', ""));
    factors
        .map(|factor| factor.parse::<u64>().unwrap_or_else(|_| panic!("{text}")))
        .product()
}

/// `name → value`, as the table says it.
fn rows(table: &str) -> BTreeMap<String, u64> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (name, rest) = row.split_once('`').unwrap();
        let value = rest.trim_end_matches(" |").rsplit('|').next().unwrap();
        (name.to_owned(), value.trim().parse().unwrap())
    })
    .collect()
}

#[test]
fn the_documented_limits_are_the_codes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = constants(&fs::read_to_string(root.join("src/domain/limits.rs")).unwrap());
    let documented = rows(&fs::read_to_string(root.join("docs/limits.md")).unwrap());
    assert!(code.len() > 20, "{code:?}");
    assert_eq!(documented, code);
}
