//! `docs/configuration.md` lists every option of every command. `REGENERATE=1 cargo test --lib documented_settings` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::config::setting::Setting;
use crate::config::subcommand::Subcommand;

const BEGIN: &str = "<!-- The table begins here. -->\n";

/// What is the same of an option in several commands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    name: &'static str,
    ways: Vec<String>,
    variables: Vec<String>,
    default: Option<&'static str>,
    help: &'static str,
}

fn row(setting: &Setting) -> Row {
    let files = |name: String| [setting.has_file().then(|| format!("{name}_FILE")), Some(name)];
    let variables = setting
        .variables()
        .into_iter()
        .flat_map(|name| files(name).into_iter().rev().flatten());
    Row {
        name: setting.name,
        ways: setting.ways(),
        variables: variables.collect(),
        default: setting.usual(),
        help: setting.help(),
    }
}

fn code(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

fn table() -> String {
    let mut rows: BTreeMap<Row, Vec<&str>> = BTreeMap::new();
    for (command, subcommand) in Subcommand::all() {
        for setting in subcommand.settings() {
            rows.entry(row(setting)).or_default().push(command);
        }
    }
    let mut table = "| option | commands | variables | default | what |\n|---|---|---|---|---|\n".to_owned();
    for (row, commands) in rows {
        let Row {
            name: _,
            ways,
            variables,
            default,
            help,
        } = row;
        let default = default.map(|default| format!("`{default}`")).unwrap_or_default();
        let (ways, variables, commands) = (code(&ways), code(&variables), commands.join(", "));
        let help = help.replace('|', r"\|");
        writeln!(table, "| {ways} | {commands} | {variables} | {default} | {help} |").unwrap();
    }
    table
}

#[test]
fn the_documented_settings_are_these() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, documented) = document.split_once(BEGIN).expect(BEGIN);
    let table = table();
    if std::env::var_os("REGENERATE").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}")).unwrap();
        return;
    }
    let wrong: Vec<_> = table.lines().filter(|line| !documented.contains(line)).collect();
    assert!(
        table == documented,
        "docs/configuration.md lacks these, or has others; REGENERATE=1 cargo test --lib documented_settings\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_row_says_all_that_there_is() {
    let table = table();
    for line in [
        "| `--listen ADDRESS` | dev | `HALYARD_LISTEN` | `127.0.0.1:50051` | The address and port to listen on |",
        "| `--listen ADDRESS` | serve | `HALYARD_LISTEN` | `0.0.0.0:50051` | The address and port to listen on |",
        "| `--sign-up` | serve, dev | `HALYARD_SIGN_UP` | `false` |",
        "| `--database-password-file PATH` | serve, migrate, create-admin, audit verify, audit export | `HALYARD_DATABASE_PASSWORD`, \
         `HALYARD_DATABASE_PASSWORD_FILE` |",
        "| `--signing-key KEY`, `--signing-key-file PATH` |",
    ] {
        assert!(table.contains(line), "{line} is not in\n{table}");
    }
}
