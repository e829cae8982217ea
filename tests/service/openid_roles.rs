//! Which roles the claims of an issuer's tokens give and take, and what administrators do about identities.

use halyard::pb::admin::v1 as pb;
use prost_types::FieldMask;
use serde_json::json;
use tonic::Code;

use crate::app::{App, EMAIL, PASSWORD, create_user, login};
use crate::issuer::TestIssuer;
use crate::openid::{count, start, user, who_am_i};
use crate::people::{Person, remove, set};
use crate::refusals::{invalid, refused};
use crate::support::eventually;

/// Whether the bearer is administrator, and its memberships: `shop:developer`.
async fn roles(app: &App, token: &str) -> (bool, Vec<String>) {
    let me = who_am_i(&app.channel, token).await.unwrap();
    let role = |membership: &pb::Membership| {
        let role = membership
            .role()
            .as_str_name()
            .trim_start_matches("PROJECT_ROLE_")
            .to_lowercase();
        format!("{}:{role}", membership.project)
    };
    let administrator = me.user.unwrap().role() == pb::InstanceRole::Administrator;
    (administrator, me.memberships.iter().map(role).collect())
}

/// The bearer has these roles, at once or as soon as the replica has heard of what people did.
async fn come_to_have(app: &App, token: &str, administrator: bool, memberships: &[&str]) {
    let expected = (
        administrator,
        memberships.iter().map(|role| (*role).to_owned()).collect(),
    );
    let reached = async || (roles(app, token).await == expected).then_some(());
    eventually(&format!("{expected:?}"), reached).await;
}

