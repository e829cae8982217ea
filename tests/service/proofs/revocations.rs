//! That what is taken away at one replica is gone at both within two seconds, streams that are open included.

use std::time::{Duration, Instant};

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Owner, Viewer};
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use halyard::server::Server;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::app::{App, Keys, PASSWORD, evaluate, log_in};
use crate::follower::Follower;
use crate::people::{Person, remove, service_token, set, showing};
use crate::refusals::refused;
use crate::support::{eventually, within};

/// How soon what is taken away must be gone everywhere: ten times the promise.
const EVERYWHERE: Duration = Duration::from_secs(20);

/// Two replicas of one service.
struct Pair {
    app: App,
    replica: Server,
    channels: [Channel; 2],
}

impl Pair {
    async fn new() -> Self {
        let app = App::start().await;
        let (replica, channel) = app.replica().await;
        let channels = [app.channel.clone(), channel];
        Self { app, replica, channels }
    }

    /// Fails unless both replicas allow it now, and refuse it with this code within two seconds after it was taken away at the first.
    async fn ends<R: std::fmt::Debug>(
        &self,
        what: &str,
        code: Code,
        ask: impl AsyncFn(&Channel) -> Result<R, Status>,
        take: impl Future<Output = ()>,
    ) {
        for channel in &self.channels {
            eventually(what, async || ask(channel).await.ok()).await;
        }
        take.await;
        let taken_at = Instant::now();
        for channel in &self.channels {
            let status = eventually(what, async || ask(channel).await.err()).await;
            refused::<()>(Err(status), code);
        }
        assert!(taken_at.elapsed() < EVERYWHERE, "{what}: {:?}", taken_at.elapsed());
    }

    /// Streams of a key at both replicas, which have nothing to say.
    async fn idle(&self, key: &str) -> Vec<Follower> {
        let mut followers = Vec::new();
        for channel in &self.channels {
            let mut follower = eventually("the stream", async || Follower::new(channel, key).await.ok()).await;
            follower.step().await.unwrap();
            followers.push(follower);
        }
        followers
    }
}

/// Fails unless all these streams end with one of these codes within two seconds from `from` on, and not before.
async fn end(what: &str, followers: Vec<Follower>, codes: &[Code], from: Instant) {
    let ends = followers.into_iter().map(async |mut follower| {
        loop {
            if let Err(end) = follower.step().await {
                return end.expect("a status");
            }
        }
    });
    for status in within(what, futures_util::future::join_all(ends)).await {
        assert!(codes.contains(&status.code()), "{what}: {status:?}");
    }
    let after = Instant::now().checked_duration_since(from);
    assert!(after.is_some_and(|after| after < EVERYWHERE), "{what}: {after:?}");
}

async fn who_am_i(channel: &Channel, credential: &str) -> Result<(), Status> {
    let mut auth = AuthServiceClient::new(showing(channel, credential));
    auth.who_am_i(pb::WhoAmIRequest {}).await.map(drop)
}

async fn get_project(channel: &Channel, credential: &str) -> Result<(), Status> {
    let request = pb::GetProjectRequest { project: "shop".into() };
    let mut projects = ProjectServiceClient::new(showing(channel, credential));
    projects.get_project(request).await.map(drop)
}

