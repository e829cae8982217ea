//! Invitations: whoever shows one is a member, once.

use futures_util::future::join_all;
use halyard::domain::audit::verify::Verdict;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Developer, Owner, Viewer};
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::store::audit::INSTANCE;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::app::{App, EMAIL, PASSWORD, login};
use crate::people::{Person, remove, service_token, showing};
use crate::refusals::{invalid, refused};

type Accepted = Result<Response<pb::AcceptInvitationResponse>, Status>;

fn to_shop(role: pb::ProjectRole) -> pb::CreateInvitationRequest {
    pb::CreateInvitationRequest {
        project: "shop".into(),
        role: role.into(),
        ..Default::default()
    }
}

/// A new invitation to `shop`: its id and its token.
async fn invite(app: &App, role: pb::ProjectRole) -> (String, String) {
    let made = app
        .projects()
        .create_invitation(to_shop(role))
        .await
        .unwrap()
        .into_inner();
    assert!(!made.secret_omitted);
    (made.invitation.unwrap().id, made.token)
}

async fn accept(app: &App, person: &Person, token: &str) -> Accepted {
    let request = pb::AcceptInvitationRequest {
        token: token.into(),
        ..Default::default()
    };
    person.auth(&app.channel).accept_invitation(request).await
}

async fn join_as(app: &App, token: &str, email: &str, password: &str) -> Accepted {
    let request = pb::AcceptInvitationRequest {
        token: token.into(),
        email: email.into(),
        password: password.into(),
    };
    AuthServiceClient::new(app.channel.clone())
        .accept_invitation(request)
        .await
}

async fn listed(app: &App) -> Vec<pb::Invitation> {
    let request = pb::ListInvitationsRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let response = app.projects().list_invitations(request).await.unwrap();
    response.into_inner().invitations
}

