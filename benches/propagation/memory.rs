//! What an idle client takes: on a connection of its own, and as one more stream of a connection.

use super::support::streams::Streams;
use super::support::world::Replica;
use super::support::{Result, table};
use super::{Bench, Shape, shaped};

/// Clients with connections of their own.
const ALONE: Shape = (4_000, 4_000);
/// Streams that share connections.
const TOGETHER: Shape = (10_000, 100);

/// In KiB of resident memory.
struct Each {
    client: f64,
    further_stream: f64,
}

pub fn measure() -> Result<()> {
    let bench = Bench::new()?;
    let b = bench.replica(&[])?;
    let bare = bench.service(&b, (1, 1))?.bare(&[])?;
    drop(b);
    let floor = Each {
        client: taken(&bench, &bare, ALONE)? / count(ALONE.0),
        further_stream: 0.0,
    };
    drop(bare);
    let b = bench.replica(&[])?;
    let ours = Each {
        client: taken(&bench, &b, ALONE)? / count(ALONE.0),
        further_stream: 0.0,
    };
    drop(b);
    let b = bench.replica(&[])?;
    let bare = bench.service(&b, (1, 1))?.bare(&[])?;
    let ours = ours.with_streams(taken(&bench, &b, TOGETHER)?);
    let floor = floor.with_streams(taken(&bench, &bare, TOGETHER)?);
    let row = |what: &str, shape, of: fn(&Each) -> f64| {
        vec![
            what.to_owned(),
            shaped(shape),
            format!("{:.1}", of(&ours)),
            format!("{:.1}", of(&floor)),
            format!("{:.2} ×", of(&ours) / of(&floor)),
        ]
    };
    let rows = [
        row("a client on a connection of its own", ALONE, |each| each.client),
        row("a further stream of a connection", TOGETHER, |each| each.further_stream),
    ];
    let head = [
        "KiB of resident memory",
        "streams / connections",
        "Halyard",
        "bare fan-out",
        "to floor",
    ];
    table::print("What an idle client takes", &head, &rows);
    Ok(())
}

impl Each {
    /// Of all that the streams took, what the first one of each connection takes is that of a client.
    fn with_streams(self, all: f64) -> Self {
        let (streams, connections) = TOGETHER;
        let first = self.client * count(connections);
        Self {
            further_stream: (all - first) / count(streams - connections),
            ..self
        }
    }
}

/// What streams make a server take, once they have had their first step.
fn taken(bench: &Bench, server: &Replica, (streams, connections): Shape) -> Result<f64> {
    let open = |streams, connections| {
        let opening = Streams::open(server.address, &bench.key, streams, connections);
        bench.runtime.block_on(opening)
    };
    // What the first clients make a server set up for good is not of the others.
    drop(open(10, 10)?);
    let before = server.process.resident_kib()?;
    let opened = open(streams, connections)?;
    let after = server.process.resident_kib()?;
    drop(opened);
    Ok(after - before)
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}
