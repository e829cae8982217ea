//! What the first use of an identity does, and what later ones do not.

use futures_util::future::join_all;
use halyard::domain::audit::verify::Verdict;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use halyard::server::Server;
use serde_json::json;
use tonic::Code;

use super::issuer::TestIssuer;
use super::{count, start, user, who_am_i};
use crate::app::{App, EMAIL, PASSWORD, bool_flag, connect, login, options};
use crate::people::showing;
use crate::refusals::refused;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{database, within};

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
    let mut flags = FlagServiceClient::new(showing(&app.channel, &token));
    let create = |project: &str| pb::CreateFlagRequest {
        flag: Some(pb::Flag {
            project: project.into(),
            ..bool_flag("new-checkout")
        }),
        ..Default::default()
    };
    flags.create_flag(create("shop")).await.unwrap();
    refused(flags.create_flag(create("other")).await, Code::PermissionDenied);
    let mut users = UserServiceClient::new(showing(&app.channel, &token));
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
        assert!(matches!(verdict, Verdict::Intact { .. }), "{verdict:?}");
    }
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
    let second = Server::start(options).await.unwrap();
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
        options.store.target = (&proxy.config).into();
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
