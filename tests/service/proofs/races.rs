//! That of those who do at the same time what only one may do, exactly one does: at two replicas, again and again.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Owner, Viewer};
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::user_service_client::UserServiceClient;
use halyard::rpc::admin::accounts::SignUp;
use halyard::server::Server;
use tokio::sync::Barrier;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::app::{App, EMAIL, PASSWORD, connect, log_in, options};
use crate::people::{Person, remove, set, showing};
use crate::refusals::refused;
use crate::support::{database, within};

type Deed = BoxFuture<'static, Result<(), Status>>;

/// Two replicas, and a connection to them for everybody.
struct Arena {
    app: App,
    replica: Server,
}

impl Arena {
    async fn new() -> Self {
        let open = |options: &mut halyard::server::Options| options.accounts.sign_up = SignUp::On;
        let app = App::start_with(database().await, open).await;
        let mut options = options(&app.database);
        open(&mut options);
        let replica = Server::start(options).await.unwrap();
        within("the first state", replica.ready()).await;
        Self { app, replica }
    }

    /// A connection of its own, to one replica or the other.
    async fn channel(&self, n: usize) -> Channel {
        connect(if n.is_multiple_of(2) {
            &self.app.server
        } else {
            &self.replica
        })
        .await
    }

    async fn count(&self, query: &str) -> i64 {
        self.app
            .database
            .client()
            .await
            .query_one(query, &[])
            .await
            .unwrap()
            .get(0)
    }
}

/// What comes of deeds that begin at the same time, each on a task of its own.
async fn race(deeds: Vec<Deed>) -> Vec<Result<(), Status>> {
    let start = Arc::new(Barrier::new(deeds.len()));
    let run = deeds.into_iter().map(|deed| {
        let start = start.clone();
        tokio::spawn(async move {
            start.wait().await;
            deed.await
        })
    });
    let finished = within("the race", join_all(run)).await;
    finished.into_iter().map(Result::unwrap).collect()
}

/// Fails unless exactly one succeeded, and all others were refused with one of these codes. Returns who won.
#[track_caller]
fn one(what: &str, outcomes: Vec<Result<(), Status>>, codes: &[Code]) -> usize {
    let won: Vec<_> = (0..outcomes.len()).filter(|&n| outcomes[n].is_ok()).collect();
    assert_eq!(won.len(), 1, "{what}: {outcomes:?}");
    for lost in outcomes.into_iter().filter(Result::is_err) {
        let code = lost.as_ref().unwrap_err().code();
        assert!(codes.contains(&code), "{what}: {lost:?}");
        refused(lost, code);
    }
    won[0]
}

async fn invitation(app: &App) -> pb::CreateInvitationResponse {
    let request = pb::CreateInvitationRequest {
        project: "shop".into(),
        role: Viewer.into(),
        ..Default::default()
    };
    app.projects().create_invitation(request).await.unwrap().into_inner()
}

