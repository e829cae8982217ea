//! Projects.

use halyard::pb::admin::v1 as pb;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::app::{App, evaluate};
use crate::people::{Person, remove};
use crate::refusals::{invalid, refused};

fn create(key: &str) -> pb::CreateProjectRequest {
    let project = Some(pb::Project {
        key: key.into(),
        ..Default::default()
    });
    pb::CreateProjectRequest {
        project,
        ..Default::default()
    }
}

fn get(key: &str) -> pb::GetProjectRequest {
    pb::GetProjectRequest { project: key.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_created_read_renamed_listed_and_deleted() {
    let app = App::start().await;
    let mut projects = app.projects();
    let created = projects
        .create_project(create("shop"))
        .await
        .unwrap()
        .into_inner()
        .project
        .unwrap();
    assert_eq!((created.key.as_str(), created.name.as_str()), ("shop", "shop"));
    assert!(created.create_time.is_some() && !created.etag.is_empty());
    assert_eq!(
        projects
            .get_project(get("shop"))
            .await
            .unwrap()
            .into_inner()
            .project
            .unwrap(),
        created
    );

    let renamed = pb::Project {
        name: "The shop".into(),
        description: "not in the mask".into(),
        ..created.clone()
    };
    let update = pb::UpdateProjectRequest {
        project: Some(renamed),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["name".into()],
        }),
        etag: created.etag.clone(),
        ..Default::default()
    };
    let updated = projects.update_project(update.clone()).await.unwrap().into_inner();
    assert!(updated.changed);
    let updated = updated.project.unwrap();
    assert_eq!((updated.name.as_str(), updated.description.as_str()), ("The shop", ""));
    assert_ne!(updated.etag, created.etag);
    refused(projects.update_project(update.clone()).await, Code::Aborted);
    let again = projects
        .update_project(pb::UpdateProjectRequest {
            etag: String::new(),
            ..update
        })
        .await
        .unwrap()
        .into_inner();
    assert!(!again.changed);
    assert_eq!(again.project.unwrap(), updated);

    for key in ["a", "b", "c"] {
        app.project(key).await;
    }
    let list = |page_token: String| pb::ListProjectsRequest {
        page_size: 3,
        page_token,
    };
    let first = projects.list_projects(list(String::new())).await.unwrap().into_inner();
    let second = projects
        .list_projects(list(first.next_page_token.clone()))
        .await
        .unwrap()
        .into_inner();
    let keys: Vec<_> = first
        .projects
        .iter()
        .chain(&second.projects)
        .map(|project| project.key.as_str())
        .collect();
    assert_eq!(keys, ["a", "b", "c", "shop"]);
    assert_eq!((first.projects.len(), second.next_page_token.as_str()), (3, ""));

    let delete = |confirm: &str| pb::DeleteProjectRequest {
        project: "shop".into(),
        confirm: confirm.into(),
        ..Default::default()
    };
    invalid(projects.delete_project(delete("")).await, &["confirm"]);
    projects.delete_project(delete("shop")).await.unwrap();
    let gone = refused(projects.get_project(get("shop")).await, Code::NotFound);
    assert!(tonic_types::StatusExt::get_details_resource_info(&gone).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_key_is_told() {
    let app = App::start().await;
    app.project("shop").await;
    refused(app.projects().create_project(create("shop")).await, Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_projects_are_told_everything_at_once() {
    let app = App::start().await;
    let mut request = create("No Such Key");
    let project = request.project.as_mut().unwrap();
    project.name = "n".repeat(201);
    project.description = "\u{7}".into();
    request.request_id = "not a uuid".into();
    invalid(
        app.projects().create_project(request).await,
        &["request_id", "project.name", "project.description", "project.key"],
    );
    invalid(
        app.projects().create_project(pb::CreateProjectRequest::default()).await,
        &["project"],
    );
    invalid(app.projects().get_project(get("")).await, &["project"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_an_id_acts_once() {
    let app = App::start().await;
    let request = pb::CreateProjectRequest {
        request_id: Uuid::new_v4().to_string(),
        ..create("shop")
    };
    let first = app
        .projects()
        .create_project(request.clone())
        .await
        .unwrap()
        .into_inner();
    let replay = app
        .projects()
        .create_project(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, replay);
    let other = pb::CreateProjectRequest {
        request_id: request.request_id,
        ..create("other")
    };
    invalid(app.projects().create_project(other).await, &["request_id"]);
    refused(app.projects().get_project(get("other")).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn validating_writes_nothing() {
    let app = App::start().await;
    let request = pb::CreateProjectRequest {
        validate_only: true,
        ..create("shop")
    };
    let validated = app.projects().create_project(request).await.unwrap().into_inner();
    assert_eq!(validated.project.unwrap().key, "shop");
    refused(app.projects().get_project(get("shop")).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_project_ends_its_keys() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    evaluate(&app.channel, &keys.server, "f", 2).await.unwrap();
    let delete = pb::DeleteProjectRequest {
        project: "shop".into(),
        confirm: "shop".into(),
        ..Default::default()
    };
    app.projects().delete_project(delete).await.unwrap();
    crate::support::eventually("the end of the key", async || {
        let status = evaluate(&app.channel, &keys.server, "f", 0).await.err()?;
        (status.code() == Code::Unauthenticated).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_knows_who_did_what_why() {
    let app = App::start().await;
    let mut request = Request::new(create("shop"));
    request
        .metadata_mut()
        .insert("x-halyard-reason", "we open a shop".parse().unwrap());
    app.projects().create_project(request).await.unwrap();
    let client = app.database.client().await;
    let row = client
        .query_one("select actor, actor_name, action, entity, entity_key, before, after, peer, reason from audit_entries where action = 'project.create'", &[])
        .await
        .unwrap();
    let text = |column: &str| row.get::<_, String>(column);
    assert!(text("actor").starts_with("user:"));
    assert_eq!(
        (text("actor_name"), text("entity"), text("entity_key")),
        ("ada@example.com".into(), "project".into(), "shop".into())
    );
    assert_eq!(
        (text("peer"), text("reason")),
        ("127.0.0.1".into(), "we open a shop".into())
    );
    assert!(row.get::<_, Option<String>>("before").is_none());
    assert!(text("after").contains("shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_owns_as_many_projects_as_they_may_creates_none() {
    let app = App::start().await;
    let eve = Person::new(&app, "eve@example.com").await;
    let insert = "
        with made as (
            insert into projects (key, name, description, created_at, updated_at)
            select 'old-' || n, '', '', now(), now() from generate_series(1, 1000) n returning id, key
        ), head as (
            insert into audit_heads (chain, sequence, hash) select id::text, 0, sha256('') from made
        )
        insert into members (project_id, user_id, role)
        select made.id, users.id, case when made.key = 'old-1000' and users.id = $1 then 'admin' else 'owner' end
        from made, users";
    let sql = app.database.client().await;
    sql.execute(insert, &[&eve.id]).await.unwrap();
    let owned = "select count(*) from members where user_id = $1 and role = 'owner'";
    let owned = async || -> i64 { sql.query_one(owned, &[&eve.id]).await.unwrap().get(0) };
    assert_eq!(owned().await, 999);
    // Of two at the same time one is the last.
    let (mut one, mut other) = (eve.projects(&app.channel), eve.projects(&app.channel));
    let answers = tokio::join!(one.create_project(create("one")), other.create_project(create("other")));
    let answers = [answers.0, answers.1];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    for lost in answers.into_iter().filter(Result::is_err) {
        refused(lost, Code::ResourceExhausted);
    }
    refused(one.create_project(create("another")).await, Code::ResourceExhausted);
    assert_eq!(owned().await, 1000);
    // Administrators create on, and what is given up makes room.
    app.projects().create_project(create("hers")).await.unwrap();
    one.remove_member(remove("old-1", &eve.email)).await.unwrap();
    one.create_project(create("another")).await.unwrap();
}
