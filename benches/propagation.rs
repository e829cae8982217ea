//! How long a toggle takes to reach the streams of another replica, beside a bare tonic server that sends the same messages to as
//! many streams: `cargo bench --bench propagation`.
//!
//! Two `halyard serve` and their PostgreSQL keep to one core; the one caller and all receivers keep to the other. One toggle at a
//! time goes through replica A; the moment at which its Commit arrives is noted for every stream of replica B.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod support;

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use halyard::pb::evaluation::v1 as pb;
use prost::Message as _;

use support::floor::Shape;
use support::load::{EVALUATE, Question, connect};
use support::numbers::percentile;
use support::process::{CLIENT, SERVER, keep_to};
use support::streams::{Step, Streams, commit};
use support::world::{Administrator, World, floor};
use support::{Result, arguments, floor as bare, setting, table};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const STREAMS: [usize; 3] = [1, 100, 1_000];
const CONNECTIONS: usize = 20;
/// Steps that do not count.
const WARM_UP: u32 = 10;

fn main() -> Result<()> {
    let arguments = arguments();
    match arguments.split_first() {
        Some((what, rest)) if what == "floor" => bare::run(rest),
        _ => measure(),
    }
}

/// When things happened to one change.
struct Moments {
    /// The request was sent.
    sent: Instant,
    /// Its response arrived.
    answered: Instant,
    /// The change was written, by the database's clock: inside the transaction, before it was committed. Not of the floor.
    written: Option<Instant>,
    /// The first stream had it.
    first: Instant,
    /// Every stream had it.
    last: Instant,
}

fn measure() -> Result<()> {
    let toggles = setting("BENCH_TOGGLES", 200)?;
    let world = World::start()?;
    let (a, b) = (world.serve(SERVER, 1, &[])?, world.serve(SERVER, 1, &[])?);
    let key = world.furnish(&world.administrator(&a)?)?;
    keep_to(CLIENT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for streams in STREAMS {
        let (moments, messages) = runtime.block_on(toggle(a.address, b.address, &key, streams, toggles))?;
        rows.push(row("Halyard", streams, &moments));
        let mut arguments = vec![String::new()];
        arguments.extend(messages.iter().map(hex::encode));
        let floor = floor(SERVER, Shape::PerCore(1), &arguments, &[])?;
        keep_to(CLIENT)?;
        let moments = runtime.block_on(send(floor.address, &key, streams, toggles))?;
        rows.push(row("bare fan-out", streams, &moments));
    }
    let head = [
        "p50 / p99 ms",
        "streams",
        "request → response",
        "request → first stream",
        "request → last stream",
        "written → first stream",
        "written → last stream",
        "first → last stream",
    ];
    table::print("A toggle through replica A to the streams of replica B", &head, &rows);
    Ok(())
}

/// Toggles again and again. Returns also the messages of the last step.
async fn toggle(
    a: SocketAddr,
    b: SocketAddr,
    key: &str,
    streams: usize,
    toggles: u32,
) -> Result<(Vec<Moments>, Vec<bytes::Bytes>)> {
    let administrator = Administrator::log_in(a).await?;
    let (mut streams, mut step) = Streams::open(b, key, streams, CONNECTIONS).await?;
    let mut moments = Vec::new();
    for n in 0..WARM_UP + toggles {
        let sent = Instant::now();
        let toggling = async {
            let revision = administrator.toggle(n % 2 == 1).await?;
            Ok((revision, Instant::now()))
        };
        let (answer, arrived): (Result<_>, _) = tokio::join!(toggling, streams.step());
        let (revision, answered) = answer?;
        step = arrived?;
        let commit = commit(&step)?;
        if commit.revision != revision {
            return Err(format!("revision {} arrived in place of {revision}", commit.revision).into());
        }
        if n >= WARM_UP {
            let written = Some(moment(&commit)?);
            moments.push(Moments::new(sent, answered, written, &step)?);
        }
    }
    Ok((moments, step.messages))
}

/// Has the floor send again and again.
async fn send(floor: SocketAddr, key: &str, streams: usize, toggles: u32) -> Result<Vec<Moments>> {
    let question = Question::new(&floor, key, EVALUATE, &pb::EvaluateRequest::default().encode_to_vec())?;
    let connection = connect(floor).await?;
    let (mut streams, _) = Streams::open(floor, key, streams, CONNECTIONS).await?;
    let mut moments = Vec::new();
    for n in 0..WARM_UP + toggles {
        let sent = Instant::now();
        let asking = async {
            question.ask(&connection).await?;
            Ok(Instant::now())
        };
        let (answered, arrived): (Result<_>, _) = tokio::join!(asking, streams.step());
        let (answered, step) = (answered?, arrived?);
        if n >= WARM_UP {
            moments.push(Moments::new(sent, answered, None, &step)?);
        }
    }
    Ok(moments)
}

/// When a change was written, on our clock. Both clocks are this machine's.
fn moment(commit: &pb::Commit) -> Result<Instant> {
    let at = commit.committed_at.ok_or("a Commit without its time")?;
    let ago = SystemTime::now().duration_since(SystemTime::try_from(at)?)?;
    Ok(Instant::now()
        .checked_sub(ago)
        .ok_or("a Commit from before the machine was started")?)
}

impl Moments {
    fn new(sent: Instant, answered: Instant, written: Option<Instant>, step: &Step) -> Result<Self> {
        Ok(Self {
            sent,
            answered,
            written,
            first: *step.arrivals.first().ok_or("no stream")?,
            last: *step.arrivals.last().ok_or("no stream")?,
        })
    }
}

fn row(name: &str, streams: usize, moments: &[Moments]) -> Vec<String> {
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
        streams.to_string(),
        between(|moments| Some(moments.sent), |moments| moments.answered),
        between(|moments| Some(moments.sent), |moments| moments.first),
        between(|moments| Some(moments.sent), |moments| moments.last),
        between(|moments| moments.written, |moments| moments.first),
        between(|moments| moments.written, |moments| moments.last),
        between(|moments| Some(moments.first), |moments| moments.last),
    ]
}
