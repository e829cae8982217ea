//! What a list of a million targeting keys takes: to upload, to activate, to reach a stream of another replica, and in memory:
//! `cargo bench --bench segment`.
//!
//! Two `halyard serve` and their PostgreSQL keep to one core; the caller and the receiver keep to the other. Everything is written
//! through replica A; what is told of memory is of replica B, which only follows.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use halyard::pb::admin::v1::UploadMode;

use support::process::{CLIENT, Process, SERVER, keep_to};
use support::streams::{Streams, commit};
use support::world::{Administrator, World};
use support::{Result, setting, table};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keys of a piece: about three megabytes of them.
const PIECE: usize = 80_000;

fn main() -> Result<()> {
    let keys = setting("BENCH_KEYS", 1_000_000)?;
    let world = World::start()?;
    let (a, b) = (world.serve(SERVER, 1, &[])?, world.serve(SERVER, 1, &[])?);
    let administrator = world.administrator(&a)?;
    let key = world.furnish(&administrator)?;
    keep_to(CLIENT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(async {
        let (mut streams, _) = Streams::open(b.address, &key, 1, 1).await?;
        administrator.segment().await?;
        let mut rows = Vec::new();
        for (name, mode, keys) in [
            ("replaced by", UploadMode::Replace, 0..keys),
            ("added", UploadMode::Add, keys..keys + 100),
            ("removed", UploadMode::Remove, keys..keys + 100),
        ] {
            let before = (resident(&a.process)?, resident(&b.process)?);
            let change = Change {
                name,
                mode,
                keys: keys.map(user).collect(),
            };
            rows.push(
                change
                    .make(&administrator, &mut streams, (&a.process, &b.process), before)
                    .await?,
            );
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(rows)
    })?;
    let head = [
        "keys",
        "uploaded s",
        "activated s",
        "activation sent → stream s",
        "items",
        "MiB streamed",
        "MiB of A before → after",
        "MiB of B before → after",
    ];
    table::print(
        "A list of targeting keys through replica A to a stream of replica B",
        &head,
        &rows,
    );
    Ok(())
}

/// A targeting key as applications have them: 36 characters.
fn user(n: u32) -> String {
    uuid::Uuid::from_u128(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_string()
}

/// A change of the list.
struct Change {
    name: &'static str,
    mode: UploadMode,
    keys: Vec<String>,
}

impl Change {
    async fn make(
        self,
        administrator: &Administrator,
        streams: &mut Streams,
        (a, b): (&Process, &Process),
        before: (f64, f64),
    ) -> Result<Vec<String>> {
        let begun = Instant::now();
        let upload = administrator.upload(self.keys.chunks(PIECE)).await?;
        let sent = Instant::now();
        let activating = async {
            let revision = administrator.activate(upload, self.mode).await?;
            Ok((revision, Instant::now()))
        };
        let (answer, step): (Result<_>, _) = tokio::join!(activating, streams.step());
        let ((revision, answered), step) = (answer?, step?);
        let committed = commit(&step)?.revision;
        if committed != revision {
            return Err(format!("revision {committed} arrived in place of {revision}").into());
        }
        let arrived = *step.arrivals.last().ok_or("no stream")?;
        let bytes: usize = step.messages.iter().map(bytes::Bytes::len).sum();
        let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
        Ok(vec![
            format!("{} {}", self.name, self.keys.len()),
            seconds(sent - begun),
            seconds(answered - sent),
            seconds(arrived - sent),
            (step.messages.len() - 2).to_string(),
            format!("{:.1}", mebibytes(bytes)),
            format!("{:.0} → {:.0}", before.0, resident(a)?),
            format!("{:.0} → {:.0}", before.1, resident(b)?),
        ])
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of bytes for people")]
fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// The memory that a process has, in MiB.
fn resident(process: &Process) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: usize = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("unreadable status")?
        .parse()?;
    Ok(mebibytes(kibibytes * 1024))
}
