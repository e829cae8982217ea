//! What is done to tables beside the API: history that is let go of, and rows that are edited by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use halyard::pb::evaluation::v1::{Intent, SnapshotReason};
use halyard::store::compaction::Kept as Bounds;
use halyard::store::feed::Hints;
use halyard::store::{Settings, Store};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::doors::connect;
use crate::harness::hand::{Edit, Hand};
use crate::harness::keeper::{Keeper, Kept};
use crate::harness::probe::{Step, probe};
use crate::harness::world::{Setup, World};
use crate::support::{eventually, within};

/// Rows are edited by hand under writes, and each edit is a revision of the database: whoever adopts it, a write or a replica that
/// looks, and whatever a replica that starts meanwhile makes of rows that no revision explains yet.
pub async fn edited_by_hand(world: &mut World) {
    let mut hand = Hand::of(world).await;
    let (mut rounds, mut round) = (world.rounds(Duration::from_millis(10)), 0_u32);
    let mut edited: BTreeMap<Edit, usize> = BTreeMap::new();
    while edited.len() < Edit::ALL.len() || rounds.next().await {
        // What there has been least of.
        let count = |edit: &Edit| edited.get(edit).copied().unwrap_or_default();
        let mut edits = Edit::ALL;
        world.rng.shuffle(&mut edits);
        edits.sort_by_key(count);
        let done = match round % 5 {
            2 => unexplained(world, &mut hand).await,
            4 => {
                // Nobody writes, so that replicas find it by looking.
                world.pause_writers().await;
                let done = hand.edits_any(world, &edits, Duration::ZERO).await;
                hand.adopted().await;
                world.catch_up().await;
                world.resume_writers();
                done
            }
            _ => {
                let open = Duration::from_millis(world.rng.u64(0..60));
                hand.edits_any(world, &edits, open).await
            }
        };
        // The next edit may be of the same row.
        hand.adopted().await;
        *edited.entry(done).or_default() += 1;
        round += 1;
    }
    world.pause_writers().await;
    hand.adopted().await;
    assert_eq!(hand.strays().await, 0, "rows say something else than the history");
    world.catch_up().await;
    world.resume_writers();
    println!("edited by hand: {edited:?}");
}

/// A replica starts while nobody can adopt what was edited: it hands out what the history says.
async fn unexplained(world: &mut World, hand: &mut Hand) -> Edit {
    // Whoever adopts, or writes, begins with this row.
    let locking = world.sql().await;
    locking
        .batch_execute("begin; select from projects for update")
        .await
        .unwrap();
    let mut edits = [Edit::Form, Edit::Removal, Edit::Definition];
    world.rng.shuffle(&mut edits);
    let done = hand.edits_any(world, &edits, Duration::ZERO).await;
    let victim = world.rng.usize(..world.replicas.len());
    world.replicas[victim].kill();
    world.start_replica(victim).await;
    for environment in world.furniture.environments.clone() {
        let channel = world.doors.own(victim).expect("a replica");
        let looked = probe(channel, &environment.server_key, &environment.key, Vec::new()).await;
        let recording = looked.expect("a snapshot").recording;
        world.keep(recording.expect("everything"));
    }
    locking.batch_execute("rollback").await.unwrap();
    done
}

/// The horizon follows the head at a distance of one revision, while replicas start anew, which know nothing below it, and clients come
/// back to them with what they held, which is close to the head.
pub async fn horizon_moves(world: &mut World) {
    let sql = world.sql().await;
    let mut rounds = world.rounds(Duration::from_millis(100));
    while rounds.next().await {
        world.writes(5).await;
        let victim = world.rng.usize(..world.replicas.len());
        world.replicas[victim].kill();
        world.start_replica(victim).await;
    }
    world
        .until("a horizon that moves", async |_| {
            let moved = "select from environment_heads where compacted_revision > 0 limit 1";
            sql.query_opt(moved, &[]).await.unwrap().is_some()
        })
        .await;
}

/// Bounds as small as they can be.
pub fn near_horizon() -> Setup {
    Setup {
        arguments: &[
            "--horizon-revisions",
            "1",
            "--horizon-age",
            "1s",
            "--compaction-interval",
            "1s",
        ],
        ..Setup::default()
    }
}

/// Writes come singly, so that clients see nearly every revision.
pub fn unhurried() -> Setup {
    Setup {
        pause: Duration::from_millis(30),
        ..Setup::default()
    }
}

/// How many revisions a client keeps before the horizon moves into the midst of them.
const KEPT: usize = 16;

