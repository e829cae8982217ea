//! What an evaluation over gRPC costs, beside a bare tonic handler that reads the same request and gives the same answer:
//! `cargo bench --bench grpc_evaluate`; with `-- one` or `-- all`, only what one flag costs or all of an environment.
//!
//! The server keeps to one core and the load to the other, in processes of their own, and what is compared takes turns. Then both
//! share both cores, which decides on the shape of the runtimes. `cargo bench --bench grpc_evaluate -- instructions` counts
//! instructions per request in place of time, with valgrind: that does not depend on what else the machine does.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

#[path = "../support/mod.rs"]
mod support;

mod all;

use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;

use support::flags::question;
use support::floor::Shape;
use support::load::{self, EVALUATE, Load, Outcome, Until};
use support::numbers::median;
use support::process::{CLIENT, SERVER, SHARED};
use support::world::{Replica, World, floor};
use support::{Result, arguments, constant, floor as bare, observe, seconds, setting, table};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Connections and requests in flight on each, with the cores apart.
const APART: (usize, usize) = (4, 32);
/// The same with the cores shared.
const TOGETHER: (usize, usize) = (16, 16);

fn main() -> Result<()> {
    let arguments = arguments();
    match arguments.split_first() {
        Some((what, rest)) if what == "floor" => bare::run(rest),
        Some((what, rest)) if what == "load" => load::run(rest),
        Some((what, rest)) if what == "constant" => constant::run(rest),
        Some((what, _)) if what == "instructions" => count_instructions(),
        Some((what, _)) if what == "one" => measure(),
        Some((what, _)) if what == "all" => all::measure(),
        Some((what, _)) => Err(format!("{what} is none of one, all and instructions").into()),
        None => measure().and_then(|()| all::measure()),
    }
}

/// What takes turns.
struct Contender {
    name: &'static str,
    replica: Replica,
    credential: String,
    /// The method that is called, and its message.
    question: (&'static str, String),
    outcomes: Vec<Outcome>,
}

impl Contender {
    fn new(name: &'static str, replica: Replica, credential: &str) -> Self {
        Self {
            name,
            replica,
            credential: credential.to_owned(),
            question: (EVALUATE, hex::encode(question().encode_to_vec())),
            outcomes: Vec::new(),
        }
    }

    fn asked(self, method: &'static str, message: &impl prost::Message) -> Self {
        let question = (method, hex::encode(message.encode_to_vec()));
        Self { question, ..self }
    }

    fn load(&self, (connections, in_flight): (usize, usize), until: Until) -> Load {
        let (method, message) = &self.question;
        Load {
            server: self.replica.address,
            credential: self.credential.clone(),
            method: (*method).to_owned(),
            message: message.clone(),
            units: 1,
            connections,
            in_flight,
            until,
        }
    }
}

fn measure() -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let time = Until::Time(seconds("BENCH_SECONDS", 3.0)?);
    let (world, key, answer) = prepare()?;

    let mut apart = [
        Contender::new("bare tonic", floor(SERVER, Shape::PerCore(1), &answer, &[])?, &key),
        Contender::new("Halyard", world.serve(SERVER, 1, &[])?, &key),
    ];
    take_turns(&mut apart, APART, time, CLIENT, rounds)?;
    print(
        "Evaluate: server on one core, load on the other, 4 connections × 32 in flight",
        &apart,
    );
    drop(apart);

    let mut together = [
        Contender::new(
            "bare tonic, a runtime per core",
            floor(SHARED, Shape::PerCore(2), &answer, &[])?,
            &key,
        ),
        Contender::new(
            "bare tonic, work-stealing runtime",
            floor(SHARED, Shape::Stealing(2), &answer, &[])?,
            &key,
        ),
        Contender::new("Halyard, a runtime per core", world.serve(SHARED, 2, &[])?, &key),
    ];
    let time = Until::Time(seconds("BENCH_SECONDS", 2.0)?);
    take_turns(&mut together, TOGETHER, time, SHARED, rounds.min(5))?;
    print(
        "Evaluate: server and load share both cores, 16 connections × 16 in flight",
        &together,
    );
    Ok(())
}

