//! That nobody comes back, or sends somebody, by what they made when they might still: an invitation is worth what its maker may
//! give when it is accepted, and a service token makes none that outlives it.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Developer, Owner, Viewer};
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::service_token_service_client::ServiceTokenServiceClient;
use jiff::{SignedDuration, Timestamp};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::app::{App, Client, PASSWORD};
use crate::people::{Person, remove, service_token, showing};
use crate::refusals::{invalid, refused};

const GONE: &str = "is no longer valid because who made it may no longer give this role";

async fn start() -> App {
    let app = App::start().await;
    app.project("shop").await;
    app
}

/// The token of a new invitation to `shop`.
async fn invite(mut projects: ProjectServiceClient<Client>, role: pb::ProjectRole) -> String {
    let request = pb::CreateInvitationRequest {
        project: "shop".into(),
        role: role.into(),
        ..Default::default()
    };
    projects.create_invitation(request).await.unwrap().into_inner().token
}

async fn accept(app: &App, person: &Person, token: &str) -> Result<pb::AcceptInvitationResponse, Status> {
    let request = pb::AcceptInvitationRequest {
        token: token.into(),
        ..Default::default()
    };
    let accepted = person.auth(&app.channel).accept_invitation(request).await?;
    Ok(accepted.into_inner())
}

/// Neither who has an account nor a newcomer gets in, and nothing is left of their tries. (Denials are told a little later.)
async fn is_good_for_nobody(app: &App, person: &Person, token: &str) {
    let sql = app.database.client().await;
    let state = "select (select count(*) from users) || ' ' || (select string_agg(t::text, ' ' order by t::text) from members t)
        || (select string_agg(t::text, ' ' order by t::text) from invitations t) || (select count(*) from audit_entries
            where action <> 'method.denied')";
    let state = async || -> String { sql.query_one(state, &[]).await.unwrap().get(0) };
    let before = state().await;
    let newcomer = pb::AcceptInvitationRequest {
        token: token.into(),
        email: "new@example.com".into(),
        password: PASSWORD.into(),
    };
    let newcomer = AuthServiceClient::new(app.channel.clone())
        .accept_invitation(newcomer)
        .await;
    for status in [
        refused(accept(app, person, token).await, Code::FailedPrecondition),
        refused(newcomer, Code::FailedPrecondition),
    ] {
        let details = status.get_details_precondition_failure().unwrap();
        assert_eq!(details.violations[0].description, GONE);
        assert!(
            status.message().starts_with("invitation ") && status.message().ends_with(GONE),
            "{status:?}"
        );
    }
    assert_eq!(state().await, before);
    // Who does not have the token learns nothing of it.
    let wrong = format!("{}x", &token[..token.len() - 1]);
    refused(accept(app, person, &wrong).await, Code::PermissionDenied);
}

