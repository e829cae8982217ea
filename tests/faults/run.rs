//! Runs faults: one for a short while in a test, all of them for longer with a seed.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use crate::checker::{self, Kind, Tolerance, Violation};
use crate::evidence::{Evidence, What};
use crate::harness::heal::Healed;
use crate::harness::notes::logs_of;
use crate::harness::world::World;
use crate::table::Entry;
use crate::{FAULTS, nemesis};

/// How long a fault goes on in its short pass.
const SHORT: Duration = Duration::from_secs(3);
/// How long in the long pass, unless `FAULTS_SECONDS` says so.
const LONG_SECONDS: u64 = 10;
const SEEDS: usize = 3;

/// What came of one run.
pub struct Row {
    name: &'static str,
    seed: u64,
    took: Duration,
    operations: usize,
    revisions: usize,
    streams: usize,
    convergence: Option<Duration>,
    violations: Vec<Violation>,
}

/// A short pass of one fault. `FAULTS_SEED` repeats one.
pub async fn short(name: &str) {
    let entry = FAULTS.iter().find(|entry| entry.name == name).expect("a fault");
    let seed = variable("FAULTS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let row = run(entry, seed, SHORT).await;
    println!("{HEADER}\n{}", row.line());
    assert!(row.violations.is_empty(), "{}", row.failure());
}

/// All faults and the nemesis, for every seed.
pub async fn long() {
    let seconds = variable("FAULTS_SECONDS").unwrap_or(LONG_SECONDS);
    let only = std::env::var("FAULTS_ONLY").unwrap_or_default();
    let seeds = variable("FAULTS_SEED").map_or_else(
        || std::iter::repeat_with(|| fastrand::u64(..)).take(SEEDS).collect(),
        |seed| vec![seed],
    );
    let mut rows = Vec::new();
    for seed in seeds {
        println!("seed {seed}\n{HEADER}");
        for entry in FAULTS.iter().chain([&nemesis::ENTRY]) {
            if !entry.name.contains(&only) {
                continue;
            }
            let row = run(entry, seed, Duration::from_secs(seconds)).await;
            println!("{}", row.line());
            if !row.violations.is_empty() {
                println!("{}", row.failure());
            }
            rows.push(row);
        }
    }
    println!("\n{HEADER}");
    for row in &rows {
        println!("{}", row.line());
    }
    let failed = rows.iter().filter(|row| !row.violations.is_empty()).count();
    println!("{} runs, {failed} failed", rows.len());
    assert_eq!(failed, 0, "promises were broken");
}

/// Runs one fault to its end; a panic is a violation too, so that there is a row of it.
async fn run(entry: &Entry, seed: u64, time: Duration) -> Row {
    let began = Instant::now();
    let outcome = AssertUnwindSafe(broken_and_healed(entry, seed, time))
        .catch_unwind()
        .await;
    let (healed, panicked) = match outcome {
        Ok(healed) => (healed, None),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|&words| words.to_owned()));
            let healed = Healed {
                evidence: Evidence::default(),
                convergence: None,
                remains: Vec::new(),
            };
            (healed, Some(words.unwrap_or_default()))
        }
    };
    let tolerance = Tolerance {
        heartbeat: (entry.setup)().heartbeat_tolerance,
    };
    let Healed {
        evidence,
        convergence,
        remains,
    } = healed;
    let mut violations = checker::check(&evidence, tolerance);
    let mut late = |words: String| {
        violations.push(Violation {
            kind: Kind::Late,
            words,
        });
    };
    remains.into_iter().for_each(&mut late);
    panicked.into_iter().for_each(&mut late);
    let bound = entry.promise.bound();
    if let Some(convergence) = convergence.filter(|convergence| *convergence > bound) {
        late(format!(
            "everybody held the head after {convergence:?}, the bound is {bound:?}"
        ));
    }
    let messages = evidence.recordings.iter().flat_map(|recording| &recording.seen);
    let last = evidence.eras.last();
    Row {
        name: entry.name,
        seed,
        took: began.elapsed(),
        operations: evidence.writes.len() + evidence.answers.len(),
        revisions: last.map_or(0, |era| era.logs.values().map(|log| log.revisions.len()).sum()),
        streams: messages.filter(|seen| matches!(seen.what, What::Opened { .. })).count(),
        convergence,
        violations,
    }
}

async fn broken_and_healed(entry: &Entry, seed: u64, time: Duration) -> Healed {
    let mut world = World::start(entry, seed, time).await;
    (entry.run)(&mut world).await;
    world.heal().await
}

const HEADER: &str = "fault                                              | took s | operations | revisions | streams | lost | torn | order | other | worst ms";

impl Row {
    fn line(&self) -> String {
        let counts = checker::count(&self.violations);
        let of = |kinds: &[Kind]| kinds.iter().filter_map(|kind| counts.get(kind)).sum::<usize>();
        let (lost, torn) = (of(&[Kind::Lost]), of(&[Kind::Torn]));
        let order = of(&[Kind::OutOfOrder, Kind::Duplicate]);
        let other = self.violations.len() - lost - torn - order;
        let worst = self
            .convergence
            .map_or("-".to_owned(), |time| time.as_millis().to_string());
        format!(
            "{:50} | {:6.1} | {:10} | {:9} | {:7} | {lost:4} | {torn:4} | {order:5} | {other:5} | {worst:>8}",
            self.name,
            self.took.as_secs_f64(),
            self.operations,
            self.revisions,
            self.streams
        )
    }

    /// What was broken, and how to see it again.
    fn failure(&self) -> String {
        let shown = self.violations.iter().take(20);
        let words: Vec<_> = shown.map(|violation| format!("  {violation}")).collect();
        format!(
            "{} broke {} promises with seed {seed}:\n{}\nlogs: {}\nagain: FAULTS_SEED={seed} FAULTS_ONLY={} make test-faults",
            self.name,
            self.violations.len(),
            words.join("\n"),
            logs_of(self.name).display(),
            self.name,
            seed = self.seed,
        )
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}