/// The service's data, a key, and the service's answer for the floors to give.
fn prepare() -> Result<(World, String, Vec<String>)> {
    let world = World::start()?;
    let replica = world.serve(SHARED, 1, &[])?;
    let key = world.furnish(&world.administrator(&replica)?)?;
    let contender = Contender::new("", replica, &key);
    let answer = load::once(&contender.load((1, 1), Until::Requests(1)))?;
    let evaluation = pb::EvaluateResponse::decode(answer.clone())?
        .evaluation
        .ok_or("no answer")?;
    if (evaluation.reason(), evaluation.rule.as_str()) != (pb::Reason::Split, "third") {
        return Err(format!("not the answer that was prepared: {evaluation:?}").into());
    }
    Ok((world, key, vec![hex::encode(answer)]))
}

fn take_turns(
    contenders: &mut [Contender],
    shape: (usize, usize),
    until: Until,
    cores: &[usize],
    rounds: u32,
) -> Result<()> {
    for _ in 0..rounds {
        for contender in &mut *contenders {
            let load = contender.load(shape, until);
            let outcome = load.send(cores, &contender.replica.process)?;
            contender.outcomes.push(outcome);
        }
    }
    Ok(())
}

/// Medians; ratios are taken round by round with the first contender of the same round.
fn print(title: &str, contenders: &[Contender]) {
    let floor: &[Outcome] = contenders.first().map_or(&[], |first| &first.outcomes);
    let rows: Vec<_> = contenders
        .iter()
        .map(|Contender { name, outcomes, .. }| {
            let of = |number: fn(&Outcome) -> f64| median(outcomes.iter().map(number));
            let to_floor = |number: fn(&Outcome) -> f64| {
                median(
                    outcomes
                        .iter()
                        .zip(floor)
                        .map(|(outcome, floor)| number(outcome) / number(floor)),
                )
            };
            vec![
                (*name).to_owned(),
                table::thousands(of(|outcome| outcome.requests)),
                format!("{:.2} / {:.2}", of(|outcome| outcome.p50), of(|outcome| outcome.p99)),
                format!("{:.2}", of(|outcome| outcome.cpu)),
                format!("{:.0} %", 100.0 * to_floor(|outcome| outcome.requests)),
                format!("{:.2} ×", to_floor(|outcome| outcome.cpu)),
            ]
        })
        .collect();
    let head = [
        "server",
        "requests/s",
        "p50 / p99 ms",
        "server CPU µs/request",
        "requests to floor",
        "CPU to floor",
    ];
    table::print(title, &head, &rows);
}

/// Medians of several turns: how many requests share a system call differs from turn to turn.
fn count_instructions() -> Result<()> {
    const TURNS: u32 = 5;
    let (world, key, answer) = prepare()?;
    let (bare, ours) = ("floor", "halyard");
    let floor = floor(SERVER, Shape::PerCore(1), &answer, &observe::callgrind(bare))?;
    let halyard = world.serve(SERVER, 1, &observe::callgrind(ours))?;
    let contenders = [Contender::new(bare, floor, &key), Contender::new(ours, halyard, &key)];
    let mut counts = [Vec::new(), Vec::new()];
    for turn in 1..=TURNS {
        for (contender, counts) in contenders.iter().zip(&mut counts) {
            counts.push(per_request(contender, turn)?);
        }
    }
    let [floor, halyard] = counts.map(median);
    let row = |name: &str, count: f64| {
        vec![
            name.to_owned(),
            table::thousands(count),
            format!("{:.2} ×", count / floor),
        ]
    };
    let head = ["server", "instructions/request", "to floor"];
    let title = "Evaluate: instructions per request (callgrind)";
    table::print(title, &head, &[row("bare tonic", floor), row("Halyard", halyard)]);
    Ok(())
}

/// Counts between two dumps, so that neither the start nor the first requests count.
fn per_request(contender: &Contender, turn: u32) -> Result<f64> {
    const WARM_UP: u64 = 1_000;
    const REQUESTS: u32 = 5_000;
    let process = &contender.replica.process;
    contender.load(APART, Until::Requests(WARM_UP)).send(CLIENT, process)?;
    observe::zero(process)?;
    contender
        .load(APART, Until::Requests(REQUESTS.into()))
        .send(CLIENT, process)?;
    Ok(observe::instructions(process, contender.name, turn)? / f64::from(REQUESTS))
}
