//! People of an OpenID Connect issuer: which tokens let them in, and what their first use does.

use futures_util::future::join_all;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::app::{App, EMAIL, PASSWORD, connect, login, options};
use crate::issuer::{Answer, Signer, TestIssuer};
use crate::people::showing;
use crate::refusals::refused;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{database, eventually, within};

/// A service that lets the people of an issuer in.
pub async fn start() -> (App, TestIssuer) {
    start_with(TestIssuer::start().await).await
}

async fn start_with(issuer: TestIssuer) -> (App, TestIssuer) {
    let openid = Some(issuer.expectations());
    let app = App::start_with(database().await, |options| options.openid = openid).await;
    (app, issuer)
}

pub async fn who_am_i(channel: &Channel, token: &str) -> Result<pb::WhoAmIResponse, Status> {
    let mut auth = AuthServiceClient::new(showing(channel, token));
    let answer = within("an answer", auth.who_am_i(pb::WhoAmIRequest {})).await?;
    Ok(answer.into_inner())
}

/// Who the bearer of a token is.
pub async fn user(app: &App, token: &str) -> pb::User {
    who_am_i(&app.channel, token).await.unwrap().user.unwrap()
}

/// The token lets nobody in, and the answer does not say why.
async fn turned_away(app: &App, token: &str) {
    let status = refused(who_am_i(&app.channel, token).await, Code::Unauthenticated);
    let nonsense = refused(who_am_i(&app.channel, "nonsense").await, Code::Unauthenticated);
    assert_eq!(
        (status.message(), status.details()),
        (nonsense.message(), nonsense.details())
    );
}

/// How many rows there are.
pub async fn count(app: &App, of: &str) -> i64 {
    let sql = app.database.client().await;
    sql.query_one(&format!("select count(*) from {of}"), &[])
        .await
        .unwrap()
        .get(0)
}