async fn update(app: &App, user: pb::User, path: &str) {
    let request = pb::UpdateUserRequest {
        user: Some(user),
        update_mask: Some(prost_types::FieldMask {
            paths: vec![path.into()],
        }),
        ..Default::default()
    };
    app.users().update_user(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_was_removed_does_not_come_back_by_their_own_invitation() {
    let app = start().await;
    let mia = Person::member(&app, "mia@example.com", "shop", Owner).await;
    let bob = Person::new(&app, "bob@example.com").await;
    let token = invite(mia.projects(&app.channel), Owner).await;
    app.projects().remove_member(remove("shop", &mia.email)).await.unwrap();
    is_good_for_nobody(&app, &mia, &token).await;
    is_good_for_nobody(&app, &bob, &token).await;
    // What they may give again is good again.
    mia.becomes(&app, "shop", Owner).await;
    let joined = accept(&app, &bob, &token).await.unwrap();
    assert_eq!(joined.membership.unwrap().role(), Owner);
    // Who has accepted is a member, whatever becomes of who invited them.
    app.projects().remove_member(remove("shop", &mia.email)).await.unwrap();
    accept(&app, &bob, &token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lesser_role_makes_the_invitations_worthless_that_it_may_not_make() {
    let app = start().await;
    let mia = Person::member(&app, "mia@example.com", "shop", Owner).await;
    let bob = Person::new(&app, "bob@example.com").await;
    let (owners, viewers) = (
        invite(mia.projects(&app.channel), Owner).await,
        invite(mia.projects(&app.channel), Viewer).await,
    );
    mia.becomes(&app, "shop", Viewer).await;
    is_good_for_nobody(&app, &bob, &owners).await;
    is_good_for_nobody(&app, &bob, &viewers).await;
    mia.becomes(&app, "shop", Admin).await;
    is_good_for_nobody(&app, &bob, &owners).await;
    accept(&app, &bob, &viewers).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_deactivated_deleted_or_no_administrator_any_more_invites_nobody() {
    let app = start().await;
    let bob = Person::new(&app, "bob@example.com").await;
    let mia = app.account("mia@example.com", pb::InstanceRole::Administrator).await;
    let as_mia = Person {
        id: mia.id.parse().unwrap(),
        email: mia.email.clone(),
    };
    // Administrators need no role in the project.
    let first = invite(as_mia.projects(&app.channel), Owner).await;
    let second = invite(as_mia.projects(&app.channel), Owner).await;
    accept(&app, &bob, &first).await.unwrap();
    let joe = Person::new(&app, "joe@example.com").await;
    update(
        &app,
        pb::User {
            active: false,
            ..mia.clone()
        },
        "active",
    )
    .await;
    is_good_for_nobody(&app, &joe, &second).await;
    update(
        &app,
        pb::User {
            active: true,
            ..mia.clone()
        },
        "active",
    )
    .await;
    update(&app, pb::User { role: 0, ..mia.clone() }, "role").await;
    is_good_for_nobody(&app, &joe, &second).await;
    let delete = pb::DeleteUserRequest {
        id: mia.id,
        ..Default::default()
    };
    app.users().delete_user(delete).await.unwrap();
    is_good_for_nobody(&app, &joe, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_or_expired_service_token_invites_nobody() {
    let app = start().await;
    let (bob, joe) = (
        Person::new(&app, "bob@example.com").await,
        Person::new(&app, "joe@example.com").await,
    );
    let (id, secret) = service_token(&app, "shop", Admin).await;
    let as_token = || ProjectServiceClient::new(showing(&app.channel, &secret));
    let (good, bad) = (invite(as_token(), Viewer).await, invite(as_token(), Viewer).await);
    accept(&app, &bob, &good).await.unwrap();
    let sql = app.database.client().await;
    for change in ["expires_at = now()", "expires_at = null, revoked_at = now()"] {
        sql.batch_execute(&format!("update service_tokens set {change}"))
            .await
            .unwrap();
        is_good_for_nobody(&app, &joe, &bad).await;
    }
    let list = pb::ListInvitationsRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let listed = app.projects().list_invitations(list).await.unwrap().into_inner();
    assert_eq!(listed.invitations.len(), 2);
    assert!(
        listed
            .invitations
            .iter()
            .all(|made| made.created_by == format!("token:{id}"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_say_who_made_what() {
    let app = start().await;
    let mia = Person::member(&app, "mia@example.com", "shop", Owner).await;
    invite(mia.projects(&app.channel), Viewer).await;
    let named = pb::CreateServiceTokenRequest {
        project: "shop".into(),
        role: Admin.into(),
        name: "deploys".into(),
        ..Default::default()
    };
    let made = mia
        .service_tokens(&app.channel)
        .create_service_token(named.clone())
        .await;
    let made = made.unwrap().into_inner();
    let parent = made.service_token.unwrap();
    let hers = (format!("user:{}", mia.id), mia.email.clone());
    assert_eq!((parent.created_by.clone(), parent.created_by_name.clone()), hers);
    let mut machine = ServiceTokenServiceClient::new(showing(&app.channel, &made.secret));
    let child = machine.create_service_token(named).await.unwrap().into_inner();
    let child = child.service_token.unwrap();
    let its = (format!("token:{}", parent.id), "deploys".to_owned());
    assert_eq!((child.created_by.clone(), child.created_by_name.clone()), its);

    let list = pb::ListServiceTokensRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let listed = app
        .service_tokens()
        .list_service_tokens(list)
        .await
        .unwrap()
        .into_inner();
    let makers = |tokens: &[pb::ServiceToken]| -> Vec<_> {
        tokens
            .iter()
            .map(|token| (token.created_by.clone(), token.created_by_name.clone()))
            .collect()
    };
    assert_eq!(makers(&listed.service_tokens), [its, hers.clone()]);
    let list = pb::ListInvitationsRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let listed = app
        .projects()
        .list_invitations(list)
        .await
        .unwrap()
        .into_inner()
        .invitations;
    assert_eq!((listed[0].created_by.clone(), listed[0].created_by_name.clone()), hers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_makes_none_that_outlives_it() {
    let app = start().await;
    let in_hours = |hours| {
        let time = Timestamp::now() + SignedDuration::from_hours(hours);
        Some(prost_types::Timestamp {
            seconds: time.as_second(),
            nanos: 0,
        })
    };
    let (later, end, before) = (in_hours(3), in_hours(2), in_hours(1));
    let request = |expire_time| pb::CreateServiceTokenRequest {
        project: "shop".into(),
        role: Developer.into(),
        expire_time,
        ..Default::default()
    };
    let parent = pb::CreateServiceTokenRequest {
        role: Admin.into(),
        ..request(end)
    };
    let parent = app
        .service_tokens()
        .create_service_token(parent)
        .await
        .unwrap()
        .into_inner();
    let mut machine = ServiceTokenServiceClient::new(showing(&app.channel, &parent.secret));
    for outliving in [None, later] {
        invalid(machine.create_service_token(request(outliving)).await, &["expire_time"]);
    }
    for within in [end, before] {
        let made = machine
            .create_service_token(request(within))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(made.service_token.unwrap().expire_time, within);
    }
    // People, and tokens that never expire, give any time.
    let (_, endless) = service_token(&app, "shop", Admin).await;
    let mut machine = ServiceTokenServiceClient::new(showing(&app.channel, &endless));
    machine.create_service_token(request(None)).await.unwrap();
    app.service_tokens().create_service_token(request(None)).await.unwrap();
}
