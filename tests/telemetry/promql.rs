//! As much of PromQL as it takes to know which metrics and labels an expression names.

use std::collections::{BTreeMap, BTreeSet};

/// Labels that Prometheus adds, and that histograms have.
const GIVEN: [&str; 2] = ["job", "instance"];

/// Checks that an expression names only metrics that there are, and of each only labels that it has.
pub fn check(expression: &str, metrics: &BTreeMap<String, (String, BTreeSet<String>)>) -> usize {
    let selectors = selectors(expression);
    let mut allowed: BTreeSet<&str> = GIVEN.into();
    for (name, matched) in &selectors {
        let (labels, is_histogram) = labels(name, metrics).unwrap_or_else(|| panic!("no metric {name}: {expression}"));
        for label in matched {
            let known = labels.contains(label) || GIVEN.contains(&label.as_str());
            assert!(known, "{name} has no label {label}: {expression}");
        }
        allowed.extend(labels.iter().map(String::as_str));
        if is_histogram {
            allowed.insert("le");
        }
    }
    for label in grouped(expression) {
        assert!(
            allowed.contains(label.as_str()),
            "nothing has the label {label}: {expression}"
        );
    }
    selectors.len()
}

/// The labels of what a sample is called, and whether it has buckets.
fn labels<'a>(
    name: &str,
    metrics: &'a BTreeMap<String, (String, BTreeSet<String>)>,
) -> Option<(&'a BTreeSet<String>, bool)> {
    for suffix in ["_bucket", "_count", "_sum"] {
        if let Some((kind, labels)) = name.strip_suffix(suffix).and_then(|family| metrics.get(family)) {
            return (kind == "histogram").then_some((labels, suffix == "_bucket"));
        }
    }
    let (kind, labels) = metrics.get(name)?;
    // A histogram has no sample of its own name.
    (kind != "histogram").then_some((labels, false))
}

/// The samples that are asked for, each with the labels that it is chosen by.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for prefix in ["halyard_", "process_"] {
        for (at, _) in expression.match_indices(prefix) {
            let rest = &expression[at..];
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            let matchers = behind.strip_prefix('{').map(|inner| &inner[..inner.find('}').unwrap()]);
            let labels = matchers.map(names).unwrap_or_default();
            found.push((name.to_owned(), labels));
        }
    }
    found
}

/// The names before the comparisons of `a="b",c=~"d"`.
fn names(matchers: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut quoted = false;
    let mut name = String::new();
    for c in matchers.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            ',' => name.clear(),
            '=' | '!' | '~' => {
                if !name.is_empty() {
                    names.push(std::mem::take(&mut name));
                }
            }
            c if c.is_whitespace() => {}
            c => name.push(c),
        }
    }
    names
}

/// The labels of every `by (…)`.
fn grouped(expression: &str) -> Vec<String> {
    let groups = expression.match_indices("by (").map(|(at, by)| {
        let rest = &expression[at + by.len()..];
        &rest[..rest.find(')').unwrap()]
    });
    groups
        .flat_map(|group| group.split(','))
        .map(|label| label.trim().to_owned())
        .collect()
}

#[test]
fn what_does_not_exist_is_found() {
    let labels = BTreeSet::from(["code".to_owned()]);
    let metrics = BTreeMap::from([
        ("halyard_a_total".to_owned(), ("counter".to_owned(), labels.clone())),
        ("halyard_b_seconds".to_owned(), ("histogram".to_owned(), labels)),
    ]);
    for (expression, valid) in [
        (r#"sum by (code) (rate(halyard_a_total{code!="OK",job="x"}[5m]))"#, true),
        (
            "histogram_quantile(0.5, sum by (le) (rate(halyard_b_seconds_bucket[5m])))",
            true,
        ),
        ("halyard_b_seconds_sum / halyard_b_seconds_count", true),
        ("halyard_b_seconds", false),
        ("halyard_a", false),
        (r#"halyard_a_total{kind="x"}"#, false),
        ("sum by (kind) (halyard_a_total)", false),
        ("sum by (le) (halyard_a_total)", false),
    ] {
        let checked = std::panic::catch_unwind(|| check(expression, &metrics));
        assert_eq!(checked.is_ok(), valid, "{expression}");
    }
}