async fn revision(app: &App) -> i64 {
    let sql = app.database.client().await;
    sql.query_one("select revision from access_head", &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_use_makes_an_account_and_the_second_touches_nothing() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let me = who_am_i(&app.channel, &issuer.token("grace", &["web", "unknown"], 10))
        .await
        .unwrap();
    let first = me.user.unwrap();
    assert_eq!(
        (first.email.as_str(), first.role()),
        ("grace@example.com", pb::InstanceRole::Unspecified)
    );
    let membership = (me.memberships[0].project.as_str(), me.memberships[0].role());
    assert_eq!(
        (me.memberships.len(), membership),
        (1, ("shop", pb::ProjectRole::Developer))
    );
    assert!(
        me.project_permissions[0]
            .permissions
            .contains(&"project.change".to_owned())
    );

    let (before, entries) = (revision(&app).await, count(&app, "audit_entries").await);
    // Another token of the same, and a newer one that claims the same.
    for seconds_ago in [10, 5] {
        let again = user(&app, &issuer.token("grace", &["web"], seconds_ago)).await;
        assert_eq!(again.id, first.id);
    }
    assert_eq!(
        (revision(&app).await, count(&app, "audit_entries").await),
        (before, entries)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_issuer_does_what_the_roles_allow() {
    let (app, issuer) = start().await;
    app.shop().await;
    let token = issuer.token("grace", &["web"], 10);
    let mut flags = pb::flag_service_client::FlagServiceClient::new(showing(&app.channel, &token));
    let create = |project: &str| pb::CreateFlagRequest {
        flag: Some(pb::Flag {
            project: project.into(),
            ..crate::app::bool_flag("new-checkout")
        }),
        ..Default::default()
    };
    flags.create_flag(create("shop")).await.unwrap();
    refused(flags.create_flag(create("other")).await, Code::PermissionDenied);
    let mut users = pb::user_service_client::UserServiceClient::new(showing(&app.channel, &token));
    refused(
        users.list_users(pb::ListUsersRequest::default()).await,
        Code::PermissionDenied,
    );
    let mut auth = AuthServiceClient::new(showing(&app.channel, &token));
    refused(auth.logout(pb::LogoutRequest {}).await, Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_audited_with_the_name_of_the_token_and_never_the_token() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let token = issuer.token("grace", &["web"], 10);
    let id = user(&app, &token).await.id;
    let sql = app.database.client().await;
    let query = "select action, actor, actor_name, credential, entity_key, to_jsonb(e)::text, chain = 'instance' \
                 from audit_entries e where credential like 'oidc:%' order by action";
    let rows = sql.query(query, &[]).await.unwrap();
    let actions: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(6))).collect();
    // The project's own log tells of its new member.
    assert_eq!(
        actions,
        [("member.add".to_owned(), false), ("user.create".to_owned(), true)]
    );
    for row in rows {
        assert_eq!(row.get::<_, String>(1), format!("user:{id}"));
        assert_eq!((row.get(2), row.get(3)), ("grace@example.com", "oidc:grace-10"));
        assert_eq!(row.get::<_, String>(4), id);
        let signature = token.rsplit('.').next().unwrap();
        assert!(!row.get::<_, String>(5).contains(signature));
    }
    let project: i64 = sql.query_one("select id from projects", &[]).await.unwrap().get(0);
    for chain in ["instance".to_owned(), project.to_string()] {
        let verdict = app.server.store().verify_chain(&chain, None).await.unwrap();
        assert!(
            matches!(verdict, halyard::domain::audit::verify::Verdict::Intact { .. }),
            "{verdict:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_issuers_token_for_us_lets_nobody_in() {
    let (app, issuer) = start_with(TestIssuer::start_with(Signer::rsa("first")).await).await;
    let now = Timestamp::now().as_second();
    for changes in [
        json!({ "aud": "another-application" }),
        json!({ "aud": null }),
        json!({ "iss": "https://login.example.com" }),
        json!({ "iss": format!("{}/", issuer.url) }),
        json!({ "iss": "halyard" }),
        json!({ "exp": now - 1 }),
        json!({ "exp": null }),
        json!({ "nbf": now + 600 }),
        json!({ "iat": now + 600 }),
        json!({ "sub": null }),
    ] {
        turned_away(&app, &issuer.token_with("grace", &changes)).await;
    }
    let claims = issuer.claims("grace", &["ops"], 10);
    // Signed by somebody else, under the name of the right key, and by a key of another kind.
    turned_away(&app, &Signer::rsa("first").sign(&claims)).await;
    turned_away(&app, &Signer::new("first").sign(&claims)).await;
    // Signed with the public key as if it were a secret.
    let modulus = issuer.signer.published["n"].as_str().unwrap();
    for secret in [modulus.as_bytes(), issuer.signer.published.to_string().as_bytes()] {
        let header = Header {
            kid: Some("first".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        turned_away(
            &app,
            &jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap(),
        )
        .await;
    }
    // Not signed: {"alg":"none","kid":"first"}.
    let signed = issuer.signer.sign(&claims);
    let payload = signed.split('.').nth(1).unwrap();
    turned_away(&app, &format!("eyJhbGciOiJub25lIiwia2lkIjoiZmlyc3QifQ.{payload}.")).await;
    // Altered behind the signature.
    let altered = issuer.token_with("eve", &json!({}));
    let (_, signature) = signed.rsplit_once('.').unwrap();
    let (message, _) = altered.rsplit_once('.').unwrap();
    turned_away(&app, &format!("{message}.{signature}")).await;
    assert_eq!(count(&app, "identities").await, 0);
    assert!(who_am_i(&app.channel, &signed).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_token_is_read_and_a_huge_one_harms_nobody() {
    let (app, issuer) = start().await;
    let padded = |bytes: usize| issuer.token_with("grace", &json!({ "padding": "a".repeat(bytes) }));
    let large = padded(11_900);
    assert!(large.len() > 16_000 && large.len() < 16 * 1024, "{}", large.len());
    assert!(who_am_i(&app.channel, &large).await.is_ok());
    turned_away(&app, &padded(13_000)).await;
    // The connection may be closed over it; others are served.
    let own = connect(&app.server).await;
    assert!(who_am_i(&own, &padded(1024 * 1024)).await.is_err());
    assert!(who_am_i(&app.channel, &large).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_let_in_where_no_issuer_is_configured() {
    let (app, issuer) = (App::start().await, TestIssuer::start().await);
    turned_away(&app, &issuer.token("grace", &["ops"], 10)).await;
    assert_eq!(issuer.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_leads_to_nobodys_account() {
    let (app, issuer) = start().await;
    let ada = user(&app, &app.token).await;
    let alike = [
        EMAIL,
        "ADA@EXAMPLE.COM",
        " ada@example.com ",
        "ada@example.com\u{200b}",
        "аda@example.com",
    ];
    let mut ids = vec![ada.id.clone()];
    for (n, email) in alike.into_iter().enumerate() {
        let claims = json!({ "email": email, "email_verified": true });
        let stranger = user(&app, &issuer.token_with(&format!("stranger-{n}"), &claims)).await;
        assert_eq!(stranger.role(), pb::InstanceRole::Unspecified, "{email}");
        ids.push(stranger.id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1 + alike.len());

    // The address still leads to the account whose it is, and its password to no other.
    let by_address = pb::GetUserRequest {
        email: EMAIL.into(),
        ..Default::default()
    };
    let found = app
        .users()
        .get_user(by_address)
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!(found.id, ada.id);
    let token = login(&app.channel, EMAIL, PASSWORD).await.unwrap();
    assert_eq!(user(&app, &token).await.id, ada.id);
    // Nor can the address be taken from under it.
    let token = issuer.token_with("newcomer", &json!({ "email": "later@example.com" }));
    let newcomer = user(&app, &token).await;
    let later = app.account("later@example.com", pb::InstanceRole::Unspecified).await;
    assert_ne!(later.id, newcomer.id);
    refused(
        login(&app.channel, "stranger@example.com", "").await,
        Code::InvalidArgument,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_first_uses_at_once_one_makes_the_account() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let (token, other) = (issuer.token("grace", &["web"], 10), issuer.token("grace", &["web"], 9));
    let uses = (0..20).map(|n| who_am_i(&app.channel, if n % 2 == 0 { &token } else { &other }));
    let mut ids: Vec<_> = join_all(uses)
        .await
        .into_iter()
        .map(|me| me.unwrap().user.unwrap().id)
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!((count(&app, "identities").await, count(&app, "users").await), (1, 2));
    assert_eq!(
        count(&app, "audit_entries where action = 'user.create' and credential <> ''").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_audit_entry_there_is_no_account_and_no_role() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let known = issuer.token("known", &[], 100);
    assert!(who_am_i(&app.channel, &known).await.is_ok());
    let sql = app.database.client().await;
    let refuse = "
        create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
        create trigger refuse before insert on audit_entries for each row execute function refuse()";
    sql.batch_execute(refuse).await.unwrap();
    let token = issuer.token("grace", &["web"], 10);
    refused(who_am_i(&app.channel, &token).await, Code::Internal);
    // Who is known goes on with what there is.
    let claims = issuer.token("known", &["web"], 10);
    assert!(who_am_i(&app.channel, &claims).await.unwrap().memberships.is_empty());
    assert_eq!((count(&app, "identities").await, count(&app, "users").await), (1, 2));
    sql.batch_execute("drop trigger refuse on audit_entries").await.unwrap();
    for token in [&token, &claims] {
        assert_eq!(who_am_i(&app.channel, token).await.unwrap().memberships.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_knows_the_account_at_its_next_request() {
    let (app, issuer) = start().await;
    let mut options = options(&app.database);
    options.openid = Some(issuer.expectations());
    let second = halyard::server::Server::start(options).await.unwrap();
    within("the first state", second.ready()).await;
    let token = issuer.token("grace", &[], 10);
    let first = user(&app, &token).await;
    let there = who_am_i(&connect(&second).await, &token).await.unwrap().user.unwrap();
    assert_eq!(there.id, first.id);
    assert_eq!(count(&app, "identities").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_is_let_in_without_the_database_and_who_is_not_is_told_to_come_again() {
    let issuer = TestIssuer::start().await;
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    let openid = Some(issuer.expectations());
    let app = App::start_with(database, |options| {
        options.store.config = proxy.config.clone();
        options.openid = openid;
    })
    .await;
    let known = issuer.token("grace", &[], 10);
    let id = user(&app, &known).await.id;
    proxy.set(Mode::Cut);
    assert_eq!(user(&app, &known).await.id, id);
    let newer = issuer.token("grace", &["web"], 5);
    assert_eq!(user(&app, &newer).await.id, id);
    refused(
        who_am_i(&app.channel, &issuer.token("new", &[], 10)).await,
        Code::Unavailable,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_of_the_issuer_is_found_and_a_withdrawn_one_is_forgotten() {
    let (app, issuer) = start().await;
    assert!(who_am_i(&app.channel, &issuer.token("grace", &[], 10)).await.is_ok());
    let second = Signer::new("second");
    issuer.publishes(&[&second]);
    let token = second.sign(&issuer.claims("grace", &[], 10));
    assert!(who_am_i(&app.channel, &token).await.is_ok());
    // The answer that brought the new key no longer had the old one.
    turned_away(&app, &issuer.token("grace", &[], 10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_issuer_is_away_known_keys_work_and_unknown_ones_wait() {
    let (app, issuer) = start().await;
    let token = issuer.token("grace", &[], 10);
    assert!(who_am_i(&app.channel, &token).await.is_ok());
    issuer.answers(Answer::Nothing);
    let second = Signer::new("second");
    let unknown = second.sign(&issuer.claims("grace", &[], 10));
    refused(who_am_i(&app.channel, &unknown).await, Code::Unavailable);
    assert!(who_am_i(&app.channel, &token).await.is_ok());
    assert!(who_am_i(&app.channel, &issuer.token("new", &[], 10)).await.is_ok());
    issuer.publishes(&[&issuer.signer, &second]);
    assert!(who_am_i(&app.channel, &unknown).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_at_the_start_keeps_nobody_else_out() {
    let issuer = TestIssuer::start().await;
    issuer.answers(Answer::Nothing);
    let (app, issuer) = start_with(issuer).await;
    let token = issuer.token("grace", &[], 10);
    refused(who_am_i(&app.channel, &token).await, Code::Unavailable);
    assert!(who_am_i(&app.channel, &app.token).await.is_ok());
    issuer.publishes(&[&issuer.signer]);
    assert!(who_am_i(&app.channel, &token).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_does_not_flood_the_issuer() {
    let (app, issuer) = start().await;
    eventually("the first look at the keys", async || {
        (issuer.requests() >= 2).then_some(())
    })
    .await;
    let stranger = Signer::new("stranger");
    let forged = |n: usize| stranger.sign_as(&format!("unknown-{n}"), &issuer.claims("grace", &[], 10));
    let tokens: Vec<_> = (0..200).map(forged).collect();
    for refusal in join_all(tokens.iter().map(|token| who_am_i(&app.channel, token))).await {
        assert_eq!(refusal.unwrap_err().code(), Code::Unauthenticated);
    }
    for token in tokens.iter().take(50) {
        turned_away(&app, token).await;
    }
    // Two questions a look: the one at the start, and as many as tokens can have in a row.
    let most = 2 * (1 + halyard::issuer::BURST.get() as usize + 1);
    assert!(issuer.requests() <= most, "{} requests", issuer.requests());
    assert!(who_am_i(&app.channel, &issuer.token("grace", &[], 10)).await.is_ok());
}

/// An issuer that answers so lets nobody in, and nobody is led astray by it.
async fn distrusted(answer: impl FnOnce(&TestIssuer) -> Answer) {
    let issuer = TestIssuer::start().await;
    issuer.answers(answer(&issuer));
    let (app, issuer) = start_with(issuer).await;
    refused(
        who_am_i(&app.channel, &issuer.token("grace", &[], 10)).await,
        Code::Unavailable,
    );
}

fn discovery(issuer: &str, keys: &str) -> Value {
    json!({ "issuer": issuer, "jwks_uri": keys })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_another_than_configured_is_not_trusted() {
    distrusted(|issuer| Answer::Discovery(discovery(&format!("{}/", issuer.url), &issuer.url))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_not_fetched_from_elsewhere_without_tls() {
    distrusted(|issuer| Answer::Discovery(discovery(&issuer.url, "http://192.0.2.1/keys"))).await;
    distrusted(|_| Answer::Redirect("http://192.0.2.1/".to_owned())).await;
    distrusted(|issuer| Answer::Redirect(issuer.url.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_not_read_to_it() {
    distrusted(|_| Answer::Endless).await;
}
