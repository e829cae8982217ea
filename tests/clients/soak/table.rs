//! What the soak found: for people, and as one line of JSON.

use serde_json::{Value, json};

use super::lives::{Life, Told};
use super::memory::Memory;
use crate::mixed::{KINDS, Report};

pub fn print(report: &Report, told: &Told, memory: &Result<Memory, String>, (replaced, killed): (u64, u64)) {
    println!("\n| requests | answers | p50 / p90 / p99 / p99.9 / max ms |\n|---|---|---|");
    for kind in KINDS {
        let codes: Vec<_> = report
            .codes(kind)
            .map(|(code, count)| format!("{count} {code}"))
            .collect();
        let latency = &report.0["requests"][kind]["latency_ms"];
        let times = ["p50", "p90", "p99", "p999", "max"].map(|name| latency[name].to_string());
        println!("| {kind} | {} | {} |", codes.join(", "), times.join(" / "));
    }
    println!("\n{}", report.0["counts"]);
    println!(
        "{replaced} replaced, {killed} of them killed; standstills of the load: {}",
        report.0["standstills_s"]
    );

    println!(
        "\n| replica | from s | to s | end | RSS MiB: first / median / most / last | open files: most / last | answered | not OK |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for life in told.lives.iter().filter(|life| !life.samples.is_empty()) {
        row(life);
    }
    let mut connections = told.connections.clone();
    connections.sort_unstable();
    println!(
        "\nconnections to PostgreSQL: median {}, most {}",
        connections[connections.len() / 2],
        told.connections()
    );
    println!("memory of the one that lives on: {memory:#?}\n");
    println!("{}", as_json(report, told, memory, (replaced, killed)));
}

fn row(life: &Life) {
    let mib = |kib: f64| format!("{:.1}", kib / 1024.0);
    let (first, last) = (life.samples[0], life.samples[life.samples.len() - 1]);
    let mut resident: Vec<_> = life.samples.iter().map(|sample| sample.resident_kib).collect();
    resident.sort_by(f64::total_cmp);
    let files = life
        .samples
        .iter()
        .map(|sample| sample.open_files)
        .max()
        .unwrap_or_default();
    let ok = life.answered.get("OK").copied().unwrap_or_default();
    let others = life
        .answered
        .iter()
        .filter(|(code, count)| **code != "OK" && **count > 0.0);
    let others: Vec<_> = others.map(|(code, count)| format!("{count} {code}")).collect();
    println!(
        "| {} | {} | {} | {:?} | {} / {} / {} / {} | {files} / {} | {ok} | {} |",
        life.replica,
        first.at.as_secs(),
        last.at.as_secs(),
        life.ended,
        mib(first.resident_kib),
        mib(resident[resident.len() / 2]),
        mib(resident[resident.len() - 1]),
        mib(last.resident_kib),
        last.open_files,
        others.join(", "),
    );
}

fn as_json(report: &Report, told: &Told, memory: &Result<Memory, String>, (replaced, killed): (u64, u64)) -> Value {
    let lives = told.lives.iter().map(|life| {
        let samples = life.samples.iter();
        json!({
            "replica": life.replica,
            "ended": life.ended.map(|end| format!("{end:?}")),
            "answered": life.answered,
            "assignments_known": life.known,
            "samples": samples.map(|sample| json!([sample.at.as_secs(), sample.resident_kib, sample.open_files])).collect::<Vec<_>>(),
        })
    });
    json!({
        "load": report.0,
        "replaced": replaced,
        "killed": killed,
        "memory": memory.as_ref().ok(),
        "lives": lives.collect::<Vec<_>>(),
        "connections": told.connections,
    })
}
