//! Every kind of secret, used as it is meant, with a mistake here and there.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::service_token_service_client::ServiceTokenServiceClient;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use halyard::pb::evaluation::v1 as evaluation;
use halyard::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;

use super::ADMINISTRATOR;
use super::user::{User, login, request_id, sign_up};

/// Signing up, logging in, refreshing, changing passwords; the right ones and wrong ones. Returns an administrator's access token.
pub async fn accounts(user: &mut User, administrators_password: &str) -> String {
    let first = user.log_in(ADMINISTRATOR, administrators_password).await;
    let token = first.access_token.clone();

    let (eves, next, wrong) = (
        user.password("Eve's"),
        user.password("Eve's next"),
        user.password("a wrong one"),
    );
    let answer = user.anyone().sign_up(sign_up("eve@example.com", &eves)).await;
    user.done(answer);
    let answer = user.anyone().sign_up(sign_up("eve@example.com", &wrong)).await;
    user.done(answer);
    let mismatch = pb::SignUpRequest {
        password_confirmation: next.clone(),
        ..sign_up("mia@example.com", &wrong)
    };
    let answer = user.anyone().sign_up(mismatch).await;
    user.fails(answer);
    for (email, password) in [
        ("eve@example.com", &wrong),
        ("nobody@example.com", &wrong),
        (ADMINISTRATOR, &eves),
    ] {
        let answer = user.anyone().login(login(email, password)).await;
        user.fails(answer);
    }
    let eve = user.log_in("eve@example.com", &eves).await;
    let refresh = |token: &str| pb::RefreshRequest {
        refresh_token: token.into(),
    };
    let refreshed = User::told(user.anyone().refresh(refresh(&eve.refresh_token)).await);
    user.secrets
        .add_jwt("a refreshed access token", &refreshed.access_token);
    user.secrets
        .add_token("a refreshed refresh token", &refreshed.refresh_token);
    let answer = user.anyone().refresh(refresh(&eve.refresh_token)).await;
    user.fails(answer);
    let answer = user.anyone().refresh(refresh(&refreshed.refresh_token[1..])).await;
    user.fails(answer);

    let change = |current: &str, new: &str| pb::ChangePasswordRequest {
        current_password: current.into(),
        new_password: new.into(),
        password_confirmation: new.into(),
    };
    let mut own = AuthServiceClient::new(user.bearer(&refreshed.access_token));
    for (current, new) in [(&wrong, &next), (&eves, &"short".to_owned())] {
        let answer = own.change_password(change(current, new)).await;
        user.fails(answer);
    }
    let answer = own.change_password(change(&eves, &next)).await;
    user.done(answer);
    let answer = own.who_am_i(pb::WhoAmIRequest {}).await;
    user.done(answer);
    let answer = own.logout(pb::LogoutRequest {}).await;
    user.done(answer);

    let (bobs, bobs_next) = (user.password("Bob's"), user.password("Bob's next"));
    let mut users = UserServiceClient::new(user.bearer(&token));
    let create = pb::CreateUserRequest {
        user: Some(pb::User {
            email: "bob@example.com".into(),
            ..Default::default()
        }),
        password: bobs.clone(),
        request_id: request_id(),
        ..Default::default()
    };
    let mut bob = None;
    for _ in 0..2 {
        let answer = users.create_user(create.clone()).await;
        bob = user.done(answer).user;
    }
    let update = pb::UpdateUserRequest {
        user: bob,
        password: bobs_next.clone(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["password".into()],
        }),
        request_id: request_id(),
        ..Default::default()
    };
    for _ in 0..2 {
        let answer = users.update_user(update.clone()).await;
        user.done(answer);
    }
    user.log_in("bob@example.com", &bobs_next).await;
    token
}

