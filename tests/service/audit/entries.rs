//! What an entry says.

use halyard::domain::audit::Entry;
use halyard::domain::change::Digest;
use halyard::pb::admin::v1 as pb;
use tonic::{Code, Request};
use uuid::Uuid;

use super::{found, intact, of, verify};
use crate::app::{App, EMAIL, PASSWORD, login, toggle};
use crate::refusals::refused;

/// A hash as the proto file says how to make it.
fn rehash(entry: &pb::AuditEntry) -> Digest {
    let time = entry.time.unwrap();
    let entry_of = Entry {
        id: entry.id.parse().unwrap(),
        at: jiff::Timestamp::new(time.seconds, time.nanos).unwrap(),
        actor: entry.actor.clone(),
        actor_name: entry.actor_name.clone(),
        credential: entry.credential.clone(),
        action: entry.action.clone(),
        entity: entry.entity.clone(),
        entity_key: entry.entity_key.clone(),
        project: entry.project.clone(),
        environment: entry.environment.clone(),
        before: entry.before.clone(),
        after: entry.after.clone(),
        request_id: entry.request_id.clone(),
        peer: entry.peer.clone(),
        reason: entry.reason.clone(),
    };
    entry_of.hash(Digest::from_hex(&entry.previous_hash).unwrap(), entry.sequence)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_says_who_did_what_with_which_credential_and_why() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let id = Uuid::new_v4().to_string();
    let mut request = Request::new(pb::ToggleFlagsRequest {
        request_id: id.clone(),
        ..toggle("f", true)
    });
    request
        .metadata_mut()
        .insert("x-halyard-reason", "the launch".parse().unwrap());
    app.flags().toggle_flags(request).await.unwrap();

    let entries = found(&app, &of("shop")).await;
    let entry = entries.first().unwrap();
    let me = app.auth().who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!(entry.actor, format!("user:{}", me.user.unwrap().id));
    assert!(Uuid::parse_str(&entry.credential).is_ok() && !app.token.contains(&entry.credential));
    let said = [
        &entry.actor_name,
        &entry.action,
        &entry.entity,
        &entry.entity_key,
        &entry.project,
        &entry.environment,
        &entry.peer,
        &entry.reason,
        &entry.request_id,
    ];
    let expected = [
        EMAIL,
        "flag_configuration.toggle",
        "flag_configuration",
        "f",
        "shop",
        "dev",
        "127.0.0.1",
        "the launch",
        &id,
    ];
    assert_eq!(said, expected);
    assert_eq!(entry.before, None);
    assert!(entry.after.as_ref().unwrap().contains("\"enabled\":true"));

    // The whole chain can be recomputed from what is listed.
    let mut next: Option<&pb::AuditEntry> = None;
    for entry in &entries {
        assert_eq!(rehash(entry).to_string(), entry.hash);
        if let Some(next) = next {
            assert_eq!((next.sequence, &next.previous_hash), (entry.sequence + 1, &entry.hash));
        }
        next = Some(entry);
    }
    assert_eq!(next.unwrap().previous_hash, "0".repeat(64));
    let head = intact(&app, verify("shop")).await;
    assert_eq!((head.sequence, &head.hash), (entries[0].sequence, &entries[0].hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_ever_holds_a_secret() {
    const WRONG: &str = "a wrong password, of all things";
    let app = App::start().await;
    let keys = app.shop().await;
    let id = Uuid::new_v4().to_string();
    let create = pb::CreateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        kind: pb::KeyKind::Server.into(),
        request_id: id,
        ..Default::default()
    };
    let created = app
        .environments()
        .create_key(create.clone())
        .await
        .unwrap()
        .into_inner();
    app.environments().create_key(create).await.unwrap();
    let revoke = pb::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: keys.server_id.clone(),
        ..Default::default()
    };
    app.environments().revoke_key(revoke).await.unwrap();
    refused(login(&app.channel, EMAIL, WRONG).await, Code::Unauthenticated);
    refused(
        login(&app.channel, WRONG.split(' ').next().unwrap(), WRONG).await,
        Code::InvalidArgument,
    );
    refused(
        login(&app.channel, "eve@example.com", WRONG).await,
        Code::Unauthenticated,
    );

    let sql = app.database.client().await;
    let hashes = "
        select encode(secret_hash, 'hex') from environment_keys
        union all select encode(secret_hash, 'base64') from environment_keys
        union all select password_hash from users";
    let hashes = sql.query(hashes, &[]).await.unwrap();
    let hashes = hashes.iter().map(|row| row.get::<_, String>(0));
    let (head, signature) = app.token.rsplit_once('.').unwrap();
    let tokens = [app.token.as_str(), head, signature].map(str::to_owned);
    let secrets = [
        PASSWORD,
        WRONG,
        &keys.server,
        &keys.client,
        &created.key.unwrap().secret,
    ]
    .map(str::to_owned);
    // What stands between the id of a key and its checksum is its secret part.
    let parts = secrets[2..]
        .iter()
        .filter_map(|key| key.rsplit('_').nth(1))
        .map(str::to_owned);
    let all: Vec<_> = hashes.chain(tokens).chain(parts).chain(secrets.clone()).collect();
    assert!(all.iter().all(|secret| secret.len() > 20), "{all:?}");

    let rows = sql
        .query("select to_jsonb(e)::text from audit_entries e", &[])
        .await
        .unwrap();
    let stored = rows.iter().map(|row| row.get::<_, String>(0));
    let shown = [found(&app, &of("shop")).await, found(&app, &of("")).await].concat();
    let shown = shown.iter().map(|entry| format!("{entry:?}"));
    let entries: Vec<_> = stored.chain(shown).collect();
    assert!(entries.len() > 10, "{}", entries.len());
    for entry in entries {
        for secret in &all {
            assert!(!entry.contains(secret.as_str()), "{secret} is in {entry}");
        }
    }
}
