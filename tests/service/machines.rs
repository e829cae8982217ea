//! What machines show: service tokens, and keys that change their secret.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use halyard::domain::access::{Permission, Role, Standing};
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Developer, Owner, Viewer};
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::app::{App, Keys, bool_flag, evaluate};
use crate::follower::Follower;
use crate::people::{Person, service_token, showing};
use crate::refusals::{invalid, refused};
use crate::support::{eventually, within};

/// How soon a revocation must bite everywhere: ten times the promise.
const EVERYWHERE: Duration = Duration::from_secs(20);

fn token_of(role: pb::ProjectRole) -> pb::CreateServiceTokenRequest {
    pb::CreateServiceTokenRequest {
        project: "shop".into(),
        role: role.into(),
        ..Default::default()
    }
}

fn revoke_token(id: &str) -> pb::RevokeServiceTokenRequest {
    pb::RevokeServiceTokenRequest {
        project: "shop".into(),
        service_token_id: id.into(),
        ..Default::default()
    }
}

async fn tokens(app: &App) -> Vec<pb::ServiceToken> {
    let request = pb::ListServiceTokensRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let response = app.service_tokens().list_service_tokens(request).await.unwrap();
    response.into_inner().service_tokens
}

async fn who_am_i(channel: &Channel, credential: &str) -> Result<pb::WhoAmIResponse, Status> {
    let mut auth = AuthServiceClient::new(showing(channel, credential));
    Ok(auth.who_am_i(pb::WhoAmIRequest {}).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_is_made_shown_once_listed_and_revoked() {
    let app = App::start().await;
    app.project("shop").await;
    let request = pb::CreateServiceTokenRequest {
        name: "pipeline".into(),
        request_id: Uuid::new_v4().to_string(),
        ..token_of(Developer)
    };
    let made = app
        .service_tokens()
        .create_service_token(request.clone())
        .await
        .unwrap();
    let made = made.into_inner();
    let token = made.service_token.clone().unwrap();
    assert!(made.secret.starts_with(&format!("halyard_service_{}_", token.id)) && !made.secret_omitted);
    let replayed = app
        .service_tokens()
        .create_service_token(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (replayed.service_token, replayed.secret, replayed.secret_omitted),
        (Some(token.clone()), String::new(), true)
    );
    assert_eq!(tokens(&app).await, std::slice::from_ref(&token));

    let revoked = app.service_tokens().revoke_service_token(revoke_token(&token.id)).await;
    let revoked = revoked.unwrap().into_inner();
    assert!(revoked.changed && revoked.service_token.unwrap().revoke_time.is_some());
    let again = app.service_tokens().revoke_service_token(revoke_token(&token.id)).await;
    assert!(!again.unwrap().into_inner().changed);

    let secret = made.secret.rsplit('_').nth(1).unwrap();
    let sql = app.database.client().await;
    let everything = "select string_agg(to_jsonb(t)::text, '') || (select string_agg(to_jsonb(e)::text, '')
        from audit_entries e) || (select string_agg(to_jsonb(r)::text, '') from request_records r) from service_tokens t";
    let everything: String = sql.query_one(everything, &[]).await.unwrap().get(0);
    assert!(!everything.contains(secret) && everything.contains("service_token.revoke"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_acts_in_its_project_under_its_own_name() {
    let app = App::start().await;
    app.project("shop").await;
    app.project("other").await;
    let (id, secret) = service_token(&app, "shop", Developer).await;
    let me = who_am_i(&app.channel, &secret).await.unwrap();
    assert_eq!((me.user, me.service_token_id.as_str()), (None, id.as_str()));
    assert_eq!((me.memberships.len(), me.memberships[0].role()), (1, Developer));
    assert!(me.permissions.is_empty());
    let permissions = &me.project_permissions[0].permissions;
    assert!(permissions.contains(&"project.change".into()) && !permissions.contains(&"projects.create".into()));

    let mut projects = ProjectServiceClient::new(showing(&app.channel, &secret));
    let listed = projects
        .list_projects(pb::ListProjectsRequest::default())
        .await
        .unwrap();
    let listed = listed.into_inner().projects;
    assert_eq!(listed.iter().map(|project| &*project.key).collect::<Vec<_>>(), ["shop"]);
    let create = pb::CreateProjectRequest {
        project: Some(pb::Project {
            key: "mine".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    refused(projects.create_project(create).await, Code::PermissionDenied);

    let mut flags = FlagServiceClient::new(showing(&app.channel, &secret));
    let create = |project: &str| {
        let flag = pb::Flag {
            project: project.into(),
            ..bool_flag("f")
        };
        let mut request = Request::new(pb::CreateFlagRequest {
            flag: Some(flag),
            request_id: Uuid::new_v4().to_string(),
            ..Default::default()
        });
        request
            .metadata_mut()
            .insert("x-halyard-reason", "release 7".parse().unwrap());
        request
    };
    flags.create_flag(create("shop")).await.unwrap();
    refused(flags.create_flag(create("other")).await, Code::PermissionDenied);
    let delete = pb::DeleteFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    refused(flags.delete_flag(delete).await, Code::PermissionDenied);
    let sql = app.database.client().await;
    let query = "select actor, credential, reason from audit_entries where action = 'flag.create'";
    let row = sql.query_one(query, &[]).await.unwrap();
    let entry: [String; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(entry, [format!("token:{id}"), id, "release 7".into()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_service_token_is_refused_everywhere_within_two_seconds() {
    let app = App::start().await;
    app.project("shop").await;
    let (replica, channel) = app.replica().await;
    let (id, secret) = service_token(&app, "shop", Owner).await;
    for channel in [&app.channel, &channel] {
        who_am_i(channel, &secret).await.unwrap();
    }
    // It may take its own rights away, and hear of it once more.
    let request = pb::RevokeServiceTokenRequest {
        request_id: Uuid::new_v4().to_string(),
        ..revoke_token(&id)
    };
    let mut own = pb::service_token_service_client::ServiceTokenServiceClient::new(showing(&channel, &secret));
    own.revoke_service_token(request).await.unwrap();
    let revoked_at = Instant::now();
    for channel in [&app.channel, &channel] {
        let status = eventually("the end of the token", async || who_am_i(channel, &secret).await.err()).await;
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    assert!(revoked_at.elapsed() < EVERYWHERE, "{:?}", revoked_at.elapsed());
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_that_has_expired_is_refused() {
    let app = App::start().await;
    app.project("shop").await;
    let soon = std::time::SystemTime::now() + Duration::from_secs(5);
    let request = pb::CreateServiceTokenRequest {
        expire_time: Some(soon.into()),
        ..token_of(Viewer)
    };
    let made = app
        .service_tokens()
        .create_service_token(request)
        .await
        .unwrap()
        .into_inner();
    who_am_i(&app.channel, &made.secret).await.unwrap();
    let status = eventually("the end", async || who_am_i(&app.channel, &made.secret).await.err()).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(std::time::SystemTime::now() >= soon);
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_make_service_tokens_of_every_role_but_owner() {
    let app = App::start().await;
    app.project("shop").await;
    let admin = Person::member(&app, "admin@example.com", "shop", Admin).await;
    let mut as_admin = admin.service_tokens(&app.channel);
    for role in [Admin, Developer, Viewer] {
        as_admin.create_service_token(token_of(role)).await.unwrap();
    }
    refused(
        as_admin.create_service_token(token_of(Owner)).await,
        Code::PermissionDenied,
    );
    let (id, _) = service_token(&app, "shop", Owner).await;
    refused(
        as_admin.revoke_service_token(revoke_token(&id)).await,
        Code::PermissionDenied,
    );
    // Nor does a machine become more than it is.
    let (_, secret) = service_token(&app, "shop", Admin).await;
    let mut as_machine =
        pb::service_token_service_client::ServiceTokenServiceClient::new(showing(&app.channel, &secret));
    refused(
        as_machine.create_service_token(token_of(Owner)).await,
        Code::PermissionDenied,
    );
    as_machine.create_service_token(token_of(Admin)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_service_tokens_are_refused() {
    let app = App::start().await;
    app.project("shop").await;
    let bad = pb::CreateServiceTokenRequest {
        name: "n".repeat(201),
        expire_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..token_of(pb::ProjectRole::Unspecified)
    };
    let made = app.service_tokens().create_service_token(bad).await;
    invalid(made, &["role", "name", "expire_time"]);
    let revoked = app.service_tokens().revoke_service_token(revoke_token("x")).await;
    invalid(revoked, &["service_token_id"]);
    let unknown = app
        .service_tokens()
        .revoke_service_token(revoke_token("0000000000000000"))
        .await;
    refused(unknown, Code::NotFound);
    let (_, secret) = service_token(&app, "shop", Viewer).await;
    let (_, other) = service_token(&app, "shop", Owner).await;
    // The id of one with the secret of the other, and a checksum that fits.
    let at = "halyard_service_".len() + 16;
    let mixed = format!("{}{}", &other[..at], &secret[at..secret.len() - 9]);
    let mixed = format!("{mixed}_{:08x}", crc32fast::hash(mixed.as_bytes()));
    assert_eq!(mixed.len(), secret.len());
    for wrong in [
        &secret[..secret.len() - 1],
        &secret.replace("service", "server"),
        "halyard_service_",
        &mixed,
    ] {
        refused(who_am_i(&app.channel, wrong).await, Code::Unauthenticated);
    }
}

fn rotate(keys: &Keys, overlap: Option<Duration>) -> pb::RotateKeyRequest {
    pb::RotateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: keys.server_id.clone(),
        overlap: overlap.map(|overlap| overlap.try_into().unwrap()),
        ..Default::default()
    }
}

/// Rotates the server key, and returns its new secret.
async fn rotated(app: &App, keys: &Keys, overlap: Option<Duration>) -> String {
    let response = app
        .environments()
        .rotate_key(rotate(keys, overlap))
        .await
        .unwrap()
        .into_inner();
    assert!(!response.secret_omitted);
    response.key.unwrap().secret
}

/// How a stream ends that is told nothing more.
async fn end(follower: &mut Follower) -> Code {
    loop {
        if let Err(end) = follower.step().await {
            return end.expect("a status").code();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_secrets_of_a_rotated_key_work_until_the_overlap_ends() {
    const OVERLAP: Duration = Duration::from_secs(8);
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let (replica, channel) = app.replica().await;
    let mut of_the_old = Vec::new();
    for channel in [&app.channel, &channel] {
        let mut follower = Follower::new(channel, &keys.server).await.unwrap();
        follower.step().await.unwrap();
        of_the_old.push(follower);
    }
    let rotated_at = Instant::now();
    let new = rotated(&app, &keys, Some(OVERLAP)).await;
    let mut of_the_new = Vec::new();
    for channel in [&app.channel, &channel] {
        // The new one at once, on both; the old one for now.
        evaluate(channel, &new, "f", 0).await.unwrap();
        evaluate(channel, &keys.server, "f", 0).await.unwrap();
        let mut follower = Follower::new(channel, &new).await.unwrap();
        follower.step().await.unwrap();
        of_the_new.push(follower);
    }
    for follower in &mut of_the_old {
        assert_eq!(end(follower).await, Code::Unauthenticated);
    }
    let lasted = rotated_at.elapsed();
    assert!(
        lasted + Duration::from_millis(50) >= OVERLAP && lasted < OVERLAP + EVERYWHERE,
        "{lasted:?}"
    );
    for channel in [&app.channel, &channel] {
        refused(evaluate(channel, &keys.server, "f", 0).await, Code::Unauthenticated);
        evaluate(channel, &new, "f", 0).await.unwrap();
    }
    let revision = app.toggle("f", true).await;
    for follower in &mut of_the_new {
        within("the toggle", follower.until(revision)).await.unwrap();
    }
    drop(of_the_new);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_secret_is_replaced_without_an_overlap() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let (replica, channel) = app.replica().await;
    let mut follower = Follower::new(&channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let new = rotated(&app, &keys, Some(Duration::ZERO)).await;
    let rotated_at = Instant::now();
    assert_eq!(end(&mut follower).await, Code::Unauthenticated);
    assert!(rotated_at.elapsed() < EVERYWHERE, "{:?}", rotated_at.elapsed());
    refused(evaluate(&channel, &keys.server, "f", 0).await, Code::Unauthenticated);
    evaluate(&channel, &new, "f", 0).await.unwrap();
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_two_secrets_at_most_and_a_day_for_the_change() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let second = rotated(&app, &keys, None).await;
    let list = pb::ListKeysRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    let listed = app.environments().list_keys(list).await.unwrap().into_inner().keys;
    let key = listed.iter().find(|key| key.id == keys.server_id).unwrap();
    let (rotated_at, ends_at) = (key.rotate_time.unwrap(), key.previous_expire_time.unwrap());
    assert_eq!(ends_at.seconds - rotated_at.seconds, 24 * 60 * 60);
    let third = rotated(&app, &keys, None).await;
    let status = eventually("the end of the eldest", async || {
        evaluate(&app.channel, &keys.server, "f", 0).await.err()
    })
    .await;
    assert_eq!(status.code(), Code::Unauthenticated);
    for secret in [&second, &third] {
        evaluate(&app.channel, secret, "f", 0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_acts_once_and_tells_its_secret_once() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let validated = pb::RotateKeyRequest {
        validate_only: true,
        ..rotate(&keys, None)
    };
    let validated = app.environments().rotate_key(validated).await.unwrap().into_inner();
    assert!(validated.secret_omitted && validated.key.unwrap().secret.is_empty());
    let request = pb::RotateKeyRequest {
        request_id: Uuid::new_v4().to_string(),
        ..rotate(&keys, Some(Duration::ZERO))
    };
    let first = app
        .environments()
        .rotate_key(request.clone())
        .await
        .unwrap()
        .into_inner();
    let replayed = app.environments().rotate_key(request).await.unwrap().into_inner();
    assert!(replayed.secret_omitted && replayed.key.as_ref().unwrap().secret.is_empty());
    let first = first.key.unwrap();
    assert_eq!(replayed.key.unwrap().key, first.key);
    evaluate(&app.channel, &first.secret, "f", 0).await.unwrap();
    let sql = app.database.client().await;
    let entries = "select string_agg(to_jsonb(e)::text, '') from audit_entries e where action = 'key.rotate'";
    let entries: String = sql.query_one(entries, &[]).await.unwrap().get(0);
    assert!(!entries.contains(first.secret.rsplit('_').nth(1).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_key_is_not_rotated() {
    let app = App::start().await;
    let keys = app.shop().await;
    let revoke = pb::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: keys.server_id.clone(),
        ..Default::default()
    };
    app.environments().revoke_key(revoke).await.unwrap();
    let mut environments = app.environments();
    refused(
        environments.rotate_key(rotate(&keys, None)).await,
        Code::FailedPrecondition,
    );
    let unknown = pb::RotateKeyRequest {
        key_id: "0000000000000000".into(),
        ..rotate(&keys, None)
    };
    refused(environments.rotate_key(unknown).await, Code::NotFound);
    let month = Duration::from_hours(24 * 30);
    let long = rotate(&keys, Some(month + Duration::from_secs(1)));
    invalid(environments.rotate_key(long).await, &["overlap"]);
    let backwards = pb::RotateKeyRequest {
        overlap: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        key_id: String::new(),
        ..rotate(&keys, None)
    };
    invalid(environments.rotate_key(backwards).await, &["key_id", "overlap"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_tells_what_was_used() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let (id, secret) = service_token(&app, "shop", Viewer).await;
    let (replica, channel) = app.replica().await;
    let began_at = jiff::Timestamp::now();
    for _ in 0..100 {
        evaluate(&channel, &keys.server, "f", 0).await.unwrap();
        who_am_i(&channel, &secret).await.unwrap();
    }
    drop(channel);
    replica.stop().await.unwrap();
    // Not with every call: at once after a quiet time at most, and at the end.
    let sql = app.database.client().await;
    sql.batch_execute("select pg_stat_force_next_flush()").await.unwrap();
    let written = "select pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) from pg_class c
        where relname = 'credential_uses'";
    let written: i64 = sql.query_one(written, &[]).await.unwrap().get(0);
    assert!(written <= 4, "{written} writes");
    let list = pb::ListKeysRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    let listed = app.environments().list_keys(list).await.unwrap().into_inner().keys;
    let used: Vec<_> = listed
        .iter()
        .filter_map(|key| Some((&key.id, key.last_use_time?.seconds)))
        .collect();
    assert!(
        matches!(used[..], [(id, at)] if *id == keys.server_id && at >= began_at.as_second()),
        "{used:?}"
    );
    let listed = tokens(&app).await;
    assert!(listed[0].id == id && listed[0].last_use_time.is_some(), "{listed:?}");
    // What is gone is swept away.
    let delete = pb::DeleteProjectRequest {
        project: "shop".into(),
        confirm: "shop".into(),
        ..Default::default()
    };
    app.projects().delete_project(delete).await.unwrap();
    assert_eq!(app.server.store().purge_uses().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_is_told_just_what_the_matrix_grants() {
    let app = App::start().await;
    app.project("shop").await;
    for (role, stored) in [
        (Owner, Role::Owner),
        (pb::ProjectRole::Admin, Role::Admin),
        (Developer, Role::Developer),
        (Viewer, Role::Viewer),
    ] {
        let person = Person::member(&app, &format!("{}@example.com", stored.name()), "shop", role).await;
        let (_, machine) = service_token(&app, "shop", role).await;
        for (credential, machine) in [(person.token(), false), (machine, true)] {
            // A server learns of its own writes a moment after they are answered.
            let me = eventually("the role", async || {
                let me = who_am_i(&app.channel, &credential).await.unwrap();
                (!me.project_permissions.is_empty()).then_some(me)
            })
            .await;
            let granted = |project| {
                let standing = Standing {
                    instance: None,
                    project,
                    machine,
                };
                let granted = Permission::ALL.into_iter().filter(|it| it.granted_to(standing));
                granted.map(|it| it.name().to_owned()).collect::<BTreeSet<_>>()
            };
            assert!(me.permissions.iter().eq(&granted(None)), "{me:?}");
            let [in_shop] = &me.project_permissions[..] else {
                panic!("{me:?}");
            };
            assert!(
                in_shop.permissions.iter().eq(&granted(Some(stored))),
                "{stored:?} {me:?}"
            );
        }
    }
}
