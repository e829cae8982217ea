//! Every field of a line in the log is told of, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{read, root};

const EVENTS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];
const SPANS: [&str; 5] = [
    "error_span!(",
    "warn_span!(",
    "info_span!(",
    "debug_span!(",
    "trace_span!(",
];

/// The arguments of a macro, from behind its opening parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let (mut arguments, mut argument, mut depth, mut quoted) = (Vec::new(), String::new(), 0, false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if quoted => {
                argument.push(c);
                argument.extend(characters.next());
                continue;
            }
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(std::mem::take(&mut argument));
                continue;
            }
            _ => {}
        }
        argument.push(c);
    }
    arguments.push(argument);
    let trimmed = arguments.into_iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// The fields that the calls of a macro write.
fn fields(code: &str, name: &str, is_span: bool) -> Vec<String> {
    let mut fields = Vec::new();
    for (at, _) in code.match_indices(name) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        // A span's first argument is its name.
        for argument in arguments(&code[at + name.len()..])
            .into_iter()
            .skip(usize::from(is_span))
        {
            if argument.starts_with('"') {
                break;
            }
            if argument.starts_with("target:") || argument.starts_with("parent:") {
                continue;
            }
            let field = argument.trim_start_matches(['?', '%', '&']);
            let end = field.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            fields.push(field[..end.unwrap_or(field.len())].to_owned());
        }
    }
    fields
}

/// Every field with one of the files that write it.
fn written() -> BTreeMap<String, String> {
    let mut written = BTreeMap::new();
    collect(&root("src"), &mut written);
    written
}

fn collect(folder: &Path, written: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, written);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        let of = |names: [&str; 5], is_span| names.map(|name| fields(&code, name, is_span)).concat();
        for field in [of(EVENTS, false), of(SPANS, true)].concat() {
            written.insert(field, path.display().to_string());
        }
    }
}

fn documented() -> BTreeSet<String> {
    let text = read("docs/logs.md");
    let (_, table) = text.split_once("## All fields").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

#[test]
fn every_field_is_in_the_table_and_every_row_is_a_field() {
    let (written, documented) = (written(), documented());
    assert!(written.len() > 40, "{written:?}");
    let untold: Vec<_> = written
        .iter()
        .filter(|(field, _)| !documented.contains(*field))
        .collect();
    assert!(
        untold.is_empty(),
        "docs/logs.md does not tell of these fields, which these files write: {untold:?}"
    );
    for field in &documented {
        assert!(
            written.contains_key(field),
            "docs/logs.md tells of {field}, which nothing writes"
        );
    }
}

#[test]
fn no_field_takes_the_place_of_what_every_line_has() {
    for reserved in ["message", "level", "target", "timestamp", "span"] {
        assert!(!written().contains_key(reserved), "{reserved}");
    }
}

#[test]
fn fields_are_found_however_they_are_written() {
    let code = r#"
        tracing::warn!(error = &error as &dyn Error, a, ?b, %c, d = f(1, 2), "text, more = {x}");
        let span = info_span!("name", task = name);
        other_warn!(not_one);
        info!("only a message");
    "#;
    let events = EVENTS.map(|name| fields(code, name, false)).concat();
    assert_eq!(events, ["error", "a", "b", "c", "d"]);
    assert_eq!(SPANS.map(|name| fields(code, name, true)).concat(), ["task"]);
}
