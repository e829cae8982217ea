//! What is documented is what is exposed, and alerts ask for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::sidecars::measured_sidecar;
use super::{scrape, start};
use crate::app::{App, evaluate};
use crate::support::{Scrape, within};

/// Labels whose values the table does not list: those of what there is.
const OPEN: [&str; 5] = ["version", "service", "method", "project", "environment"];

/// A family as the table tells it.
#[derive(Debug, PartialEq, Eq)]
struct Family {
    kind: String,
    /// Where it is: at servers, at sidecars.
    at: BTreeSet<String>,
    /// The label and its values. Empty: there is none.
    labels: BTreeSet<String>,
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// `| `name` | type | at | labels | meaning |`
fn documented() -> BTreeMap<String, Family> {
    let text = read("docs/metrics.md");
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `halyard_") || line.starts_with("| `process_"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, at, labels, meaning] = cells[..] else {
            panic!("not five cells: {row}");
        };
        assert!(!meaning.is_empty(), "{row}");
        let family = Family {
            kind: kind.to_owned(),
            at: words(at),
            labels: words(labels),
        };
        (name.trim_matches('`').to_owned(), family)
    })
    .collect()
}

/// The words of a cell, without what holds them together.
fn words(cell: &str) -> BTreeSet<String> {
    let words = cell.split([',', ':', ' ']).map(|word| word.trim_matches('`'));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn exposed(scrape: &Scrape, at: &str, families: &mut BTreeMap<String, Family>) {
    let names = scrape.names();
    for (family, kind) in &scrape.types {
        let (name, sample) = match kind.as_str() {
            "counter" => (format!("{family}_total"), format!("{family}_total")),
            "info" => (format!("{family}_info"), format!("{family}_info")),
            "histogram" => (family.clone(), format!("{family}_bucket")),
            _ => (family.clone(), family.clone()),
        };
        assert!(!scrape.help[family].is_empty());
        if kind == "histogram" {
            // Without it Prometheus computes no quantiles.
            let last = ("le".to_owned(), "+Inf".to_owned());
            assert!(names[&sample].contains(&last), "{name} has no bucket without a bound");
        }
        let mut labels = BTreeSet::new();
        // Up to where buckets reach is no label of the family's.
        for (label, value) in names[&sample].iter().filter(|(label, _)| label != "le") {
            labels.insert(label.clone());
            if !OPEN.contains(&label.as_str()) {
                labels.insert(value.clone());
            }
        }
        let known = families.entry(name).or_insert_with(|| Family {
            kind: kind.clone(),
            at: BTreeSet::new(),
            labels: BTreeSet::new(),
        });
        assert_eq!(known.kind, *kind);
        known.at.insert(at.to_owned());
        known.labels.extend(labels);
    }
}

async fn both(app: &App) -> BTreeMap<String, Family> {
    let keys = app.shop().await;
    let (sidecar, address) = measured_sidecar(&format!("http://{}", app.server.address()), &keys.server).await;
    // What was never called or evaluated is not told.
    app.flag("f").await;
    within("a state", sidecar.sidecar.ready()).await;
    for channel in [&app.channel, &sidecar.channel] {
        evaluate(channel, &keys.server, "f", 0).await.unwrap();
    }
    let mut families = BTreeMap::new();
    exposed(&scrape(app).await, "server", &mut families);
    exposed(&Scrape::of(address).await, "sidecar", &mut families);
    sidecar.stop().await;
    families
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_what_is_exposed_and_alerts_ask_for_nothing_else() {
    let app = start(|_| ()).await;
    let exposed = both(&app).await;
    let documented = documented();
    for (name, family) in &exposed {
        assert_eq!(documented.get(name), Some(family), "{name}");
    }
    let not_exposed: Vec<_> = documented.keys().filter(|name| !exposed.contains_key(*name)).collect();
    assert!(not_exposed.is_empty(), "{not_exposed:?}");

    let alerts = read("docs/alerts.yaml");
    let asked = alerts.match_indices("halyard_").map(|(at, _)| {
        let rest = &alerts[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    let mut rules = 0;
    for name in asked {
        let of_histogram = name.strip_suffix("_bucket").or_else(|| name.strip_suffix("_count"));
        let family = of_histogram.unwrap_or(name);
        assert!(exposed.contains_key(family), "an alert asks for {name}");
        rules += 1;
    }
    assert!(rules >= 6, "the alerts are not where they are looked for");
}
