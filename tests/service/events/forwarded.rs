//! Events through sidecars.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::EventOutcome::{
    Accepted, Duplicate, Excluded, Malformed, UnknownArm, UnknownExperiment,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{World, conversion, exposed, exposure, track};
use crate::app::{App, bool_flag, evaluate, evaluation};
use crate::refusals::refused;
use crate::sidecar::{Side, accepted, options};
use crate::support::relay::{Relay, Way};
use crate::support::{database, eventually, within};

fn url(world: &World) -> String {
    format!("http://{}", world.app.server.address())
}

/// One that lets in both keys.
async fn beside(world: &World, upstream: &str) -> Side {
    let mut options = options(upstream, &world.keys.server);
    options.upstream.callers.keys.push(accepted(&world.keys.client));
    let side = Side::start(options).await;
    within("a state", side.sidecar.ready()).await;
    side
}

fn told_to_come_again(status: &Status, code: Code) {
    assert_eq!(status.code(), code, "{status}");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    assert!(status.message().contains("send them again"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_answers_events_as_its_server_does() {
    let world = World::new().await;
    let near = beside(&world, &url(&world)).await;
    let far = beside(&world, &near.url()).await;
    let batch = || {
        let nameless = pb::Event {
            id: "17".into(),
            ..exposure("u")
        };
        vec![
            exposure("u"),
            exposed("u", "checkout", 2, "on", false),
            nameless,
            exposed("u", "checkout", 2, "neither", true),
            conversion("u", "bought"),
        ]
    };
    let mut rows = 0;
    for side in [&near, &far] {
        for key in [&world.keys.server, &world.keys.client] {
            let batch = batch();
            let first = track(&side.channel, key, batch.clone()).await.unwrap();
            assert_eq!(first, [Accepted, Excluded, Malformed, UnknownArm, Accepted]);
            // Once, whichever way it comes.
            let again = world.track(batch.clone()).await;
            assert_eq!(again, [Duplicate, Duplicate, Malformed, UnknownArm, Duplicate]);
            assert_eq!(track(&side.channel, key, batch).await.unwrap(), again);
            rows += 3;
            assert_eq!(world.rows("event_ids").await, rows);
        }
    }
    let many = vec![exposure("u"); 1_001];
    refused(
        track(&near.channel, &world.keys.server, many).await,
        Code::InvalidArgument,
    );
    far.stop().await;
    near.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_may_not_see_does_not_exist_for_their_keys_behind_sidecars_either() {
    let world = World::new().await;
    let hidden = halyard::pb::admin::v1::Flag {
        client_visible: false,
        ..bool_flag("hidden")
    };
    world.app.create_flag(hidden).await;
    let sql = "update experiments set flag_id = (select id from flags where key = 'hidden')";
    world.sql.execute(sql, &[]).await.unwrap();
    let near = beside(&world, &url(&world)).await;
    let far = beside(&world, &near.url()).await;
    for side in [&near, &far] {
        for (key, expected) in [(&world.keys.client, UnknownExperiment), (&world.keys.server, Accepted)] {
            let outcomes = track(&side.channel, key, vec![exposure("u")]).await.unwrap();
            assert_eq!(outcomes, [expected]);
        }
    }
    // Whoever may see it may ask as one who may not; not the other way round.
    for key in [&world.keys.client, &world.keys.server] {
        let request = pb::TrackRequest {
            events: vec![exposure("u")],
            as_client: true,
        };
        let answered = evaluation(&world.app.channel, key).track(request).await.unwrap();
        assert_eq!(answered.into_inner().answers[0].outcome(), UnknownExperiment);
    }
    far.stop().await;
    near.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_senders_are_told_to_come_again_and_flags_are_answered() {
    let world = World::new().await;
    world.app.toggle("f", true).await;
    let relay = Relay::to(world.app.server.address()).await;
    let side = beside(&world, &relay.url()).await;
    let (channel, key) = (&side.channel, &world.keys.server);
    assert_eq!(track(channel, key, vec![exposure("u")]).await.unwrap(), [Accepted]);
    relay.set(Way::Cut);
    let batch = vec![exposure("v"), conversion("v", "bought")];
    for _ in 0..3 {
        let refused = track(channel, key, batch.clone()).await.unwrap_err();
        told_to_come_again(&refused, Code::Unavailable);
        evaluate(channel, key, "f", 0).await.unwrap();
    }
    assert_eq!(world.rows("event_ids").await, 1);
    relay.set(Way::To(world.app.server.address()));
    let outcomes = eventually("the server", async || track(channel, key, batch.clone()).await.ok()).await;
    // The connection may have been lost with the answer on it.
    assert!(outcomes == [Accepted; 2] || outcomes == [Duplicate; 2], "{outcomes:?}");
    assert_eq!(world.rows("event_ids").await, 3);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_on_their_way_are_bounded() {
    let world = World::new().await;
    world.app.toggle("f", true).await;
    let relay = Relay::to(world.app.server.address()).await;
    let side = beside(&world, &relay.url()).await;
    let (channel, key) = (&side.channel, &world.keys.server);
    relay.set(Way::HeldUp);
    // A megabyte each.
    let unit = "u".repeat(1_000);
    let mut sends: FuturesUnordered<_> = (0..20)
        .map(|_| track(channel, key, vec![exposure(&unit); 1_000]))
        .collect();
    // More than there is room for: those are told at once, while the others wait.
    for _ in 0..4 {
        let refused = within("a refusal", sends.next()).await.unwrap().unwrap_err();
        told_to_come_again(&refused, Code::ResourceExhausted);
    }
    evaluate(channel, key, "f", 0).await.unwrap();
    relay.set(Way::Cut);
    for _ in 4..20 {
        let refused = within("the end", sends.next()).await.unwrap().unwrap_err();
        assert!(
            matches!(refused.code(), Code::Unavailable | Code::ResourceExhausted),
            "{refused}"
        );
    }
    // Their room is free again.
    relay.set(Way::To(world.app.server.address()));
    let batch = vec![exposure(&unit); 1_000];
    let outcomes = eventually("the server", async || track(channel, key, batch.clone()).await.ok()).await;
    assert_eq!(outcomes.len(), 1_000);
    drop(sends);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_server_is_behind_is_told_through_its_sidecars() {
    let app = App::start_with(database().await, |options| options.events.queue_bytes = 1_000).await;
    let world = World::on(app).await;
    let side = beside(&world, &url(&world)).await;
    let (channel, key) = (&side.channel, &world.keys.server);
    assert_eq!(track(channel, key, vec![exposure("u")]).await.unwrap(), [Accepted]);
    let mut holder = world.app.database.client().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table exposures").await.unwrap();
    // Each takes all the room there is: one waits for the lock, the others find none.
    let batch = || (0..100).map(|n| exposure(&format!("u{n}"))).collect();
    let mut sends: FuturesUnordered<_> = (0..3).map(|_| track(channel, key, batch())).collect();
    for _ in 0..2 {
        let refused = within("a refusal", sends.next()).await.unwrap().unwrap_err();
        told_to_come_again(&refused, Code::ResourceExhausted);
    }
    held.commit().await.unwrap();
    let taken = within("the answer", sends.next()).await.unwrap().unwrap();
    assert_eq!(taken, [Accepted; 100]);
    drop(sends);
    side.stop().await;
}

/// Nothing that whoever sends events could mend.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_whose_key_is_refused_takes_no_events_for_now() {
    let world = World::new().await;
    let side = beside(&world, &url(&world)).await;
    let revoked = "with gone as (update environment_keys set revoked_at = now())
        update access_head set revision = revision + 1";
    world.sql.execute(revoked, &[]).await.unwrap();
    let refused = eventually("the refusal", async || {
        let sent = track(&side.channel, &world.keys.client, vec![exposure("u")]).await;
        sent.err()
    })
    .await;
    told_to_come_again(&refused, Code::Unavailable);
    side.stop().await;
}
