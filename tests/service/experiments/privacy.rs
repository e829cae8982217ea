//! What is stored of a unit: looked up, exported, deleted.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::experiment_service_client::ExperimentServiceClient;
use tonic::{Code, Status};

use super::{experiment, rows, run, shop, stored, units};
use crate::app::{App, connect, serve};
use crate::people::{Person, remove, service_token, showing};
use crate::refusals::refused;
use crate::support::{eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_of_a_unit_can_be_seen_exported_and_deleted() {
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let mut all = units(1_100);
    let long = "k".repeat(1_000);
    all.push(long.clone());
    all.push("sha256:taken for a hash".into());
    let before = stored(&app.channel, &key, &all, revision).await;

    let export = pb::ExportAssignmentsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
    };
    let mut parts = app
        .experiments()
        .export_assignments(export.clone())
        .await
        .unwrap()
        .into_inner();
    let mut exported = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        assert!(part.assignments.len() <= 1_000);
        exported.extend(part.assignments);
    }
    assert_eq!(exported.len(), all.len());
    assert!(exported.is_sorted_by(|a, b| a.unit < b.unit));
    let unknown = pb::ExportAssignmentsRequest {
        experiment: "gone".into(),
        ..export
    };
    refused(app.experiments().export_assignments(unknown).await, Code::NotFound);

    let list = |unit: &str| pb::ListUnitAssignmentsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        unit: unit.into(),
    };
    let of_unit = app
        .experiments()
        .list_unit_assignments(list(&long))
        .await
        .unwrap()
        .into_inner()
        .assignments;
    let [found] = of_unit.as_slice() else {
        panic!("{of_unit:?}")
    };
    assert_eq!((found.experiment.as_str(), &found.arm), ("x", &before[&long].0));
    let hashed = app
        .experiments()
        .list_unit_assignments(list("sha256:taken for a hash"))
        .await
        .unwrap();
    assert_eq!(hashed.into_inner().assignments.len(), 1, "found by its text");
    let delete = || pb::DeleteUnitAssignmentsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        unit: "user-7".into(),
        ..Default::default()
    };
    let deleted = app
        .experiments()
        .delete_unit_assignments(delete())
        .await
        .unwrap()
        .into_inner()
        .deleted;
    assert_eq!(deleted, 1);
    assert!(!rows(&app, "x").await.contains_key("user-7"));
    let again = app
        .experiments()
        .delete_unit_assignments(delete())
        .await
        .unwrap()
        .into_inner()
        .deleted;
    assert_eq!(again, 0);
    // The server that deleted it knows nothing of it any more.
    stored(&app.channel, &key, &["user-7".to_owned()], 0).await;
    assert!(rows(&app, "x").await.contains_key("user-7"));
    let deleted_again = app.experiments().delete_unit_assignments(delete()).await.unwrap();
    assert_eq!(deleted_again.into_inner().deleted, 1);
    let sql = app.database.client().await;
    let entry = "select entity_key, coalesce(before, '') from audit_entries where action = 'assignment.delete'";
    let entries = sql.query(entry, &[]).await.unwrap();
    assert_eq!(entries.len(), 2);
    let entry = &entries[0];
    let (named, said): (String, String) = (entry.get(0), entry.get(1));
    assert!(
        named.starts_with("sha256:") && !said.contains("user-7"),
        "{named} {said}"
    );
    // A server that never met the unit assigns it anew.
    let server = serve(&app.database).await;
    let channel = connect(&server).await;
    stored(&channel, &key, &["user-7".to_owned()], 0).await;
    assert_eq!(rows(&app, "x").await["user-7"], before["user-7"], "as the hash says");
    server.stop().await.unwrap();
}

/// Exports everything with a credential that is taken away after the first part; returns how many parts came, and the end.
async fn export_until(app: &App, credential: &str, take: impl Future<Output = ()>) -> (usize, Status) {
    let export = pb::ExportAssignmentsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
    };
    let mut client = ExperimentServiceClient::new(showing(&app.channel, credential));
    let mut parts = eventually("a role", async || client.export_assignments(export.clone()).await.ok())
        .await
        .into_inner();
    within("a part", parts.message()).await.unwrap().expect("the first");
    take.await;
    let get = pb::GetExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
    };
    eventually("the server to know it", async || {
        client.get_experiment(get.clone()).await.err()
    })
    .await;
    let mut count = 1;
    loop {
        match within("a part", parts.message()).await {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("all {count} parts"),
            Err(status) => return (count, status),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_ends_when_the_credential_or_the_role_is_taken_away() {
    let app = App::start().await;
    shop(&app).await;
    run(&app, experiment("x")).await;
    // More than what is on its way while nobody reads.
    let sql = app.database.client().await;
    let many = "
        insert into experiment_assignments (experiment_id, unit, arm, iteration, assigned_at)
        select e.id, lpad(n::text, 1000, 'u'), 'on', 1, now() from experiments e, generate_series(1, 20000) n";
    assert_eq!(sql.execute(many, &[]).await.unwrap(), 20_000);

    let viewer = Person::member(&app, "viewer@example.com", "shop", pb::ProjectRole::Viewer).await;
    let leave = async {
        let removed = app.projects().remove_member(remove("shop", &viewer.email)).await;
        removed.unwrap();
    };
    let (parts, end) = export_until(&app, &viewer.token(), leave).await;
    assert!(parts < 10, "{parts} of 20");
    refused::<()>(Err(end), Code::PermissionDenied);

    let (token, secret) = service_token(&app, "shop", pb::ProjectRole::Viewer).await;
    let revoke = async {
        let request = pb::RevokeServiceTokenRequest {
            project: "shop".into(),
            service_token_id: token,
            ..Default::default()
        };
        app.service_tokens().revoke_service_token(request).await.unwrap();
    };
    let (parts, end) = export_until(&app, &secret, revoke).await;
    assert!(parts < 10, "{parts} of 20");
    refused::<()>(Err(end), Code::Unauthenticated);
}