#[track_caller]
fn are(found: &(bool, Vec<String>), administrator: bool, memberships: &[&str]) {
    assert_eq!(
        (found.0, found.1.iter().map(String::as_str).collect()),
        (administrator, memberships.to_vec())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_token_gives_and_takes_roles_and_an_older_one_does_not_bring_them_back() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let old = issuer.token("grace", &["ops", "web"], 100);
    are(&roles(&app, &old).await, true, &["shop:developer"]);
    are(
        &roles(&app, &issuer.token("grace", &["leads"], 90)).await,
        false,
        &["shop:owner"],
    );
    are(&roles(&app, &old).await, false, &["shop:owner"]);
    are(&roles(&app, &issuer.token("grace", &[], 80)).await, false, &[]);
    are(&roles(&app, &old).await, false, &[]);
    are(
        &roles(&app, &issuer.token("grace", &["web"], 70)).await,
        false,
        &["shop:developer"],
    );
    // Made at the same time as the last: which of them is newer nobody can say.
    are(
        &roles(&app, &issuer.token("grace", &[], 70)).await,
        false,
        &["shop:developer"],
    );

    let told = count(&app, "audit_entries where action = 'user.synchronise'").await;
    let members = count(
        &app,
        "audit_entries where action like 'member.%' and credential like 'oidc:grace-%'",
    )
    .await;
    assert_eq!((told, members), (3, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_gave_stays_and_where_the_claim_gives_a_role_it_wins() {
    let (app, issuer) = start().await;
    for project in ["shop", "blog"] {
        app.project(project).await;
    }
    let id = user(&app, &issuer.token("grace", &[], 100)).await.id;
    let mut projects = app.projects();
    for project in ["shop", "blog"] {
        projects
            .set_member(set(project, &id, pb::ProjectRole::Viewer))
            .await
            .unwrap();
    }
    come_to_have(
        &app,
        &issuer.token("grace", &[], 90),
        false,
        &["blog:viewer", "shop:viewer"],
    )
    .await;
    come_to_have(
        &app,
        &issuer.token("grace", &["web"], 80),
        false,
        &["blog:viewer", "shop:developer"],
    )
    .await;
    // What people set after that is theirs, until a newer token claims something else.
    projects
        .set_member(set("shop", &id, pb::ProjectRole::Admin))
        .await
        .unwrap();
    come_to_have(
        &app,
        &issuer.token("grace", &[], 70),
        false,
        &["blog:viewer", "shop:admin"],
    )
    .await;
    come_to_have(
        &app,
        &issuer.token("grace", &["web"], 60),
        false,
        &["blog:viewer", "shop:developer"],
    )
    .await;
    projects.remove_member(remove("shop", &id)).await.unwrap();
    come_to_have(&app, &issuer.token("grace", &["web"], 60), false, &["blog:viewer"]).await;
    come_to_have(
        &app,
        &issuer.token("grace", &["web"], 50),
        false,
        &["blog:viewer", "shop:developer"],
    )
    .await;
    come_to_have(&app, &issuer.token("grace", &[], 40), false, &["blog:viewer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_in_a_project_that_is_not_there_yet_waits_for_it() {
    let (app, issuer) = start().await;
    let first = issuer.token("grace", &["later"], 100);
    come_to_have(&app, &first, false, &[]).await;
    app.project("later").await;
    // The replica knows of it by now; the token is not newer than what was looked at.
    let known = || {
        app.server
            .hub()
            .directory()
            .projects
            .iter()
            .any(|project| project.as_str() == "later")
    };
    eventually("the project", async || known().then_some(())).await;
    are(&roles(&app, &first).await, false, &[]);
    come_to_have(&app, &issuer.token("grace", &["later"], 90), false, &["later:viewer"]).await;
    // It was the claim's, and is gone with the project.
    let mut projects = app.projects();
    let delete = pb::DeleteProjectRequest {
        project: "later".into(),
        confirm: "later".into(),
        ..Default::default()
    };
    projects.delete_project(delete).await.unwrap();
    app.project("later").await;
    come_to_have(&app, &issuer.token("grace", &[], 80), false, &[]).await;
    assert_eq!(count(&app, "members where claimed_issuer is not null").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owner_and_the_last_administrator_stay_what_they_are() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    are(
        &roles(&app, &issuer.token("grace", &["ops", "leads"], 100)).await,
        true,
        &["shop:owner"],
    );
    let ada = Person::administrator(&app).await;
    app.projects().remove_member(remove("shop", &ada.email)).await.unwrap();
    let sql = app.database.client().await;
    let told = "update access_head set revision = revision + 1";
    sql.batch_execute(&format!(
        "update users set instance_role = null where email = '{EMAIL}'; {told}"
    ))
    .await
    .unwrap();
    are(
        &roles(&app, &issuer.token("grace", &[], 90)).await,
        true,
        &["shop:owner"],
    );
    // Once there is another, the next newer token takes them away.
    let back = "update users set instance_role = 'administrator' where email =";
    sql.batch_execute(&format!("{back} '{EMAIL}'; {told}")).await.unwrap();
    let grace = issuer.token("grace", &[], 90);
    app.projects()
        .set_member(set("shop", &ada.email, pb::ProjectRole::Owner))
        .await
        .unwrap();
    are(&roles(&app, &grace).await, true, &["shop:owner"]);
    are(&roles(&app, &issuer.token("grace", &[], 80)).await, false, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_whose_account_is_deactivated_is_kept_out_whatever_the_token_says() {
    let (app, issuer) = start().await;
    let token = issuer.token("grace", &[], 100);
    let grace = user(&app, &token).await;
    update(
        &app,
        pb::User {
            active: false,
            ..grace.clone()
        },
        &["active"],
    )
    .await
    .unwrap();
    eventually("the end", async || who_am_i(&app.channel, &token).await.err()).await;
    for token in [&token, &issuer.token("grace", &["ops"], 10)] {
        refused(who_am_i(&app.channel, token).await, Code::Unauthenticated);
    }
    assert_eq!((count(&app, "identities").await, count(&app, "users").await), (1, 2));
    update(&app, pb::User { active: true, ..grace }, &["active"])
        .await
        .unwrap();
    are(&roles(&app, &issuer.token("grace", &["ops"], 10)).await, true, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_account_was_deleted_an_identity_begins_anew() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let token = issuer.token("grace", &["web"], 100);
    let first = user(&app, &token).await;
    let delete = pb::DeleteUserRequest {
        id: first.id.clone(),
        ..Default::default()
    };
    app.users().delete_user(delete).await.unwrap();
    assert_eq!(count(&app, "identities").await, 0);
    let second = user(&app, &token).await;
    assert_ne!(second.id, first.id);
    are(&roles(&app, &token).await, false, &["shop:developer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_without_an_address_are_listed_like_others_and_nobody_logs_in_to_them() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    // Two that are called the same, and one who has the address.
    let named = |subject: &str| issuer.token_with(subject, &json!({ "email": "Zoe@example.com", "groups": ["web"] }));
    let (one, other) = (user(&app, &named("one")).await, user(&app, &named("other")).await);
    let zoe = app.account("zoe@example.com", pb::InstanceRole::Unspecified).await;
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListUsersRequest {
            page_size: 1,
            page_token,
            filter: "zoe".into(),
        };
        let page = app.users().list_users(request).await.unwrap().into_inner();
        listed.extend(page.users.into_iter().map(|user| (user.id, user.identities.len())));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    listed.sort();
    let mut expected = vec![(one.id.clone(), 1), (other.id.clone(), 1), (zoe.id.clone(), 0)];
    expected.sort();
    assert_eq!(listed, expected);
    let members = pb::ListMembersRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let members = app.projects().list_members(members).await.unwrap().into_inner().members;
    let shown: Vec<_> = members.iter().map(|member| member.email.as_str()).collect();
    assert_eq!(shown, [EMAIL, "Zoe@example.com", "Zoe@example.com"]);

    // By its address only the account with the address is meant.
    app.projects()
        .set_member(set("shop", "zoe@example.com", pb::ProjectRole::Viewer))
        .await
        .unwrap();
    let member = count(&app, &format!("members where user_id = '{}'", zoe.id)).await;
    assert_eq!(member, 1);
    let password = pb::UpdateUserRequest {
        user: Some(one.clone()),
        password: PASSWORD.into(),
        update_mask: mask(&["password"]),
        ..Default::default()
    };
    refused(app.users().update_user(password).await, Code::FailedPrecondition);
    // An address of its own, with a password, makes it one that one logs in to.
    let password = pb::UpdateUserRequest {
        user: Some(pb::User {
            email: "one@example.com".into(),
            ..one.clone()
        }),
        password: PASSWORD.into(),
        update_mask: mask(&["email", "password"]),
        ..Default::default()
    };
    app.users().update_user(password).await.unwrap();
    let token = login(&app.channel, "one@example.com", PASSWORD).await.unwrap();
    assert_eq!(user(&app, &token).await.id, one.id);
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

async fn update(app: &App, user: pb::User, paths: &[&str]) -> Result<pb::User, tonic::Status> {
    let request = pb::UpdateUserRequest {
        user: Some(user),
        update_mask: mask(paths),
        ..Default::default()
    };
    Ok(app.users().update_user(request).await?.into_inner().user.unwrap())
}

fn identity(issuer: &TestIssuer, subject: &str) -> pb::Identity {
    pb::Identity {
        issuer: issuer.url.clone(),
        subject: subject.into(),
        email: String::new(),
    }
}

async fn get(app: &App, id: &str) -> pb::User {
    let request = pb::GetUserRequest {
        id: id.into(),
        ..Default::default()
    };
    app.users().get_user(request).await.unwrap().into_inner().user.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_joins_an_identity_to_an_account_and_parts_them_again() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let bob = Person::member(&app, "bob@example.com", "shop", pb::ProjectRole::Admin).await;
    let account = get(&app, &bob.id.to_string()).await;
    let linked = pb::User {
        identities: vec![identity(&issuer, "bob")],
        ..account.clone()
    };
    let after = update(&app, linked.clone(), &["identities"]).await.unwrap();
    assert_eq!(after.identities, [identity(&issuer, "bob")]);
    assert_ne!(after.etag, account.etag);

    // The token opens the account, whatever it says of an address; its own address stays.
    let token = issuer.token_with("bob", &json!({ "email": "robert@example.com" }));
    let me = user(&app, &token).await;
    assert_eq!(
        (me.id.clone(), me.email.as_str()),
        (bob.id.to_string(), "bob@example.com")
    );
    are(&roles(&app, &token).await, false, &["shop:admin"]);
    assert_eq!(get(&app, &me.id).await.identities[0].email, "robert@example.com");

    // Linking again changes nothing; unlinking makes the identity a stranger.
    let again = pb::UpdateUserRequest {
        user: Some(linked),
        update_mask: mask(&["identities"]),
        ..Default::default()
    };
    assert!(!app.users().update_user(again).await.unwrap().into_inner().changed);
    let parted = update(&app, account, &["identities"]).await.unwrap();
    assert!(parted.identities.is_empty());
    eventually("the parting", async || {
        (user(&app, &token).await.id != me.id).then_some(())
    })
    .await;
    let entries = count(
        &app,
        "audit_entries where action = 'user.update' and after like '%identities%'",
    )
    .await;
    assert_eq!(entries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_opens_one_account() {
    let (app, issuer) = start().await;
    let grace = user(&app, &issuer.token("grace", &[], 10)).await;
    let bob = app.account("bob@example.com", pb::InstanceRole::Unspecified).await;
    let taken = pb::User {
        identities: vec![identity(&issuer, "grace")],
        ..bob.clone()
    };
    refused(update(&app, taken.clone(), &["identities"]).await, Code::AlreadyExists);
    let create = pb::CreateUserRequest {
        user: Some(pb::User {
            email: "new@example.com".into(),
            ..taken.clone()
        }),
        ..Default::default()
    };
    refused(app.users().create_user(create).await, Code::AlreadyExists);
    // Without a mask identities stay as they are; parted from the one account it can be joined to the other.
    let unmasked = pb::UpdateUserRequest {
        user: Some(grace.clone()),
        ..Default::default()
    };
    assert!(!app.users().update_user(unmasked).await.unwrap().into_inner().changed);
    assert_eq!(get(&app, &grace.id).await.identities.len(), 1);
    let by_address = pb::GetUserRequest {
        email: grace.email.clone(),
        ..Default::default()
    };
    refused(app.users().get_user(by_address).await, Code::NotFound);
    update(&app, grace, &["identities"]).await.unwrap();
    update(&app, taken, &["identities"]).await.unwrap();
    eventually("the joining", async || {
        (user(&app, &issuer.token("grace", &[], 10)).await.id == bob.id).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_for_an_identity_before_its_first_use() {
    let (app, issuer) = start().await;
    let new = |identities: Vec<pb::Identity>| {
        let mut request = create_user("carol@example.com", pb::InstanceRole::Administrator);
        request.password.clear();
        request.user.as_mut().unwrap().identities = identities;
        request
    };
    invalid(app.users().create_user(new(Vec::new())).await, &["password"]);
    let nobody = vec![pb::Identity::default(), identity(&issuer, "")];
    let fields = [
        "user.identities[0].issuer",
        "user.identities[0].subject",
        "user.identities[1].subject",
    ];
    invalid(app.users().create_user(new(nobody)).await, &fields);
    invalid(
        app.users().create_user(new(vec![identity(&issuer, "x"); 11])).await,
        &["user.identities"],
    );
    let carol = app
        .users()
        .create_user(new(vec![identity(&issuer, "carol")]))
        .await
        .unwrap();
    let carol = carol.into_inner().user.unwrap();
    // What people gave, a claim that says nothing of it does not take away.
    let token = issuer.token("carol", &[], 10);
    assert_eq!(user(&app, &token).await.id, carol.id);
    are(&roles(&app, &token).await, true, &[]);
    refused(
        login(&app.channel, "carol@example.com", PASSWORD).await,
        Code::Unauthenticated,
    );
}
