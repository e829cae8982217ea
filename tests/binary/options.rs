//! `docs/configuration.md` says what the program says of itself, and `--print-config` prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::program::run_halyard;

/// An option as somebody tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    variables: BTreeSet<String>,
    default: Option<String>,
}

type Options = BTreeMap<String, Told>;

const COMMANDS: [&str; 15] = [
    "serve",
    "dev",
    "sidecar",
    "migrate",
    "create-admin",
    "audit verify",
    "audit export",
    "health",
    "evaluate",
    "watch",
    "toggle",
    "bench evaluate",
    "bench watch",
    "bench write",
    "bench mixed",
];

/// What stands between two marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split_once(begin)?.1.split_once(end).map(|(within, _)| within)
}

/// What `--help` says of each option.
fn helped(command: &str) -> Options {
    let arguments: Vec<_> = command.split(' ').chain(["--help"]).collect();
    let help = run_halyard(&arguments, &[]).done();
    let mut paragraphs: Vec<String> = Vec::new();
    for line in help.lines() {
        // Text that happens to begin with the name of an option stands further to the right.
        let is_option = line.starts_with("      --") || line.starts_with("  -h,");
        let line = line.trim();
        match paragraphs.last_mut() {
            _ if is_option => paragraphs.push(line.to_owned()),
            Some(paragraph) if !line.is_empty() => paragraph.extend([" ", line]),
            _ => {}
        }
    }
    let options = paragraphs.iter().filter(|paragraph| paragraph.starts_with("--"));
    let told = options.map(|paragraph| {
        let name = paragraph.split([' ', '[', '=']).next().unwrap();
        let variables = between(paragraph, "[env: ", "]").unwrap_or_default();
        let told = Told {
            variables: variables
                .split(", ")
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            default: between(paragraph, "[default: ", "] [env")
                .or_else(|| between(paragraph, "[default: ", "]"))
                .map(str::to_owned),
        };
        (name.to_owned(), told)
    });
    told.collect()
}

fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What the table says of each command's options.
fn documented() -> BTreeMap<String, Options> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let document = fs::read_to_string(path).unwrap();
    let mut commands: BTreeMap<String, Options> = BTreeMap::new();
    for row in document.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (ways, variables, default) = (words(cells[0]), words(cells[2]), words(cells[3]).pop());
        let is_alone = ways.len() == 1;
        for way in &ways {
            let name = way.split(' ').next().unwrap();
            let is_file = way.ends_with(" PATH")
                && name.ends_with("-file")
                && variables.iter().any(|name| name.ends_with("_FILE"));
            let told = Told {
                variables: variables
                    .iter()
                    .filter(|variable| is_alone || variable.ends_with("_FILE") == is_file)
                    .cloned()
                    .collect(),
                default: default.clone().filter(|_| !is_file),
            };
            for command in cells[1].split(", ") {
                commands
                    .entry(command.to_owned())
                    .or_default()
                    .insert(name.to_owned(), told.clone());
            }
        }
    }
    commands
}

#[test]
fn the_documented_options_are_those_of_the_program() {
    let documented = documented();
    let documented_commands: Vec<_> = documented.keys().map(String::as_str).collect();
    let mut commands = COMMANDS.to_vec();
    commands.sort_unstable();
    assert_eq!(documented_commands, commands);
    for command in COMMANDS {
        let (mut expected, helped) = (documented[command].clone(), helped(command));
        // A switch is off by default, which the help need not say.
        for (name, told) in &mut expected {
            if told.default.as_deref() == Some("false")
                && helped.get(name).is_some_and(|helped| helped.default.is_none())
            {
                told.default = None;
            }
        }
        assert_eq!(expected, helped, "of {command}");
    }
}

#[test]
fn the_configuration_is_printed_and_nothing_is_started() {
    let variables = [
        (
            "DATABASE_URL",
            "postgres://ada:hunter2@127.0.0.1:1/flags?sslmode=require",
        ),
        ("HALYARD_SIGNING_KEY", "hunter2, which is long enough to sign with"),
    ];
    let printed = run_halyard(&["serve", "--print-config", "--heartbeat", "5s"], &variables).done();
    for line in [
        "database-url = \"PostgreSQL at 127.0.0.1:1, database flags, user ada, sslmode=require\"  # variable DATABASE_URL",
        "signing-key = ***  # variable HALYARD_SIGNING_KEY",
        "heartbeat = 5s  # argument",
        "listen = 0.0.0.0:50051  # default",
        "history-retention =  # not set",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line} is not in {printed}"
        );
    }
    assert!(!printed.contains("hunter2"), "{printed}");
    let said = run_halyard(&["serve", "--print-config", "--heartbeat", "5"], &variables).refused(64);
    assert!(said.contains("--heartbeat is not a duration"), "{said}");
}

/// A bound as the program writes it.
fn written(bound: &serde_json::Value) -> String {
    bound.as_str().map_or_else(|| bound.to_string(), str::to_owned)
}

#[test]
fn the_bounds_by_which_the_chart_refuses_values_are_the_programs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("helm/halyard/templates/_bounds.tpl");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("- "));
    let bounds: Vec<_> = lines
        .map(|line| {
            let bound: serde_json::Value = serde_json::from_str(line).unwrap();
            (
                written(&bound["option"]),
                written(&bound["least"]),
                written(&bound["most"]),
            )
        })
        .collect();
    assert!(bounds.len() > 35, "{bounds:?}");
    // Not all at once: so many mistakes are not told.
    for some in bounds.chunks(8) {
        // Too much of every duration, and too little of everything that is counted.
        let options = some.iter().map(|(option, least, _)| {
            let is_count = least.bytes().all(|byte| byte.is_ascii_digit());
            format!("--{option}={}", if is_count { "0" } else { "9999999h" })
        });
        let options: Vec<_> = options.collect();
        let arguments: Vec<_> = ["serve"]
            .into_iter()
            .chain(options.iter().map(String::as_str))
            .collect();
        let said = run_halyard(&arguments, &[]).refused(64);
        for (option, least, most) in some {
            let words = ["must lie", "is not a whole number", "is not a whole number of bytes"];
            let told = words.map(|words| format!("--{option} {words} between {least} and {most}"));
            assert!(told.iter().any(|told| said.contains(told)), "{told:?}: {said}");
        }
    }
}
