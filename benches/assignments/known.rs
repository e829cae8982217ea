//! An Evaluate whose assignment is known, and a plain one: the same server, the same question, the same conditions. What a split gives in
//! the third rule of the one flag, an experiment gives in its place for the other.

use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;

use crate::support::flags::question;
use crate::support::load::{self, EVALUATE, Load, Outcome, Until};
use crate::support::numbers::median;
use crate::support::process::{CLIENT, SERVER};
use crate::support::world::{FLAG, Replica, TESTED, World};
use crate::support::{Result, seconds, setting, table};

/// Units that ask in turn, of each kind.
const UNITS: u64 = 10_000;

pub fn measure() -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let time = Until::Time(seconds("BENCH_SECONDS", 3.0)?);
    let world = World::start()?;
    let replica = world.serve(SERVER, 1, &[])?;
    let administrator = world.administrator(&replica)?;
    let key = world.furnish(&administrator)?;
    world.experiment(&administrator)?;
    for flag in [FLAG, TESTED] {
        // Twice, so that each unit's first answer is long over.
        let all = Until::Requests(2 * UNITS);
        load(&replica, &key, flag, all).send(CLIENT, &replica.process)?;
    }
    check(&replica, &key)?;
    let (mut plain, mut known) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(load(&replica, &key, FLAG, time).send(CLIENT, &replica.process)?);
        known.push(load(&replica, &key, TESTED, time).send(CLIENT, &replica.process)?);
    }
    let row = |name: &str, outcomes: &[Outcome]| {
        let of = |number: fn(&Outcome) -> f64| median(outcomes.iter().map(number));
        let to_plain = |number: fn(&Outcome) -> f64| {
            let ratios = outcomes.iter().zip(&plain);
            median(ratios.map(|(outcome, plain)| number(outcome) / number(plain)))
        };
        vec![
            name.to_owned(),
            table::thousands(of(|outcome| outcome.requests)),
            format!("{:.2} / {:.2}", of(|outcome| outcome.p50), of(|outcome| outcome.p99)),
            format!("{:.2}", of(|outcome| outcome.cpu)),
            format!("{:.0} %", 100.0 * to_plain(|outcome| outcome.requests)),
            format!("{:.2} ×", to_plain(|outcome| outcome.cpu)),
        ]
    };
    let head = [
        "Evaluate",
        "requests/s",
        "p50 / p99 ms",
        "server CPU µs/request",
        "requests to plain",
        "CPU to plain",
    ];
    let rows = [row("plain", &plain), row("a known assignment", &known)];
    let title = format!("Server on one core, load on the other, 4 connections × 32 in flight, {UNITS} units in turn");
    table::print(&title, &head, &rows);
    Ok(())
}

fn load(replica: &Replica, key: &str, flag: &str, until: Until) -> Load {
    let request = pb::EvaluateRequest {
        flag: flag.to_owned(),
        ..question()
    };
    Load {
        server: replica.address,
        credential: key.to_owned(),
        method: EVALUATE.to_owned(),
        message: hex::encode(request.encode_to_vec()),
        units: UNITS,
        connections: 4,
        in_flight: 32,
        until,
    }
}

/// Whether it is what is to be compared.
fn check(replica: &Replica, key: &str) -> Result<()> {
    let answer = |flag| -> Result<pb::Evaluation> {
        let answer = load::once(&load(replica, key, flag, Until::Requests(1)))?;
        let evaluation = pb::EvaluateResponse::decode(answer)?.evaluation;
        Ok(evaluation.ok_or("no answer")?)
    };
    let (plain, known) = (answer(FLAG)?, answer(TESTED)?);
    let is_stored = known.experiment.as_ref().is_some_and(|part| part.assignment_stored);
    if plain.reason() == pb::Reason::Split && known.reason() == pb::Reason::Experiment && is_stored {
        Ok(())
    } else {
        Err(format!("not the answers that were prepared: {plain:?}, {known:?}").into())
    }
}
