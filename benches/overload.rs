//! What a key that asks for too much does to another that does not: `cargo bench --bench overload`. The server keeps to one core, and
//! both loads to the other, the one that is too much with the lowest priority; they are the program's own, at a rate whatever is
//! answered. What is compared takes turns.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use support::numbers::median;
use support::process::{CLIENT, SERVER, keep_to};
use support::world::{FLAG, HALYARD, Replica, World};
use support::{Result, seconds, setting, table};

/// What each key may ask a second, where there is a limit.
const KEY_RATE: u32 = 2_000;
/// What the key asks a second that keeps to it.
const MODEST: u32 = 500;
/// What the other asks a second.
const FLOODS: [u32; 3] = [0, 10_000, 30_000];
/// How long either runs before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// One kind of turn, and what came of its turns.
struct Row {
    limited: bool,
    flood: u32,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// Of the flood, in a hundred.
    refused: Vec<f64>,
}

fn main() -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let time = seconds("BENCH_SECONDS", 4.0)?;
    let world = World::start()?;
    let replica = world.serve(SERVER, 1, &[])?;
    let administrator = world.administrator(&replica)?;
    let modest = world.furnish(&administrator)?;
    let greedy = world.another_key(&administrator)?;
    let limit = [("HALYARD_MAX_KEY_RATE", KEY_RATE.to_string())];
    let limited = world.serve_with(SERVER, 1, &limit)?;
    let kinds = FLOODS.map(|flood| (true, flood));
    let mut rows: Vec<_> = kinds.into_iter().chain([(false, 30_000)]).map(Row::new).collect();
    for _ in 0..rounds {
        for row in &mut rows {
            let replica = if row.limited { &limited } else { &replica };
            row.measure(replica, (&modest, &greedy), time)?;
        }
    }
    print(&rows);
    Ok(())
}

impl Row {
    fn new((limited, flood): (bool, u32)) -> Self {
        let (p50, p99, refused) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            limited,
            flood,
            p50,
            p99,
            refused,
        }
    }

    fn measure(&mut self, replica: &Replica, (modest, greedy): (&str, &str), time: Duration) -> Result<()> {
        // It begins before and ends after.
        let longer = time + 2 * WARM_UP;
        let flood = (self.flood > 0).then(|| ask(replica, (greedy, self.flood), longer, &["nice", "-n", "19"]));
        let asked = answers(ask(replica, (modest, MODEST), time, &[])?)?;
        if number(&asked, "/failed")? + number(&asked, "/missed")? > 0.0 {
            return Err(format!("who keeps to the limit was refused: {asked}").into());
        }
        self.p50.push(number(&asked, "/latency_ms/p50")?);
        self.p99.push(number(&asked, "/latency_ms/p99")?);
        if let Some(flood) = flood.transpose()? {
            let flood = answers(flood)?;
            // What could not even be sent is not counted: the load was less then.
            let sent = number(&flood, "/answered")? + number(&flood, "/failed")?;
            self.refused.push(100.0 * number(&flood, "/failed")? / sent);
        }
        Ok(())
    }
}

/// Starts to ask at a rate. `before` comes before the program.
fn ask(replica: &Replica, (key, rate): (&str, u32), time: Duration, before: &[&str]) -> Result<Child> {
    let mut words = before.iter().copied().chain([HALYARD, "bench", "evaluate", FLAG]);
    let mut command = Command::new(words.next().ok_or("no program")?);
    command
        .args(words)
        .args(["--endpoint", &format!("http://{}", replica.address)])
        .args([
            "--rate",
            &rate.to_string(),
            "--connections",
            "4",
            "--max-in-flight",
            "1000",
        ])
        .args(["--warm-up", &format!("{}s", WARM_UP.as_secs())])
        .args(["--duration", &format!("{}ms", time.as_millis())])
        .args([
            "--max-error-rate",
            "1",
            "--json",
            "--attribute",
            "country=NO",
            "--attribute",
            "plan=pro",
        ])
        .env("HALYARD_KEY", key)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    keep_to(CLIENT)?;
    Ok(command.spawn()?)
}

/// What came of it.
fn answers(asking: Child) -> Result<Value> {
    let output = asking.wait_with_output()?;
    let mut report: Value = serde_json::from_slice(&output.stdout)?;
    Ok(report["evaluate"].take())
}

fn number(report: &Value, path: &str) -> Result<f64> {
    let number = report.pointer(path).and_then(Value::as_f64);
    Ok(number.ok_or_else(|| format!("no {path} in {report}"))?)
}

fn print(rows: &[Row]) {
    let alone = &rows[0];
    let cells = rows.iter().map(|row| {
        let to_alone = row.p99.iter().zip(&alone.p99).map(|(beside, alone)| beside / alone);
        let of = |numbers: &Vec<f64>| median(numbers.iter().copied());
        vec![
            if row.limited {
                format!("{KEY_RATE} a second")
            } else {
                "none".to_owned()
            },
            if row.flood == 0 {
                "–".to_owned()
            } else {
                table::thousands(f64::from(row.flood))
            },
            if row.flood == 0 {
                "–".to_owned()
            } else {
                format!("{:.0} %", of(&row.refused))
            },
            format!("{:.2} / {:.2}", of(&row.p50), of(&row.p99)),
            format!("{:.2} ×", median(to_alone)),
        ]
    });
    let head = [
        "limit of a key",
        "the other key asks, per second",
        "refused",
        "p50 / p99 ms",
        "p99 to alone",
    ];
    let title = format!("A key that asks {MODEST} times a second, beside another");
    table::print(&title, &head, &cells.collect::<Vec<_>>());
}
