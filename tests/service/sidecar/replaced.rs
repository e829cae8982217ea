//! The server behind the same address becomes another one.

use halyard::pb::evaluation::v1 as pb;
use halyard::watch::Quality;
use tonic::Code;

use super::stock::stocked;
use super::{Side, everything, try_everything, until_quality};
use crate::app::{App, Keys};
use crate::follower::Follower;
use crate::support::relay::{Relay, Way};
use crate::support::{database, eventually, within};

/// Another installation in which the same key opens another environment, of another id if there were others before.
async fn another(keys: &Keys, environments_before: usize) -> (App, Keys) {
    let database = database().await;
    // All databases of the tests are copies of one.
    let rename = "update store_identity set store_id = gen_random_uuid()";
    database.client().await.execute(rename, &[]).await.unwrap();
    let app = App::start_on(database).await;
    app.project("other").await;
    for n in 0..environments_before {
        app.environment("other", &format!("e{n}")).await;
    }
    let (own, _) = stocked(&app).await;
    app.toggle("plain", true).await;
    let presented = halyard::auth::keys::parse(&keys.server).unwrap();
    let client = app.database.client().await;
    let adopt = "update environment_keys set id = $1, secret_hash = $2 where id = $3";
    let hash = presented.hash.0.to_vec();
    client
        .execute(adopt, &[&presented.id, &hash, &own.server_id])
        .await
        .unwrap();
    client
        .execute("update access_head set revision = revision + 1", &[])
        .await
        .unwrap();
    (app, own)
}

async fn follows_another_store(environments_before: usize) {
    let app = App::start().await;
    let (keys, revision) = stocked(&app).await;
    let (other, _) = another(&keys, environments_before).await;
    let relay = Relay::to(app.server.address()).await;
    let side = Side::follow(&relay.url(), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    until_quality(&side, Quality::Live).await;
    let mut follower = Follower::new(&side.channel, &keys.server).await.unwrap();
    follower.until(revision).await.unwrap();

    relay.set(Way::To(other.server.address()));
    eventually("the other's answers", async || {
        // Between the two it has nothing to answer with: whoever asks then is told to come again.
        let here = match try_everything(&side.channel, &keys.server, "x", 0).await {
            Ok(here) => here,
            Err(status) if status.code() == Code::Unavailable => return None,
            Err(status) => panic!("{status}"),
        };
        let there = everything(&other.channel, &keys.server, "x", 0).await;
        (here == there).then_some(())
    })
    .await;
    // A stream is told of another store, or ends to come again; what it then gets is everything.
    let step = match follower.step().await {
        Ok(step) => step,
        Err(end) => {
            assert!(
                end.as_ref().is_none_or(|status| status.code() == Code::Unavailable),
                "{end:?}"
            );
            let mut held = follower.held;
            (held.generation, held.revision) = (0, 0);
            held.commits.clear();
            follower = Follower::resume(&side.channel, &keys.server, held).await.unwrap();
            follower.step().await.unwrap()
        }
    };
    assert_eq!(step.begin.reason(), pb::SnapshotReason::DifferentStore, "{step:?}");
    assert!(follower.enabled("plain"));
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_replaces_what_is_held() {
    follows_another_store(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_replaces_what_is_held_whatever_its_environment_is_called() {
    follows_another_store(2).await;
}
