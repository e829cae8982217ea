//! That an invitation is no lever: neither for making a server hash, nor for asking which addresses have an account.

use std::time::Duration;

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::rpc::admin::accounts::{Rate, Rates};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::app::{App, EMAIL, PASSWORD, login};
use crate::people::Person;
use crate::refusals::refused;
use crate::support::database;

/// So few tries that a test gets through them.
const TRIES: u32 = 3;

async fn invitation(app: &App) -> String {
    app.project("shop").await;
    let request = pb::CreateInvitationRequest {
        project: "shop".into(),
        role: pb::ProjectRole::Viewer.into(),
        ..Default::default()
    };
    let made = app.projects().create_invitation(request).await.unwrap();
    made.into_inner().token
}

async fn join(app: &App, token: &str, email: &str) -> Result<(), Status> {
    let request = pb::AcceptInvitationRequest {
        token: token.into(),
        email: email.into(),
        password: PASSWORD.into(),
    };
    let mut anyone = AuthServiceClient::new(app.channel.clone());
    anyone.accept_invitation(request).await.map(drop)
}

/// How many passwords are hashed while something happens.
async fn hashed<T>(app: &App, work: impl Future<Output = T>) -> (u64, T) {
    let before = app.server.accounts().passwords_hashed();
    let outcome = work.await;
    (app.server.accounts().passwords_hashed() - before, outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_tried_only_so_often() {
    let app = App::start_with(database().await, |options| {
        options.accounts.rates.account = Rate::new(TRIES, Duration::from_mins(10));
    })
    .await;
    let token = invitation(&app).await;
    // One try at this account was the application's own.
    for _ in 1..TRIES {
        let (hashes, joined) = hashed(&app, join(&app, &token, EMAIL)).await;
        refused(joined, Code::AlreadyExists);
        assert_eq!(hashes, 1);
    }
    let (hashes, joined) = hashed(&app, join(&app, &token, "ADA@example.com")).await;
    let status = refused(joined, Code::ResourceExhausted);
    assert!(status.get_details_retry_info().and_then(|info| info.retry_delay) > Some(Duration::from_mins(5)));
    assert_eq!(hashes, 0, "nothing is hashed");
    // The invitation is as good as before, and counts at the account as a login does.
    refused(login(&app.channel, EMAIL, PASSWORD).await, Code::ResourceExhausted);
    join(&app, &token, "new@example.com").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_address_asks_only_so_often_who_has_an_account() {
    let app = App::start_with(database().await, |options| {
        options.accounts.rates = Rates {
            account: Rate::new(100, Duration::from_mins(10)),
            address: Rate::new(TRIES, Duration::from_mins(10)),
        };
    })
    .await;
    let token = invitation(&app).await;
    let mut people = Vec::new();
    for n in 0..TRIES {
        people.push(Person::new(&app, &format!("person-{n}@example.com")).await);
    }
    let (last, others) = people.split_last().unwrap();
    for person in others {
        refused(join(&app, &token, &person.email).await, Code::AlreadyExists);
    }
    let (hashes, joined) = hashed(&app, join(&app, &token, &last.email)).await;
    refused(joined, Code::ResourceExhausted);
    assert_eq!(hashes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_invitation_makes_nobody_hash_and_counts_at_no_account() {
    let app = App::start_with(database().await, |options| {
        options.accounts.rates.account = Rate::new(TRIES, Duration::from_mins(10));
    })
    .await;
    let token = invitation(&app).await;
    let (stem, _) = token.rsplit_once('_').unwrap();
    let (head, secret) = stem.split_at(stem.len() - 64);
    let stem = format!("{head}{}", secret.chars().rev().collect::<String>());
    let forged = format!("{stem}_{:08x}", crc32fast::hash(stem.as_bytes()));
    for _ in 0..2 * TRIES {
        for token in [forged.as_str(), "x", &token[1..]] {
            let (hashes, joined) = hashed(&app, join(&app, token, EMAIL)).await;
            refused(joined, Code::PermissionDenied);
            assert_eq!(hashes, 0);
        }
    }
    login(&app.channel, EMAIL, PASSWORD).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_login_that_fails_takes_the_work_of_one_that_succeeds() {
    let app = App::start().await;
    let without_password = Person::new(&app, "no-password@example.com").await;
    let (eve, _) = app.user("eve@example.com").await;
    let asleep = pb::UpdateUserRequest {
        user: Some(pb::User { active: false, ..eve }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["active".into()],
        }),
        ..Default::default()
    };
    app.users().update_user(asleep).await.unwrap();
    let (right, granted) = hashed(&app, login(&app.channel, EMAIL, PASSWORD)).await;
    granted.unwrap();
    let mut told = Vec::new();
    for (email, password) in [
        (EMAIL, "not the password"),
        ("nobody@example.com", PASSWORD),
        ("eve@example.com", PASSWORD),
        (&without_password.email, PASSWORD),
        (&without_password.email, " "),
    ] {
        let (hashes, answer) = hashed(&app, login(&app.channel, email, password)).await;
        let status = refused(answer, Code::Unauthenticated);
        told.push((hashes, status.message().to_owned(), status.details().to_vec()));
    }
    assert!(told.iter().all(|answer| *answer == told[0]), "{told:?}");
    assert_eq!((right, told[0].0), (1, 1));
}
