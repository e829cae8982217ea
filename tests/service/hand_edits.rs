//! Rows edited by hand while the service runs, or does not: replicas and streams learn of them as of any other revision.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::flag_change::After;
use halyard::pb::evaluation::v1::Reason;
use tokio_postgres::Client;
use tonic::Code;

use crate::app::{App, connect, evaluate, serve, toggle};
use crate::audit::{found, intact, of, verify};
use crate::follower::Follower;
use crate::refusals::refused;
use crate::support::{eventually, within};
use crate::words::*;

/// How many revisions of `dev` there are, all of them in the log.
async fn head(sql: &Client) -> u64 {
    let query =
        "select h.revision, (select count(*) from changes c where c.environment_id = h.environment_id) as logged
        from environment_heads h join environments e on e.id = h.environment_id where e.key = 'dev'";
    let row = sql.query_one(query, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1), "the log has a gap");
    u64::try_from(row.get::<_, i64>(0)).unwrap()
}

/// Waits until everything that was edited is adopted.
async fn adopted(sql: &Client) {
    eventually("the adoption", async || {
        sql.query_opt("select from hand_edits limit 1", &[])
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}

async fn revisions(app: &App, flag: &str) -> Vec<pb::FlagRevision> {
    let request = pb::ListRevisionsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: flag.into(),
        page_size: 100,
        ..Default::default()
    };
    app.flags()
        .list_revisions(request)
        .await
        .unwrap()
        .into_inner()
        .revisions
}

fn rollback(revision: u64) -> pb::RollbackFlagConfigurationRequest {
    pb::RollbackFlagConfigurationRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "f".into(),
        revision,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_one_revision_that_every_replica_streams() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let on = app.toggle("f", true).await;
    let (replica, channel) = app.replica().await;
    let (another, _) = app.replica().await;
    let mut followers = [
        Follower::new(&app.channel, &keys.server).await.unwrap(),
        Follower::new(&channel, &keys.server).await.unwrap(),
    ];
    for follower in &mut followers {
        follower.until(on).await.unwrap();
    }
    let sql = app.database.client().await;
    sql.batch_execute("set application_name = 'psql'; update flag_configurations set enabled = false")
        .await
        .unwrap();
    for follower in &mut followers {
        follower.until(on + 1).await.unwrap();
        assert!(!follower.enabled("f"));
    }
    assert_eq!(
        evaluate(&channel, &keys.client, "f", on + 1).await.unwrap().variant,
        "off"
    );
    adopted(&sql).await;
    assert_eq!(head(&sql).await, on + 1);

    let entry = &found(&app, &of("shop")).await[0];
    assert_eq!(
        (entry.actor.as_str(), entry.action.as_str()),
        ("database", "flag_configuration.hand_edit")
    );
    assert_eq!((entry.entity_key.as_str(), entry.environment.as_str()), ("f", "dev"));
    assert!(
        !entry.actor_name.is_empty() && entry.reason.contains("(psql) at 20"),
        "{entry:?}"
    );
    assert!(
        entry.before().contains(r#""enabled":true"#) && entry.after().contains(r#""enabled":false"#),
        "{entry:?}"
    );
    intact(&app, verify("shop")).await;
    let newest = &revisions(&app, "f").await[0];
    assert_eq!((newest.revision, newest.actor.as_str()), (on + 1, "database"));
    assert_eq!(newest.changes[0].changed_fields, ["enabled"]);

    let back = app
        .flags()
        .rollback_flag_configuration(rollback(on))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(back.revisions[0].revision, on + 2);
    for follower in &mut followers {
        follower.until(on + 2).await.unwrap();
        assert!(follower.enabled("f"));
    }
    drop(followers);
    replica.stop().await.unwrap();
    another.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_reaches_every_environment_protected_ones_too() {
    let app = App::start().await;
    let keys = [app.shop().await, app.environment("shop", "prod").await];
    let sql = app.database.client().await;
    sql.batch_execute("update environments set protected = true where key = 'prod'")
        .await
        .unwrap();
    app.flag("f").await;
    let mut followers = Vec::new();
    for keys in &keys {
        let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
        follower.step().await.unwrap();
        followers.push(follower);
    }
    sql.batch_execute("update flags set off_variant = 'on'").await.unwrap();
    for (follower, keys) in followers.iter_mut().zip(&keys) {
        let step = follower.step().await.unwrap();
        assert_eq!((step.items, step.begin.to_revision), (1, step.begin.from_revision + 1));
        assert_eq!(
            evaluate(&app.channel, &keys.client, "f", follower.held.revision)
                .await
                .unwrap()
                .variant,
            "on"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_harms_its_flag_alone() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.flag("g").await;
    app.toggle("g", true).await;
    let on = app.toggle("f", true).await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.until(on).await.unwrap();
    let sql = app.database.client().await;
    let damage =
        "update flag_configurations set form = 'nonsense' where flag_id = (select id from flags where key = 'f')";
    sql.batch_execute(damage).await.unwrap();
    follower.until(on + 1).await.unwrap();
    let answer = evaluate(&app.channel, &keys.client, "f", on + 1).await.unwrap();
    assert_eq!((answer.variant.as_str(), answer.reason()), ("off", Reason::Error));
    assert_eq!(
        evaluate(&app.channel, &keys.client, "g", on + 1).await.unwrap().variant,
        "on"
    );

    let listed = revisions(&app, "f").await;
    let change = &listed[0].changes[0];
    assert!(
        change.unreadable && change.after.is_none() && change.changed_fields.is_empty(),
        "{change:?}"
    );
    let before = &listed[1].changes[0];
    assert!(!before.unreadable && matches!(&before.after, Some(After::Configuration(it)) if it.enabled));
    // What the columns say brings it back.
    sql.batch_execute("update flag_configurations set form = ''")
        .await
        .unwrap();
    follower.until(on + 2).await.unwrap();
    assert_eq!(
        evaluate(&app.channel, &keys.client, "f", on + 2).await.unwrap().variant,
        "on"
    );
    refused(
        app.flags().rollback_flag_configuration(rollback(on + 1)).await,
        Code::FailedPrecondition,
    );
    intact(&app, verify("shop")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_edited_while_nobody_ran_is_adopted_at_the_start() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let on = app.toggle("f", true).await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.until(on).await.unwrap();
    let held = follower.held.clone();
    drop(follower);
    let App { database, server, .. } = app;
    server.stop().await.unwrap();
    let sql = database.client().await;
    sql.batch_execute("update flag_configurations set enabled = false")
        .await
        .unwrap();
    let server = serve(&database).await;
    let channel = connect(&server).await;
    let mut follower = Follower::resume(&channel, &keys.server, held).await.unwrap();
    follower.until(on + 1).await.unwrap();
    assert!(!follower.enabled("f"));
    assert_eq!(head(&sql).await, on + 1);
    drop(follower);
    server.stop().await.unwrap();
}

const EDITS: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_of_edits_among_writes() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.toggle("f", true).await;
    let (replica, channel) = app.replica().await;
    let mut follower = Follower::new(&channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let toggling = tokio::spawn({
        let (done, mut flags) = (Arc::clone(&done), app.flags());
        async move {
            let (mut enabled, mut written) = (true, 0);
            while !done.load(Ordering::Relaxed) {
                match flags.toggle_flags(toggle("f", !enabled)).await {
                    Ok(_) => (enabled, written) = (!enabled, written + 1),
                    // An edit of the same row came in between.
                    Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
                }
            }
            written
        }
    });
    let sql = app.database.client().await;
    for n in 0..EDITS {
        let edit = format!("update flag_configurations set salt = 's{n}'");
        sql.batch_execute(&edit).await.unwrap();
        adopted(&sql).await;
    }
    done.store(true, Ordering::Relaxed);
    let toggles = within("the toggles", toggling).await.unwrap();
    assert!(toggles > EDITS, "{toggles}");
    let last = head(&sql).await;
    follower.until(last).await.unwrap();

    // Every edit is there, as the database's, and no write of anybody else's changed what it did.
    let query = "select c.actor, convert_from(i.form, 'UTF8')::json ->> 'salt', (convert_from(i.form, 'UTF8')::json ->> 'enabled')::bool
        from change_items i join changes c using (environment_id, revision)
        where i.kind = 'flag_configuration' order by i.revision";
    let (mut salt, mut enabled, mut edits) = (None, false, 0);
    for row in sql.query(query, &[]).await.unwrap() {
        let (actor, is): (&str, (Option<String>, bool)) = (row.get(0), (row.get(1), row.get(2)));
        if actor == "database" {
            assert_eq!(is, (Some(format!("s{edits}")), enabled));
            edits += 1;
        } else {
            assert_eq!(is, (salt, !enabled));
        }
        (salt, enabled) = is;
    }
    assert_eq!(edits, EDITS);
    intact(&app, verify("shop")).await;
    drop(follower);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_the_service_is_never_taken_for_an_edit() {
    let app = App::start().await;
    app.shop().await;
    app.environment("shop", "prod").await;
    for flag in ["f", "g", "h"] {
        app.flag(flag).await;
    }
    app.toggle("f", true).await;
    segment(&app, "beta").await;
    including(&app, "beta", &["ada"]).await;
    listing(&app, "beta", &["ada", "bob"]).await;
    listing(&app, "beta", &["eve"]).await;
    configured(
        &app,
        pb::FlagConfiguration {
            rules: vec![for_segment("beta")],
            prerequisites: vec![needing("g", "on")],
            ..configuration("f")
        },
    )
    .await;
    let (project, flag) = (String::from("shop"), String::from("f"));
    let update = pb::UpdateFlagRequest {
        flag: Some(pb::Flag {
            project: project.clone(),
            key: flag,
            description: "described".into(),
            client_visible: false,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["description".into(), "client_visible".into()],
        }),
        ..Default::default()
    };
    app.flags().update_flag(update).await.unwrap();
    app.flags().rollback_flag_configuration(rollback(5)).await.unwrap();
    let flag = String::from("h");
    let archive = pb::ArchiveFlagRequest {
        project: project.clone(),
        flag: flag.clone(),
        ..Default::default()
    };
    app.flags().archive_flag(archive).await.unwrap();
    let restore = pb::RestoreFlagRequest {
        project: project.clone(),
        flag: flag.clone(),
        ..Default::default()
    };
    app.flags().restore_flag(restore).await.unwrap();
    let delete = pb::DeleteFlagRequest {
        project: project.clone(),
        flag,
        ..Default::default()
    };
    app.flags().delete_flag(delete).await.unwrap();
    let delete = pb::DeleteSegmentRequest {
        project: project.clone(),
        segment: "beta".into(),
        ..Default::default()
    };
    app.segments().delete_segment(delete).await.unwrap();
    let delete = pb::DeleteEnvironmentRequest {
        project: project.clone(),
        environment: "prod".into(),
        ..Default::default()
    };
    app.environments().delete_environment(delete).await.unwrap();
    let delete = pb::DeleteProjectRequest {
        confirm: project.clone(),
        project,
        ..Default::default()
    };
    app.projects().delete_project(delete).await.unwrap();
    // No note was ever made, adopted or not.
    let sql = app.database.client().await;
    let noted = sql
        .query_one("select is_called from hand_edits_id_seq", &[])
        .await
        .unwrap();
    assert!(!noted.get::<_, bool>(0));
}
