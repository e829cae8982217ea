//! How long `halyard dev` takes from its start to the first answer, without and with data from an earlier start, beside the
//! PostgreSQL in it alone; and `halyard serve` on a database with a hundred flags from its start until it is ready, and the memory that
//! it has when it has been idle for a while: `cargo bench --bench start`.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use halyard::embedded::{Cluster, Options};
use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;
use tokio::runtime::Runtime;

use support::load::{EVALUATE, Question, connect};
use support::numbers::{median, percentile};
use support::process::{Process, SHARED};
use support::tests_support::cluster::Folder;
use support::world::{HALYARD, World, free_address};
use support::{Result, seconds, setting, table};

/// A flag of the demo project.
const FLAG: &str = "new-checkout";
/// Of the environment that `halyard serve` finds.
const FLAGS: usize = 100;
/// Between two attempts to get an answer.
const PAUSE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let [mut postgres, mut halyard] = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for _ in 0..rounds {
        let folder = Folder::new();
        for times in &mut postgres {
            times.push(
                runtime
                    .block_on(start_postgres(folder.path.join("postgres")))?
                    .as_secs_f64(),
            );
        }
        for times in &mut halyard {
            times.push(start_halyard(&runtime, &folder.path.join("halyard"))?.as_secs_f64());
        }
    }
    let names = ["without data (cold)", "with data (warm)"];
    let rows = names
        .iter()
        .zip(halyard)
        .zip(postgres)
        .map(|((name, mut halyard), postgres)| {
            let ratio = median(
                halyard
                    .iter()
                    .zip(&postgres)
                    .map(|(halyard, postgres)| halyard / postgres),
            );
            vec![
                (*name).to_owned(),
                format!("{:.2}", percentile(&mut halyard, 0.5)),
                format!("{:.2}", percentile(&mut halyard, 1.0)),
                format!("{:.2}", median(postgres)),
                format!("{ratio:.2} ×"),
            ]
        });
    let head = [
        "`halyard dev`",
        "first answer s",
        "slowest s",
        "PostgreSQL alone s",
        "to PostgreSQL",
    ];
    table::print("From the start to the first answer", &head, &rows.collect::<Vec<_>>());
    serve(rounds)
}

/// Starts servers on one database, one after the other.
fn serve(rounds: u32) -> Result<()> {
    let idle = seconds("BENCH_SECONDS", 5.0)?;
    let world = World::start()?;
    let replica = world.serve(SHARED, 2, &[])?;
    let administrator = world.administrator(&replica)?;
    world.furnish(&administrator)?;
    world.fill(&administrator, FLAGS)?;
    drop(replica);
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let started = Instant::now();
        let replica = world.serve(SHARED, 2, &[])?;
        times.push(started.elapsed().as_secs_f64());
        std::thread::sleep(idle);
        memory.push(replica.process.resident_kib()? / 1024.0);
    }
    let row = vec![
        format!("{FLAGS} flags"),
        format!("{:.2}", median(times.iter().copied())),
        format!("{:.2}", percentile(&mut times, 1.0)),
        format!("{:.1}", median(memory.iter().copied())),
        format!("{:.1}", percentile(&mut memory, 1.0)),
    ];
    let head = ["`halyard serve`", "ready s", "slowest s", "MiB when idle", "most MiB"];
    table::print("On a database that has been there before", &head, &[row]);
    Ok(())
}

/// Until PostgreSQL accepts connections, with the same settings.
async fn start_postgres(data_dir: PathBuf) -> Result<Duration> {
    let mut options = Options::new(data_dir);
    options.supervisor = Some(HALYARD.into());
    let started = Instant::now();
    let cluster = Cluster::start(options).await?;
    let took = started.elapsed();
    cluster.stop().await?;
    Ok(took)
}

/// Until an application that has the key gets an answer.
fn start_halyard(runtime: &Runtime, data_dir: &Path) -> Result<Duration> {
    let address = free_address()?;
    let started = Instant::now();
    let mut command = Command::new(HALYARD);
    command
        .args(["dev", "--listen", &address.to_string(), "--data-dir"])
        .arg(data_dir)
        .stderr(Stdio::null());
    let mut process = Process::start(SHARED, &mut command)?;
    while runtime.block_on(ask(address, data_dir)).is_err() {
        if process.has_ended()? || started.elapsed() > PATIENCE {
            return Err("`halyard dev` does not start".into());
        }
        std::thread::sleep(PAUSE);
    }
    let took = started.elapsed();
    process.stop()?;
    Ok(took)
}

async fn ask(server: SocketAddr, data_dir: &Path) -> Result<()> {
    let settings = fs::read_to_string(data_dir.join("dev.env"))?;
    let key = settings
        .lines()
        .find_map(|line| line.strip_prefix("export HALYARD_KEY="));
    let key = key.ok_or("no key yet")?.trim_matches('\'');
    let request = pb::EvaluateRequest {
        flag: FLAG.into(),
        ..pb::EvaluateRequest::default()
    };
    let question = Question::new(&server, key, EVALUATE, &request.encode_to_vec())?;
    question.ask(&connect(server).await?).await?;
    Ok(())
}
