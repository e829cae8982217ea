//! PostgreSQL is away, slow, or killed while assignments are on their way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use halyard::embedded::Cluster;
use halyard::pb::evaluation::v1 as pb;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::{Stored, ask, experiment, rows, run, shop, stored, units, who};
use crate::app::{App, evaluation};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Database, cluster, database, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_keeps_the_arm_and_others_get_the_hashed_one_while_postgresql_does_not_answer() {
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    let through = proxy.config.clone();
    let patience = Duration::from_millis(300);
    let app = App::start_with(database, |options| {
        options.store.target = through.into();
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
        (pb::Reason::Experiment, false)
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

#[tokio::test(flavor = "multi_thread")]
async fn who_has_less_time_than_postgresql_takes_is_answered_in_time() {
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    let through = proxy.config.clone();
    let app = App::start_with(database, |options| {
        options.store.target = through.into();
        options.store.assignments.patience = Duration::from_mins(1);
    })
    .await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    ask(&app.channel, &key, "f", "known", revision).await;
    proxy.set(Mode::Hold);
    let mut request = tonic::Request::new(pb::EvaluateRequest {
        flag: "f".into(),
        context: who("newcomer"),
        ..Default::default()
    });
    request.set_timeout(Duration::from_secs(3));
    let answer = evaluation(&app.channel, &key).evaluate(request).await.unwrap();
    let answer = answer.into_inner().evaluation.unwrap();
    assert_eq!(answer.reason(), pb::Reason::Experiment);
    assert!(!answer.experiment.unwrap().assignment_stored);
    proxy.set(Mode::Pass);
    app.server.stop().await.unwrap();
}

/// As when the service's address moves to another server, and the old one is never heard of again.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_never_answered_again_is_left() {
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    let through = proxy.config.clone();
    let app = App::start_with(database, |options| options.store.target = through.into()).await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    ask(&app.channel, &key, "f", "first", revision).await;
    proxy.set(Mode::Strand);
    ask(&app.channel, &key, "f", "second", 0).await;
    revived(&app, &key, "third").await;
    proxy.set(Mode::Cut);
    app.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arm_of_long_ago_is_kept_while_postgresql_does_not_answer() {
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    let through = proxy.config.clone();
    let app = App::start_with(database, |options| {
        options.store.target = through.into();
        options.store.assignments.patience = Duration::from_secs(1);
        options.store.assignments.believed_for = Duration::ZERO;
    })
    .await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let units = units(3);
    let before = stored(&app.channel, &key, &units, revision).await;
    proxy.set(Mode::Hold);
    assert_eq!(stored(&app.channel, &key, &units, 0).await, before);
    proxy.set(Mode::Pass);
    app.server.stop().await.unwrap();
}

/// Asks about one new unit after another, as long as each is said to be stored. Returns those, and the first that is not.
async fn ask_until_refused(app: &App, key: &str, name: &str, told: &AtomicUsize) -> (Stored, String) {
    let mut acknowledged = Stored::new();
    for n in 0.. {
        let unit = format!("{name}-{n}");
        let part = ask(&app.channel, key, "f", &unit, 0).await.experiment.unwrap();
        if !part.assignment_stored {
            return (acknowledged, unit);
        }
        told.fetch_add(1, Ordering::Relaxed);
        acknowledged.insert(unit, (part.arm, part.iteration));
    }
    unreachable!("there is always another number")
}

fn kill(postgres: &Cluster) {
    let pid = Pid::from_raw(postgres.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// A unit that is stored, once there are any again.
async fn revived(app: &App, key: &str, unit: &str) -> (String, (String, u32)) {
    eventually("assignments to be stored again", async || {
        let part = ask(&app.channel, key, "f", unit, 0).await.experiment.unwrap();
        part.assignment_stored
            .then(|| (unit.to_owned(), (part.arm, part.iteration)))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_to_be_stored_is_there_after_postgresql_was_killed() {
    let (postgres, _folder) = cluster::own_cluster().await;
    let database = Database {
        config: postgres.config(),
        url: postgres.url(),
    };
    let app = App::start_with(database, |options| {
        options.store.assignments.patience = Duration::from_secs(2);
    })
    .await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    ask(&app.channel, &key, "f", "first", revision).await;
    let mut acknowledged = Stored::new();
    for round in 0..3 {
        // Each has one question open whenever the kill comes.
        let (told, names) = (AtomicUsize::new(0), (0..32).map(|n| format!("round-{round}-{n}")));
        let names: Vec<_> = names.collect();
        let asking = join_all(names.iter().map(|name| ask_until_refused(&app, &key, name, &told)));
        let killing = async {
            eventually("some to be told", async || {
                (told.load(Ordering::Relaxed) >= 100).then_some(())
            })
            .await;
            kill(&postgres);
        };
        let (asked, ()) = within("the answers", join(asking, killing)).await;
        let (stored, open): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        assert!(stored.iter().map(Stored::len).sum::<usize>() >= 100);
        acknowledged.extend(stored.into_iter().flatten());
        within("the death of PostgreSQL", postgres.exited()).await;
        within("the restart of PostgreSQL", postgres.restart()).await.unwrap();
        acknowledged.extend([revived(&app, &key, &format!("alive-{round}")).await]);
        for unit in &open {
            acknowledged.extend([revived(&app, &key, unit).await]);
        }
        let kept = rows(&app, "x").await;
        for (unit, assigned) in &acknowledged {
            assert_eq!(kept.get(unit), Some(assigned), "{unit}");
        }
    }
    app.server.stop().await.unwrap();
    postgres.stop().await.unwrap();
}

/// Between the commit and the answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_postgresql_stored_but_could_not_say_is_the_arm_when_it_is_back() {
    let (postgres, _folder) = cluster::own_cluster().await;
    let proxy = Proxy::before(&postgres.config()).await;
    let through = proxy.config.clone();
    let database = Database {
        config: postgres.config(),
        url: postgres.url(),
    };
    let app = App::start_with(database, |options| {
        options.store.target = through.into();
        options.store.assignments.patience = Duration::from_millis(300);
    })
    .await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    ask(&app.channel, &key, "f", "first", revision).await;
    revived(&app, &key, "first").await;
    proxy.set(Mode::Hold);
    let answer = ask(&app.channel, &key, "f", "u", 0).await;
    assert!(!answer.experiment.unwrap().assignment_stored);
    let stored = eventually("the commit", async || rows(&app, "x").await.remove("u")).await;
    kill(&postgres);
    within("the death of PostgreSQL", postgres.exited()).await;
    proxy.set(Mode::Cut);
    within("the restart of PostgreSQL", postgres.restart()).await.unwrap();
    // Whatever the hash says now.
    let sql = cluster::client(&postgres.config()).await;
    let turn = "update experiment_assignments set arm = case arm when 'on' then 'off' else 'on' end where unit = 'u' returning arm";
    let other: String = sql.query_one(turn, &[]).await.unwrap().get(0);
    assert_ne!(other, stored.0);
    proxy.set(Mode::Pass);
    assert_eq!(revived(&app, &key, "u").await, ("u".to_owned(), (other, 1)));
    app.server.stop().await.unwrap();
    postgres.stop().await.unwrap();
}
