//! Every secret where it does not belong.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::service_token_service_client::ServiceTokenServiceClient;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use halyard::pb::evaluation::v1 as evaluation;
use halyard::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;

use super::user::{User, login, sign_up};

/// Shows each secret where it does not belong: in the wrong metadata, as another kind, as an address, an id, a key.
pub async fn wrongly(user: &mut User, token: &str, secrets: &[String]) {
    let mistyped = user.password("a password for an address");
    for secret in secrets.iter().chain([&token.to_owned(), &mistyped]) {
        let halves = [&secret[..secret.len() / 2], &secret[1..]];
        for (name, value) in [
            ("authorization", secret.clone()),
            ("authorization", format!("Bearer{secret}")),
            ("authorization", format!("Bearer  {secret}")),
            ("authorization", format!("Token {secret}")),
            ("authorization", format!("Basic {secret}")),
            ("authorization", format!("Bearer {}", halves[0])),
            ("authorization", format!("Bearer {}", halves[1])),
            ("authorization", format!("Bearer {secret}x")),
            ("x-api-key", secret.clone()),
            ("cookie", format!("session={secret}")),
            ("grpc-timeout", secret.clone()),
            ("traceparent", secret.clone()),
            ("user-agent", secret.clone()),
        ] {
            let answer = AuthServiceClient::new(user.showing(name, &value))
                .who_am_i(pb::WhoAmIRequest {})
                .await;
            user.fails(answer);
            let evaluate = evaluation::EvaluateAllRequest::default();
            let answer = EvaluationServiceClient::new(user.showing(name, &value))
                .evaluate_all(evaluate)
                .await;
            user.fails(answer);
        }
        let answer = user.anyone().login(login(secret, "a password of theirs")).await;
        user.fails(answer);
        let answer = user
            .anyone()
            .login(login(&format!("{}@example.com", secret.replace(' ', "")), secret))
            .await;
        user.fails(answer);
        let answer = user.anyone().sign_up(sign_up(secret, secret)).await;
        user.fails(answer);
        let refresh = pb::RefreshRequest {
            refresh_token: format!("{secret}x"),
        };
        let answer = user.anyone().refresh(refresh).await;
        user.fails(answer);
        let accept = pb::AcceptInvitationRequest {
            token: format!("{secret}x"),
            email: "x@example.com".into(),
            password: mistyped.clone(),
        };
        let answer = user.anyone().accept_invitation(accept).await;
        user.fails(answer);
        in_fields(user, token, secret).await;
    }
}

/// In fields for something else, by whoever may write them.
async fn in_fields(user: &mut User, token: &str, secret: &str) {
    let project = || {
        Some(pb::Project {
            key: "new".into(),
            ..Default::default()
        })
    };
    let mut projects = ProjectServiceClient::new(user.bearer(token));
    let create = pb::CreateProjectRequest {
        project: project(),
        request_id: secret.into(),
        ..Default::default()
    };
    let answer = projects.create_project(create).await;
    user.fails(answer);
    let get = pb::GetProjectRequest { project: secret.into() };
    let answer = projects.get_project(get).await;
    user.fails(answer);
    let set = pb::SetMemberRequest {
        project: "shop".into(),
        user: secret.into(),
        role: pb::ProjectRole::Viewer.into(),
        ..Default::default()
    };
    let answer = projects.set_member(set).await;
    user.fails(answer);
    let revoke = pb::RevokeInvitationRequest {
        project: "shop".into(),
        invitation_id: secret.into(),
        ..Default::default()
    };
    let answer = projects.revoke_invitation(revoke).await;
    user.fails(answer);
    let list = pb::ListProjectsRequest {
        page_token: secret.into(),
        ..Default::default()
    };
    let answer = projects.list_projects(list).await;
    user.fails(answer);
    let mut environments = EnvironmentServiceClient::new(user.bearer(token));
    let revoke = pb::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: secret.into(),
        ..Default::default()
    };
    let answer = environments.revoke_key(revoke).await;
    user.fails(answer);
    let rotate = pb::RotateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: secret.into(),
        ..Default::default()
    };
    let answer = environments.rotate_key(rotate).await;
    user.fails(answer);
    let revoke = pb::RevokeServiceTokenRequest {
        project: "shop".into(),
        service_token_id: secret.into(),
        ..Default::default()
    };
    let answer = ServiceTokenServiceClient::new(user.bearer(token))
        .revoke_service_token(revoke)
        .await;
    user.fails(answer);
    let mut users = UserServiceClient::new(user.bearer(token));
    for (id, email) in [(secret, ""), ("", secret)] {
        let get = pb::GetUserRequest {
            id: id.into(),
            email: email.into(),
        };
        let answer = users.get_user(get).await;
        user.fails(answer);
    }
    let get = pb::GetFlagRequest {
        project: "shop".into(),
        flag: secret.into(),
    };
    let answer = FlagServiceClient::new(user.bearer(token)).get_flag(get).await;
    user.fails(answer);
}
