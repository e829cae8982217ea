//! Two servers that take turns: A, B, B, A, A, B … with the same load, and nothing in flight while the turn changes. Who begins
//! changes from round to round, so that whatever goes on meanwhile, a machine that gets warmer or a table that grows, is for and against
//! each of them as often.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::{Error, unless_stopped};
use super::compare::{Round, Turn};
use super::drive::{Drive, Work};
use super::evaluate::Evaluations;
use super::progress::Progress;
use super::recorder::Recorder;
use super::report::{Comparison, Report, Requests};
use super::tally::Tally;
use super::write::Writes;
use super::{measured, put_back, while_telling};
use crate::config::{Bench, Compare, EvaluateLoad, Server, Window};

/// After the first round a turn warms up for this share of it.
const WARM_UP_SHARE: u32 = 10;

/// What came of all turns.
struct Taken {
    /// Of each server: everything, and the seconds that counted.
    sums: [(Recorder, f64); 2],
    rounds: Vec<Round>,
}

/// Lets the server and the other take turns.
pub(super) async fn take(config: Bench, stop: &CancellationToken) -> Result<Report, Error> {
    let Bench {
        name,
        server,
        window,
        max_error_rate,
        evaluate,
        watch: _,
        write,
        compare,
        output: _,
    } = config;
    let Some(Compare { endpoint, key, rounds }) = compare else {
        return Err(Error::Answer("there is nobody to compare it with"));
    };
    let servers = [
        server.clone(),
        Server {
            endpoint: endpoint.clone(),
            ..server.clone()
        },
    ];
    let rounds = u32::try_from(rounds.get()).unwrap_or(u32::MAX);
    let (load, taken, restored) = match (evaluate, write) {
        (Some(load), _) => {
            let other = EvaluateLoad {
                key: key.unwrap_or_else(|| load.key.clone()),
                flags: load.flags.clone(),
                attributes: load.attributes.clone(),
                ..load
            };
            let [a, b] = &servers;
            let works = [Evaluations::new(a, &load)?, Evaluations::new(b, &other)?];
            for work in &works {
                unless_stopped(stop, work.try_out()).await?;
            }
            let drives = works.map(|work| super::drive(work, load.load, &server));
            (load.load, rounds_of(drives, window, rounds, stop).await, None)
        }
        (None, Some(load)) => {
            let pace = load.load;
            // One after the other: a password that is asked for is asked for once.
            let [a, b] = &servers;
            let works = unless_stopped(stop, Writes::begin_both([a, b], load)).await?;
            let drives = works.map(|work| super::drive(work, pace, &server));
            let works = drives.each_ref().map(|drive| drive.work.clone());
            let taken = rounds_of(drives, window, rounds, stop).await;
            let mut restored = true;
            for work in works {
                restored &= put_back(&work).await;
            }
            (pace, taken, Some(restored))
        }
        (None, None) => return Err(Error::Answer("there is nothing to compare")),
    };
    let Taken {
        sums: [(a, a_seconds), (b, b_seconds)],
        rounds,
    } = taken;
    let requests = |recorded| Requests { load, recorded };
    let (evaluate, write) = match restored {
        None => (Some(requests(a)), None),
        Some(_) => (None, Some(requests(a))),
    };
    Ok(Report {
        name,
        endpoint: server.endpoint.to_string(),
        window,
        seconds: a_seconds,
        interrupted: stop.is_cancelled(),
        max_error_rate,
        evaluate,
        write,
        restored,
        watch: None,
        comparison: Some(Comparison {
            endpoint: endpoint.to_string(),
            requests: requests(b),
            rounds,
            seconds: b_seconds,
        }),
    })
}

