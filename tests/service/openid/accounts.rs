//! What administrators see of identities, and do about them.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use serde_json::json;
use tonic::Code;

use super::issuer::TestIssuer;
use super::{are, count, mask, roles, start, update, user};
use crate::app::{App, EMAIL, PASSWORD, create_user, login};
use crate::people::{Person, set, showing};
use crate::refusals::{invalid, refused};
use crate::support::eventually;

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

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_whom_nothing_lets_in_counts_for_none() {
    let (app, issuer) = start().await;
    let bob = Person::new(&app, "bob@example.com").await;
    let bob = pb::User {
        role: pb::InstanceRole::Administrator.into(),
        ..get(&app, &bob.id.to_string()).await
    };
    let bob = update(&app, bob, &["role"]).await.unwrap();
    let ada = get(&app, &Person::administrator(&app).await.id.to_string()).await;
    let demoted = pb::User { role: 0, ..ada.clone() };
    refused(update(&app, demoted.clone(), &["role"]).await, Code::FailedPrecondition);
    let sleeping = pb::User {
        active: false,
        ..ada.clone()
    };
    refused(update(&app, sleeping, &["active"]).await, Code::FailedPrecondition);
    let delete = pb::DeleteUserRequest {
        id: ada.id.clone(),
        ..Default::default()
    };
    refused(app.users().delete_user(delete).await, Code::FailedPrecondition);
    // Who lets nobody in is no loss either, and whoever can be let in counts.
    let renamed = pb::User {
        email: "robert@example.com".into(),
        ..bob.clone()
    };
    update(&app, renamed, &["email"]).await.unwrap();
    let linked = pb::User {
        identities: vec![identity(&issuer, "bob")],
        ..bob
    };
    update(&app, linked, &["identities"]).await.unwrap();
    update(&app, demoted, &["role"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_administrator_keeps_an_identity_or_a_password() {
    let (app, issuer) = start().await;
    let mut create = create_user("carol@example.com", pb::InstanceRole::Administrator);
    create.password.clear();
    create.user.as_mut().unwrap().identities = vec![identity(&issuer, "carol"), identity(&issuer, "caroline")];
    let carol = app
        .users()
        .create_user(create)
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    let token = issuer.token("carol", &[], 10);
    are(&roles(&app, &token).await, true, &[]);
    let mut carols = UserServiceClient::new(showing(&app.channel, &token));
    let mut update = async |user: pb::User, password: &str, paths: &[&str]| {
        let request = pb::UpdateUserRequest {
            user: Some(user),
            password: password.into(),
            update_mask: mask(paths),
            ..Default::default()
        };
        carols.update_user(request).await.map(drop)
    };
    let one = pb::User {
        identities: vec![identity(&issuer, "carol")],
        ..carol.clone()
    };
    let none = pb::User {
        identities: Vec::new(),
        ..carol
    };
    let ada = get(&app, &Person::administrator(&app).await.id.to_string()).await;
    update(pb::User { role: 0, ..ada }, "", &["role"]).await.unwrap();
    update(one, "", &["identities"]).await.unwrap();
    let blocked = update(none.clone(), "", &["identities"]).await;
    let status = refused(blocked, Code::FailedPrecondition);
    assert!(status.message().contains("last active administrator"), "{status:?}");
    assert_eq!(count(&app, "identities").await, 1);
    update(none, PASSWORD, &["identities", "password"]).await.unwrap();
    assert_eq!(count(&app, "identities").await, 0);
    login(&app.channel, "carol@example.com", PASSWORD).await.unwrap();
}
