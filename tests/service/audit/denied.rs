//! Mutations that were denied are told, and no more often than once a minute.

use halyard::domain::access::Role;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use serde_json::Value;
use tonic::Code;

use super::person::member;
use super::{found, intact, of, verify};
use crate::app::{App, connect, serve, toggle};
use crate::refusals::refused;
use crate::support::eventually;

fn denied_in(project: &str) -> pb::ListEntriesRequest {
    pb::ListEntriesRequest {
        action: "method.denied".into(),
        ..of(project)
    }
}

fn details(entry: &pb::AuditEntry) -> Value {
    serde_json::from_str(entry.after.as_ref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_mutation_is_told_where_the_caller_belongs() {
    let app = App::start().await;
    app.shop().await;
    app.project("other").await;
    app.flag("f").await;
    let viewer = member(&app, "shop", Role::Viewer).await;
    let stranger = member(&app, "other", Role::Owner).await;
    let [mut theirs, mut strangers] = [&viewer, &stranger].map(|it| FlagServiceClient::new(it.client.clone()));
    refused(theirs.toggle_flags(toggle("f", true)).await, Code::PermissionDenied);
    let entry = eventually("the entry", async || found(&app, &denied_in("shop")).await.pop()).await;
    let said = [
        &entry.actor,
        &entry.actor_name,
        &entry.entity,
        &entry.entity_key,
        &entry.project,
        &entry.peer,
    ];
    let method = "halyard.admin.v1.FlagService/ToggleFlags";
    let expected = [
        &viewer.actor,
        "viewer-of-shop@example.com",
        "method",
        method,
        "shop",
        "127.0.0.1",
    ];
    assert_eq!(said, expected);
    assert!(!entry.credential.is_empty());
    assert_eq!(
        (&details(&entry)["count"], &details(&entry)["project"]),
        (&1.into(), &"shop".into())
    );

    // Within the minute they are counted, and told at its end or the server's. Whoever only wanted to read is not told of.
    for _ in 0..3 {
        refused(theirs.toggle_flags(toggle("f", true)).await, Code::PermissionDenied);
        refused(strangers.toggle_flags(toggle("f", true)).await, Code::PermissionDenied);
    }
    let get = pb::GetFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
    };
    refused(strangers.get_flag(get).await, Code::PermissionDenied);
    assert_eq!(found(&app, &denied_in("shop")).await.len(), 1);
    let App {
        database,
        server,
        channel: _,
        token,
    } = app;
    server.stop().await.unwrap();
    let server = serve(&database).await;
    let channel = connect(&server).await;
    let app = App {
        database,
        server,
        channel,
        token,
    };
    let [second, _] = &*found(&app, &denied_in("shop")).await else {
        panic!("not two");
    };
    assert_eq!((&second.actor, &details(second)["count"]), (&viewer.actor, &3.into()));
    // A stranger cannot write into a project's log.
    let [aimed] = &*found(&app, &denied_in("")).await else {
        panic!("not one");
    };
    assert_eq!((&aimed.actor, aimed.project.as_str()), (&stranger.actor, ""));
    assert_eq!(
        (&details(aimed)["count"], &details(aimed)["project"]),
        (&3.into(), &"shop".into())
    );
    assert!(found(&app, &denied_in("other")).await.is_empty());
    intact(&app, verify("shop")).await;
    intact(&app, verify("")).await;
}