/// What machines and newcomers are given: environment keys of both kinds, before and after a rotation; service tokens;
/// invitations. Returns them all.
pub async fn credentials(user: &mut User, token: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut projects = ProjectServiceClient::new(user.bearer(token));
    let mut environments = EnvironmentServiceClient::new(user.bearer(token));
    let mut tokens = ServiceTokenServiceClient::new(user.bearer(token));
    let project = Some(pb::Project {
        key: "shop".into(),
        ..Default::default()
    });
    let answer = projects
        .create_project(pb::CreateProjectRequest {
            project,
            ..Default::default()
        })
        .await;
    user.done(answer);

    let create = pb::CreateEnvironmentRequest {
        environment: Some(pb::Environment {
            project: "shop".into(),
            key: "dev".into(),
            ..Default::default()
        }),
        request_id: request_id(),
        ..Default::default()
    };
    let made = User::told(environments.create_environment(create.clone()).await);
    let replayed = environments.create_environment(create).await;
    user.done(replayed);
    for key in made.keys {
        all.push(key.secret);
        for overlap in [60, 0] {
            let rotate = pb::RotateKeyRequest {
                project: "shop".into(),
                environment: "dev".into(),
                key_id: key.key.as_ref().unwrap().id.clone(),
                overlap: Some(prost_types::Duration {
                    seconds: overlap,
                    nanos: 0,
                }),
                request_id: request_id(),
                ..Default::default()
            };
            let rotated = User::told(environments.rotate_key(rotate.clone()).await);
            all.push(rotated.key.unwrap().secret);
            let replayed = environments.rotate_key(rotate).await;
            user.done(replayed);
        }
    }
    let create = pb::CreateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        kind: pb::KeyKind::Server.into(),
        request_id: request_id(),
        ..Default::default()
    };
    all.push(
        User::told(environments.create_key(create.clone()).await)
            .key
            .unwrap()
            .secret,
    );
    let replayed = environments.create_key(create).await;
    user.done(replayed);

    let create = pb::CreateServiceTokenRequest {
        project: "shop".into(),
        role: pb::ProjectRole::Admin.into(),
        request_id: request_id(),
        ..Default::default()
    };
    all.push(User::told(tokens.create_service_token(create.clone()).await).secret);
    let replayed = tokens.create_service_token(create).await;
    user.done(replayed);

    let create = pb::CreateInvitationRequest {
        project: "shop".into(),
        role: pb::ProjectRole::Viewer.into(),
        request_id: request_id(),
        ..Default::default()
    };
    for _ in 0..2 {
        let create = pb::CreateInvitationRequest {
            request_id: request_id(),
            ..create.clone()
        };
        all.push(User::told(projects.create_invitation(create.clone()).await).token);
        let replayed = projects.create_invitation(create).await;
        user.done(replayed);
    }
    for (n, token) in all.iter().enumerate() {
        user.secrets.add_token(&format!("credential {n}"), token);
    }
    all
}

/// Uses what there is as it is meant, and has it listed.
pub async fn rightly(user: &mut User, token: &str, credentials: &[String]) {
    let invitations: Vec<_> = credentials
        .iter()
        .filter(|it| it.starts_with("halyard_invitation_"))
        .collect();
    let (password, late) = (user.password("a newcomer's"), user.password("a late newcomer's"));
    let accept = |email: &str, password: &str| pb::AcceptInvitationRequest {
        token: invitations[0].clone(),
        email: email.into(),
        password: password.into(),
    };
    for (email, password, works) in [
        ("new@example.com", "short", false),
        ("new@example.com", &password, true),
        ("late@example.com", &late, false),
    ] {
        let answer = user.anyone().accept_invitation(accept(email, password)).await;
        assert_eq!(user.hear(answer).is_some(), works, "{email}");
    }
    let newcomer = user.log_in("new@example.com", &password).await;
    let mut own = AuthServiceClient::new(user.bearer(&newcomer.access_token));
    let answer = own
        .accept_invitation(pb::AcceptInvitationRequest {
            token: invitations[1].clone(),
            ..Default::default()
        })
        .await;
    user.fails(answer);

    for credential in credentials {
        let evaluate = evaluation::EvaluateAllRequest::default();
        let answer = EvaluationServiceClient::new(user.bearer(credential))
            .evaluate_all(evaluate)
            .await;
        user.hear(answer);
        let watch = evaluation::WatchRequest::default();
        let answer = WatchServiceClient::new(user.bearer(credential)).watch(watch).await;
        user.hear(answer.map(|stream| stream.map(|_| "a stream")));
        let answer = AuthServiceClient::new(user.bearer(credential))
            .who_am_i(pb::WhoAmIRequest {})
            .await;
        user.hear(answer);
    }
    let mut environments = EnvironmentServiceClient::new(user.bearer(token));
    let list = pb::ListKeysRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    let answer = environments.list_keys(list).await;
    user.done(answer);
    let list = pb::ListServiceTokensRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let answer = ServiceTokenServiceClient::new(user.bearer(token))
        .list_service_tokens(list)
        .await;
    user.done(answer);
    let list = pb::ListInvitationsRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let answer = ProjectServiceClient::new(user.bearer(token))
        .list_invitations(list)
        .await;
    user.done(answer);
    let answer = UserServiceClient::new(user.bearer(token))
        .list_users(pb::ListUsersRequest::default())
        .await;
    user.done(answer);
}