fn accept(channel: Channel, credential: Option<String>, request: pb::AcceptInvitationRequest) -> Deed {
    Box::pin(async move {
        match credential {
            Some(credential) => {
                let mut auth = AuthServiceClient::new(showing(&channel, &credential));
                auth.accept_invitation(request).await.map(drop)
            }
            None => AuthServiceClient::new(channel)
                .accept_invitation(request)
                .await
                .map(drop),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_accepted_once() {
    const ROUNDS: i64 = 8;
    let arena = Arena::new().await;
    let app = &arena.app;
    app.project("shop").await;
    for round in 0..ROUNDS {
        let token = invitation(app).await.token;
        let mut deeds = Vec::new();
        for n in 0..6 {
            let person = Person::new(app, &format!("known-{round}-{n}@example.com")).await;
            let request = pb::AcceptInvitationRequest {
                token: token.clone(),
                ..Default::default()
            };
            deeds.push(accept(arena.channel(n).await, Some(person.token()), request));
        }
        for n in 0..4 {
            let request = pb::AcceptInvitationRequest {
                token: token.clone(),
                // Two of them want the same address.
                email: format!("new-{round}-{}@example.com", n / 2),
                password: PASSWORD.into(),
            };
            deeds.push(accept(arena.channel(n).await, None, request));
        }
        one("acceptance", race(deeds).await, &[Code::FailedPrecondition]);
    }
    let viewers = arena.count("select count(*) from members where role = 'viewer'").await;
    assert_eq!(viewers, ROUNDS);
    let strays = "select count(*) from users u where email like 'new-%'
        and not exists (select from members m where m.user_id = u.id)";
    assert_eq!(arena.count(strays).await, 0, "who was too late has no account");
    arena.replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_accepted_or_revoked() {
    let arena = Arena::new().await;
    let app = &arena.app;
    app.project("shop").await;
    let mut accepted = 0;
    for round in 0..12 {
        let made = invitation(app).await;
        let bob = Person::new(app, &format!("bob-{round}@example.com")).await;
        let request = pb::AcceptInvitationRequest {
            token: made.token,
            ..Default::default()
        };
        let accept = accept(arena.channel(1).await, Some(bob.token()), request);
        let mut projects = app.projects();
        let revoke: Deed = Box::pin(async move {
            let request = pb::RevokeInvitationRequest {
                project: "shop".into(),
                invitation_id: made.invitation.unwrap().id,
                ..Default::default()
            };
            projects.revoke_invitation(request).await.map(drop)
        });
        let won = one(
            "the invitation",
            race(vec![accept, revoke]).await,
            &[Code::FailedPrecondition],
        );
        accepted += i64::from(won == 0);
    }
    let viewers = arena.count("select count(*) from members where role = 'viewer'").await;
    assert_eq!(viewers, accepted);
    arena.replica.stop().await.unwrap();
}

/// How an owner goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    Leaves,
    StepsDown,
    IsRemoved,
    IsDemoted,
    IsDeleted,
}

/// A deed by which an owner goes, with the other owner's help where it takes one.
fn goes(way: Way, project: &str, who: &Person, other: &Person, channel: &Channel, administrator: &str) -> Deed {
    let (project, who, other) = (project.to_owned(), who.clone(), other.clone());
    let (channel, administrator) = (channel.clone(), administrator.to_owned());
    Box::pin(async move {
        let mut own = who.projects(&channel);
        let mut others = other.projects(&channel);
        match way {
            Way::Leaves => own.remove_member(remove(&project, &who.email)).await.map(drop),
            Way::StepsDown => own.set_member(set(&project, &who.email, Admin)).await.map(drop),
            Way::IsRemoved => others.remove_member(remove(&project, &who.email)).await.map(drop),
            Way::IsDemoted => others.set_member(set(&project, &who.email, Viewer)).await.map(drop),
            Way::IsDeleted => {
                let request = pb::DeleteUserRequest {
                    id: who.id.to_string(),
                    ..Default::default()
                };
                let mut users = UserServiceClient::new(showing(&channel, &administrator));
                users.delete_user(request).await.map(drop)
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_last_two_owners_one_stays_whichever_way_they_go() {
    use Way::{IsDeleted, IsDemoted, IsRemoved, Leaves, StepsDown};
    let arena = Arena::new().await;
    let app = &arena.app;
    let ways = [Leaves, StepsDown, IsRemoved, IsDemoted, IsDeleted];
    let pairs = ways.into_iter().flat_map(|one| ways.map(|other| (one, other)));
    for (n, (first, second)) in pairs.enumerate() {
        let project = format!("shop-{n}");
        app.project(&project).await;
        let mia = Person::member(app, &format!("mia-{n}@example.com"), &project, Owner).await;
        let bob = Person::member(app, &format!("bob-{n}@example.com"), &project, Owner).await;
        app.projects().remove_member(remove(&project, EMAIL)).await.unwrap();
        let deeds = vec![
            goes(first, &project, &mia, &bob, &arena.channel(0).await, &app.token),
            goes(second, &project, &bob, &mia, &arena.channel(1).await, &app.token),
        ];
        // Who was removed a moment ago removes nobody any more.
        let lost = [Code::FailedPrecondition, Code::PermissionDenied, Code::Unauthenticated];
        one(&format!("{first:?} {second:?}"), race(deeds).await, &lost);
        let owners = format!(
            "select count(*) from members m join users u on u.id = m.user_id join projects p on p.id = m.project_id
             where p.key = '{project}' and m.role = 'owner' and u.active"
        );
        assert_eq!(arena.count(&owners).await, 1, "{first:?} {second:?}");
    }
    arena.replica.stop().await.unwrap();
}

/// How an administrator ceases to be one.
#[derive(Debug, Clone, Copy)]
enum Fall {
    Demotion,
    Deactivation,
    Deletion,
}

fn falls(fall: Fall, who: &pb::User, by: &str, channel: &Channel) -> Deed {
    let (who, by, channel) = (who.clone(), by.to_owned(), channel.clone());
    Box::pin(async move {
        let mut users = UserServiceClient::new(showing(&channel, &by));
        let field = match fall {
            Fall::Deletion => {
                let request = pb::DeleteUserRequest {
                    id: who.id,
                    ..Default::default()
                };
                return users.delete_user(request).await.map(drop);
            }
            Fall::Demotion => "role",
            Fall::Deactivation => "active",
        };
        let request = pb::UpdateUserRequest {
            user: Some(pb::User {
                role: 0,
                active: false,
                ..who
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec![field.into()],
            }),
            ..Default::default()
        };
        users.update_user(request).await.map(drop)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_last_administrators_one_stays_whichever_way_they_fall() {
    use Fall::{Deactivation, Deletion, Demotion};
    let arena = Arena::new().await;
    let app = &arena.app;
    let mut ruler = (Person::administrator(app).await.id.to_string(), EMAIL.to_owned());
    let falls_of = [Demotion, Deactivation, Deletion];
    let cases = falls_of.into_iter().flat_map(|one| falls_of.map(|other| (one, other)));
    let both = [true, false]
        .into_iter()
        .flat_map(|themselves| cases.clone().map(move |case| (themselves, case)));
    for (n, (themselves, (first, second))) in both.enumerate() {
        let reigning = log_in(&app.channel, &ruler.1, PASSWORD).await.unwrap();
        let email = format!("rival-{n}@example.com");
        let create = crate::app::create_user(&email, pb::InstanceRole::Administrator);
        let mut users = UserServiceClient::new(showing(&app.channel, &reigning.access_token));
        let rival = users.create_user(create).await.unwrap().into_inner().user.unwrap();
        let challenger = log_in(&app.channel, &email, PASSWORD).await.unwrap();
        let king = reigning.user.unwrap();
        assert_eq!(king.id, ruler.0);
        let (mut kings_token, mut rivals_token) = (reigning.access_token, challenger.access_token);
        if !themselves {
            std::mem::swap(&mut kings_token, &mut rivals_token);
        }
        let deeds = vec![
            falls(first, &king, &kings_token, &arena.channel(0).await),
            falls(second, &rival, &rivals_token, &arena.channel(1).await),
        ];
        let lost = [Code::FailedPrecondition, Code::PermissionDenied, Code::Unauthenticated];
        let won = one(&format!("{first:?} {second:?} {themselves}"), race(deeds).await, &lost);
        let left = "select count(*) from users where instance_role = 'administrator' and active";
        assert_eq!(arena.count(left).await, 1);
        if won == 0 {
            ruler = (rival.id, email);
        }
    }
    arena.replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_exchanged_once() {
    let arena = Arena::new().await;
    let app = &arena.app;
    let mut token = log_in(&app.channel, EMAIL, PASSWORD).await.unwrap().refresh_token;
    let mut channels = Vec::new();
    for n in 0..8 {
        channels.push(arena.channel(n).await);
    }
    for round in 0..15 {
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let deeds = channels.iter().map(|channel| {
            let (channel, refresh_token, send) = (channel.clone(), token.clone(), send.clone());
            let deed: Deed = Box::pin(async move {
                let request = pb::RefreshRequest { refresh_token };
                let answer = AuthServiceClient::new(channel).refresh(request).await?.into_inner();
                send.send(answer).unwrap();
                Ok(())
            });
            deed
        });
        one(&format!("round {round}"), race(deeds.collect()).await, &[Code::Aborted]);
        // What the winner got works, and is the next to be raced for.
        let won: pb::RefreshResponse = receive.recv().await.unwrap();
        let mut auth = AuthServiceClient::new(showing(&app.channel, &won.access_token));
        auth.who_am_i(pb::WhoAmIRequest {}).await.unwrap();
        token = won.refresh_token;
    }
    arena.replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_gets_one_account() {
    let arena = Arena::new().await;
    let app = &arena.app;
    for round in 0..5 {
        let mut deeds = Vec::new();
        for (n, local) in ["zoë", "ZOË", "zoe\u{308}", "Zoe\u{308}"].into_iter().enumerate() {
            let email = format!("{local}-{round}@example.com");
            let sign_up = pb::SignUpRequest {
                email: email.clone(),
                password: PASSWORD.into(),
                password_confirmation: PASSWORD.into(),
            };
            let channel = arena.channel(n).await;
            let mut users = app.users();
            deeds.push(Box::pin(async move {
                AuthServiceClient::new(channel).sign_up(sign_up).await.unwrap();
                let create = crate::app::create_user(&email, pb::InstanceRole::Unspecified);
                users.create_user(create).await.map(drop)
            }) as Deed);
        }
        for taken in race(deeds).await {
            refused(taken, Code::AlreadyExists);
        }
    }
    assert_eq!(
        arena.count("select count(*) from users where email ilike 'zo%'").await,
        5
    );
    arena.replica.stop().await.unwrap();
}
