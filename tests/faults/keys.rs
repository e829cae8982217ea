//! Keys that end: revoked, expired, or rotated past their overlap. Their streams end too, idle or not.

use std::time::{Duration, Instant};

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::calls::{Client, PROJECT, with};
use crate::harness::template::Environment;
use crate::harness::wire::Flow;
use crate::harness::world::World;
use crate::support::within;

/// Ten times the promise.
const BOUND: Duration = Duration::from_secs(20);
/// How long a key lives that is to expire, and how long the secret before works that is rotated.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// A stream, read to its end.
struct Reading {
    replica: usize,
    task: JoinHandle<Ended>,
}

struct Ended {
    at: Instant,
    status: Option<Status>,
    /// When an item last came.
    last_item: Option<Instant>,
}

/// How a key ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Revoked,
    Expired,
    Rotated,
}

/// Keys end in every way, with streams at every replica, idle and not.
pub async fn ended(world: &mut World) {
    let environment = world.first_environment();
    let mut rounds = world.rounds(Duration::from_millis(100));
    let mut ends = [End::Revoked, End::Expired, End::Rotated].into_iter().cycle();
    let (mut number, mut worst) = (0, Duration::ZERO);
    while number < 3 || rounds.next().await {
        let is_idle = world.rng.bool();
        if is_idle {
            world.pause_writers().await;
        }
        let end = ends.next().expect("a cycle");
        let key = create(world, &environment, matches!(end, End::Expired)).await;
        let id = key.key.clone().unwrap_or_default().id;
        let readings = open(world, &key.secret).await;
        // It ends before the answer comes that says so.
        let asked = Instant::now();
        let over = match end {
            End::Revoked => {
                revoke(world, &environment, &id).await;
                asked
            }
            End::Expired => {
                let expires = key.key.unwrap_or_default().expire_time.expect("it expires");
                let left = std::time::SystemTime::try_from(expires).unwrap().elapsed();
                Instant::now() + left.err().map(|ahead| ahead.duration()).unwrap_or_default()
            }
            End::Rotated => {
                rotate(world, &environment, &id).await;
                asked + SHORT_LIFE
            }
        };
        for reading in readings {
            worst = worst.max(ends_after(reading, over, end).await);
        }
        if is_idle {
            world.resume_writers();
        }
        number += 1;
    }
    println!("keys: {number} ended, their streams within {worst:?}");
}

/// A key is revoked while a replica is cut off from PostgreSQL. Its streams there live on without anything new, and end when it is back.
pub async fn revoked_out_of_reach(world: &mut World) {
    let environment = world.first_environment();
    let mut rounds = world.rounds(Duration::from_millis(100));
    while rounds.next().await {
        let key = create(world, &environment, false).await;
        let mut readings = open(world, &key.secret).await;
        let cut = 0;
        // A write that is cut off keeps the project's lock, for which a revocation waits, until PostgreSQL ends it after 10 s.
        world.pause_writers().await;
        world.wires[cut].set(|way| (way.to_replica, way.to_server) = (Flow::Hold, Flow::Hold));
        let cut_at = Instant::now();
        let asked = Instant::now();
        revoke_at(world, 1, &environment, &key.key.unwrap_or_default().id).await;
        let revoked = Instant::now();
        world.resume_writers();
        let there = readings
            .iter()
            .position(|reading| reading.replica != cut)
            .expect("a stream at the other");
        ends_after(readings.remove(there), asked, End::Revoked).await;
        world.go_on(Duration::from_millis(500)).await;
        let lives = !readings[0].task.is_finished();
        world.wires[cut].heal();
        // It knew nothing, and went on.
        assert!(lives, "a stream ended that nobody could know anything about");
        let ended = within("the end of a stream", readings.remove(0).task).await.unwrap();
        let quiet_from = cut_at + Duration::from_secs(1);
        assert!(
            ended.at.duration_since(cut_at) < BOUND,
            "it lived on for {:?}",
            ended.at - cut_at
        );
        let items_meanwhile = ended.last_item.is_some_and(|at| at > quiet_from && at < revoked);
        assert!(!items_meanwhile, "a replica had news that could not reach it");
        assert_eq!(ended.status.map(|status| status.code()), Some(Code::Unauthenticated));
    }
}

