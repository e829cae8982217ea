//! How long a toggle takes: one at a time goes through replica A, and the moment at which its Commit arrives is noted for every
//! stream of replica B.

use std::time::Instant;

use super::support::numbers::{median, percentile};
use super::support::toggles::Moments;
use super::support::{Result, setting, table};
use super::{Bench, SHAPES, Shape, WARM_UP, shaped};

pub fn measure() -> Result<()> {
    let (toggles, rounds) = (setting("BENCH_TOGGLES", 200)?, setting("BENCH_ROUNDS", 4)?.max(1));
    let bench = Bench::new()?;
    let b = bench.replica(&[])?;
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    for shape in SHAPES {
        let (mut ours, mut floors) = (Vec::new(), Vec::new());
        let mut compared = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let mut sender = bench.service(&b, shape)?;
            bench.steps(&mut sender, WARM_UP)?;
            let our_moments = bench.steps(&mut sender, toggles.div_ceil(rounds))?;
            let bare = sender.bare(&[])?;
            drop(sender);
            let mut sender = bench.floor(&bare, shape)?;
            bench.steps(&mut sender, WARM_UP)?;
            let floor_moments = bench.steps(&mut sender, toggles.div_ceil(rounds))?;
            let spread = |moments: &Moments| moments.last - moments.first;
            compared[0].push(middle(&our_moments, spread) / middle(&floor_moments, spread));
            let call = |moments: &Moments| moments.last - moments.sent;
            compared[1].push(middle(&our_moments, spread) / middle(&floor_moments, call));
            ours.extend(our_moments);
            floors.extend(floor_moments);
        }
        rows.push(row("Halyard", shape, &ours));
        rows.push(row("bare fan-out", shape, &floors));
        let mut ratio = vec![shaped(shape)];
        ratio.extend(compared.map(|ratios| format!("{:.2} ×", median(ratios))));
        ratios.push(ratio);
    }
    let head = [
        "p50 / p99 ms",
        "streams / connections",
        "request → response",
        "request → first stream",
        "request → last stream",
        "written → first stream",
        "written → last stream",
        "first → last stream",
    ];
    table::print("A toggle through replica A to the streams of replica B", &head, &rows);
    let head = [
        "streams / connections",
        "first → last, to the floor's",
        "first → last, to the floor's request → last",
    ];
    table::print("Medians of the rounds' ratios of medians", &head, &ratios[1..]);
    Ok(())
}

/// The median of a time, in milliseconds.
fn middle(moments: &[Moments], time: impl Fn(&Moments) -> std::time::Duration) -> f64 {
    median(moments.iter().map(|moments| time(moments).as_secs_f64() * 1e3))
}

fn row(name: &str, shape: Shape, moments: &[Moments]) -> Vec<String> {
    let between = |from: fn(&Moments) -> Option<Instant>, to: fn(&Moments) -> Instant| {
        let times = moments
            .iter()
            .filter_map(|moments| Some(to(moments).saturating_duration_since(from(moments)?)));
        let mut times: Vec<_> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        if times.is_empty() {
            return "–".to_owned();
        }
        format!(
            "{:.2} / {:.2}",
            percentile(&mut times, 0.5),
            percentile(&mut times, 0.99)
        )
    };
    vec![
        name.to_owned(),
        shaped(shape),
        between(|moments| Some(moments.sent), |moments| moments.answered),
        between(|moments| Some(moments.sent), |moments| moments.first),
        between(|moments| Some(moments.sent), |moments| moments.last),
        between(|moments| moments.written, |moments| moments.first),
        between(|moments| moments.written, |moments| moments.last),
        between(|moments| Some(moments.first), |moments| moments.last),
    ]
}
