//! Logging in, and who one is.

use halyard::auth::jwt::{Holder, SigningKey, Tokens};
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use secrecy::ExposeSecret as _;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request};

use crate::app::{App, Bearer, EMAIL, PASSWORD, SIGNING_KEY, login};
use crate::refusals::{invalid, refused};

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_logs_in_and_learns_who_it_is() {
    let app = App::start().await;
    app.project("shop").await;
    let me = app.auth().who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
    let user = me.user.unwrap();
    assert_eq!(user.email, EMAIL);
    assert_eq!(user.role(), pb::InstanceRole::Administrator);
    assert!(user.active);
    assert!(me.permissions.contains(&"instance.manage".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creator_is_shown_as_owner() {
    let app = App::start().await;
    app.project("shop").await;
    crate::support::eventually("the membership", async || {
        let me = app.auth().who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
        let membership = me.memberships.first()?;
        assert_eq!(
            (membership.project.as_str(), membership.role()),
            ("shop", pb::ProjectRole::Owner)
        );
        assert!(
            me.project_permissions[0]
                .permissions
                .contains(&"project.delete".to_owned())
        );
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_compared_without_case() {
    let app = App::start().await;
    assert!(login(&app.channel, "ADA@Example.com", PASSWORD).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_address_and_a_wrong_password_are_answered_alike() {
    let app = App::start().await;
    let wrong = refused(
        login(&app.channel, EMAIL, "not the password").await,
        Code::Unauthenticated,
    );
    let unknown = refused(
        login(&app.channel, "eve@example.com", PASSWORD).await,
        Code::Unauthenticated,
    );
    assert_eq!(
        (wrong.message(), wrong.details()),
        (unknown.message(), unknown.details())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inactive_user_is_answered_like_an_unknown_one_and_its_token_dies() {
    let app = App::start().await;
    app.database
        .client()
        .await
        .batch_execute("update users set active = false; update access_head set revision = revision + 1")
        .await
        .unwrap();
    refused(login(&app.channel, EMAIL, PASSWORD).await, Code::Unauthenticated);
    crate::support::eventually("the end of the token", async || {
        app.auth().who_am_i(pb::WhoAmIRequest {}).await.err().map(|status| {
            assert_eq!(status.code(), Code::Unauthenticated);
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_credentials_is_told_all_that_is_missing() {
    let app = App::start().await;
    invalid(login(&app.channel, "", "").await, &["email", "password"]);
    invalid(login(&app.channel, "ada", "x").await, &["email"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_audited_without_their_secrets() {
    let app = App::start().await;
    refused(
        login(&app.channel, EMAIL, "a wrong password").await,
        Code::Unauthenticated,
    );
    let client = app.database.client().await;
    let query = "select to_jsonb(e)::text from audit_entries e where action like '%login%' order by sequence";
    let entries = crate::support::eventually("one that succeeded, one that did not", async || {
        let rows = client.query(query, &[]).await.unwrap();
        let entries: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        (entries.len() == 2).then_some(entries)
    })
    .await;
    assert!(
        entries
            .iter()
            .all(|entry| !entry.contains("wrong password") && !entry.contains(PASSWORD))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_with_anything_but_a_token() {
    let app = App::start().await;
    let keys = app.shop().await;
    let long = "x".repeat(8_000);
    let (head, body) = app.token.split_once('.').unwrap();
    let other_algorithm = format!("eyJhbGciOiJub25lIn0.{body}");
    let altered = format!("{head}.{}", body.replacen('e', "f", 1));
    for credential in [
        "",
        "x",
        "..",
        &long,
        &keys.server,
        &keys.client,
        &other_algorithm,
        &altered,
    ] {
        let service = InterceptedService::new(app.channel.clone(), Bearer::new(credential));
        let listed = ProjectServiceClient::new(service)
            .list_projects(pb::ListProjectsRequest::default())
            .await;
        refused(listed, Code::Unauthenticated);
    }
    let listed = ProjectServiceClient::new(app.channel.clone())
        .list_projects(pb::ListProjectsRequest::default())
        .await;
    refused(listed, Code::Unauthenticated);
    let mut basic = Request::new(pb::WhoAmIRequest {});
    basic
        .metadata_mut()
        .insert("authorization", format!("Basic {}", app.token).parse().unwrap());
    refused(
        AuthServiceClient::new(app.channel.clone()).who_am_i(basic).await,
        Code::Unauthenticated,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_another_key_or_another_time_are_refused() {
    let app = App::start().await;
    let me = app.auth().who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
    let holder = Holder {
        user: me.user.unwrap().id.parse().unwrap(),
        session: uuid::Uuid::now_v7(),
        token: uuid::Uuid::now_v7(),
    };
    let ours = || Tokens::new(&SigningKey::new(SIGNING_KEY).unwrap(), &[]);
    let foreign = Tokens::new(&SigningKey::generate().unwrap(), &[]);
    let minutes = |minutes: i64| jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    let who_am_i = async |tokens: &Tokens, at| {
        let token = tokens.issue(holder, at).unwrap().token;
        let service = InterceptedService::new(app.channel.clone(), Bearer::new(token.expose_secret()));
        AuthServiceClient::new(service).who_am_i(pb::WhoAmIRequest {}).await
    };
    who_am_i(&ours(), minutes(0)).await.unwrap();
    refused(who_am_i(&foreign, minutes(0)).await, Code::Unauthenticated);
    refused(who_am_i(&ours(), minutes(1)).await, Code::Unauthenticated);
    refused(who_am_i(&ours(), minutes(-15)).await, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_megabyte_harms_nobody() {
    let app = App::start().await;
    let channel = crate::app::connect(&app.server).await;
    let service = InterceptedService::new(channel, Bearer::new(&"x".repeat(1_000_000)));
    let refused = AuthServiceClient::new(service).who_am_i(pb::WhoAmIRequest {}).await;
    assert!(refused.is_err());
    app.auth().who_am_i(pb::WhoAmIRequest {}).await.unwrap();
}
