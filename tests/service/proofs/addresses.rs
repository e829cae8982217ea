//! That an address is one account's: neither two that look alike nor two that are written alike are ever joined by accident.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::Viewer;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::rpc::admin::accounts::SignUp;
use tonic::{Code, Status};

use crate::app::{App, EMAIL, PASSWORD, create_user, log_in, login};
use crate::people::{Person, remove, set};
use crate::refusals::{invalid, refused};
use crate::support::database;

const OTHER_PASSWORD: &str = "another horse, another battery";

/// A service on which anyone may sign up.
async fn open() -> App {
    App::start_with(database().await, |options| options.accounts.sign_up = SignUp::On).await
}

async fn sign_up(app: &App, email: &str, password: &str) -> Result<(), Status> {
    let request = pb::SignUpRequest {
        email: email.into(),
        password: password.into(),
        password_confirmation: password.into(),
    };
    AuthServiceClient::new(app.channel.clone())
        .sign_up(request)
        .await
        .map(drop)
}

/// What would be somebody's address if characters that stand for others were taken for them.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_passes_for_another_by_a_character_that_stands_for_one() {
    let app = open().await;
    app.project("shop").await;
    let kim = Person::member(&app, "kim@example.com", "shop", Viewer).await;
    let id = kim.id.to_string();
    let invitation = pb::CreateInvitationRequest {
        project: "shop".into(),
        role: Viewer.into(),
        ..Default::default()
    };
    let invitation = app.projects().create_invitation(invitation).await.unwrap().into_inner();
    for alike in [
        "\u{212a}im@example.com",
        "k\u{130}m@example.com",
        "ki\u{ff4d}@example.com",
        "\u{43a}im@example.com",
        "ki\u{200d}m@example.com",
        "kim@ex\u{430}mple.com",
        "kim\u{ff20}example.com@example.com",
    ] {
        invalid(sign_up(&app, alike, PASSWORD).await, &["email"]);
        invalid(login(&app.channel, alike, PASSWORD).await, &["email"]);
        let created = app
            .users()
            .create_user(create_user(alike, pb::InstanceRole::Unspecified))
            .await;
        invalid(created, &["user.email"]);
        let renamed = pb::UpdateUserRequest {
            user: Some(pb::User {
                id: id.clone(),
                email: alike.into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["email".into()],
            }),
            ..Default::default()
        };
        invalid(app.users().update_user(renamed).await, &["user.email"]);
        let get = pb::GetUserRequest {
            email: alike.into(),
            ..Default::default()
        };
        invalid(app.users().get_user(get).await, &["email"]);
        invalid(app.projects().set_member(set("shop", alike, Viewer)).await, &["user"]);
        invalid(app.projects().remove_member(remove("shop", alike)).await, &["user"]);
        let accept = pb::AcceptInvitationRequest {
            token: invitation.token.clone(),
            email: alike.into(),
            password: PASSWORD.into(),
        };
        let mut anyone = AuthServiceClient::new(app.channel.clone());
        invalid(anyone.accept_invitation(accept).await, &["email"]);
    }
    let accounts = "select count(*) from users";
    let accounts: i64 = app
        .database
        .client()
        .await
        .query_one(accounts, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(accounts, 2, "Ada and Kim");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_text_in_two_spellings_is_one_account_everywhere() {
    let app = open().await;
    app.project("shop").await;
    let spellings = ["zoë@example.com", "ZOE\u{308}@example.com", "Zoë@EXAMPLE.com"];
    let [composed, decomposed, mixed] = spellings;
    sign_up(&app, decomposed, PASSWORD).await.unwrap();
    // As always, a taken address is not told; the account stays as it is.
    sign_up(&app, composed, OTHER_PASSWORD).await.unwrap();
    let mut ids = Vec::new();
    for spelling in spellings {
        refused(
            login(&app.channel, spelling, OTHER_PASSWORD).await,
            Code::Unauthenticated,
        );
        let user = log_in(&app.channel, spelling, PASSWORD).await.unwrap().user.unwrap();
        assert_eq!(user.email, decomposed, "shown as it was given");
        ids.push(user.id);
        let create = create_user(spelling, pb::InstanceRole::Unspecified);
        refused(app.users().create_user(create).await, Code::AlreadyExists);
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    app.projects().set_member(set("shop", mixed, Viewer)).await.unwrap();
    let list = pb::ListUsersRequest {
        filter: "OË@".into(),
        ..Default::default()
    };
    let listed = app.users().list_users(list).await.unwrap().into_inner().users;
    assert_eq!(listed.len(), 1);
    app.projects().remove_member(remove("shop", composed)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_renamed_is_found_by_the_new_address_alone() {
    let app = open().await;
    let (user, _) = app.user("zoë@example.com").await;
    app.account("ada.two@example.com", pb::InstanceRole::Unspecified).await;
    let update = |email: &str, active: bool, fields: &[&str]| pb::UpdateUserRequest {
        user: Some(pb::User {
            email: email.into(),
            active,
            ..user.clone()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: fields.iter().map(ToString::to_string).collect(),
        }),
        ..Default::default()
    };
    let mut users = app.users();
    for taken in [EMAIL, "Ada.Two@Example.com"] {
        refused(
            users.update_user(update(taken, true, &["email"])).await,
            Code::AlreadyExists,
        );
    }
    // What leaves the address out leaves it findable.
    users.update_user(update("", false, &["active"])).await.unwrap();
    users.update_user(update("", true, &["active"])).await.unwrap();
    login(&app.channel, "ZOË@example.com", PASSWORD).await.unwrap();
    users
        .update_user(update("RENE\u{301}@example.com", true, &["email"]))
        .await
        .unwrap();
    login(&app.channel, "rené@example.com", PASSWORD).await.unwrap();
    refused(
        login(&app.channel, "zoë@example.com", PASSWORD).await,
        Code::Unauthenticated,
    );
}
