//! What a delivered message costs in what hardly depends on the machine's other work: instructions, and system calls.

use super::support::toggles::Sender;
use super::support::world::Replica;
use super::support::{Result, observe, table};
use super::{Bench, SHAPES, Shape, WARM_UP, shaped};

/// The messages of a step: Begin, Item, Commit.
const MESSAGES: u32 = 3;

/// Between two dumps, so that neither the start nor the first steps count.
pub fn instructions() -> Result<()> {
    const STEPS: u32 = 20;
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    for shape in [(100, 20), (1_000, 20), (5_000, 50)] {
        let count = |sender: &mut Sender, server: &Replica, name: &str| {
            bench.steps(sender, WARM_UP)?;
            observe::zero(&server.process)?;
            bench.steps(sender, STEPS)?;
            Ok::<_, super::support::Error>(observe::instructions(&server.process, name, 1)? / messages(shape, STEPS))
        };
        let (ours, bare) = (format!("halyard.{}", shape.0), format!("floor.{}", shape.0));
        let b = bench.replica(&observe::callgrind(&ours))?;
        let mut sender = bench.service(&b, shape)?;
        let halyard = count(&mut sender, &b, &ours)?;
        let server = sender.bare(&observe::callgrind(&bare))?;
        drop((sender, b));
        let floor = count(&mut bench.floor(&server, shape)?, &server, &bare)?;
        rows.extend(compared(shape, halyard, floor, table::thousands));
    }
    let head = ["server", "streams / connections", "instructions/message", "to floor"];
    table::print("Instructions per delivered message (callgrind)", &head, &rows);
    Ok(())
}

/// While steps are made: neither the start nor the first steps count.
pub fn writes() -> Result<()> {
    const STEPS: u32 = 50;
    let bench = Bench::new()?;
    let b = bench.replica(&[])?;
    let mut rows = Vec::new();
    for shape in SHAPES {
        let count = |sender: &mut Sender, server: &Replica| {
            bench.steps(sender, WARM_UP)?;
            let writes = observe::writes(&server.process, || bench.steps(sender, STEPS).map(drop))?;
            Ok::<_, super::support::Error>(writes / messages(shape, STEPS))
        };
        let mut sender = bench.service(&b, shape)?;
        let halyard = count(&mut sender, &b)?;
        let bare = sender.bare(&[])?;
        drop(sender);
        let floor = count(&mut bench.floor(&bare, shape)?, &bare)?;
        rows.extend(compared(shape, halyard, floor, |writes| format!("{writes:.4}")));
    }
    let head = ["server", "streams / connections", "writes/message", "to floor"];
    table::print("System calls that write, per delivered message (strace)", &head, &rows);
    Ok(())
}

/// How many messages are delivered.
fn messages((streams, _): Shape, steps: u32) -> f64 {
    f64::from(u32::try_from(streams).unwrap() * steps * MESSAGES)
}

fn compared(shape: Shape, ours: f64, floor: f64, write: impl Fn(f64) -> String) -> [Vec<String>; 2] {
    let line = |name: &str, count: f64| {
        vec![
            name.to_owned(),
            shaped(shape),
            write(count),
            format!("{:.2} ×", count / floor),
        ]
    };
    [line("bare fan-out", floor), line("Halyard", ours)]
}
