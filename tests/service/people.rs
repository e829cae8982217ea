//! People and machines with a role, and what they show.

use halyard::auth::jwt::{Holder, SigningKey, Tokens};
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::service_token_service_client::ServiceTokenServiceClient;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::app::{App, Bearer, Client, SIGNING_KEY};

/// Somebody with an account, who has logged in.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: Uuid,
    pub email: String,
}

impl Person {
    /// A new account without a password.
    pub async fn new(app: &App, email: &str) -> Self {
        let id = Uuid::new_v4();
        let sql = app.database.client().await;
        let insert = "insert into users (id, email, email_normalized) values ($1, $2, lower($2))";
        sql.execute(insert, &[&id, &email]).await.unwrap();
        let told = "update access_head set revision = revision + 1";
        sql.execute(told, &[]).await.unwrap();
        let email = email.to_owned();
        Self { id, email }
    }

    /// The administrator of every test.
    pub async fn administrator(app: &App) -> Self {
        let me = app.auth().who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
        let pb::User { id, email, .. } = me.user.unwrap();
        let id = id.parse().unwrap();
        Self { id, email }
    }

    /// A new account with a role.
    pub async fn member(app: &App, email: &str, project: &str, role: pb::ProjectRole) -> Self {
        let person = Self::new(app, email).await;
        person.becomes(app, project, role).await;
        person
    }

    /// An administrator gives the account a role.
    pub async fn becomes(&self, app: &App, project: &str, role: pb::ProjectRole) {
        app.projects()
            .set_member(set(project, &self.email, role))
            .await
            .unwrap();
    }

    /// An access token of a login of its own.
    pub fn token(&self) -> String {
        self.token_of(Timestamp::now())
    }

    /// One that was made long ago.
    pub fn expired_token(&self) -> String {
        self.token_of(Timestamp::now() - SignedDuration::from_hours(1))
    }

    fn token_of(&self, time: Timestamp) -> String {
        let holder = Holder {
            user: self.id,
            session: Uuid::now_v7(),
            token: Uuid::now_v7(),
        };
        let tokens = Tokens::new(&SigningKey::new(SIGNING_KEY).unwrap(), &[]);
        tokens.issue(holder, time).unwrap().token.expose_secret().to_owned()
    }

    pub fn auth(&self, channel: &Channel) -> AuthServiceClient<Client> {
        AuthServiceClient::new(showing(channel, &self.token()))
    }

    pub fn projects(&self, channel: &Channel) -> ProjectServiceClient<Client> {
        ProjectServiceClient::new(showing(channel, &self.token()))
    }

    pub fn service_tokens(&self, channel: &Channel) -> ServiceTokenServiceClient<Client> {
        ServiceTokenServiceClient::new(showing(channel, &self.token()))
    }
}

/// A channel over which a credential is shown.
pub fn showing(channel: &Channel, credential: &str) -> Client {
    InterceptedService::new(channel.clone(), Bearer::new(credential))
}

pub fn set(project: &str, user: &str, role: pb::ProjectRole) -> pb::SetMemberRequest {
    pb::SetMemberRequest {
        project: project.into(),
        user: user.into(),
        role: role.into(),
        ..Default::default()
    }
}

pub fn remove(project: &str, user: &str) -> pb::RemoveMemberRequest {
    pb::RemoveMemberRequest {
        project: project.into(),
        user: user.into(),
        ..Default::default()
    }
}

/// A new service token: its id and its secret.
pub async fn service_token(app: &App, project: &str, role: pb::ProjectRole) -> (String, String) {
    let request = pb::CreateServiceTokenRequest {
        project: project.into(),
        role: role.into(),
        ..Default::default()
    };
    let made = app.service_tokens().create_service_token(request).await.unwrap();
    let made = made.into_inner();
    (made.service_token.unwrap().id, made.secret)
}
