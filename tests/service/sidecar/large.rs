//! A large environment through a sidecar, and an upstream that is not what it says.

use halyard::domain::change::{Digest, ItemChange, digest};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::pb::evaluation::v1 as pb;
use tonic::transport::Channel;

use super::{Side, try_everything, with_state_file};
use crate::app::App;
use crate::follower::Follower;
use crate::support::relay::{Relay, Way};
use crate::support::{eventually, within};

const FLAGS: usize = 10_000;

/// Appends the definitions of many flags to the only environment, as one revision.
async fn append_flags(app: &App) -> u64 {
    let items: Vec<_> = (0..FLAGS).map(|n| definition(&format!("flag-{n:05}"))).collect();
    let client = app.database.client().await;
    let row = client
        .query_one("select environment_id, revision, digest from environment_heads", &[])
        .await
        .unwrap();
    let (environment, revision): (i64, i64) = (row.get(0), row.get::<_, i64>(1) + 1);
    let previous = Digest::from_slice(row.get(2)).unwrap();
    let changes: Vec<_> = items
        .iter()
        .map(|(id, form)| ItemChange {
            id,
            version: 1,
            form: Some(form),
        })
        .collect();
    let digest = digest(previous, u64::try_from(revision).unwrap(), &changes).0.to_vec();
    let sql = "
        with head as (
            update environment_heads
            set revision = $2, digest = $4, committed_at = now(), mod_xid = pg_current_xact_id()
            where environment_id = $1
        ), change as (
            insert into changes (environment_id, revision, previous_digest, digest, committed_at, actor)
            values ($1, $2, $3, $4, now(), 'test')
        )
        insert into change_items (environment_id, revision, kind, key, version, form)
        select $1, $2, 'flag_definition', item.key, 1, item.form
        from unnest($5::text[], $6::bytea[]) as item (key, form)";
    let keys: Vec<_> = items.iter().map(|(id, _)| &*id.key).collect();
    let forms: Vec<_> = items.iter().map(|(_, form)| form.as_slice()).collect();
    let previous = previous.0.to_vec();
    client
        .execute(sql, &[&environment, &revision, &previous, &digest, &keys, &forms])
        .await
        .unwrap();
    u64::try_from(revision).unwrap()
}

fn definition(key: &str) -> (ItemId, Vec<u8>) {
    let json = serde_json::json!({
        "key": key, "type": "bool", "client_visible": true, "off_variant": "off",
        "variants": [{"key": "on", "value": {"bool": true}}, {"key": "off", "value": {"bool": false}}],
    });
    let form = form::write_definition(&serde_json::from_value(json).unwrap());
    let id = ItemId {
        kind: Kind::FlagDefinition,
        key: key.into(),
    };
    (id, form)
}

/// What everybody is answered of this revision. A server waits for it only so long, and so many flags take their time.
async fn reached(channel: &Channel, key: &str, revision: u64) -> pb::EvaluateAllResponse {
    eventually("the revision", async || {
        try_everything(channel, key, "x", revision).await.ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_flags_are_followed_kept_and_streamed_on() {
    let app = App::start().await;
    let keys = app.shop().await;
    let revision = append_flags(&app).await;
    let relay = Relay::to(app.server.address()).await;
    let folder = tempfile::tempdir().unwrap();
    let side = Side::start(with_state_file(&relay.url(), &keys.server, folder.path())).await;
    let answers = reached(&app.channel, &keys.server, revision).await;
    assert_eq!(answers.evaluations.len(), FLAGS);
    within("a state", side.sidecar.ready()).await;
    assert_eq!(reached(&side.channel, &keys.server, revision).await, answers);
    side.stop().await;

    relay.set(Way::Cut);
    let side = Side::start(with_state_file(&relay.url(), &keys.server, folder.path())).await;
    within("a state", side.sidecar.ready()).await;
    assert_eq!(reached(&side.channel, &keys.server, revision).await, answers);
    let mut follower = Follower::new(&side.channel, &keys.server).await.unwrap();
    let step = follower.step().await.unwrap();
    assert_eq!((step.begin.intent(), step.items), (pb::Intent::Snapshot, FLAGS));
    side.stop().await;
}
