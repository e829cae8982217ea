//! Accounts, as administrators manage them.

use std::time::{Duration, Instant};

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use prost_types::FieldMask;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::app::{App, Bearer, Client, EMAIL, PASSWORD, create_user, login};
use crate::refusals::{invalid, refused};
use crate::support::eventually;

const OTHER_PASSWORD: &str = "another horse, another battery";

fn users(channel: &Channel, token: &str) -> UserServiceClient<Client> {
    UserServiceClient::new(InterceptedService::new(channel.clone(), Bearer::new(token)))
}

/// A change of some fields of an account.
fn update(user: &pb::User, fields: &[&str]) -> pb::UpdateUserRequest {
    pb::UpdateUserRequest {
        user: Some(user.clone()),
        update_mask: Some(FieldMask {
            paths: fields.iter().map(|&field| field.to_owned()).collect(),
        }),
        ..pb::UpdateUserRequest::default()
    }
}

fn delete(user: &pb::User) -> pb::DeleteUserRequest {
    pb::DeleteUserRequest {
        id: user.id.clone(),
        ..pb::DeleteUserRequest::default()
    }
}

fn by_email(email: &str) -> pb::GetUserRequest {
    pb::GetUserRequest {
        id: String::new(),
        email: email.into(),
    }
}

async fn get(app: &App, email: &str) -> Result<pb::User, Status> {
    let found = app.users().get_user(by_email(email)).await?;
    Ok(found.into_inner().user.unwrap())
}

async fn who_am_i(channel: &Channel, token: &str) -> Result<pb::WhoAmIResponse, Status> {
    let service = InterceptedService::new(channel.clone(), Bearer::new(token));
    let answer = AuthServiceClient::new(service).who_am_i(pb::WhoAmIRequest {}).await?;
    Ok(answer.into_inner())
}

