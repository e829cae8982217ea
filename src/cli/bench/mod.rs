//! `halyard bench`: puts load on a server, any server, and measures how it does.
//!
//! | file | what |
//! |---|---|
//! | `schedule`, `recorder`, `compare` | when requests are due, what became of them, which of two servers is faster: values |
//! | `tally` | the same counted by many tasks at once |
//! | `drive` | sends requests of one kind, in an open or a closed loop |
//! | `evaluate`, `write` | the two kinds of requests |
//! | `watch` | streams, what is wrong with them, and how long changes take to reach them |
//! | `turns` | two servers that take turns |
//! | `progress`, `report` | what is told meanwhile and in the end |
//!
//! Whatever happens between the first change and the end, flags are put back before anything is printed.

mod compare;
mod drive;
mod evaluate;
mod progress;
mod recorder;
mod report;
mod schedule;
mod tally;
mod turns;
mod watch;
mod write;

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use self::drive::{Drive, Work};
use self::evaluate::Evaluations;
use self::progress::Progress;
use self::report::{Report, Requests, Watched};
use self::tally::Tally;
use self::watch::Streams;
use self::write::Writes;
use super::{Error, complain, say, unless_stopped};
use crate::config::{Bench, Load, Server, Window};

pub(super) async fn run(config: Bench, stop: &CancellationToken, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let output = config.output;
    let report = if config.compare.is_some() {
        Box::pin(turns::take(config, stop)).await?
    } else {
        Box::pin(alone(config, stop)).await?
    };
    report.conclude(output, out)
}

/// One server, with every load that was asked for at the same time.
async fn alone(config: Bench, stop: &CancellationToken) -> Result<Report, Error> {
    let Bench {
        name,
        server,
        window,
        max_error_rate,
        evaluate,
        watch,
        write,
        compare: _,
        output: _,
    } = config;
    let connections = watch
        .as_ref()
        .map(|load| load.connections.get().min(load.streams.get()));
    let streams = match &watch {
        Some(load) => Some(unless_stopped(stop, Streams::open(&server, load)).await?),
        None => None,
    };
    let board = streams.as_ref().map(|streams| streams.board.clone());
    let evaluate = match evaluate {
        Some(load) => {
            let work = Evaluations::new(&server, &load)?;
            unless_stopped(stop, work.try_out()).await?;
            Some(drive(work, load.load, &server))
        }
        None => None,
    };
    let write = match write {
        Some(load) => {
            let pace = load.load;
            let work = unless_stopped(stop, Writes::begin(&server, load, board.clone())).await?;
            Some(drive(work, pace, &server))
        }
        None => None,
    };
    if let Some(streams) = &streams {
        streams.ready(server.timeout, stop).await;
    }
    let ready = board.as_ref().map_or(0, |board| board.ready());
    if stop.is_cancelled() {
        return Err(Error::Interrupted);
    }

    let parts = [
        evaluate
            .as_ref()
            .map(|drive| ("evaluate".to_owned(), drive.tally.clone())),
        write.as_ref().map(|drive| ("write".to_owned(), drive.tally.clone())),
    ];
    let parts = parts.into_iter().flatten().collect();
    let progress = Progress {
        parts,
        board: board.clone(),
    };
    let measuring = async {
        let (seconds, (), ()) = tokio::join!(
            measured(window, stop),
            run_if_any(evaluate.as_ref(), window, stop),
            run_if_any(write.as_ref(), window, stop),
        );
        if let Some(streams) = &streams {
            streams.delivered(server.timeout, stop).await;
        }
        seconds
    };
    let seconds = while_telling(progress, measuring).await;
    let restored = match &write {
        Some(drive) => Some(put_back(&drive.work).await),
        None => None,
    };

    let watch = board.map(|board| {
        let (seen, propagation) = board.seen();
        Watched {
            streams: board.streams(),
            connections: connections.unwrap_or_default(),
            ready,
            seen,
            propagation: write.is_some().then_some(propagation),
        }
    });
    if let Some(streams) = streams {
        streams.close().await;
    }
    Ok(Report {
        name,
        endpoint: server.endpoint.to_string(),
        window,
        seconds,
        interrupted: stop.is_cancelled(),
        max_error_rate,
        evaluate: evaluate.as_ref().map(requests),
        write: write.as_ref().map(requests),
        restored,
        watch,
        comparison: None,
    })
}

fn drive<W>(work: W, load: Load, server: &Server) -> Drive<W> {
    Drive {
        work: Arc::new(work),
        load,
        timeout: server.timeout,
        tally: Arc::new(Tally::new()),
    }
}

fn requests<W>(drive: &Drive<W>) -> Requests {
    Requests {
        load: drive.load,
        recorded: drive.tally.total(),
    }
}

async fn run_if_any<W: Work>(drive: Option<&Drive<W>>, window: Window, stop: &CancellationToken) {
    if let Some(drive) = drive {
        drive.run(window, stop).await;
    }
}

/// Waits until the window is over or it is stopped. Gives how many seconds of it counted.
async fn measured(window: Window, stop: &CancellationToken) -> f64 {
    let begun = Instant::now();
    // Whether it was stopped or is over, the clock says how long it took.
    let _ = stop.run_until_cancelled(tokio::time::sleep(window.end())).await;
    let counted = begun.elapsed().saturating_sub(window.warm_up).min(window.duration);
    counted.as_secs_f64()
}

/// Does something, and tells how it goes.
async fn while_telling<T>(progress: Progress, doing: impl Future<Output = T>) -> T {
    let telling = tokio::spawn(progress.tell());
    let done = doing.await;
    telling.abort();
    done
}

/// Puts flags back as they were. Gives whether it could.
async fn put_back(writes: &Writes) -> bool {
    let Err(error) = writes.restore().await else {
        return true;
    };
    complain(&error);
    say(&format!(
        "The flags may not be as they were before. Put them back with:\n  {}",
        writes.by_hand()
    ));
    false
}
