//! One question put to Halyard and to the engines of the registry that users would pick: `make bench-peers`.
//!
//! Every engine has its rules compiled beforehand, as a server or an SDK has. The engines take turns, and each figure is the
//! median of its turns: what else the machine does touches all of them, so the ratios count.

mod datalogic;
mod halyard_engine;
mod question;
mod yggdrasil;

use std::hint::black_box;
use std::time::{Duration, Instant};

use question::{CONTEXT, Rules};

/// The same allocator for all, a fast one: some allocate on every evaluation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TURNS: usize = 21;
const TURN: Duration = Duration::from_millis(60);
/// So many evaluations between two looks at the clock.
const BATCH: u32 = 1_000;

/// One way of asking one engine: returns whether the context is served `on`.
pub struct Contender {
    name: &'static str,
    ask: Box<dyn FnMut() -> bool>,
}

impl Contender {
    pub fn new(name: &'static str, ask: impl FnMut() -> bool + 'static) -> Self {
        let ask = Box::new(ask);
        Self { name, ask }
    }

    /// Nanoseconds an evaluation.
    fn turn(&mut self) -> f64 {
        let begun = Instant::now();
        let mut count = 0_u32;
        while begun.elapsed() < TURN {
            for _ in 0..BATCH {
                black_box((self.ask)());
            }
            count += BATCH;
        }
        begun.elapsed().as_nanos() as f64 / f64::from(count)
    }
}

fn main() {
    for rules in [Rules::One, Rules::Three] {
        let (parsed, text) = contenders(rules);
        report(&format!("{}, the context parsed before", rules.title()), parsed);
        report(&format!("{}, the context read from JSON text", rules.title()), text);
    }
    println!("The context: {CONTEXT}");
}

/// Those with a context that was parsed before, and those that read it every time.
fn contenders(rules: Rules) -> (Vec<Contender>, Vec<Contender>) {
    let all = [
        halyard_engine::contenders(rules),
        yggdrasil::contenders(rules),
        datalogic::contenders(rules),
    ];
    let mut parted = (Vec::new(), Vec::new());
    for (parsed, text) in all {
        parted.0.extend(parsed);
        parted.1.extend(text);
    }
    parted
}

fn report(title: &str, mut contenders: Vec<Contender>) {
    let mut turns = vec![Vec::with_capacity(TURNS); contenders.len()];
    for _ in 0..TURNS {
        for (contender, times) in contenders.iter_mut().zip(&mut turns) {
            times.push(contender.turn());
        }
    }
    let medians: Vec<_> = turns.iter_mut().map(|times| median(times)).collect();
    println!("### {title}\n\n| engine | ns | to Halyard |\n| --- | --- | --- |");
    for (contender, median) in contenders.iter().zip(&medians) {
        println!("| {} | {median:.0} | {:.2} × |", contender.name, median / medians[0]);
    }
    println!();
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
