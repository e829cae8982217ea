//! The methods that write about people and machines.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Developer, Viewer};
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use tonic::transport::Channel;

use super::rows::{Row, World, request_id, row};
use crate::app::{App, EMAIL, PASSWORD, create_user, log_in, login};
use crate::people::{Person, remove, service_token, set, showing};

const OTHER_PASSWORD: &str = "another long enough password";

/// Who and what the rows are about.
pub struct People {
    bob: Person,
    leaver: Person,
    gone: Person,
    /// What the rows of logins use up.
    refresh_token: String,
    session: String,
    changer: String,
    /// The token of one invitation, and the id of another.
    invitation: String,
    invitation_id: String,
    service_token_id: String,
}

impl People {
    pub async fn new(app: &App) -> Self {
        let bob = Person::new(app, "bob@example.com").await;
        let leaver = Person::member(app, "leaver@example.com", "shop", Viewer).await;
        let gone = Person::new(app, "gone@example.com").await;
        app.user("changer@example.com").await;
        let logged_in = async || log_in(&app.channel, EMAIL, PASSWORD).await.unwrap();
        Self {
            refresh_token: logged_in().await.refresh_token,
            session: logged_in().await.access_token,
            changer: login(&app.channel, "changer@example.com", PASSWORD).await.unwrap(),
            invitation: invite(app).await.token,
            invitation_id: invite(app).await.invitation.unwrap().id,
            service_token_id: service_token(app, "shop", Developer).await.0,
            bob,
            leaver,
            gone,
        }
    }
}

async fn invite(app: &App) -> pb::CreateInvitationResponse {
    let request = pb::CreateInvitationRequest {
        project: "shop".into(),
        role: Developer.into(),
        ..Default::default()
    };
    app.projects().create_invitation(request).await.unwrap().into_inner()
}

fn anyone(world: &World) -> AuthServiceClient<Channel> {
    AuthServiceClient::new(world.app.channel.clone())
}

pub const ROWS: &[Row] = &[
    row!("AuthService/SignUp", |world| {
        let request = pb::SignUpRequest {
            email: "new@example.com".into(),
            password: OTHER_PASSWORD.into(),
            password_confirmation: OTHER_PASSWORD.into(),
        };
        anyone(world).sign_up(request).await
    }),
    row!("AuthService/Login", |world| login(&world.app.channel, EMAIL, PASSWORD)
        .await),
    row!("AuthService/Refresh", |world| {
        let request = pb::RefreshRequest {
            refresh_token: world.people.refresh_token.clone(),
        };
        anyone(world).refresh(request).await
    }),
    row!("AuthService/Logout", |world| {
        let mut auth = AuthServiceClient::new(showing(&world.app.channel, &world.people.session));
        auth.logout(pb::LogoutRequest {}).await
    }),
    row!("AuthService/ChangePassword", |world| {
        let request = pb::ChangePasswordRequest {
            current_password: PASSWORD.into(),
            new_password: OTHER_PASSWORD.into(),
            password_confirmation: OTHER_PASSWORD.into(),
        };
        let mut auth = AuthServiceClient::new(showing(&world.app.channel, &world.people.changer));
        auth.change_password(request).await
    }),
    row!("AuthService/AcceptInvitation", |world| {
        let request = pb::AcceptInvitationRequest {
            token: world.people.invitation.clone(),
            ..Default::default()
        };
        world
            .people
            .bob
            .auth(&world.app.channel)
            .accept_invitation(request)
            .await
    }),
    row!("UserService/CreateUser", |world| {
        let request = pb::CreateUserRequest {
            request_id: request_id(101),
            ..create_user("made@example.com", pb::InstanceRole::Unspecified)
        };
        world.app.users().create_user(request).await
    }),
    row!("UserService/UpdateUser", |world| {
        let request = pb::UpdateUserRequest {
            user: Some(pb::User {
                id: world.people.gone.id.to_string(),
                email: "renamed@example.com".into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["email".into()],
            }),
            request_id: request_id(102),
            ..Default::default()
        };
        world.app.users().update_user(request).await
    }),
    row!("UserService/DeleteUser", |world| {
        let request = pb::DeleteUserRequest {
            id: world.people.gone.id.to_string(),
            request_id: request_id(103),
            ..Default::default()
        };
        world.app.users().delete_user(request).await
    }),
    row!("ProjectService/SetMember", |world| {
        let request = pb::SetMemberRequest {
            request_id: request_id(104),
            ..set("shop", &world.people.bob.email, Admin)
        };
        world.app.projects().set_member(request).await
    }),
    row!("ProjectService/RemoveMember", |world| {
        let request = pb::RemoveMemberRequest {
            request_id: request_id(105),
            ..remove("shop", &world.people.leaver.email)
        };
        world.app.projects().remove_member(request).await
    }),
    row!("ProjectService/CreateInvitation", |world| {
        let request = pb::CreateInvitationRequest {
            project: "shop".into(),
            role: Developer.into(),
            request_id: request_id(106),
            ..Default::default()
        };
        world.app.projects().create_invitation(request).await
    }),
    row!("ProjectService/RevokeInvitation", |world| {
        let request = pb::RevokeInvitationRequest {
            project: "shop".into(),
            invitation_id: world.people.invitation_id.clone(),
            request_id: request_id(107),
            ..Default::default()
        };
        world.app.projects().revoke_invitation(request).await
    }),
    row!("ServiceTokenService/CreateServiceToken", |world| {
        let request = pb::CreateServiceTokenRequest {
            project: "shop".into(),
            role: Developer.into(),
            request_id: request_id(108),
            ..Default::default()
        };
        world.app.service_tokens().create_service_token(request).await
    }),
    row!("ServiceTokenService/RevokeServiceToken", |world| {
        let request = pb::RevokeServiceTokenRequest {
            project: "shop".into(),
            service_token_id: world.people.service_token_id.clone(),
            request_id: request_id(109),
            ..Default::default()
        };
        world.app.service_tokens().revoke_service_token(request).await
    }),
];
