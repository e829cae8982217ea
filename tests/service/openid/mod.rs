//! People of an OpenID Connect issuer: what the tests about them share.

mod accounts;
mod at_once;
mod first_use;
mod issuer;
mod keys;
mod roles;
mod tokens;

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use prost_types::FieldMask;
use tonic::transport::Channel;
use tonic::{Code, Status};

use self::issuer::TestIssuer;
use crate::app::App;
use crate::people::showing;
use crate::refusals::refused;
use crate::support::{database, within};

/// A service that lets the people of an issuer in.
pub async fn start() -> (App, TestIssuer) {
    start_with(TestIssuer::start().await).await
}

pub async fn start_with(issuer: TestIssuer) -> (App, TestIssuer) {
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
pub async fn turned_away(app: &App, token: &str) {
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

/// Whether the bearer is administrator, and its memberships: `shop:developer`.
pub async fn roles(app: &App, token: &str) -> (bool, Vec<String>) {
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

#[track_caller]
pub fn are(found: &(bool, Vec<String>), administrator: bool, memberships: &[&str]) {
    assert_eq!(
        (found.0, found.1.iter().map(String::as_str).collect()),
        (administrator, memberships.to_vec())
    );
}

pub fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

pub async fn update(app: &App, user: pb::User, paths: &[&str]) -> Result<pb::User, Status> {
    let request = pb::UpdateUserRequest {
        user: Some(user),
        update_mask: mask(paths),
        ..Default::default()
    };
    Ok(app.users().update_user(request).await?.into_inner().user.unwrap())
}
