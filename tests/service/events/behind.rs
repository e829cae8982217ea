//! Events that wait: how many may, what senders are told, and that nobody else notices.

use futures_util::future::join_all;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::EventOutcome::Accepted;
use halyard::server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{World, conversion, exposure, track};
use crate::app::{self, App};
use crate::replicas::keep_evaluating;
use crate::support::{Scrape, database, eventually, within};

const QUEUE: &str = "halyard_event_queue_bytes";

/// A service that shows its metrics.
async fn measured() -> App {
    App::start_with(database().await, |options| {
        options.metrics = Some("127.0.0.1:0".parse().unwrap());
    })
    .await
}

async fn scraped(world: &World, name: &str) -> f64 {
    let address = world.app.server.metrics_address().unwrap();
    Scrape::of(address).await.value(name)
}

type Sent = JoinHandle<Result<Vec<pb::EventOutcome>, Status>>;

/// Sends so many batches at once, all of the same size, while nothing can be written; returns when all of them wait.
async fn queue(world: &World, count: usize, batch: impl Fn(usize) -> Vec<pb::Event>) -> Vec<Sent> {
    let send = |n| {
        let (channel, key, events) = (world.app.channel.clone(), world.keys.server.clone(), batch(n));
        tokio::spawn(async move { track(&channel, &key, events).await })
    };
    let mut sends = vec![send(0)];
    let one = eventually("the first to wait", async || {
        let waiting = scraped(world, QUEUE).await;
        (waiting > 0.0).then_some(waiting)
    })
    .await;
    sends.extend((1..count).map(send));
    eventually("all to wait", async || {
        // Bytes are whole numbers.
        let waiting = (scraped(world, QUEUE).await / one).round();
        ((waiting - f64::from(u32::try_from(count).unwrap())).abs() < 0.5).then_some(())
    })
    .await;
    sends
}

/// The tables are locked, so that nothing can be written: what waits fills its room, the rest is sent away with a time to come
/// again, evaluations go on, and when the lock is gone everything that was waiting is written.
#[tokio::test(flavor = "multi_thread")]
async fn senders_are_told_to_come_again_when_the_server_is_behind() {
    let limit = 64 * 1024;
    let app = App::start_with(database().await, |options| {
        options.events = server::Events {
            queue_bytes: limit,
            ..server::Events::default()
        };
        options.metrics = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let world = World::on(app).await;
    world.app.toggle("f", true).await;
    let (channel, key) = (&world.app.channel, &world.keys.server);
    assert_eq!(world.track(vec![conversion("u", "bought")]).await, [Accepted]);
    let stop = CancellationToken::new();
    let evaluating = keep_evaluating(channel, key, &stop);
    let mut holder = world.app.database.client().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table exposures").await.unwrap();

    let sends = (0..40).map(|n| {
        let (channel, key) = (channel.clone(), key.clone());
        tokio::spawn(async move {
            let events = (0..100).map(|u| exposure(&format!("u{n}-{u}"))).collect();
            track(&channel, &key, events).await
        })
    });
    let sends: Vec<_> = sends.collect();
    eventually("refusals", async || {
        assert!(scraped(&world, QUEUE).await <= f64::from(limit_of(limit)));
        (scraped(&world, "halyard_event_batches_refused_total").await > 0.0).then_some(())
    })
    .await;
    // Nothing of this is noticed by who evaluates.
    within("evaluations", async {
        for _ in 0..100 {
            app::evaluate(channel, key, "f", 0).await.unwrap();
        }
    })
    .await;
    held.commit().await.unwrap();
    let mut taken = 0;
    for sent in within("the answers", join_all(sends)).await {
        match sent.unwrap() {
            Ok(outcomes) => {
                assert_eq!(outcomes, [Accepted; 100]);
                taken += 100;
            }
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
                assert!(status.message().contains("send them again later"), "{status}");
            }
        }
    }
    assert!(taken > 0);
    assert_eq!(world.rows("exposures").await, taken);
    stop.cancel();
    within("the evaluations", evaluating).await.unwrap();
    eventually("an empty queue", async || {
        (scraped(&world, QUEUE).await == 0.0).then_some(())
    })
    .await;
}

fn limit_of(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap()
}

/// One that is larger than all the room there is must not be sent away for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_queue_is_taken_when_it_is_empty() {
    let app = App::start_with(database().await, |options| options.events.queue_bytes = 1_000).await;
    let world = World::on(app).await;
    let events = (0..1_000).map(|n| exposure(&format!("u{n}"))).collect();
    assert_eq!(world.track(events).await, [Accepted; 1_000]);
}

/// Of many small batches at a time few transactions are made.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_wait_are_written_together() {
    let world = World::on(measured().await).await;
    world.track(vec![exposure("u")]).await;
    let mut holder = world.app.database.client().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table exposures").await.unwrap();
    let sends = queue(&world, 200, |n| vec![exposure(&format!("u{n:03}"))]).await;
    held.commit().await.unwrap();
    for sent in within("the answers", join_all(sends)).await {
        assert_eq!(sent.unwrap().unwrap(), [Accepted]);
    }
    let groups = scraped(&world, "halyard_event_groups_written_total").await;
    assert!(groups < 30.0, "{groups} transactions");
}

/// PostgreSQL refuses one batch for a reason of its own. Those that were to be written with it are written nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_written_harms_no_other() {
    let world = World::on(measured().await).await;
    world.track(vec![exposure("u")]).await;
    let poison = "
        create function refuse() returns trigger language plpgsql as $$ begin raise 'poison'; end $$;
        create trigger refuse before insert on exposures for each row when (new.unit = 'poison') execute function refuse()";
    world.sql.batch_execute(poison).await.unwrap();
    let mut holder = world.app.database.client().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table exposures").await.unwrap();
    let sends = queue(&world, 20, |n| {
        let unit = if n == 10 {
            "poison".to_owned()
        } else {
            format!("u{n:05}")
        };
        vec![exposure("healthy"), exposure(&unit)]
    })
    .await;
    held.commit().await.unwrap();
    for (n, sent) in within("the answers", join_all(sends)).await.into_iter().enumerate() {
        match sent.unwrap() {
            Ok(outcomes) => assert_eq!((n == 10, outcomes), (false, vec![Accepted; 2])),
            Err(status) => assert_eq!((n, status.code()), (10, Code::Internal)),
        }
    }
    assert_eq!(world.rows("exposures").await, 1 + 2 * 19);
    assert_eq!(world.rows("event_ids").await, 1 + 2 * 19);
}