fn update(user: &pb::User, field: &str, change: impl FnOnce(&mut pb::UpdateUserRequest)) -> pb::UpdateUserRequest {
    let mut request = pb::UpdateUserRequest {
        user: Some(user.clone()),
        update_mask: Some(prost_types::FieldMask {
            paths: vec![field.into()],
        }),
        ..Default::default()
    };
    change(&mut request);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_away_is_gone_everywhere() {
    let pair = Pair::new().await;
    let app = &pair.app;
    app.project("shop").await;
    let denied = Code::PermissionDenied;
    let bob = Person::member(app, "bob@example.com", "shop", Owner).await;
    let token = bob.token();
    let list = async |channel: &Channel| {
        let request = pb::ListInvitationsRequest {
            project: "shop".into(),
            ..Default::default()
        };
        let mut projects = ProjectServiceClient::new(showing(channel, &token));
        projects.list_invitations(request).await
    };
    pair.ends("the lesser role", denied, list, bob.becomes(app, "shop", Viewer))
        .await;
    let removed = async { drop(app.projects().remove_member(remove("shop", &bob.email)).await.unwrap()) };
    pair.ends(
        "the end of the role",
        denied,
        async |channel: &Channel| get_project(channel, &token).await,
        removed,
    )
    .await;

    let eve = app.account("eve@example.com", pb::InstanceRole::Administrator).await;
    let token = log_in(&app.channel, "eve@example.com", PASSWORD)
        .await
        .unwrap()
        .access_token;
    let users = async |channel: &Channel| {
        let mut users = UserServiceClient::new(showing(channel, &token));
        users.list_users(pb::ListUsersRequest::default()).await
    };
    let demoted = update(&eve, "role", |request| request.user.as_mut().unwrap().role = 0);
    let demoted = async { drop(app.users().update_user(demoted).await.unwrap()) };
    pair.ends("the end of administration", denied, users, demoted).await;
    pair.replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_over_is_over_everywhere() {
    let pair = Pair::new().await;
    let app = &pair.app;
    let eve = app.account("eve@example.com", pb::InstanceRole::Unspecified).await;
    let mut password = PASSWORD.to_owned();
    for (n, what) in [
        "logout",
        "password",
        "password by an administrator",
        "deactivation",
        "deletion",
        "stolen refresh token",
    ]
    .into_iter()
    .enumerate()
    {
        if what == "stolen refresh token" {
            app.account("eve@example.com", pb::InstanceRole::Unspecified).await;
            password = PASSWORD.to_owned();
        }
        let kept = log_in(&app.channel, "eve@example.com", &password).await.unwrap();
        let login = log_in(&app.channel, "eve@example.com", &password).await.unwrap();
        let next = format!("the password of round {n}");
        let mut users = app.users();
        let take = async {
            let own = |token: &str| AuthServiceClient::new(showing(&app.channel, token));
            match what {
                "logout" => drop(own(&login.access_token).logout(pb::LogoutRequest {}).await.unwrap()),
                "password" => {
                    let change = pb::ChangePasswordRequest {
                        current_password: password.clone(),
                        new_password: next.clone(),
                        password_confirmation: next.clone(),
                    };
                    own(&kept.access_token).change_password(change).await.unwrap();
                }
                "password by an administrator" => {
                    let set = update(&eve, "password", |request| request.password.clone_from(&next));
                    users.update_user(set).await.unwrap();
                }
                "deactivation" => {
                    let inactive = update(&eve, "active", |request| request.user.as_mut().unwrap().active = false);
                    users.update_user(inactive).await.unwrap();
                }
                "deletion" => {
                    let delete = pb::DeleteUserRequest {
                        id: eve.id.clone(),
                        ..Default::default()
                    };
                    users.delete_user(delete).await.unwrap();
                }
                _ => {
                    let refresh = pb::RefreshRequest {
                        refresh_token: login.refresh_token.clone(),
                    };
                    let mut anyone = AuthServiceClient::new(app.channel.clone());
                    anyone.refresh(refresh.clone()).await.unwrap();
                    let age = "update sessions set rotated_at = rotated_at - interval '11 seconds'";
                    app.database.client().await.batch_execute(age).await.unwrap();
                    refused(anyone.refresh(refresh).await, Code::Unauthenticated);
                }
            }
        };
        pair.ends(
            what,
            Code::Unauthenticated,
            async |channel: &Channel| who_am_i(channel, &login.access_token).await,
            take,
        )
        .await;
        for channel in &pair.channels {
            let refresh = pb::RefreshRequest {
                refresh_token: login.refresh_token.clone(),
            };
            let refreshed = AuthServiceClient::new(channel.clone()).refresh(refresh).await;
            refused(refreshed, Code::Unauthenticated);
        }
        if what.starts_with("password") {
            password = next;
        }
        if what == "deactivation" {
            app.users().update_user(update(&eve, "active", |_| ())).await.unwrap();
        }
    }
    pair.replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_that_is_revoked_is_dead_everywhere() {
    let pair = Pair::new().await;
    let app = &pair.app;
    app.project("shop").await;
    let (id, secret) = service_token(app, "shop", Owner).await;
    let revoke = pb::RevokeServiceTokenRequest {
        project: "shop".into(),
        service_token_id: id,
        ..Default::default()
    };
    let revoked = async { drop(app.service_tokens().revoke_service_token(revoke).await.unwrap()) };
    let ask = async |channel: &Channel| get_project(channel, &secret).await;
    pair.ends("the token", Code::Unauthenticated, ask, revoked).await;
    // And of the project, with it.
    let (_, secret) = service_token(app, "shop", Owner).await;
    let delete = pb::DeleteProjectRequest {
        project: "shop".into(),
        confirm: "shop".into(),
        ..Default::default()
    };
    let deleted = async { drop(app.projects().delete_project(delete).await.unwrap()) };
    let ask = async |channel: &Channel| who_am_i(channel, &secret).await;
    pair.ends("the project", Code::Unauthenticated, ask, deleted).await;
    pair.replica.stop().await.unwrap();
}

fn key_of(project: &str, environment: &str) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        project: project.into(),
        environment: environment.into(),
        kind: pb::KeyKind::Server.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_of_a_key_end_everywhere_with_what_it_opens() {
    let pair = Pair::new().await;
    let app = &pair.app;
    let Keys { server, server_id, .. } = app.shop().await;
    app.flag("f").await;
    let (project, environment) = ("shop".to_owned(), "dev".to_owned());
    // The key goes with its environment: whichever a replica notices first.
    let gone = [Code::NotFound, Code::Unauthenticated];

    let streams = pair.idle(&server).await;
    let overlap = Some(prost_types::Duration { seconds: 0, nanos: 0 });
    let (key_id, place) = (server_id.clone(), (project.clone(), environment.clone()));
    let rotate = pb::RotateKeyRequest {
        project: place.0,
        environment: place.1,
        key_id,
        overlap,
        ..Default::default()
    };
    let rotated = app.environments().rotate_key(rotate).await.unwrap().into_inner();
    end("rotation", streams, &[Code::Unauthenticated], Instant::now()).await;

    let streams = pair.idle(&rotated.key.unwrap().secret).await;
    let revoke = pb::RevokeKeyRequest {
        project: project.clone(),
        environment: environment.clone(),
        key_id: server_id,
        ..Default::default()
    };
    app.environments().revoke_key(revoke).await.unwrap();
    end("revocation", streams, &[Code::Unauthenticated], Instant::now()).await;

    let made = app
        .environments()
        .create_key(key_of("shop", "dev"))
        .await
        .unwrap()
        .into_inner();
    let streams = pair.idle(&made.key.unwrap().secret).await;
    let delete = pb::DeleteEnvironmentRequest {
        project: project.clone(),
        environment,
        ..Default::default()
    };
    app.environments().delete_environment(delete).await.unwrap();
    let deleted_at = Instant::now();
    end("the environment's end", streams, &gone, deleted_at).await;

    let staging = app.environment("shop", "staging").await;
    let streams = pair.idle(&staging.server).await;
    let delete = pb::DeleteProjectRequest {
        confirm: project.clone(),
        project,
        ..Default::default()
    };
    app.projects().delete_project(delete).await.unwrap();
    end("the project's end", streams, &gone, Instant::now()).await;
    eventually("the streams to be forgotten", async || {
        (app.server.hub().streams() + pair.replica.hub().streams() == 0).then_some(())
    })
    .await;
    pair.replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_of_a_key_end_when_it_expires() {
    const LIFE: Duration = Duration::from_secs(8);
    let pair = Pair::new().await;
    let app = &pair.app;
    app.shop().await;
    app.flag("f").await;
    let expires_at = Instant::now() + LIFE;
    let request = pb::CreateKeyRequest {
        expire_time: Some((std::time::SystemTime::now() + LIFE).into()),
        ..key_of("shop", "dev")
    };
    let secret = app
        .environments()
        .create_key(request)
        .await
        .unwrap()
        .into_inner()
        .key
        .unwrap()
        .secret;
    let streams = pair.idle(&secret).await;
    for channel in &pair.channels {
        evaluate(channel, &secret, "f", 0).await.unwrap();
    }
    // Clocks are read apart from each other.
    let from = expires_at.checked_sub(Duration::from_millis(20)).unwrap();
    end("the key's end", streams, &[Code::Unauthenticated], from).await;
    for channel in &pair.channels {
        refused(evaluate(channel, &secret, "f", 0).await, Code::Unauthenticated);
    }
    pair.replica.stop().await.unwrap();
}

/// What is not allowed any more is not allowed where it is written, from the very first moment on.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_by_a_right_that_is_gone() {
    let pair = Pair::new().await;
    let app = &pair.app;
    app.project("shop").await;
    for round in 0..10 {
        let bob = Person::member(app, &format!("bob-{round}@example.com"), "shop", Owner).await;
        let rename = pb::UpdateProjectRequest {
            project: Some(pb::Project {
                key: "shop".into(),
                name: format!("of round {round}"),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["name".into()],
            }),
            ..Default::default()
        };
        app.projects()
            .set_member(set("shop", &bob.email, Viewer))
            .await
            .unwrap();
        let renamed = bob.projects(&pair.channels[1]).update_project(rename).await;
        refused(renamed, Code::PermissionDenied);
    }
    pair.replica.stop().await.unwrap();
}
