//! Who may look may look at the past and try things out, and nothing else.

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;

use crate::app::{App, Bearer};
use crate::front::stranger;
use crate::refusals::refused;
use crate::support::eventually;
use crate::words::{configuration, who};

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_looks_at_the_past_and_changes_nothing() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let on = app.toggle("f", true).await;
    let token = stranger(&app).await;
    let admit = "insert into members (project_id, user_id, role)
            select p.id, u.id, 'viewer' from projects p, users u where u.email = 'eve@example.com';
        update access_head set revision = revision + 1";
    app.database.client().await.batch_execute(admit).await.unwrap();
    let mut flags = FlagServiceClient::new(InterceptedService::new(app.channel.clone(), Bearer::new(&token)));
    let (project, environment, flag) = ("shop".to_owned(), "dev".to_owned(), "f".to_owned());
    let list = pb::ListRevisionsRequest {
        project: project.clone(),
        environment: environment.clone(),
        flag: flag.clone(),
        ..Default::default()
    };
    eventually("the role", async || {
        flags.clone().list_revisions(list.clone()).await.ok()
    })
    .await;
    let at = pb::EvaluateAtRequest {
        project: project.clone(),
        environment: environment.clone(),
        revision: on,
        ..Default::default()
    };
    assert_eq!(flags.evaluate_at(at).await.unwrap().into_inner().evaluations.len(), 1);
    let test = pb::TestEvaluateRequest {
        project: project.clone(),
        environment: environment.clone(),
        flag: flag.clone(),
        context: who("ada"),
        draft: Some(configuration("f")),
        ..Default::default()
    };
    flags.test_evaluate(test).await.unwrap();
    let rollback = pb::RollbackFlagConfigurationRequest {
        project: project.clone(),
        environment,
        flag: flag.clone(),
        revision: 2,
        ..Default::default()
    };
    refused(
        flags.rollback_flag_configuration(rollback).await,
        Code::PermissionDenied,
    );
    let restore = pb::RestoreFlagRequest {
        project,
        flag,
        ..Default::default()
    };
    refused(flags.restore_flag(restore).await, Code::PermissionDenied);
}