/// Clients come with tokens of just below the horizon, of the horizon, and of just above it, to a replica that has started anew: while
/// the horizon lies still, and while it moves under replica and clients. Below they are sent everything, from there on what changed.
/// The replica that ran all the time leads on from all of them.
pub async fn horizon_raced(world: &mut World) {
    let settings = Settings::new(world.postgres.config());
    let store = Store::connect(&settings, Hints::new()).await.expect("a store");
    // How often a client came that was so far from a horizon that lay still.
    let mut met: BTreeMap<i64, usize> = BTreeMap::new();
    let (mut rounds, mut round, mut raced) = (world.rounds(Duration::from_millis(100)), 0, 0);
    while met.len() < 3 || raced == 0 || rounds.next().await {
        let environment = world.first_environment();
        let survivor = world.rng.usize(..world.replicas.len());
        let victim = (survivor + 1) % world.replicas.len();
        let ran = world.doors.own(survivor).expect("a replica");
        let keeper = Keeper::follow(ran.clone(), &environment);
        world.writes(KEPT * world.setup.environments).await;
        world.replicas[victim].kill();
        if round % 2 == 0 {
            let horizon = compact(world, &store).await;
            let came = launch(world, victim).await;
            let steps = come(world, &keeper.so_far(horizon - 1..=horizon + 1), &came, &ran).await;
            judge(&steps, horizon, horizon);
            for (revision, _) in &steps {
                *met.entry(revision.cast_signed() - horizon.cast_signed()).or_default() += 1;
            }
        } else {
            let before = horizon(world).await;
            let compacting = Compacting::start(store.clone(), world.rng.fork());
            let came = launch(world, victim).await;
            // They wait at its door while it reads the history.
            let mut steps = come(world, &keeper.so_far(before.saturating_sub(1)..), &came, &ran).await;
            world.writes(2 * world.setup.environments).await;
            // By now there are newer tokens than whatever horizon it found.
            steps.extend(come(world, &keeper.so_far(before.saturating_sub(1)..), &came, &ran).await);
            compacting.stop().await;
            let after = horizon(world).await;
            judge(&steps, before, after);
            raced += usize::from(after > before);
        }
        let furniture = world.furniture.clone();
        world.replicas[victim].ready(&furniture).await;
        world.catch_up().await;
        round += 1;
        assert!(
            round < 100,
            "no client was ever near the horizon: {met:?}, {raced} raced"
        );
    }
    println!("horizon: {met:?} where it lay still, and {raced} races");
}

/// Launches a replica, and returns the way to it before it may be ready.
async fn launch(world: &mut World, number: usize) -> Channel {
    world.replicas[number].launch();
    let replica = &world.replicas[number];
    connect(eventually("the address of a replica", async || replica.listens()).await)
}

/// What each of them is sent first by a replica that has just come; all at once, as soon as it answers. One that ran all the time
/// never sends everything.
async fn come(world: &mut World, near: &[Kept], came: &Channel, ran: &Channel) -> Vec<(u64, Step)> {
    let coming = near.iter().map(async |kept| {
        let first = eventually("a step of a replica that has just come", async || {
            match kept.returns(came.clone()).await {
                Ok(step) => Some(step),
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                    None
                }
            }
        });
        let (first, at_other) = futures_util::join!(first, kept.returns(ran.clone()));
        (kept.revision, first, at_other.expect("a step"))
    });
    let came = within("everybody's first steps", futures_util::future::join_all(coming)).await;
    let mut steps = Vec::new();
    for (revision, (step, recording), (step_of_other, recording_of_other)) in came {
        let intent = step_of_other.begin.intent();
        assert_ne!(
            intent,
            Intent::Snapshot,
            "compaction took {revision} from a replica that had it"
        );
        world.keep(recording);
        world.keep(recording_of_other);
        steps.push((revision, step));
    }
    steps
}

/// The replica read the history between two moments, at which these were the horizon.
fn judge(steps: &[(u64, Step)], before: u64, after: u64) {
    let (mut least_led_on, mut most_sent_all) = (u64::MAX, 0);
    for (revision, Step { begin, .. }) in steps {
        match (begin.intent(), begin.reason()) {
            (Intent::Snapshot, SnapshotReason::Compacted) => {
                assert!(*revision < after, "{revision} was compacted, the horizon was {after}");
                most_sent_all = most_sent_all.max(*revision);
            }
            (Intent::Delta | Intent::None, _) => {
                assert!(
                    *revision >= before,
                    "{revision} was led on from, the horizon was {before}"
                );
                least_led_on = least_led_on.min(*revision);
            }
            other => panic!("{revision} was answered with {other:?}"),
        }
    }
    assert!(
        most_sent_all < least_led_on,
        "{most_sent_all} was compacted, and {least_led_on} was led on from"
    );
}

/// Compacts up to the midst of what a client has kept. Returns the horizon.
async fn compact(world: &World, store: &Store) -> u64 {
    let before = horizon(world).await;
    // An environment that somebody writes to at the moment is passed over.
    eventually("a horizon that moves", async || {
        store.compact(&bounds(KEPT as u64 / 2)).await.expect("compaction");
        let now = horizon(world).await;
        (now > before).then_some(now)
    })
    .await
}

fn bounds(revisions: u64) -> Bounds {
    Bounds {
        revisions,
        age: Duration::ZERO,
        history: None,
    }
}

async fn horizon(world: &World) -> u64 {
    let sql = "
        select compacted_revision from environment_heads head join environments on environments.id = head.environment_id
        where environments.key = $1";
    let key = world.first_environment().key;
    let row = world.sql().await.query_one(sql, &[&key]).await.unwrap();
    row.get::<_, i64>(0).unsigned_abs()
}

/// Somebody who compacts all the time, to some revisions before the head.
struct Compacting {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Compacting {
    fn start(store: Store, mut rng: fastrand::Rng) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                store.compact(&bounds(rng.u64(1..6))).await.expect("compaction");
                tokio::time::sleep(Duration::from_millis(rng.u64(1..20))).await;
            }
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("compaction died");
    }
}
