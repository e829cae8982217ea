//! Signing up, logging in and out, refreshing, and changing one's password.

use std::time::Duration;

use halyard::auth::jwt::{SigningKey, Tokens};
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::rpc::admin::accounts::{Rate, Rates, SignUp};
use halyard::server::Options;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::app::{App, Bearer, Client, EMAIL, PASSWORD, SIGNING_KEY, connect, log_in, login};
use crate::people::{Person, set};
use crate::refusals::{invalid, refused};
use crate::support::{database, eventually, within};

const OTHER_PASSWORD: &str = "another horse, another battery";

/// A service on which anyone may sign up.
async fn open() -> App {
    App::start_with(database().await, |options| options.accounts.sign_up = SignUp::On).await
}

fn anyone(channel: &Channel) -> AuthServiceClient<Channel> {
    AuthServiceClient::new(channel.clone())
}

fn with(channel: &Channel, token: &str) -> AuthServiceClient<Client> {
    AuthServiceClient::new(InterceptedService::new(channel.clone(), Bearer::new(token)))
}

fn sign_up(email: &str, password: &str) -> pb::SignUpRequest {
    pb::SignUpRequest {
        email: email.into(),
        password: password.into(),
        password_confirmation: password.into(),
    }
}

fn change_password(current: &str, new: &str) -> pb::ChangePasswordRequest {
    pb::ChangePasswordRequest {
        current_password: current.into(),
        new_password: new.into(),
        password_confirmation: new.into(),
    }
}

async fn refresh(channel: &Channel, token: &str) -> Result<pb::RefreshResponse, Status> {
    let request = pb::RefreshRequest {
        refresh_token: token.into(),
    };
    Ok(anyone(channel).refresh(request).await?.into_inner())
}

async fn who_am_i(channel: &Channel, token: &str) -> Result<(), Status> {
    with(channel, token).who_am_i(pb::WhoAmIRequest {}).await.map(drop)
}

/// Returns once a token is refused, and fails if that takes longer than ten times the two seconds that are promised.
async fn dies(channel: &Channel, token: &str) {
    let began_at = std::time::Instant::now();
    eventually("the end of the token", async || {
        let status = who_am_i(channel, token).await.err()?;
        assert_eq!(status.code(), Code::Unauthenticated);
        Some(())
    })
    .await;
    assert!(began_at.elapsed() < Duration::from_secs(20), "{:?}", began_at.elapsed());
}

