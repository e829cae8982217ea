//! Which roles the claims of an issuer's tokens give and take.

use halyard::pb::admin::v1 as pb;
use tonic::Code;

use super::{are, count, roles, start, update, user, who_am_i};
use crate::app::{App, EMAIL};
use crate::people::{Person, remove, set};
use crate::refusals::refused;
use crate::support::eventually;

/// The bearer has these roles, at once or as soon as the replica has heard of what people did.
async fn come_to_have(app: &App, token: &str, administrator: bool, memberships: &[&str]) {
    let expected = (
        administrator,
        memberships.iter().map(|role| (*role).to_owned()).collect(),
    );
    let reached = async || (roles(app, token).await == expected).then_some(());
    eventually(&format!("{expected:?}"), reached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_token_gives_and_takes_roles_and_an_older_one_does_not_bring_them_back() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let old = issuer.token("grace", &["ops", "web"], 100);
    are(&roles(&app, &old).await, true, &["shop:developer"]);
    are(
        &roles(&app, &issuer.token("grace", &["leads"], 90)).await,
        false,
        &["shop:owner"],
    );
    are(&roles(&app, &old).await, false, &["shop:owner"]);
    are(&roles(&app, &issuer.token("grace", &[], 80)).await, false, &[]);
    are(&roles(&app, &old).await, false, &[]);
    are(
        &roles(&app, &issuer.token("grace", &["web"], 70)).await,
        false,
        &["shop:developer"],
    );
    // Made at the same time as the last: which of them is newer nobody can say.
    are(
        &roles(&app, &issuer.token("grace", &[], 70)).await,
        false,
        &["shop:developer"],
    );

    let told = count(&app, "audit_entries where action = 'user.synchronise'").await;
    let members = count(
        &app,
        "audit_entries where action like 'member.%' and credential like 'oidc:grace-%'",
    )
    .await;
    assert_eq!((told, members), (3, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_gave_stays_and_where_the_claim_gives_a_role_it_wins() {
    let (app, issuer) = start().await;
    for project in ["shop", "blog"] {
        app.project(project).await;
    }
    let id = user(&app, &issuer.token("grace", &[], 100)).await.id;
    let mut projects = app.projects();
    for project in ["shop", "blog"] {
        projects
            .set_member(set(project, &id, pb::ProjectRole::Viewer))
            .await
            .unwrap();
    }
    come_to_have(
        &app,
        &issuer.token("grace", &[], 90),
        false,
        &["blog:viewer", "shop:viewer"],
    )
    .await;
    come_to_have(
        &app,
        &issuer.token("grace", &["web"], 80),
        false,
        &["blog:viewer", "shop:developer"],
    )
    .await;
    // What people set after that is theirs, until a newer token claims something else.
    projects
        .set_member(set("shop", &id, pb::ProjectRole::Admin))
        .await
        .unwrap();
    come_to_have(
        &app,
        &issuer.token("grace", &[], 70),
        false,
        &["blog:viewer", "shop:admin"],
    )
    .await;
    come_to_have(
        &app,
        &issuer.token("grace", &["web"], 60),
        false,
        &["blog:viewer", "shop:developer"],
    )
    .await;
    projects.remove_member(remove("shop", &id)).await.unwrap();
    come_to_have(&app, &issuer.token("grace", &["web"], 60), false, &["blog:viewer"]).await;
    come_to_have(
        &app,
        &issuer.token("grace", &["web"], 50),
        false,
        &["blog:viewer", "shop:developer"],
    )
    .await;
    come_to_have(&app, &issuer.token("grace", &[], 40), false, &["blog:viewer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_in_a_project_that_is_not_there_yet_waits_for_it() {
    let (app, issuer) = start().await;
    let first = issuer.token("grace", &["later"], 100);
    come_to_have(&app, &first, false, &[]).await;
    app.project("later").await;
    // The replica knows of it by now; the token is not newer than what was looked at.
    let known = || {
        app.server
            .hub()
            .directory()
            .projects
            .iter()
            .any(|project| project.as_str() == "later")
    };
    eventually("the project", async || known().then_some(())).await;
    are(&roles(&app, &first).await, false, &[]);
    come_to_have(&app, &issuer.token("grace", &["later"], 90), false, &["later:viewer"]).await;
    // It was the claim's, and is gone with the project.
    let mut projects = app.projects();
    let delete = pb::DeleteProjectRequest {
        project: "later".into(),
        confirm: "later".into(),
        ..Default::default()
    };
    projects.delete_project(delete).await.unwrap();
    app.project("later").await;
    come_to_have(&app, &issuer.token("grace", &[], 80), false, &[]).await;
    assert_eq!(count(&app, "members where claimed_issuer is not null").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owner_and_the_last_administrator_stay_what_they_are() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    are(
        &roles(&app, &issuer.token("grace", &["ops", "leads"], 100)).await,
        true,
        &["shop:owner"],
    );
    let ada = Person::administrator(&app).await;
    app.projects().remove_member(remove("shop", &ada.email)).await.unwrap();
    let sql = app.database.client().await;
    let told = "update access_head set revision = revision + 1";
    sql.batch_execute(&format!(
        "update users set instance_role = null where email = '{EMAIL}'; {told}"
    ))
    .await
    .unwrap();
    are(
        &roles(&app, &issuer.token("grace", &[], 90)).await,
        true,
        &["shop:owner"],
    );
    // Once there is another, the next newer token takes them away.
    let back = "update users set instance_role = 'administrator' where email =";
    sql.batch_execute(&format!("{back} '{EMAIL}'; {told}")).await.unwrap();
    let grace = issuer.token("grace", &[], 90);
    app.projects()
        .set_member(set("shop", &ada.email, pb::ProjectRole::Owner))
        .await
        .unwrap();
    are(&roles(&app, &grace).await, true, &["shop:owner"]);
    are(&roles(&app, &issuer.token("grace", &[], 80)).await, false, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_whose_account_is_deactivated_is_kept_out_whatever_the_token_says() {
    let (app, issuer) = start().await;
    let token = issuer.token("grace", &[], 100);
    let grace = user(&app, &token).await;
    update(
        &app,
        pb::User {
            active: false,
            ..grace.clone()
        },
        &["active"],
    )
    .await
    .unwrap();
    eventually("the end", async || who_am_i(&app.channel, &token).await.err()).await;
    for token in [&token, &issuer.token("grace", &["ops"], 10)] {
        refused(who_am_i(&app.channel, token).await, Code::Unauthenticated);
    }
    assert_eq!((count(&app, "identities").await, count(&app, "users").await), (1, 2));
    update(&app, pb::User { active: true, ..grace }, &["active"])
        .await
        .unwrap();
    are(&roles(&app, &issuer.token("grace", &["ops"], 10)).await, true, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_account_was_deleted_an_identity_begins_anew() {
    let (app, issuer) = start().await;
    app.project("shop").await;
    let token = issuer.token("grace", &["web"], 100);
    let first = user(&app, &token).await;
    let delete = pb::DeleteUserRequest {
        id: first.id.clone(),
        ..Default::default()
    };
    app.users().delete_user(delete).await.unwrap();
    assert_eq!(count(&app, "identities").await, 0);
    // As soon as the replica has heard of it.
    eventually("a new account", async || {
        (user(&app, &token).await.id != first.id).then_some(())
    })
    .await;
    are(&roles(&app, &token).await, false, &["shop:developer"]);
}