async fn revoke(app: &App, id: &str) -> Result<pb::RevokeInvitationResponse, Status> {
    let request = pb::RevokeInvitationRequest {
        project: "shop".into(),
        invitation_id: id.into(),
        ..Default::default()
    };
    Ok(app.projects().revoke_invitation(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_becomes_a_member_once() {
    let app = App::start().await;
    app.project("shop").await;
    let (bob, mia) = (
        Person::new(&app, "bob@example.com").await,
        Person::new(&app, "mia@example.com").await,
    );
    let (id, token) = invite(&app, Developer).await;
    let joined = accept(&app, &bob, &token).await.unwrap().into_inner();
    let membership = joined.membership.clone().unwrap();
    assert_eq!((membership.project.as_str(), membership.role()), ("shop", Developer));
    assert_eq!(joined.user.as_ref().unwrap().id, bob.id.to_string());
    refused(accept(&app, &mia, &token).await, Code::FailedPrecondition);
    let again = accept(&app, &bob, &token).await.unwrap().into_inner();
    assert_eq!(again, joined, "whoever tries again hears the same");
    let [invitation] = &listed(&app).await[..] else {
        panic!("there is one invitation");
    };
    assert_eq!((&invitation.id, &invitation.accepted_by), (&id, &bob.id.to_string()));
    assert!(invitation.accept_time.is_some());
    // It is good for nobody any more, not even for who has left.
    app.projects().remove_member(remove("shop", &bob.email)).await.unwrap();
    refused(accept(&app, &bob, &token).await, Code::FailedPrecondition);
    refused(revoke(&app, &id).await, Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_an_account_and_logs_in() {
    let app = App::start().await;
    app.project("shop").await;
    let (_, token) = invite(&app, Viewer).await;
    let password = "a passphrase of some length";
    let joined = join_as(&app, &token, "New@Example.com", password)
        .await
        .unwrap()
        .into_inner();
    let user = joined.user.unwrap();
    assert_eq!((user.email.as_str(), user.active), ("New@Example.com", true));
    let access = login(&app.channel, "new@example.com", password).await.unwrap();
    let get = pb::GetProjectRequest { project: "shop".into() };
    let mut projects = pb::project_service_client::ProjectServiceClient::new(showing(&app.channel, &access));
    projects.get_project(get).await.unwrap();

    let sql = app.database.client().await;
    let query =
        "select chain, action from audit_entries where actor = $1 and action <> 'user.login' order by chain, sequence";
    let rows = sql.query(query, &[&format!("user:{}", user.id)]).await.unwrap();
    let project: i64 = sql.query_one("select id from projects", &[]).await.unwrap().get(0);
    let project = project.to_string();
    let entries: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [
        (project.as_str(), "invitation.accept"),
        (&project, "member.add"),
        (INSTANCE, "user.create"),
    ];
    assert_eq!(
        entries,
        expected.map(|(chain, action)| (chain.to_owned(), action.to_owned()))
    );
    for chain in [INSTANCE, &project] {
        let verdict = app.server.store().verify_chain(chain, None).await.unwrap();
        assert!(matches!(verdict, Verdict::Intact(_)), "{chain}: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_accept_at_the_same_time_one_does() {
    let app = App::start().await;
    app.project("shop").await;
    let mut people = Vec::new();
    for n in 0..8 {
        people.push(Person::new(&app, &format!("person-{n}@example.com")).await);
    }
    let (_, token) = invite(&app, Viewer).await;
    let known = join_all(people.iter().map(|person| accept(&app, person, &token)));
    let newcomers = ["x@example.com", "y@example.com"];
    let newcomers = join_all(newcomers.map(|email| join_as(&app, &token, email, PASSWORD)));
    let (known, newcomers) = tokio::join!(known, newcomers);
    let answers: Vec<_> = known.into_iter().chain(newcomers).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for lost in answers.into_iter().filter(Result::is_err) {
        refused(lost, Code::FailedPrecondition);
    }
    let sql = app.database.client().await;
    let members = "select count(*) from members m join users u on u.id = m.user_id where u.email <> $1";
    let members: i64 = sql.query_one(members, &[&EMAIL]).await.unwrap().get(0);
    assert_eq!(members, 1);
    // No account came about for who was too late.
    let strangers = "select count(*) from users u where email in ('x@example.com', 'y@example.com')
        and not exists (select from members m where m.user_id = u.id)";
    let strangers: i64 = sql.query_one(strangers, &[]).await.unwrap().get(0);
    assert_eq!(strangers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_and_an_expired_invitation_are_good_for_nobody() {
    let app = App::start().await;
    app.project("shop").await;
    let bob = Person::new(&app, "bob@example.com").await;
    let (id, token) = invite(&app, Viewer).await;
    assert!(revoke(&app, &id).await.unwrap().changed);
    assert!(!revoke(&app, &id).await.unwrap().changed);
    refused(accept(&app, &bob, &token).await, Code::FailedPrecondition);
    let (_, token) = invite(&app, Viewer).await;
    let age = "update invitations set expires_at = now() - interval '1 second' where revoked_at is null";
    app.database.client().await.execute(age, &[]).await.unwrap();
    refused(accept(&app, &bob, &token).await, Code::FailedPrecondition);
    refused(
        join_as(&app, &token, "new@example.com", PASSWORD).await,
        Code::FailedPrecondition,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_invitation_is_refused_like_any_stranger() {
    let app = App::start().await;
    app.project("shop").await;
    let bob = Person::new(&app, "bob@example.com").await;
    let (_, token) = invite(&app, Viewer).await;
    let (_, other) = invite(&app, Viewer).await;
    // The id of one with the secret of the other, and a checksum that fits.
    let at = "halyard_invitation_".len() + 16;
    let mixed = format!("{}{}", &token[..at], &other[at..other.len() - 9]);
    let mixed = format!("{mixed}_{:08x}", crc32fast::hash(mixed.as_bytes()));
    let expected = refused(accept(&app, &bob, "x").await, Code::PermissionDenied);
    for wrong in [
        &token[..token.len() - 1],
        &mixed,
        &"x".repeat(60_000),
        "\u{0}'; drop table users",
    ] {
        let status = refused(accept(&app, &bob, wrong).await, Code::PermissionDenied);
        assert_eq!(
            (status.message(), status.details()),
            (expected.message(), expected.details())
        );
        refused(
            join_as(&app, wrong, "new@example.com", PASSWORD).await,
            Code::PermissionDenied,
        );
    }
    accept(&app, &bob, &token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_join_leaves_the_invitation_to_others() {
    let app = App::start().await;
    app.project("shop").await;
    let member = Person::member(&app, "member@example.com", "shop", Viewer).await;
    let (_, token) = invite(&app, Admin).await;
    refused(accept(&app, &member, &token).await, Code::FailedPrecondition);
    refused(
        join_as(&app, &token, "ADA@example.com", PASSWORD).await,
        Code::AlreadyExists,
    );
    invalid(
        join_as(&app, &token, "new@example.com", "too short").await,
        &["password"],
    );
    invalid(join_as(&app, &token, "new", "").await, &["email"]);
    invalid(join_as(&app, "", "new@example.com", PASSWORD).await, &["token"]);
    let both = pb::AcceptInvitationRequest {
        token: token.clone(),
        email: "new@example.com".into(),
        password: PASSWORD.into(),
    };
    invalid(
        member.auth(&app.channel).accept_invitation(both).await,
        &["email", "password"],
    );
    let (_, machine) = service_token(&app, "shop", Owner).await;
    let as_machine = pb::AcceptInvitationRequest {
        token: token.clone(),
        ..Default::default()
    };
    let mut auth = AuthServiceClient::new(showing(&app.channel, &machine));
    refused(auth.accept_invitation(as_machine).await, Code::PermissionDenied);
    join_as(&app, &token, "new@example.com", PASSWORD).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_invite_to_every_role_but_owner() {
    let app = App::start().await;
    app.project("shop").await;
    let admin = Person::member(&app, "admin@example.com", "shop", Admin).await;
    let owner = Person::member(&app, "owner@example.com", "shop", Owner).await;
    for role in [Admin, Developer, Viewer] {
        admin
            .projects(&app.channel)
            .create_invitation(to_shop(role))
            .await
            .unwrap();
    }
    let mightier = admin.projects(&app.channel).create_invitation(to_shop(Owner)).await;
    refused(mightier, Code::PermissionDenied);
    let made = owner
        .projects(&app.channel)
        .create_invitation(to_shop(Owner))
        .await
        .unwrap();
    let request = pb::RevokeInvitationRequest {
        project: "shop".into(),
        invitation_id: made.into_inner().invitation.unwrap().id,
        ..Default::default()
    };
    let revoked = admin.projects(&app.channel).revoke_invitation(request.clone()).await;
    refused(revoked, Code::PermissionDenied);
    owner.projects(&app.channel).revoke_invitation(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitations_token_is_shown_once_and_kept_nowhere() {
    let app = App::start().await;
    app.project("shop").await;
    let request = pb::CreateInvitationRequest {
        name: "for Bob".into(),
        request_id: Uuid::new_v4().to_string(),
        ..to_shop(Viewer)
    };
    let made = app
        .projects()
        .create_invitation(request.clone())
        .await
        .unwrap()
        .into_inner();
    let replayed = app.projects().create_invitation(request).await.unwrap().into_inner();
    assert!(replayed.secret_omitted && replayed.token.is_empty());
    assert_eq!(replayed.invitation, made.invitation);
    assert_eq!(listed(&app).await, [made.invitation.unwrap()]);
    let validated = pb::CreateInvitationRequest {
        validate_only: true,
        ..to_shop(Viewer)
    };
    let validated = app.projects().create_invitation(validated).await.unwrap().into_inner();
    assert!(validated.secret_omitted && validated.token.is_empty());
    let secret = made.token.rsplit('_').nth(1).unwrap();
    let sql = app.database.client().await;
    let everything =
        "select coalesce(string_agg(to_jsonb(i)::text, ''), '') || (select string_agg(to_jsonb(e)::text, '')
        from audit_entries e) || (select string_agg(to_jsonb(r)::text, '') from request_records r) from invitations i";
    let everything: String = sql.query_one(everything, &[]).await.unwrap().get(0);
    assert!(!everything.contains(secret) && everything.contains("for Bob"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_invitations_are_told_everything_at_once() {
    let app = App::start().await;
    app.project("shop").await;
    let time = |days: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        Some(prost_types::Timestamp {
            seconds: time.as_second(),
            nanos: 0,
        })
    };
    let bad = pb::CreateInvitationRequest {
        name: "n".repeat(201),
        expire_time: time(-1),
        ..to_shop(pb::ProjectRole::Unspecified)
    };
    let made = app.projects().create_invitation(bad).await;
    invalid(made, &["role", "name", "expire_time"]);
    let endless = pb::CreateInvitationRequest {
        expire_time: time(31),
        ..to_shop(Viewer)
    };
    invalid(app.projects().create_invitation(endless).await, &["expire_time"]);
    refused(revoke(&app, "0000000000000000").await, Code::NotFound);
}
