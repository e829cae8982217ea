//! What growth costs: the start and the memory of a replica, a toggle's way, and what PostgreSQL is asked, with more environments
//! and with more clients.

use std::time::{Duration, Instant};

use super::support::numbers::median;
use super::support::toggles::{Moments, Sender};
use super::support::{Result, table};
use super::{Bench, Shape, WARM_UP};

/// Environments, each with so many flags.
const ENVIRONMENTS: [usize; 4] = [1, 10, 100, 1_000];
const FLAGS: usize = 100;
/// A project has no more environments than this.
const OF_A_PROJECT: usize = 100;
/// Streams, over so many connections.
const STREAMS: [Shape; 4] = [(0, 0), (100, 100), (1_000, 100), (10_000, 100)];
const TOGGLES: u32 = 50;
/// How long PostgreSQL's transactions are counted. It counts at intervals of a second itself.
const COUNTING: Duration = Duration::from_secs(15);

pub fn measure() -> Result<()> {
    let bench = Bench::new()?;
    streams(&bench)?;
    environments(&bench)
}

fn environments(bench: &Bench) -> Result<()> {
    let (mut rows, mut made) = (Vec::new(), 0);
    for environments in ENVIRONMENTS {
        bench.runtime.block_on(make(bench, made..environments))?;
        made = environments;
        let started = Instant::now();
        let b = bench.replica(&[])?;
        let ready = started.elapsed();
        let memory = b.process.resident_kib()? / 1024.0;
        let asked = bench.runtime.block_on(transactions(bench, idle()))?;
        let mut sender = bench.service(&b, (1, 1))?;
        bench.steps(&mut sender, WARM_UP)?;
        let moments = bench.steps(&mut sender, TOGGLES)?;
        rows.push(vec![
            environments.to_string(),
            format!("{:.2}", ready.as_secs_f64()),
            format!("{memory:.0}"),
            format!("{:.1}", written_to_last(&moments)),
            format!("{:.1}", asked / COUNTING.as_secs_f64()),
        ]);
    }
    let head = [
        "environments of 100 flags",
        "start to ready s",
        "MiB when ready",
        "written → stream p50 ms",
        "transactions/s, two idle replicas",
    ];
    table::print("More environments", &head, &rows);
    Ok(())
}

fn streams(bench: &Bench) -> Result<()> {
    let mut rows = Vec::new();
    for shape in STREAMS {
        let b = bench.replica(&[])?;
        let mut sender = match shape {
            (0, _) => None,
            shape => Some(bench.service(&b, shape)?),
        };
        let memory = b.process.resident_kib()? / 1024.0;
        let asked = bench.runtime.block_on(transactions(bench, idle()))?;
        let (written, busy) = match &mut sender {
            Some(sender) => {
                bench.steps(sender, WARM_UP)?;
                let (moments, busy) = bench.runtime.block_on(toggled(bench, sender))?;
                (format!("{:.1}", written_to_last(&moments)), format!("{busy:.1}"))
            }
            None => ("–".to_owned(), "–".to_owned()),
        };
        rows.push(vec![
            shape.0.to_string(),
            format!("{memory:.0}"),
            written,
            format!("{:.1}", asked / COUNTING.as_secs_f64()),
            busy,
        ]);
    }
    let head = [
        "streams",
        "MiB of the replica",
        "written → last stream p50 ms",
        "transactions/s, idle",
        "transactions/s, 10 toggles a second",
    ];
    table::print("More clients", &head, &rows);
    Ok(())
}

async fn idle() {
    tokio::time::sleep(COUNTING).await;
}

/// Ten toggles a second, and how many transactions PostgreSQL had in each.
async fn toggled(bench: &Bench, sender: &mut Sender) -> Result<(Vec<Moments>, f64)> {
    let mut moments = Vec::new();
    let toggling = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let ends = Instant::now() + COUNTING;
        while Instant::now() < ends {
            ticks.tick().await;
            moments.push(sender.step().await?);
        }
        Ok(())
    };
    let mut result: Result<()> = Ok(());
    let count = transactions(bench, async { result = toggling.await }).await?;
    result?;
    // The next to toggle expects it to be on, as at the beginning.
    if !moments.len().is_multiple_of(2) {
        sender.step().await?;
    }
    Ok((moments, count / COUNTING.as_secs_f64()))
}

/// How many transactions PostgreSQL has while something is done.
async fn transactions(bench: &Bench, work: impl Future<Output = ()>) -> Result<f64> {
    let before = counted(bench).await?;
    work.await;
    Ok(counted(bench).await? - before)
}

/// How many there have been, once all sessions have told.
async fn counted(bench: &Bench) -> Result<f64> {
    let (client, connection) = bench.world.config()?.connect(tokio_postgres::NoTls).await?;
    let driving = tokio::spawn(connection);
    let sql = "select (xact_commit + xact_rollback)::float8 from pg_stat_database where datname = current_database()";
    let count = client.query_one(sql, &[]).await?.get(0);
    drop(client);
    driving.await??;
    Ok(count)
}

/// Makes environments of flags that are on.
async fn make(bench: &Bench, which: std::ops::Range<usize>) -> Result<()> {
    let administrator = &bench.administrator;
    let flags: Vec<_> = (0..FLAGS).map(|n| format!("flag-{n}")).collect();
    for n in which {
        let (project, environment) = (format!("project-{}", n / OF_A_PROJECT), format!("environment-{n}"));
        if n.is_multiple_of(OF_A_PROJECT) {
            administrator.project(&project).await?;
            for flag in &flags {
                administrator.flag(&project, flag).await?;
            }
        }
        administrator.environment(&project, &environment).await?;
        administrator.toggle_at(&project, &environment, &flags, true).await?;
    }
    Ok(())
}

/// In milliseconds.
fn written_to_last(moments: &[Moments]) -> f64 {
    let times = moments
        .iter()
        .filter_map(|moments| Some(moments.last.saturating_duration_since(moments.written?)));
    median(times.map(|time| time.as_secs_f64() * 1e3))
}