/// Waits until it is so, at most ten times the two seconds that are promised.
async fn soon(what: &str, ask: impl AsyncFnMut() -> Option<()>) {
    let began_at = Instant::now();
    eventually(what, ask).await;
    assert!(
        began_at.elapsed() < Duration::from_secs(20),
        "{what}: {:?}",
        began_at.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_created_and_found_by_id_and_by_address() {
    let app = App::start().await;
    let (eve, token) = app.user("Eve@Example.com").await;
    assert!(eve.active && !eve.etag.is_empty() && eve.create_time.is_some());
    assert_eq!(get(&app, "eve@EXAMPLE.com").await.unwrap(), eve);
    let by_id = pb::GetUserRequest {
        id: eve.id.clone(),
        email: String::new(),
    };
    let found = app.users().get_user(by_id).await.unwrap().into_inner();
    assert_eq!(found.user, Some(eve));
    assert_eq!(
        who_am_i(&app.channel, &token).await.unwrap().user.unwrap().email,
        "Eve@Example.com"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_taken_whatever_its_case() {
    let app = App::start().await;
    let request = create_user("ADA@example.com", pb::InstanceRole::Unspecified);
    refused(app.users().create_user(request).await, Code::AlreadyExists);
    let (eve, _) = app.user("eve@example.com").await;
    let renamed = pb::User {
        email: "Ada@Example.com".into(),
        ..eve
    };
    refused(
        app.users().update_user(update(&renamed, &["email"])).await,
        Code::AlreadyExists,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_request_is_told() {
    let app = App::start().await;
    let mut users = app.users();
    let empty = pb::CreateUserRequest::default();
    invalid(users.create_user(empty).await, &["user"]);
    let wrong = pb::CreateUserRequest {
        user: Some(pb::User {
            email: "eve".into(),
            role: 77,
            ..pb::User::default()
        }),
        ..pb::CreateUserRequest::default()
    };
    invalid(users.create_user(wrong).await, &["user.role", "user.email"]);
    let weak = pb::CreateUserRequest {
        password: "Password1234".into(),
        ..create_user("eve@example.com", pb::InstanceRole::Unspecified)
    };
    invalid(users.create_user(weak).await, &["password"]);
    invalid(users.get_user(pb::GetUserRequest::default()).await, &["id"]);
    invalid(users.get_user(by_email("'")).await, &["email"]);
    let both = pb::GetUserRequest {
        id: Uuid::new_v4().to_string(),
        ..by_email(EMAIL)
    };
    invalid(users.get_user(both).await, &["id"]);
    let nobody = pb::User {
        id: "x".into(),
        ..pb::User::default()
    };
    invalid(
        users.update_user(update(&nobody, &["speed"])).await,
        &["update_mask", "user.id"],
    );
    invalid(users.delete_user(delete(&nobody)).await, &["id"]);
    let list = pb::ListUsersRequest {
        page_size: -1,
        filter: "\u{0}".into(),
        ..pb::ListUsersRequest::default()
    };
    invalid(users.list_users(list).await, &["page_size", "filter"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_exist_is_not_found() {
    let app = App::start().await;
    let nobody = pb::User {
        id: Uuid::new_v4().to_string(),
        email: "nobody@example.com".into(),
        ..pb::User::default()
    };
    refused(get(&app, "nobody@example.com").await, Code::NotFound);
    refused(
        app.users().update_user(update(&nobody, &["email"])).await,
        Code::NotFound,
    );
    let password = pb::UpdateUserRequest {
        password: OTHER_PASSWORD.into(),
        ..update(&nobody, &["password"])
    };
    refused(app.users().update_user(password).await, Code::NotFound);
    refused(app.users().delete_user(delete(&nobody)).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_manage_accounts() {
    let app = App::start().await;
    let (eve, token) = app.user("eve@example.com").await;
    let mut hers = users(&app.channel, &token);
    let request = create_user("bob@example.com", pb::InstanceRole::Administrator);
    refused(hers.create_user(request).await, Code::PermissionDenied);
    for email in [EMAIL, "nobody@example.com", "eve@example.com"] {
        refused(hers.get_user(by_email(email)).await, Code::PermissionDenied);
    }
    refused(
        hers.list_users(pb::ListUsersRequest::default()).await,
        Code::PermissionDenied,
    );
    refused(hers.update_user(update(&eve, &["role"])).await, Code::PermissionDenied);
    refused(hers.delete_user(delete(&eve)).await, Code::PermissionDenied);
    let mut nobodys = UserServiceClient::new(app.channel.clone());
    refused(nobodys.delete_user(delete(&eve)).await, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_bites_on_every_replica() {
    let app = App::start().await;
    let (replica, channel) = app.replica().await;
    let (eve, token) = app.user("eve@example.com").await;
    let promoted = pb::User {
        role: pb::InstanceRole::Administrator.into(),
        ..eve.clone()
    };
    app.users().update_user(update(&promoted, &["role"])).await.unwrap();
    let list = async || {
        users(&channel, &token)
            .list_users(pb::ListUsersRequest::default())
            .await
    };
    soon("the role", async || list().await.is_ok().then_some(())).await;
    app.users().update_user(update(&eve, &["role"])).await.unwrap();
    soon("the end of the role", async || {
        let status = list().await.err()?;
        assert_eq!(status.code(), Code::PermissionDenied);
        Some(())
    })
    .await;
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivated_user_is_out_on_every_replica_and_comes_back_by_a_login() {
    let app = App::start().await;
    let (replica, channel) = app.replica().await;
    let (eve, token) = app.user("eve@example.com").await;
    who_am_i(&channel, &token).await.unwrap();
    let inactive = pb::User {
        active: false,
        ..eve.clone()
    };
    let updated = app
        .users()
        .update_user(update(&inactive, &["active"]))
        .await
        .unwrap()
        .into_inner();
    assert!(updated.changed && !updated.user.unwrap().active);
    soon("the end of the token", async || {
        let status = who_am_i(&channel, &token).await.err()?;
        assert_eq!(status.code(), Code::Unauthenticated);
        Some(())
    })
    .await;
    refused(
        login(&app.channel, "eve@example.com", PASSWORD).await,
        Code::Unauthenticated,
    );
    app.users().update_user(update(&eve, &["active"])).await.unwrap();
    let again = login(&app.channel, "eve@example.com", PASSWORD).await.unwrap();
    soon("the account", async || {
        who_am_i(&channel, &again).await.is_ok().then_some(())
    })
    .await;
    refused(who_am_i(&channel, &token).await, Code::Unauthenticated);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sets_a_password_which_ends_the_sessions() {
    let app = App::start().await;
    let (eve, token) = app.user("eve@example.com").await;
    let request = pb::UpdateUserRequest {
        password: OTHER_PASSWORD.into(),
        ..update(&eve, &["password"])
    };
    assert!(app.users().update_user(request).await.unwrap().into_inner().changed);
    soon("the end of the token", async || {
        who_am_i(&app.channel, &token).await.err().map(drop)
    })
    .await;
    refused(
        login(&app.channel, "eve@example.com", PASSWORD).await,
        Code::Unauthenticated,
    );
    login(&app.channel, "eve@example.com", OTHER_PASSWORD).await.unwrap();
    let weak = pb::UpdateUserRequest {
        password: "eve@example.com".into(),
        ..update(&eve, &["password"])
    };
    invalid(app.users().update_user(weak).await, &["password"]);
    invalid(
        app.users().update_user(update(&eve, &["password"])).await,
        &["password"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mask_everything_is_written_but_an_empty_password() {
    let app = App::start().await;
    let (eve, _) = app.user("eve@example.com").await;
    let all = pb::UpdateUserRequest {
        user: Some(pb::User {
            email: "eva@example.com".into(),
            role: pb::InstanceRole::Administrator.into(),
            ..eve.clone()
        }),
        etag: eve.etag.clone(),
        ..pb::UpdateUserRequest::default()
    };
    let updated = app
        .users()
        .update_user(all.clone())
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!(
        (updated.email.as_str(), updated.role()),
        ("eva@example.com", pb::InstanceRole::Administrator)
    );
    login(&app.channel, "eva@example.com", PASSWORD).await.unwrap();
    refused(
        login(&app.channel, "eve@example.com", PASSWORD).await,
        Code::Unauthenticated,
    );
    refused(app.users().update_user(all.clone()).await, Code::Aborted);
    let same = pb::UpdateUserRequest {
        etag: String::new(),
        ..all
    };
    assert!(!app.users().update_user(same).await.unwrap().into_inner().changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_user_is_gone_and_the_token_with_them() {
    let app = App::start().await;
    let (eve, token) = app.user("eve@example.com").await;
    app.users().delete_user(delete(&eve)).await.unwrap();
    soon("the end of the token", async || {
        who_am_i(&app.channel, &token).await.err().map(drop)
    })
    .await;
    refused(get(&app, "eve@example.com").await, Code::NotFound);
    refused(
        login(&app.channel, "eve@example.com", PASSWORD).await,
        Code::Unauthenticated,
    );
    let (again, _) = app.user("eve@example.com").await;
    assert_ne!(again.id, eve.id);
    refused(who_am_i(&app.channel, &token).await, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_administrator_and_the_last_owner_stay() {
    let app = App::start().await;
    let ada = get(&app, EMAIL).await.unwrap();
    refused(app.users().delete_user(delete(&ada)).await, Code::FailedPrecondition);
    for (field, user) in [
        ("role", pb::User { role: 0, ..ada.clone() }),
        (
            "active",
            pb::User {
                active: false,
                ..ada.clone()
            },
        ),
    ] {
        refused(
            app.users().update_user(update(&user, &[field])).await,
            Code::FailedPrecondition,
        );
    }
    let (eve, token) = app.user("eve@example.com").await;
    let service = InterceptedService::new(app.channel.clone(), Bearer::new(&token));
    let create = pb::CreateProjectRequest {
        project: Some(pb::Project {
            key: "hers".into(),
            ..pb::Project::default()
        }),
        ..pb::CreateProjectRequest::default()
    };
    ProjectServiceClient::new(service).create_project(create).await.unwrap();
    let status = refused(app.users().delete_user(delete(&eve)).await, Code::FailedPrecondition);
    assert!(status.message().contains("hers"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_administrators_who_remove_each_other_exactly_one_succeeds() {
    let app = App::start().await;
    let (replica, channel) = app.replica().await;
    let ada = get(&app, EMAIL).await.unwrap();
    let bob = app.account("bob@example.com", pb::InstanceRole::Administrator).await;
    let token = login(&channel, "bob@example.com", PASSWORD).await.unwrap();
    let (mut adas, mut bobs) = (app.users(), users(&channel, &token));
    let (one, other) = tokio::join!(adas.delete_user(delete(&bob)), bobs.delete_user(delete(&ada)));
    assert_eq!(
        usize::from(one.is_ok()) + usize::from(other.is_ok()),
        1,
        "{one:?} {other:?}"
    );
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_listed_in_pages_and_found_by_a_part_of_their_address() {
    let app = App::start().await;
    for email in ["carol@example.org", "Bob@example.org"] {
        app.account(email, pb::InstanceRole::Unspecified).await;
    }
    let list = async |request: pb::ListUsersRequest| {
        let page = app.users().list_users(request).await.unwrap().into_inner();
        let emails: Vec<_> = page.users.into_iter().map(|user| user.email).collect();
        (emails, page.next_page_token)
    };
    let first = pb::ListUsersRequest {
        page_size: 2,
        ..pb::ListUsersRequest::default()
    };
    let (emails, next) = list(first.clone()).await;
    assert_eq!(emails, [EMAIL, "Bob@example.org"]);
    let (emails, next) = list(pb::ListUsersRequest {
        page_token: next,
        ..first
    })
    .await;
    assert_eq!((emails, next.as_str()), (vec!["carol@example.org".to_owned()], ""));
    let filtered = pb::ListUsersRequest {
        filter: "BOB@".into(),
        ..pb::ListUsersRequest::default()
    };
    assert_eq!(list(filtered).await.0, ["Bob@example.org"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_an_id_act_once_and_are_told_apart_by_all_but_the_password() {
    let app = App::start().await;
    let create = pb::CreateUserRequest {
        request_id: Uuid::new_v4().to_string(),
        ..create_user("eve@example.com", pb::InstanceRole::Unspecified)
    };
    let first = app.users().create_user(create.clone()).await.unwrap().into_inner();
    let other_password = pb::CreateUserRequest {
        password: OTHER_PASSWORD.into(),
        ..create.clone()
    };
    let replayed = app.users().create_user(other_password).await.unwrap().into_inner();
    assert_eq!(first, replayed);
    login(&app.channel, "eve@example.com", PASSWORD).await.unwrap();
    let other = pb::CreateUserRequest {
        request_id: create.request_id,
        ..create_user("bob@example.com", pb::InstanceRole::Unspecified)
    };
    invalid(app.users().create_user(other).await, &["request_id"]);

    let eve = first.user.unwrap();
    let rename = pb::UpdateUserRequest {
        request_id: Uuid::new_v4().to_string(),
        ..update(
            &pb::User {
                email: "eva@example.com".into(),
                ..eve.clone()
            },
            &["email"],
        )
    };
    let renamed = app.users().update_user(rename.clone()).await.unwrap().into_inner();
    assert_eq!(app.users().update_user(rename).await.unwrap().into_inner(), renamed);
    let delete = pb::DeleteUserRequest {
        request_id: Uuid::new_v4().to_string(),
        ..delete(&eve)
    };
    app.users().delete_user(delete.clone()).await.unwrap();
    app.users().delete_user(delete).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_validated_changes_nothing() {
    let app = App::start().await;
    let create = pb::CreateUserRequest {
        validate_only: true,
        ..create_user("eve@example.com", pb::InstanceRole::Unspecified)
    };
    let made = app
        .users()
        .create_user(create.clone())
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!((made.email.as_str(), made.etag.as_str()), ("eve@example.com", ""));
    refused(get(&app, "eve@example.com").await, Code::NotFound);
    let again = pb::CreateUserRequest {
        validate_only: true,
        ..create_user(EMAIL, pb::InstanceRole::Unspecified)
    };
    refused(app.users().create_user(again).await, Code::AlreadyExists);
    let (eve, token) = app.user("eve@example.com").await;
    let change = pb::UpdateUserRequest {
        password: OTHER_PASSWORD.into(),
        validate_only: true,
        ..update(&eve, &["password"])
    };
    assert!(app.users().update_user(change).await.unwrap().into_inner().changed);
    let delete = pb::DeleteUserRequest {
        validate_only: true,
        ..delete(&eve)
    };
    app.users().delete_user(delete).await.unwrap();
    who_am_i(&app.channel, &token).await.unwrap();
    login(&app.channel, "eve@example.com", PASSWORD).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_accounts_is_audited() {
    let app = App::start().await;
    let (eve, _) = app.user("eve@example.com").await;
    let request = pb::UpdateUserRequest {
        password: OTHER_PASSWORD.into(),
        ..update(&eve, &["password"])
    };
    app.users().update_user(request).await.unwrap();
    app.users().delete_user(delete(&eve)).await.unwrap();
    let client = app.database.client().await;
    let query = "select action, actor_name, entity_key, before, after from audit_entries
        where chain = 'instance' and entity_key = $1 and action <> 'user.login' order by sequence";
    let rows = client.query(query, &[&eve.id]).await.unwrap();
    let entries: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let by_ada = |action: &str| (action.to_owned(), EMAIL.to_owned());
    assert_eq!(
        entries,
        [by_ada("user.create"), by_ada("user.update"), by_ada("user.delete")]
    );
    let after: String = rows[1].get(4);
    assert!(after.contains(r#""password":"changed""#), "{after}");
    let chain = app.server.store().verify_chain("instance", None).await.unwrap();
    assert!(
        matches!(chain, halyard::domain::audit::verify::Verdict::Intact(_)),
        "{chain:?}"
    );
}
