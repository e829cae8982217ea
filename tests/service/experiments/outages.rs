//! PostgreSQL is away, slow, or killed while assignments are on their way.

use std::time::Duration;

use futures_util::future::join_all;
use halyard::pb::evaluation::v1 as evaluation;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::{Stored, ask, experiment, rows, run, shop, stored, units};
use crate::app::{App, evaluation as client};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Database, cluster, database, eventually, within};
use crate::words::who;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_keeps_the_arm_and_others_get_the_hashed_one_while_postgresql_does_not_answer() {
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    let through = proxy.config.clone();
    let patience = Duration::from_millis(300);
    let app = App::start_with(database, |options| {
        options.store.config = through;
        options.store.assignments.patience = patience;
    })
    .await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let known = units(5);
    for unit in &known {
        // A busy machine may need more than one try.
        eventually("it to be stored", async || {
            let part = ask(&app.channel, &key, "f", unit, revision).await.experiment.unwrap();
            part.assignment_stored.then_some(())
        })
        .await;
    }
    let before = stored(&app.channel, &key, &known, revision).await;
    proxy.set(Mode::Hold);
    assert_eq!(stored(&app.channel, &key, &known, 0).await, before);
    let begun = Instant::now();
    let answer = ask(&app.channel, &key, "f", "newcomer", 0).await;
    let took = begun.elapsed();
    assert!(took >= patience && took < 10 * patience, "{took:?} of {patience:?}");
    // By now PostgreSQL is known not to answer, and nobody waits for it.
    eventually("nobody to wait", async || {
        let begun = Instant::now();
        let answer = ask(&app.channel, &key, "f", "another", 0).await;
        assert!(!answer.experiment.unwrap().assignment_stored);
        (begun.elapsed() < patience).then_some(())
    })
    .await;
    let part = answer.experiment.clone().unwrap();
    assert_eq!(
        (answer.reason(), part.assignment_stored),
        (evaluation::Reason::Experiment, false)
    );
    proxy.set(Mode::Pass);
    let later = eventually("it to be stored", async || {
        let part = ask(&app.channel, &key, "f", "newcomer", 0).await.experiment.unwrap();
        part.assignment_stored.then_some(part)
    })
    .await;
    assert_eq!(later.arm, part.arm, "what the hash said");
    app.server.stop().await.unwrap();
}

/// The answers of these units that say that they are stored.
async fn asked(app: &App, key: &str, units: &[String]) -> Stored {
    let answers = units.iter().map(async |unit| {
        let request = evaluation::EvaluateRequest {
            flag: "f".into(),
            context: who(unit),
            ..Default::default()
        };
        let answer = client(&app.channel, key).evaluate(request).await.unwrap();
        let answer = answer.into_inner().evaluation.unwrap();
        let part = answer.experiment.unwrap();
        part.assignment_stored
            .then(|| (unit.clone(), (part.arm, part.iteration)))
    });
    join_all(answers).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_to_be_stored_is_there_after_postgresql_was_killed() {
    let (postgres, _folder) = cluster::own_cluster().await;
    let database = Database {
        config: postgres.config(),
        url: postgres.url(),
    };
    let app = App::start_with(database, |options| {
        options.store.assignments.patience = Duration::from_millis(300);
    })
    .await;
    let key = shop(&app).await;
    run(&app, experiment("x")).await;
    let mut acknowledged = Stored::new();
    for round in 0..3 {
        let units: Vec<_> = (0..400).map(|n| format!("round-{round}-{n}")).collect();
        let kill = async {
            tokio::time::sleep(Duration::from_millis(2 + 3 * round)).await;
            let pid = Pid::from_raw(postgres.pid().unwrap().cast_signed()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
        };
        let (of_round, ()) = tokio::join!(asked(&app, &key, &units), kill);
        acknowledged.extend(of_round);
        within("the death of PostgreSQL", postgres.exited()).await;
        let unknown = ask(&app.channel, &key, "f", &format!("dead-{round}"), 0).await;
        assert!(!unknown.experiment.unwrap().assignment_stored);
        within("the restart of PostgreSQL", postgres.restart()).await.unwrap();
        let revived = eventually("assignments to be stored again", async || {
            let unit = format!("alive-{round}");
            let part = ask(&app.channel, &key, "f", &unit, 0).await.experiment.unwrap();
            part.assignment_stored.then_some((unit, (part.arm, part.iteration)))
        })
        .await;
        acknowledged.extend([revived]);
        let kept = rows(&app, "x").await;
        for (unit, assigned) in &acknowledged {
            assert_eq!(kept.get(unit), Some(assigned), "{unit}");
        }
    }
    app.server.stop().await.unwrap();
    postgres.stop().await.unwrap();
}
