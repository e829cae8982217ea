//! The people of a project: their roles, and what becomes of those who lose them.

use std::time::Instant;

use futures_util::future::join_all;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::ProjectRole::{Admin, Developer, Owner, Viewer};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::app::{App, EMAIL, bool_flag};
use crate::people::{Person, remove, set, showing};
use crate::refusals::{invalid, refused};
use crate::support::eventually;

/// How soon a change of roles must bite everywhere: ten times the promise.
const EVERYWHERE: std::time::Duration = std::time::Duration::from_secs(20);

async fn list(app: &App) -> Vec<(String, pb::ProjectRole)> {
    let request = pb::ListMembersRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let members = app.projects().list_members(request).await.unwrap().into_inner().members;
    members
        .iter()
        .map(|member| (member.email.clone(), member.role()))
        .collect()
}

fn get() -> pb::GetProjectRequest {
    pb::GetProjectRequest { project: "shop".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_set_listed_changed_and_removed() {
    let app = App::start().await;
    app.project("shop").await;
    let bob = Person::new(&app, "Bob@Example.com").await;
    let mut projects = app.projects();

    let added = projects
        .set_member(set("shop", "bob@EXAMPLE.com", Viewer))
        .await
        .unwrap();
    let added = added.into_inner();
    let member = added.member.unwrap();
    assert!(added.changed && member.active);
    assert_eq!((&member.user, &member.email), (&bob.id.to_string(), &bob.email));
    let again = projects.set_member(set("shop", &member.user, Viewer)).await.unwrap();
    assert!(!again.into_inner().changed);
    let listed = [(EMAIL.to_owned(), Owner), (bob.email.clone(), Viewer)];
    assert_eq!(list(&app).await, listed);

    let raise = pb::SetMemberRequest {
        etag: member.etag.clone(),
        ..set("shop", &member.user, Developer)
    };
    let raised = projects.set_member(raise.clone()).await.unwrap().into_inner();
    assert_eq!(raised.member.as_ref().unwrap().role(), Developer);
    refused(projects.set_member(raise).await, Code::Aborted);
    let stale = pb::RemoveMemberRequest {
        etag: member.etag,
        ..remove("shop", &bob.email)
    };
    refused(projects.remove_member(stale).await, Code::Aborted);
    let fresh = pb::RemoveMemberRequest {
        etag: raised.member.unwrap().etag,
        ..remove("shop", &bob.email)
    };
    projects.remove_member(fresh).await.unwrap();
    assert_eq!(list(&app).await, listed[..1]);
    refused(projects.remove_member(remove("shop", &bob.email)).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_in_pages() {
    let app = App::start().await;
    app.project("shop").await;
    for name in ["zoe", "Mia", "bob"] {
        Person::member(&app, &format!("{name}@example.com"), "shop", Viewer).await;
    }
    let mut request = pb::ListMembersRequest {
        project: "shop".into(),
        page_size: 3,
        ..Default::default()
    };
    let first = app.projects().list_members(request.clone()).await.unwrap().into_inner();
    request.page_token = first.next_page_token;
    let second = app.projects().list_members(request).await.unwrap().into_inner();
    let emails = first.members.iter().chain(&second.members).map(|member| &*member.email);
    assert_eq!(
        emails.collect::<Vec<_>>(),
        [EMAIL, "bob@example.com", "Mia@example.com", "zoe@example.com"]
    );
    assert!(second.next_page_token.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_members_are_told_everything_at_once() {
    let app = App::start().await;
    app.project("shop").await;
    let nobody = set("No Key", "", pb::ProjectRole::Unspecified);
    invalid(app.projects().set_member(nobody).await, &["project", "user", "role"]);
    invalid(app.projects().set_member(set("shop", "bob", Viewer)).await, &["user"]);
    invalid(app.projects().remove_member(remove("shop", "")).await, &["user"]);
    refused(
        app.projects()
            .set_member(set("shop", "nobody@example.com", Viewer))
            .await,
        Code::NotFound,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_set_every_role_but_owners_who_set_each_other() {
    let app = App::start().await;
    app.project("shop").await;
    let owner = Person::member(&app, "owner@example.com", "shop", Owner).await;
    let admin = Person::member(&app, "admin@example.com", "shop", Admin).await;
    let bob = Person::new(&app, "bob@example.com").await;
    let (mut as_admin, mut as_owner) = (admin.projects(&app.channel), owner.projects(&app.channel));

    for role in [Viewer, Developer, Admin] {
        as_admin.set_member(set("shop", &bob.email, role)).await.unwrap();
    }
    let denied = Code::PermissionDenied;
    refused(as_admin.set_member(set("shop", &bob.email, Owner)).await, denied);
    refused(as_admin.set_member(set("shop", &admin.email, Owner)).await, denied);
    refused(as_admin.set_member(set("shop", &owner.email, Viewer)).await, denied);
    refused(as_admin.remove_member(remove("shop", &owner.email)).await, denied);
    as_owner.set_member(set("shop", &bob.email, Owner)).await.unwrap();
    as_owner.set_member(set("shop", &owner.email, Viewer)).await.unwrap();
    refused(as_owner.set_member(set("shop", &bob.email, Viewer)).await, denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_may_leave_and_viewers_remove_nobody_else() {
    let app = App::start().await;
    app.project("shop").await;
    let bob = Person::member(&app, "bob@example.com", "shop", Viewer).await;
    let mia = Person::member(&app, "mia@example.com", "shop", Viewer).await;
    let stranger = Person::new(&app, "eve@example.com").await;
    let mut as_bob = bob.projects(&app.channel);
    // Alike whether it is a member, an account, or nobody.
    let answers = [&mia.email, &stranger.email, "nobody@example.com"].map(|email| {
        let mut as_bob = as_bob.clone();
        async move {
            refused(
                as_bob.remove_member(remove("shop", email)).await,
                Code::PermissionDenied,
            )
        }
    });
    let answers = join_all(answers).await;
    assert!(
        answers
            .iter()
            .all(|status| (status.message(), status.details()) == (answers[0].message(), answers[0].details()))
    );
    as_bob.remove_member(remove("shop", &bob.email)).await.unwrap();
    eventually("the end of the role", async || as_bob.get_project(get()).await.err()).await;
    assert_eq!(list(&app).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owner_who_can_act_stays() {
    let app = App::start().await;
    app.project("shop").await;
    let sleeper = Person::member(&app, "sleeper@example.com", "shop", Owner).await;
    let sql = app.database.client().await;
    let sleep = "update users set active = false where id = $1";
    sql.execute(sleep, &[&sleeper.id]).await.unwrap();
    let mut projects = app.projects();
    for request in [set("shop", EMAIL, Admin), set("shop", EMAIL, Viewer)] {
        refused(projects.set_member(request).await, Code::FailedPrecondition);
    }
    let status = refused(
        projects.remove_member(remove("shop", EMAIL)).await,
        Code::FailedPrecondition,
    );
    assert!(tonic_types::StatusExt::get_details_precondition_failure(&status).is_some());
    Person::member(&app, "bob@example.com", "shop", Owner).await;
    projects.remove_member(remove("shop", EMAIL)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_last_two_owners_who_go_at_the_same_time_one_stays() {
    let app = App::start().await;
    for round in 0..5 {
        let project = format!("shop-{round}");
        app.project(&project).await;
        let (mia, bob) = (format!("mia-{round}@example.com"), format!("bob-{round}@example.com"));
        let mia = Person::member(&app, &mia, &project, Owner).await;
        let bob = Person::member(&app, &bob, &project, Owner).await;
        app.projects().remove_member(remove(&project, EMAIL)).await.unwrap();
        // One leaves, the other is made less.
        let (mut as_mia, mut as_bob) = (mia.projects(&app.channel), bob.projects(&app.channel));
        let leaves = as_mia.remove_member(remove(&project, &mia.email));
        let steps_down = as_bob.set_member(set(&project, &bob.email, Viewer));
        let (left, stepped_down) = tokio::join!(leaves, steps_down);
        assert!(left.is_ok() != stepped_down.is_ok(), "{left:?} {stepped_down:?}");
        let lost = left.err().or(stepped_down.err()).unwrap();
        assert_eq!(lost.code(), Code::FailedPrecondition);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_another_replica_gave_holds_at_once() {
    let app = App::start().await;
    app.project("shop").await;
    let (replica, channel) = app.replica().await;
    let bob = Person::new(&app, "bob@example.com").await;
    refused(bob.projects(&channel).get_project(get()).await, Code::PermissionDenied);
    for _ in 0..10 {
        bob.becomes(&app, "shop", Viewer).await;
        bob.projects(&channel).get_project(get()).await.unwrap();
        app.projects().remove_member(remove("shop", &bob.email)).await.unwrap();
        eventually("the end of the role", async || {
            bob.projects(&channel).get_project(get()).await.err()
        })
        .await;
    }
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_taken_at_one_replica_is_refused_at_the_other_within_two_seconds() {
    let app = App::start().await;
    app.project("shop").await;
    let (replica, channel) = app.replica().await;
    let bob = Person::member(&app, "bob@example.com", "shop", Developer).await;
    let create = || pb::CreateFlagRequest {
        flag: Some(bool_flag("f")),
        validate_only: true,
        ..Default::default()
    };
    let mut flags = pb::flag_service_client::FlagServiceClient::new(showing(&channel, &bob.token()));
    flags.create_flag(create()).await.unwrap();
    bob.becomes(&app, "shop", Viewer).await;
    // What writes asks the store itself, and so never even for a moment.
    refused(flags.create_flag(create()).await, Code::PermissionDenied);
    app.projects().remove_member(remove("shop", &bob.email)).await.unwrap();
    let removed_at = Instant::now();
    let status = eventually("the end of the role", async || {
        bob.projects(&channel).get_project(get()).await.err()
    })
    .await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(removed_at.elapsed() < EVERYWHERE, "{:?}", removed_at.elapsed());
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gave_up_a_role_by_a_request_may_ask_what_became_of_it() {
    let app = App::start().await;
    app.project("shop").await;
    app.project("other").await;
    let bob = Person::member(&app, "bob@example.com", "shop", Owner).await;
    bob.becomes(&app, "other", Owner).await;
    let mut projects = bob.projects(&app.channel);
    let leave = pb::RemoveMemberRequest {
        request_id: Uuid::new_v4().to_string(),
        ..remove("other", &bob.email)
    };
    let delete = pb::DeleteProjectRequest {
        project: "shop".into(),
        confirm: "shop".into(),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    for _ in 0..3 {
        projects.remove_member(leave.clone()).await.unwrap();
        projects.delete_project(delete.clone()).await.unwrap();
        eventually("the end of the roles", async || {
            let me = bob.auth(&app.channel).who_am_i(pb::WhoAmIRequest {}).await.unwrap();
            me.into_inner().memberships.is_empty().then_some(())
        })
        .await;
    }
    // The same id tells nobody else anything, nor its owner about another request.
    let eve = Person::new(&app, "eve@example.com").await;
    let asked = eve.projects(&app.channel).delete_project(delete.clone()).await;
    refused(asked, Code::PermissionDenied);
    let other = pb::DeleteProjectRequest {
        etag: "1.1".into(),
        ..delete
    };
    refused(projects.delete_project(other).await, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_roles_are_audited() {
    let app = App::start().await;
    app.project("shop").await;
    let bob = Person::member(&app, "bob@example.com", "shop", Viewer).await;
    bob.becomes(&app, "shop", Admin).await;
    app.projects().remove_member(remove("shop", &bob.email)).await.unwrap();
    let sql = app.database.client().await;
    let query = "select action, entity_key, before, after from audit_entries where entity = 'member' order by sequence";
    let rows = sql.query(query, &[]).await.unwrap();
    let id = bob.id.to_string();
    let as_a = |role: &str| {
        Some(format!(
            r#"{{"user":"{id}","email":"bob@example.com","role":"{role}"}}"#
        ))
    };
    let expected = [
        ("member.add", None, as_a("viewer")),
        ("member.update", as_a("viewer"), as_a("admin")),
        ("member.remove", as_a("admin"), None),
    ];
    let found: Vec<(String, Option<String>, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(2), row.get(3))).collect();
    assert!(rows.iter().all(|row| row.get::<_, String>(1) == id));
    let expected = expected.map(|(action, before, after)| (action.to_owned(), before, after));
    assert_eq!(found, expected);
}

/// Whoever is not let in is told so in the same words.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_of_no_project_from_its_members() {
    let app = App::start().await;
    app.project("shop").await;
    let eve = Person::new(&app, "eve@example.com").await;
    let ask = async |project: &str| -> Status {
        let request = pb::ListMembersRequest {
            project: project.into(),
            ..Default::default()
        };
        refused(
            eve.projects(&app.channel).list_members(request).await,
            Code::PermissionDenied,
        )
    };
    let (known, unknown) = (ask("shop").await, ask("nothing").await);
    assert_eq!(
        (known.message(), known.details()),
        (unknown.message(), unknown.details())
    );
}