/// The audit entries of these actions, as JSON.
async fn entries(app: &App, pattern: &str) -> Vec<serde_json::Value> {
    let client = app.database.client().await;
    let query = "select to_jsonb(e)::text from audit_entries e where action like $1 order by sequence";
    let rows = client.query(query, &[&pattern]).await.unwrap();
    let texts = rows.iter().map(|row| row.get::<_, String>(0));
    texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_signs_up_where_that_is_switched_off() {
    let app = App::start().await;
    let request = sign_up("eve@example.com", PASSWORD);
    let status = refused(anyone(&app.channel).sign_up(request).await, Code::FailedPrecondition);
    assert!(status.get_details_precondition_failure().is_some());
    refused(
        login(&app.channel, "eve@example.com", PASSWORD).await,
        Code::Unauthenticated,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_up_logs_in_and_creates_projects() {
    let app = open().await;
    anyone(&app.channel)
        .sign_up(sign_up("Eve@Example.com", OTHER_PASSWORD))
        .await
        .unwrap();
    let eve = log_in(&app.channel, "eve@example.com", OTHER_PASSWORD).await.unwrap();
    let user = eve.user.unwrap();
    assert_eq!(
        (user.email.as_str(), user.role()),
        ("Eve@Example.com", pb::InstanceRole::Unspecified)
    );
    let me = with(&app.channel, &eve.access_token)
        .who_am_i(pb::WhoAmIRequest {})
        .await;
    assert_eq!(me.unwrap().into_inner().permissions, ["projects.create"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_answered_like_a_free_one_after_as_much_work() {
    let app = open().await;
    let mut work = Vec::new();
    let mut answers = Vec::new();
    for email in ["eve@example.com", "ADA@example.com"] {
        let before = app.server.accounts().passwords_hashed();
        let answer = anyone(&app.channel)
            .sign_up(sign_up(email, OTHER_PASSWORD))
            .await
            .unwrap();
        answers.push(answer.into_inner());
        work.push(app.server.accounts().passwords_hashed() - before);
    }
    assert_eq!(answers, [pb::SignUpResponse {}; 2]);
    assert_eq!(work, [1, 1]);
    assert!(
        login(&app.channel, EMAIL, PASSWORD).await.is_ok(),
        "nothing was changed"
    );
    refused(login(&app.channel, EMAIL, OTHER_PASSWORD).await, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_sign_up_is_told_at_once() {
    let app = open().await;
    let mut anyone = anyone(&app.channel);
    let mut check = async |email: &str, password: &str, confirmation: &str, fields: &[&str]| {
        let request = pb::SignUpRequest {
            email: email.into(),
            password: password.into(),
            password_confirmation: confirmation.into(),
        };
        invalid(anyone.sign_up(request).await, fields);
    };
    check("", "", "x", &["email", "password_confirmation"]).await;
    check(
        "eve@example.com",
        "short",
        "longer",
        &["password", "password_confirmation"],
    )
    .await;
    check(
        "eve.adams.eve@example.com",
        "Eve.Adams.Eve",
        "Eve.Adams.Eve",
        &["password"],
    )
    .await;
    check("eve@example.com", "Password1234", "Password1234", &["password"]).await;
    check("eve@example.com\u{0}", PASSWORD, PASSWORD, &["email"]).await;
    check("eve\u{200b}@example.com", PASSWORD, PASSWORD, &["email"]).await;
    check("'; drop table users; --", PASSWORD, PASSWORD, &["email", "email"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_looks_alike_is_another() {
    let app = open().await;
    // All Cyrillic, and in some fonts the same as `ycp`.
    let (latin, look_alike) = ("ycp@example.com", "уср@example.com");
    app.user(latin).await;
    anyone(&app.channel)
        .sign_up(sign_up(look_alike, OTHER_PASSWORD))
        .await
        .unwrap();
    refused(login(&app.channel, look_alike, PASSWORD).await, Code::Unauthenticated);
    refused(login(&app.channel, latin, OTHER_PASSWORD).await, Code::Unauthenticated);
    assert!(login(&app.channel, look_alike, OTHER_PASSWORD).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_wrong_and_inactive_take_the_same_work() {
    let app = App::start().await;
    app.user("eve@example.com").await;
    let deactivate = "update users set active = false where email = 'eve@example.com'";
    app.database.client().await.batch_execute(deactivate).await.unwrap();
    let mut refusals = Vec::new();
    for (email, password) in [
        (EMAIL, "not the password"),
        ("nobody@example.com", PASSWORD),
        ("eve@example.com", PASSWORD),
    ] {
        let before = app.server.accounts().passwords_hashed();
        let status = refused(login(&app.channel, email, password).await, Code::Unauthenticated);
        refusals.push((status.message().to_owned(), status.details().to_vec()));
        assert_eq!(app.server.accounts().passwords_hashed() - before, 1, "{email}");
    }
    assert!(refusals.iter().all(|refusal| refusal == &refusals[0]), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_gives_the_next_and_works_once() {
    let app = App::start().await;
    let first = log_in(&app.channel, EMAIL, PASSWORD).await.unwrap();
    assert!(first.refresh_token.starts_with("halyard_refresh_") && first.refresh_expire_time.is_some());
    let second = refresh(&app.channel, &first.refresh_token).await.unwrap();
    assert_ne!(second.refresh_token, first.refresh_token);
    who_am_i(&app.channel, &second.access_token).await.unwrap();
    refused(refresh(&app.channel, &first.refresh_token).await, Code::Aborted);
    let third = refresh(&app.channel, &second.refresh_token).await.unwrap();

    let age = "update sessions set rotated_at = rotated_at - interval '11 seconds'";
    app.database.client().await.batch_execute(age).await.unwrap();
    refused(
        refresh(&app.channel, &second.refresh_token).await,
        Code::Unauthenticated,
    );
    refused(refresh(&app.channel, &third.refresh_token).await, Code::Unauthenticated);
    dies(&app.channel, &third.access_token).await;
    who_am_i(&app.channel, &app.token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_callers_that_refresh_together_exactly_one_wins() {
    let app = App::start().await;
    let (replica, channel) = app.replica().await;
    let token = log_in(&app.channel, EMAIL, PASSWORD).await.unwrap().refresh_token;
    let calls = (0..10).map(|n| {
        let channel = if n % 2 == 0 { &app.channel } else { &channel };
        refresh(channel, &token)
    });
    let answers = within("the answers", futures_util::future::join_all(calls)).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 9));
    for lost in lost {
        refused(lost, Code::Aborted);
    }
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_refresh_token_refreshes() {
    let app = App::start().await;
    invalid(refresh(&app.channel, "").await, &["refresh_token"]);
    let token = log_in(&app.channel, EMAIL, PASSWORD).await.unwrap().refresh_token;
    let made_up = format!("halyard_refresh_{}", "0".repeat(138));
    for token in [
        "x",
        &app.token,
        &token[..token.len() - 1],
        &made_up,
        &"x".repeat(60_000),
    ] {
        refused(refresh(&app.channel, token).await, Code::Unauthenticated);
    }
    let huge = refresh(&app.channel, &"x".repeat(70_000)).await;
    refused(huge, Code::ResourceExhausted);
    refused(who_am_i(&app.channel, &token).await, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_for_one_command_has_no_refresh_token() {
    let app = App::start().await;
    let request = pb::LoginRequest {
        email: EMAIL.into(),
        password: PASSWORD.into(),
        access_only: true,
    };
    let answer = anyone(&app.channel).login(request).await.unwrap().into_inner();
    assert_eq!((answer.refresh_token.as_str(), answer.refresh_expire_time), ("", None));
    who_am_i(&app.channel, &answer.access_token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_the_session_on_every_replica_and_no_other() {
    let app = App::start().await;
    let (replica, channel) = app.replica().await;
    let login = log_in(&app.channel, EMAIL, PASSWORD).await.unwrap();
    who_am_i(&channel, &login.access_token).await.unwrap();
    let logout = with(&app.channel, &login.access_token)
        .logout(pb::LogoutRequest {})
        .await;
    assert!(logout.unwrap().into_inner().changed);
    dies(&channel, &login.access_token).await;
    dies(&app.channel, &login.access_token).await;
    refused(refresh(&channel, &login.refresh_token).await, Code::Unauthenticated);
    who_am_i(&channel, &app.token).await.unwrap();
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_later_knows_what_was_revoked() {
    let app = App::start().await;
    let login = log_in(&app.channel, EMAIL, PASSWORD).await.unwrap();
    with(&app.channel, &login.access_token)
        .logout(pb::LogoutRequest {})
        .await
        .unwrap();
    let (replica, channel) = app.replica().await;
    refused(who_am_i(&channel, &login.access_token).await, Code::Unauthenticated);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_the_other_sessions() {
    let app = App::start().await;
    let (replica, channel) = app.replica().await;
    let (kept, other) = (
        log_in(&app.channel, EMAIL, PASSWORD).await.unwrap(),
        log_in(&app.channel, EMAIL, PASSWORD).await.unwrap(),
    );
    let change = change_password(PASSWORD, OTHER_PASSWORD);
    with(&app.channel, &kept.access_token)
        .change_password(change)
        .await
        .unwrap();
    dies(&channel, &other.access_token).await;
    refused(refresh(&channel, &other.refresh_token).await, Code::Unauthenticated);
    who_am_i(&channel, &kept.access_token).await.unwrap();
    refresh(&channel, &kept.refresh_token).await.unwrap();
    refused(login(&channel, EMAIL, PASSWORD).await, Code::Unauthenticated);
    login(&channel, EMAIL, OTHER_PASSWORD).await.unwrap();
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knows_the_password_changes_it_and_to_a_good_one() {
    let app = App::start().await;
    let mut me = app.auth();
    invalid(
        me.change_password(change_password("not the password", OTHER_PASSWORD))
            .await,
        &["current_password"],
    );
    invalid(
        me.change_password(change_password("", "short")).await,
        &["current_password", "new_password"],
    );
    let unconfirmed = pb::ChangePasswordRequest {
        password_confirmation: "something else".into(),
        ..change_password(PASSWORD, OTHER_PASSWORD)
    };
    invalid(me.change_password(unconfirmed).await, &["password_confirmation"]);
    assert_eq!(entries(&app, "user.change_password").await.len(), 0);
    eventually("the failure's entry", async || {
        (entries(&app, "user.login_refused").await.len() == 1).then_some(())
    })
    .await;
    login(&app.channel, EMAIL, PASSWORD).await.unwrap();
}

/// So few tries that a test gets through them.
fn few(options: &mut Options) {
    options.accounts.rates = Rates {
        account: Rate::new(3, Duration::from_mins(10)),
        address: Rate::new(8, Duration::from_mins(10)),
    };
}

fn retry_after(status: &Status) -> Duration {
    let info = status.get_details_retry_info().expect("a RetryInfo");
    info.retry_delay.expect("a delay")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_too_often_is_told_to_wait_whether_or_not_there_is_such_an_account() {
    let app = App::start_with(database().await, few).await;
    // One try was the application's own.
    let mut refusals = Vec::new();
    for (email, tries) in [(EMAIL, 2), ("nobody@example.com", 3)] {
        for _ in 0..tries {
            refused(
                login(&app.channel, email, "not the password").await,
                Code::Unauthenticated,
            );
        }
        let before = app.server.accounts().passwords_hashed();
        let status = refused(login(&app.channel, email, PASSWORD).await, Code::ResourceExhausted);
        assert_eq!(app.server.accounts().passwords_hashed(), before, "nothing is hashed");
        assert!(retry_after(&status) > Duration::from_mins(5), "{status:?}");
        refusals.push(status.message().to_owned());
    }
    assert_eq!(refusals[0], refusals[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_up_many_addresses_is_told_to_wait_and_an_administrator_is_not() {
    let app = App::start_with(database().await, few).await;
    app.project("shop").await;
    let curious = Person::member(&app, "eve@example.com", "shop", pb::ProjectRole::Owner).await;
    let guess = |n| pb::SetMemberRequest {
        validate_only: true,
        ..set("shop", &format!("user-{n}@example.com"), pb::ProjectRole::Viewer)
    };
    for n in 0..8 {
        let mut projects = curious.projects(&app.channel);
        refused(projects.set_member(guess(n)).await, Code::NotFound);
    }
    let status = refused(
        curious.projects(&app.channel).set_member(guess(9)).await,
        Code::ResourceExhausted,
    );
    assert!(retry_after(&status) > Duration::from_mins(5), "{status:?}");
    for n in 0..10 {
        refused(app.projects().set_member(guess(n)).await, Code::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_not_gone_on_with_as_often_as_one_likes() {
    let app = App::start_with(database().await, few).await;
    let mut token = log_in(&app.channel, EMAIL, PASSWORD).await.unwrap().refresh_token;
    for _ in 0..3 {
        token = refresh(&app.channel, &token).await.unwrap().refresh_token;
    }
    let status = refused(refresh(&app.channel, &token).await, Code::ResourceExhausted);
    assert!(retry_after(&status) > Duration::from_mins(5), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_tries_many_accounts_is_told_to_wait() {
    let app = App::start_with(database().await, few).await;
    for n in 0..7 {
        let email = format!("user-{n}@example.com");
        refused(login(&app.channel, &email, PASSWORD).await, Code::Unauthenticated);
    }
    let status = refused(
        login(&app.channel, "user-8@example.com", PASSWORD).await,
        Code::ResourceExhausted,
    );
    assert!(retry_after(&status) > Duration::from_mins(5), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_are_audited_together_and_without_what_was_typed() {
    let app = App::start_with(database().await, |options| {
        options.accounts.failures_window = Duration::from_hours(1);
        options.accounts.rates.account = Rate::new(20, Duration::from_hours(1));
    })
    .await;
    let guess = "a guess at the password";
    let nobody = |n| format!("secret-{n}@example.com");
    for email in [EMAIL, &nobody(0)] {
        login(&app.channel, email, guess).await.unwrap_err();
    }
    let first_of_each = || entries(&app, "user.login_refused");
    eventually("the entries", async || (first_of_each().await.len() == 2).then_some(())).await;
    for _ in 1..25 {
        login(&app.channel, EMAIL, guess).await.unwrap_err();
    }
    for n in 1..5 {
        login(&app.channel, &nobody(n), guess).await.unwrap_err();
    }
    assert_eq!(first_of_each().await.len(), 2);
    let (database, server) = (app.database, app.server);
    server.stop().await.unwrap();
    let app = App::start_on(database).await;
    let written = entries(&app, "user.login_refused").await;
    let counts: Vec<(bool, String)> = written
        .iter()
        .map(|entry| (entry["entity_key"] == "", entry["after"].as_str().unwrap().to_owned()))
        .collect();
    let count =
        |refused, throttled| format!(r#"{{"refused":{refused},"throttled":{throttled},"peers":["127.0.0.1"]}}"#);
    assert_eq!(counts.len(), 4, "{counts:?}");
    for unknown in [false, true] {
        assert!(counts[..2].contains(&(unknown, count(1, 0))), "{counts:?}");
    }
    assert!(counts[2..].contains(&(false, count(18, 6))), "{counts:?}");
    assert!(counts[2..].contains(&(true, count(4, 0))), "{counts:?}");
    let all = format!("{written:?}");
    assert!(!all.contains(guess) && !all.contains("secret-"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_database() {
    let app = open().await;
    let password = "a secret of eighteen";
    anyone(&app.channel)
        .sign_up(sign_up("eve@example.com", password))
        .await
        .unwrap();
    let eve = log_in(&app.channel, "eve@example.com", password).await.unwrap();
    let next = refresh(&app.channel, &eve.refresh_token).await.unwrap();
    let new_password = "another secret of mine";
    let change = change_password(password, new_password);
    with(&app.channel, &next.access_token)
        .change_password(change)
        .await
        .unwrap();
    let created = pb::CreateUserRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..crate::app::create_user("bob@example.com", pb::InstanceRole::Unspecified)
    };
    app.users().create_user(created).await.unwrap();
    with(&app.channel, &next.access_token)
        .logout(pb::LogoutRequest {})
        .await
        .unwrap();

    let client = app.database.client().await;
    let tables = "select tablename::text from pg_tables where schemaname = 'public'";
    let mut stored = String::new();
    for table in client.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let rows = format!("select coalesce(string_agg(to_jsonb(t)::text, ' '), '') from {table} t");
        stored.push_str(client.query_one(&rows, &[]).await.unwrap().get(0));
    }
    let secret_part = |token: &str| token.rsplit('_').nth(1).unwrap().to_owned();
    let secrets = [
        password.to_owned(),
        new_password.to_owned(),
        PASSWORD.to_owned(),
        eve.access_token.clone(),
        next.access_token.clone(),
        secret_part(&eve.refresh_token),
        secret_part(&next.refresh_token),
    ];
    assert!(stored.contains("bob@example.com"));
    for secret in secrets {
        assert!(!stored.contains(&secret), "{secret} is stored");
        // As bytes, too.
        assert!(!stored.contains(&hex::encode(&secret)), "{secret} is stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signing_key_is_changed_without_logging_anyone_out() {
    let next_key = || SigningKey::new(b"the next signing key, of 32 bytes or more").unwrap();
    let app = App::start().await;
    let mut options = crate::app::options(&app.database);
    options.tokens = Tokens::new(&next_key(), &[SigningKey::new(SIGNING_KEY).unwrap()]);
    let replica = halyard::server::Server::start(options).await.unwrap();
    within("the first state", replica.ready()).await;
    let channel = connect(&replica).await;
    who_am_i(&channel, &app.token).await.unwrap();
    let new = login(&channel, EMAIL, PASSWORD).await.unwrap();
    who_am_i(&channel, &new).await.unwrap();
    refused(who_am_i(&app.channel, &new).await, Code::Unauthenticated);
    replica.stop().await.unwrap();
}