/// The rounds until they are over or it is stopped. Of a round that was not completed nothing is compared, but everything counted.
async fn rounds_of<W: Work>(drives: [Drive<W>; 2], window: Window, rounds: u32, stop: &CancellationToken) -> Taken {
    let mut taken = Taken {
        sums: [(Recorder::default(), 0.0), (Recorder::default(), 0.0)],
        rounds: Vec::new(),
    };
    'rounds: for n in 0..rounds {
        let turn = turn_of(window, rounds, n);
        let mut round = [None, None];
        let [drive_a, drive_b] = &drives;
        let ([sum_a, sum_b], [in_a, in_b]) = (&mut taken.sums, &mut round);
        for (drive, sum, in_round, name) in in_order(n, [(drive_a, sum_a, in_a, "A"), (drive_b, sum_b, in_b, "B")]) {
            if stop.is_cancelled() {
                break 'rounds;
            }
            // Each turn is counted by itself.
            let drive = Drive {
                tally: Arc::new(Tally::new()),
                ..drive.clone()
            };
            let progress = Progress {
                parts: vec![(format!("round {} {name}", n + 1), drive.tally.clone())],
                board: None,
            };
            let both = async { tokio::join!(measured(turn, stop), drive.run(turn, stop)).0 };
            let seconds = while_telling(progress, both).await;
            let recorded = drive.tally.total();
            sum.0.add(&recorded);
            sum.1 += seconds;
            *in_round = Some(Turn::new(&recorded, seconds));
        }
        if let ([Some(a), Some(b)], false) = (round, stop.is_cancelled()) {
            taken.rounds.push([a, b]);
        }
    }
    taken
}

/// Who comes first in a round, and who then: the other way round every other time.
fn in_order<T>(n: u32, [a, b]: [T; 2]) -> [T; 2] {
    if n.is_multiple_of(2) { [a, b] } else { [b, a] }
}

/// One turn of so many: its share of the time. The first of each server has the whole warming up, the others enough to be under way.
fn turn_of(window: Window, rounds: u32, n: u32) -> Window {
    let duration = window.duration / rounds;
    let under_way = window.warm_up.min(duration / WARM_UP_SHARE);
    Window {
        warm_up: if n == 0 { window.warm_up } else { under_way },
        duration: duration.max(Duration::from_millis(1)),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Mutex;

    use tonic::Status;

    use super::*;
    use crate::config::{Load, Pace};

    /// A server that notes when it is asked first in a turn. B refuses everything.
    struct Noted(&'static str, Arc<Mutex<Vec<&'static str>>>);

    impl Work for Noted {
        async fn ask(&self, n: u64, _: bool) -> Result<&'static str, Status> {
            if n == 0 {
                self.1.lock().unwrap().push(self.0);
            }
            if self.0 == "B" {
                return Err(Status::unavailable("always"));
            }
            Ok("STATIC")
        }
    }

    #[tokio::test]
    async fn who_begins_changes_every_round_and_each_is_counted_as_itself() {
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let drives = ["A", "B"].map(|name| Drive {
            work: Arc::new(Noted(name, asked.clone())),
            load: Load {
                pace: Pace::Rate(if name == "A" { 100.0 } else { 300.0 }),
                connections: NonZeroUsize::MIN,
                max_in_flight: NonZeroUsize::new(1000).unwrap(),
            },
            timeout: Duration::from_mins(5),
            tally: Arc::new(Tally::new()),
        });
        let window = Window {
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(400),
        };
        let taken = rounds_of(drives, window, 4, &CancellationToken::new()).await;
        assert_eq!(*asked.lock().unwrap(), ["A", "B", "B", "A", "A", "B", "B", "A"]);
        let [(a, _), (b, _)] = &taken.sums;
        assert_eq!((a.due(), b.due()), (40, 120));
        assert_eq!(taken.rounds.len(), 4);
        for [a, b] in taken.rounds {
            assert!(a.error_rate < 0.5 && b.error_rate > 0.5, "{a:?} {b:?}");
        }
    }

    #[test]
    fn turns_share_the_time_and_the_first_warms_up() {
        let window = Window {
            warm_up: Duration::from_secs(3),
            duration: Duration::from_secs(10),
        };
        let first = turn_of(window, 5, 0);
        assert_eq!((first.warm_up.as_secs(), first.duration.as_secs()), (3, 2));
        let second = turn_of(window, 5, 1);
        assert_eq!((second.warm_up.as_millis(), second.duration.as_secs()), (200, 2));
        let cold = Window {
            warm_up: Duration::ZERO,
            ..window
        };
        assert_eq!(turn_of(cold, 5, 1).warm_up, Duration::ZERO);
    }
}
