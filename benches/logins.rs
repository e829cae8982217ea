//! What guessing of passwords does to evaluations: `cargo bench --bench logins`. The server keeps to one core, and to both; what
//! is compared takes turns.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod support;

use std::time::Duration;

use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;

use support::flags::question;
use support::guesses::{self, From};
use support::load::{self, EVALUATE, Load, Outcome, Until};
use support::numbers::median;
use support::process::{CLIENT, SERVER, SHARED};
use support::world::{Replica, World};
use support::{Result, arguments, seconds, setting, table};

/// Connections and requests in flight on each: enough that the server never rests, few enough that waiting in its own line does
/// not hide what the logins add.
const SHAPE: (usize, usize) = (4, 2);

fn main() -> Result<()> {
    let arguments = arguments();
    match arguments.split_first() {
        Some((what, rest)) if what == "load" => load::run(rest),
        Some((what, rest)) if what == "guess" => guesses::run(rest),
        _ => measure(),
    }
}

fn measure() -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let time = seconds("BENCH_SECONDS", 3.0)?;
    let world = World::start()?;
    let key = world.furnish(&world.administrator(&world.serve(SHARED, 1, &[])?)?)?;
    for (title, cores, workers) in [
        (
            "the server on one core, evaluations and guesses from the other",
            SERVER,
            1,
        ),
        ("the server and everything else on both cores", SHARED, 2),
    ] {
        let replica = world.serve(cores, workers, &[])?;
        let clients = if workers == 1 { CLIENT } else { SHARED };
        let mut rows = [None, Some(From::One), Some(From::Many)].map(|from| (from, Vec::new()));
        for _ in 0..rounds {
            for (from, measured) in &mut rows {
                measured.push(turn(&replica, &key, *from, clients, time)?);
            }
        }
        print(title, &rows);
    }
    Ok(())
}

/// What evaluations took, and of how many guesses in a hundred the password was looked at.
type Measured = (Outcome, f64);

fn turn(replica: &Replica, key: &str, from: Option<From>, cores: &[usize], time: Duration) -> Result<Measured> {
    // Longer than the load with its warming up.
    let guessing = from.map(|from| guesses::start(cores, replica.address, from, time + Duration::from_secs(2)));
    let guessing = guessing.transpose()?;
    let load = Load {
        server: replica.address,
        credential: key.to_owned(),
        method: EVALUATE.to_owned(),
        message: hex::encode(pb::EvaluateRequest::encode_to_vec(&question())),
        units: 1,
        connections: SHAPE.0,
        in_flight: SHAPE.1,
        until: Until::Time(time),
    };
    let outcome = load.send(cores, &replica.process)?;
    let looked_at = guessing.map(guesses::end).transpose()?;
    Ok((outcome, looked_at.map_or(0.0, |answered| answered.looked_at)))
}

fn print(title: &str, rows: &[(Option<From>, Vec<Measured>)]) {
    let quiet = rows
        .first()
        .map(|(_, measured)| measured.as_slice())
        .unwrap_or_default();
    let cells = rows.iter().map(|(from, measured)| {
        let of = |number: fn(&Outcome) -> f64| median(measured.iter().map(|(outcome, _)| number(outcome)));
        let to_quiet = |number: fn(&Outcome) -> f64| {
            let ratios = measured.iter().zip(quiet);
            median(ratios.map(|((outcome, _), (quiet, _))| number(outcome) / number(quiet)))
        };
        let name = match from {
            None => "none",
            Some(From::One) => "from one address, at one account",
            Some(From::Many) => "from 50 addresses, at as many accounts",
        };
        vec![
            name.to_owned(),
            format!("{:.0} %", median(measured.iter().map(|(_, looked_at)| *looked_at))),
            table::thousands(of(|outcome| outcome.requests)),
            format!("{:.2} / {:.2}", of(|outcome| outcome.p50), of(|outcome| outcome.p99)),
            format!("{:.2} ×", to_quiet(|outcome| outcome.p99)),
        ]
    });
    let head = [
        "50 guesses a second",
        "looked at",
        "evaluations/s",
        "p50 / p99 ms",
        "p99 to none",
    ];
    table::print(title, &head, &cells.collect::<Vec<_>>());
}