/// Returns how long after the key's end its stream ended.
async fn ends_after(reading: Reading, over: Instant, end: End) -> Duration {
    let ended = tokio::time::timeout_at((over + BOUND).into(), reading.task).await;
    let ended = ended
        .unwrap_or_else(|_| panic!("{end:?}: a stream lives on at {}", reading.replica))
        .unwrap();
    let early = over.saturating_duration_since(ended.at);
    assert!(
        early < Duration::from_millis(500),
        "{end:?}: a stream ended {early:?} before its key"
    );
    let code = ended.status.as_ref().map(Status::code);
    assert_eq!(code, Some(Code::Unauthenticated), "{end:?}: {:?}", ended.status);
    ended.at.saturating_duration_since(over)
}

fn administrator(world: &World, replica: usize) -> EnvironmentServiceClient<Client> {
    let channel = world.doors.shared(replica).expect("a replica");
    EnvironmentServiceClient::new(with(channel, &world.furniture.token))
}

async fn create(world: &World, environment: &Environment, expires: bool) -> admin::CreatedKey {
    let expire_time = expires.then(|| (std::time::SystemTime::now() + SHORT_LIFE).into());
    let request = admin::CreateKeyRequest {
        project: PROJECT.into(),
        environment: environment.key.clone(),
        kind: admin::KeyKind::Server.into(),
        expire_time,
        ..admin::CreateKeyRequest::default()
    };
    let created = administrator(world, 0).create_key(request).await.unwrap();
    created.into_inner().key.expect("a key")
}

async fn revoke(world: &mut World, environment: &Environment, key: &str) {
    let replica = world.rng.usize(..world.replicas.len());
    revoke_at(world, replica, environment, key).await;
}

async fn revoke_at(world: &World, replica: usize, environment: &Environment, key: &str) {
    let request = admin::RevokeKeyRequest {
        project: PROJECT.into(),
        environment: environment.key.clone(),
        key_id: key.to_owned(),
        ..admin::RevokeKeyRequest::default()
    };
    administrator(world, replica).revoke_key(request).await.unwrap();
}

async fn rotate(world: &mut World, environment: &Environment, key: &str) {
    let request = admin::RotateKeyRequest {
        project: PROJECT.into(),
        environment: environment.key.clone(),
        key_id: key.to_owned(),
        overlap: Some(SHORT_LIFE.try_into().unwrap()),
        ..admin::RotateKeyRequest::default()
    };
    let replica = world.rng.usize(..world.replicas.len());
    administrator(world, replica).rotate_key(request).await.unwrap();
}

/// A stream at every replica, which has begun.
async fn open(world: &World, secret: &str) -> Vec<Reading> {
    let mut readings = Vec::new();
    for replica in 0..world.replicas.len() {
        let channel = world.doors.own(replica).expect("a replica");
        readings.push(read(replica, channel, secret).await);
    }
    readings
}

async fn read(replica: usize, channel: Channel, secret: &str) -> Reading {
    let mut client = WatchServiceClient::new(with(channel, secret));
    let mut stream = client
        .watch(pb::WatchRequest::default())
        .await
        .expect("a stream")
        .into_inner();
    let first = within("the first word", stream.message()).await;
    assert!(first.is_ok_and(|first| first.is_some()), "a stream that says nothing");
    let task = tokio::spawn(async move {
        let mut last_item = None;
        let status = loop {
            match stream.message().await {
                Ok(Some(pb::WatchResponse {
                    message: Some(Message::Item(_)),
                })) => last_item = Some(Instant::now()),
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        Ended {
            at: Instant::now(),
            status,
            last_item,
        }
    });
    Reading { replica, task }
}
