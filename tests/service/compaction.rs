//! What clients see of compaction: who resumes, who gets everything, and what is said of history that is gone.

use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::store::compaction::Kept;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::app::App;
use crate::follower::{Follower, Held};
use crate::refusals::refused;
use crate::words::who;

fn kept(revisions: u64, history: Option<Duration>) -> Kept {
    Kept {
        revisions,
        age: Duration::ZERO,
        history,
    }
}

/// Toggles, and returns what a client held at each revision, oldest first.
async fn history(app: &App, key: &str, toggles: usize) -> Vec<Held> {
    let mut follower = Follower::new(&app.channel, key).await.unwrap();
    follower.step().await.unwrap();
    let mut held = vec![follower.held.clone()];
    for n in 0..toggles {
        let revision = app.toggle("f", n % 2 == 0).await;
        follower.until(revision).await.unwrap();
        assert_eq!(follower.held.revision, revision);
        held.push(follower.held.clone());
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_resume_at_the_horizon_and_not_below() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let held = history(&app, &keys.server, 10).await;
    let newest = held.last().unwrap().revision;
    app.server.store().compact(&kept(4, None)).await.unwrap();
    let (started, channel) = app.replica().await;
    let everything = (pb::Intent::Snapshot, pb::SnapshotReason::Compacted);
    let changes = (pb::Intent::Delta, pb::SnapshotReason::Unspecified);
    for (revision, expected) in [(newest - 5, everything), (newest - 4, changes), (newest - 3, changes)] {
        let held = held.iter().find(|held| held.revision == revision).unwrap();
        let mut follower = Follower::resume(&channel, &keys.server, held.clone()).await.unwrap();
        let begin = follower.step().await.unwrap().begin;
        assert_eq!((begin.intent(), begin.reason()), expected, "from {revision}");
        assert_eq!(begin.to_revision, newest);
        // Whoever ran all the time still has in memory what leads on.
        let mut follower = Follower::resume(&app.channel, &keys.server, held.clone())
            .await
            .unwrap();
        assert_eq!(follower.step().await.unwrap().begin.intent(), pb::Intent::Delta);
    }
    started.stop().await.unwrap();
}

fn evaluate_at(revision: u64) -> admin::EvaluateAtRequest {
    admin::EvaluateAtRequest {
        project: "shop".into(),
        environment: "dev".into(),
        revision,
        context: who("ada"),
        ..Default::default()
    }
}

fn rollback(revision: u64) -> admin::RollbackFlagConfigurationRequest {
    admin::RollbackFlagConfigurationRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "f".into(),
        revision,
        ..Default::default()
    }
}

fn revisions(page_size: i32, page_token: &str) -> admin::ListRevisionsRequest {
    admin::ListRevisionsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "f".into(),
        page_size,
        page_token: page_token.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_what_is_gone_are_refused_with_what_is_left() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let held = history(&app, &keys.server, 10).await;
    let newest = held.last().unwrap().revision;
    let list = async |page_size, page_token: &str| {
        let response = app.flags().list_revisions(revisions(page_size, page_token)).await;
        response.map(tonic::Response::into_inner)
    };
    let all = list(100, "").await.unwrap().revisions;
    let page = list(8, "").await.unwrap();
    assert!(!page.next_page_token.is_empty());

    app.server
        .store()
        .compact(&kept(4, Some(Duration::ZERO)))
        .await
        .unwrap();
    let floor = newest - 4;
    for revision in [1, floor - 1] {
        let status = refused(
            app.flags().evaluate_at(evaluate_at(revision)).await,
            Code::FailedPrecondition,
        );
        assert!(
            status.message().contains(&format!("begins at revision {floor}")),
            "{status:?}"
        );
        refused(
            app.flags().rollback_flag_configuration(rollback(revision)).await,
            Code::FailedPrecondition,
        );
    }
    refused(list(8, &page.next_page_token).await, Code::FailedPrecondition);
    // What is left is as it was.
    let left = list(100, "").await.unwrap();
    assert_eq!((left.revisions.len(), left.next_page_token.as_str()), (4, ""));
    assert_eq!(left.revisions, all[..4]);
    assert!(
        left.revisions
            .iter()
            .all(|it| it.changes[0].changed_fields == ["enabled"])
    );
    for (n, held) in held.iter().enumerate().filter(|(_, held)| held.revision >= floor) {
        let answers = app
            .flags()
            .evaluate_at(evaluate_at(held.revision))
            .await
            .unwrap()
            .into_inner();
        // It was turned on first, then off, and so on.
        assert_eq!(answers.evaluations[0].variant, if n % 2 == 1 { "on" } else { "off" });
    }
    app.flags().rollback_flag_configuration(rollback(floor)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_hold_what_is_true_while_everything_old_goes() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let stop = CancellationToken::new();
    let compacting = tokio::spawn({
        let (store, stop) = (app.server.store().clone(), stop.clone());
        async move {
            let mut deleted = 0;
            while !stop.is_cancelled() {
                deleted += store.compact(&kept(1, Some(Duration::ZERO))).await.unwrap().deleted;
            }
            deleted
        }
    });
    let (first, channel) = app.replica().await;
    let mut held = Held::default();
    for n in 0..30 {
        let revision = app.toggle("f", n % 2 == 0).await;
        // It comes back after every third, from below the horizon, at a replica that ran all the time.
        if n % 3 == 0 {
            let mut follower = Follower::resume(&channel, &keys.server, held).await.unwrap();
            follower.until(revision).await.unwrap();
            held = follower.held.clone();
        }
    }
    let (second, channel) = app.replica().await;
    let last = app.toggle("f", true).await;
    let mut follower = Follower::resume(&channel, &keys.server, held).await.unwrap();
    follower.until(last).await.unwrap();
    stop.cancel();
    assert_ne!(compacting.await.unwrap(), 0);
    assert!(follower.enabled("f"));
    drop(follower);
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}
