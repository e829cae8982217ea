//! The dashboard and the alerts ask for nothing that is not there.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{documented, promql, read};

/// The rows that operators look for.
const ROWS: [&str; 7] = [
    "Requests",
    "Evaluations",
    "Feed and staleness",
    "Streams",
    "Database",
    "Limits and TLS",
    "Process",
];

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read("docs/dashboard.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["type"], "datasource");
    dashboard["panels"].as_array().unwrap().clone()
}

#[test]
fn panels_ask_for_metrics_and_labels_that_exist() {
    let metrics = documented();
    let mut asked = 0;
    for panel in panels() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let selectors = promql::check(target["expr"].as_str().unwrap(), &metrics);
            assert!(selectors > 0, "{target}");
            asked += selectors;
        }
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn panels_have_the_chosen_data_source_places_of_their_own_and_a_description() {
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = &panel["gridPos"];
        let number = |name: &str| place[name].as_u64().unwrap();
        assert!(number("x") + number("w") <= 24, "{panel}");
        for y in number("y")..number("y") + number("h") {
            for x in number("x")..number("x") + number("w") {
                assert!(places.insert((x, y)), "two panels at {x}, {y}: {panel}");
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
            assert!(!panel["description"].as_str().unwrap().is_empty());
            assert!(!panel["targets"].as_array().unwrap().is_empty());
        }
    }
}

#[test]
fn the_rows_are_those_that_operators_look_for() {
    let panels = panels();
    let rows = panels.iter().filter(|panel| panel["type"] == "row");
    let titles: Vec<_> = rows.map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ROWS);
}

/// The expressions of the rules: on the line of their key, or folded below it.
fn rules(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut rules = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix("expr:") else {
            continue;
        };
        let rest = rest.trim();
        if rest != ">-" {
            rules.push(rest.to_owned());
            continue;
        }
        let below = lines[n + 1..].iter().take_while(|below| indent(below) > indent(line));
        rules.push(below.map(|line| line.trim()).collect::<Vec<_>>().join(" "));
    }
    rules
}

#[test]
fn alerts_ask_for_metrics_and_labels_that_exist() {
    let text = read("docs/alerts.yaml");
    let metrics = documented();
    let rules = rules(&text);
    assert_eq!(rules.len(), text.matches("- alert: ").count());
    assert!(rules.len() >= 10, "{}", rules.len());
    for rule in &rules {
        assert!(promql::check(rule, &metrics) > 0, "{rule}");
    }
    // What a description names exists too.
    for (at, _) in text.match_indices("halyard_") {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap();
        let name = &rest[..end];
        if !metrics.contains_key(name) {
            promql::check(name, &metrics);
        }
    }
}
