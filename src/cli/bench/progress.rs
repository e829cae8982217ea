//! A line a second while load is put on: always where somebody sits at a terminal, otherwise only for seconds worth a line.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::super::say;
use super::tally::{Lately, Tally};
use super::watch::Board;

/// What is told of.
pub(super) struct Progress {
    pub parts: Vec<(String, Arc<Tally>)>,
    pub board: Option<Arc<Board>>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Progress {
    /// Tells, for ever.
    pub async fn tell(self) {
        let is_interactive = std::io::stderr().is_terminal();
        let begun = Instant::now();
        let mut seconds = interval_at(begun + SECOND, SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut broken = 0;
        loop {
            let now = seconds.tick().await;
            let since = now - begun;
            let mut told = Vec::new();
            for (name, tally) in &self.parts {
                let lately = tally.lately();
                if is_interactive || is_trouble(&lately) {
                    told.push(format!("{name} {}", sentence(&lately)));
                }
            }
            if let Some(board) = &self.board {
                let (seen, _) = board.seen();
                let before = std::mem::replace(&mut broken, seen.broken() + seen.disordered());
                if is_interactive || broken > before {
                    let (ready, streams) = (board.ready(), board.streams());
                    let steps = seen.steps;
                    told.push(format!(
                        "watch {ready} of {streams} streams, {steps} steps, {broken} broken off"
                    ));
                }
            }
            if !told.is_empty() {
                say(&format!("{:>4} s  {}", since.as_secs(), told.join("; ")));
            }
        }
    }
}

/// Whether a second is worth a line to somebody who does not sit there.
fn is_trouble(lately: &Lately) -> bool {
    let silent = lately.latency.count() == 0 && lately.in_flight > 0;
    lately.failed > 0 || lately.missed > 0 || silent
}

fn sentence(lately: &Lately) -> String {
    let mut text = format!("{} answered", lately.latency.count());
    if let Some(latency) = lately.latency.percentiles() {
        // Writing to a String cannot fail.
        let _ = write!(text, " (p50 {:.1} ms, p99 {:.1} ms)", latency.p50, latency.p99);
    }
    for (count, what) in [
        (lately.failed, "failed"),
        (lately.missed, "missed"),
        (lately.in_flight as u64, "in flight"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trouble_is_told_to_nobody_in_particular() {
        let mut lately = Lately::default();
        assert!(!is_trouble(&lately));
        lately.in_flight = 1;
        assert!(is_trouble(&lately));
        lately.latency.record(Duration::from_millis(2));
        assert!(!is_trouble(&lately));
        lately.missed = 1;
        assert!(is_trouble(&lately));
    }

    #[test]
    fn a_second_reads_like_a_sentence() {
        let mut lately = Lately::default();
        assert_eq!(sentence(&lately), "0 answered");
        lately.latency.record(Duration::from_millis(2));
        (lately.failed, lately.in_flight) = (3, 4);
        assert_eq!(
            sentence(&lately),
            "1 answered (p50 2.0 ms, p99 2.0 ms), 3 failed, 4 in flight"
        );
    }
}
