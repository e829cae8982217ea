//! First answers that are written together, of which one is blocked, refused or makes no sense; and what is known of units that
//! others wrote meanwhile.

use std::sync::Arc;
use std::time::Duration;

use halyard::evaluate::{Assigned, Need};
use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1 as evaluation;
use halyard::store;
use halyard::store::assignments::Assignments;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::assignments::needs;
use super::{ask, experiment, rows, run, shop, update};
use crate::app::App;
use crate::support::{database, eventually};
use crate::words::{configuration, configured};

/// What writes assignments, without a server around it.
struct Replica {
    assignments: Arc<Assignments>,
    _running: DropGuard,
}

impl Replica {
    fn of(app: &App) -> Self {
        let (assignments, writer) = Assignments::new(&store::Settings::new(app.database.config.clone())).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(writer.run(stop.clone()));
        Self {
            assignments: Arc::new(assignments),
            _running: stop.drop_guard(),
        }
    }

    /// All by one statement, if PostgreSQL takes it.
    async fn settle(&self, needs: &[Need]) -> Vec<Assigned> {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.assignments.settle(needs, deadline).await
    }
}

async fn salt(app: &App) -> uuid::Uuid {
    let sql = app.database.client().await;
    sql.query_one("select salt from experiments", &[]).await.unwrap().get(0)
}

fn is_arm(assigned: &Assigned) -> bool {
    matches!(assigned, Assigned::Arm { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_that_somebody_is_deleting_keeps_no_other_waiting() {
    let app = App::start_with(database().await, |options| {
        options.store.assignments.patience = Duration::from_secs(3);
    })
    .await;
    let key = shop(&app).await;
    app.flag("g").await;
    configured(&app, configuration("g")).await;
    run(&app, experiment("x")).await;
    let on_g = pb::Experiment {
        flag: "g".into(),
        ..experiment("y")
    };
    let revision = run(&app, on_g).await;
    let mut holder = app.database.client().await;
    let deleting = holder.transaction().await.unwrap();
    let delete = "set local halyard.journal = 'on'; delete from experiments where key = 'y'";
    deleting.batch_execute(delete).await.unwrap();
    let (of_y, of_x) = tokio::join!(
        ask(&app.channel, &key, "g", "u", revision),
        ask(&app.channel, &key, "f", "u", revision)
    );
    assert!(!of_y.experiment.unwrap().assignment_stored);
    assert!(of_x.experiment.unwrap().assignment_stored);
    deleting.rollback().await.unwrap();
    let of_y = ask(&app.channel, &key, "g", "u", revision).await;
    assert!(
        of_y.experiment.unwrap().assignment_stored,
        "it is not deleted after all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_postgresql_refuses_harms_no_other() {
    let app = App::start().await;
    shop(&app).await;
    run(&app, experiment("x")).await;
    let sql = app.database.client().await;
    let poison = "
        create function refuse() returns trigger language plpgsql as $$ begin raise 'poison'; end $$;
        create trigger refuse before insert on experiment_assignments
            for each row when (new.unit = 'poison') execute function refuse()";
    sql.batch_execute(poison).await.unwrap();
    let replica = Replica::of(&app);
    let mut units = super::units(299);
    units.insert(140, "poison".into());
    let needs = needs(salt(&app).await, [1, 1], &units);
    let settled = replica.settle(&needs).await;
    for (unit, assigned) in units.iter().zip(&settled) {
        assert_eq!(is_arm(assigned), unit != "poison", "{unit}: {assigned:?}");
    }
    assert_eq!(rows(&app, "x").await.len(), 299);
    let known = replica.assignments.known();
    let need = &needs[140];
    assert_eq!(
        known.get(&need.experiment, &need.unit),
        Assigned::Unreachable,
        "PostgreSQL is not asked again at once"
    );
    sql.batch_execute("drop trigger refuse on experiment_assignments")
        .await
        .unwrap();
    assert!(is_arm(&replica.settle(&needs[140..=140]).await[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_arm_that_makes_no_sense_harms_no_other() {
    let app = App::start().await;
    shop(&app).await;
    run(&app, experiment("x")).await;
    let sql = app.database.client().await;
    let broken = "
        insert into experiment_arms select id, 3, 'NOT A KEY', 1, false from experiments;
        insert into experiment_assignments select id, 'broken', 'NOT A KEY', 1, now() from experiments";
    sql.batch_execute(broken).await.unwrap();
    let units = ["broken", "fine"].map(str::to_owned);
    let settled = Replica::of(&app).settle(&needs(salt(&app).await, [1, 1], &units)).await;
    assert_eq!(settled[0], Assigned::Unreachable);
    assert!(is_arm(&settled[1]), "{settled:?}");
}

/// Nobody writes them here.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_written_is_bounded_in_bytes() {
    let app = App::start().await;
    shop(&app).await;
    run(&app, experiment("x")).await;
    let mut settings = store::Settings::new(app.database.config.clone());
    let limit = 100_000;
    settings.assignments.queue_bytes = limit;
    let (assignments, _writer) = Assignments::new(&settings).unwrap();
    let units: Vec<_> = (0..1_000).map(|n| format!("{n:900}")).collect();
    let needs_of = async |units: &[String]| needs(salt(&app).await, [1, 1], units);
    for need in needs_of(&units).await.chunks(1) {
        assert_eq!(assignments.settle(need, Instant::now()).await, [Assigned::Unreachable]);
    }
    let waiting = assignments.waiting_bytes();
    assert!((limit - 2_000..=limit).contains(&waiting), "{waiting}");
    // Of one that is stored as a hash nothing else waits.
    let (assignments, _writer) = Assignments::new(&settings).unwrap();
    let long = ["x".repeat(60_000)];
    assignments.settle(&needs_of(&long).await, Instant::now()).await;
    let waiting = assignments.waiting_bytes();
    assert!((1..1_000).contains(&waiting), "{waiting}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arm_that_a_replica_stores_after_the_allocation_was_narrowed_is_found() {
    let app = App::start().await;
    let key = shop(&app).await;
    run(&app, experiment("x")).await;
    let narrowed = pb::Experiment {
        allocation_millionths: 1,
        ..experiment("x")
    };
    let revision = update(&app, narrowed, &["allocation_millionths"]).await.revisions[0].revision;
    let answer = ask(&app.channel, &key, "f", "u", revision).await;
    assert_eq!(answer.reason(), evaluation::Reason::Default);
    let sql = app.database.client().await;
    let late = "insert into experiment_assignments select id, 'u', 'on', 1, now() from experiments";
    sql.batch_execute(late).await.unwrap();
    let part = eventually("the arm", async || {
        ask(&app.channel, &key, "f", "u", revision).await.experiment
    })
    .await;
    assert_eq!((part.arm.as_str(), part.assignment_stored), ("on", true));
}

/// As after a deletion and a new answer on another replica, or from a backup: the table has another arm.
async fn turn_over(app: &App) {
    let sql = app.database.client().await;
    let turn = "update experiment_assignments set arm = case arm when 'on' then 'off' else 'on' end";
    assert_eq!(sql.execute(turn, &[]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_arm_is_looked_up_again_after_a_while() {
    let app = App::start_with(database().await, |options| {
        options.store.assignments.believed_for = Duration::ZERO;
        options.store.assignments.patience = Duration::from_secs(5);
    })
    .await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let before = ask(&app.channel, &key, "f", "u", revision).await.experiment.unwrap();
    turn_over(&app).await;
    let after = ask(&app.channel, &key, "f", "u", revision).await.experiment.unwrap();
    assert!(
        after.assignment_stored && after.arm != before.arm,
        "{before:?} {after:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_known_is_forgotten_when_the_history_is_another() {
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let before = eventually("a stored arm", async || {
        let part = ask(&app.channel, &key, "f", "u", revision).await.experiment.unwrap();
        part.assignment_stored.then_some(part)
    })
    .await;
    turn_over(&app).await;
    assert_eq!(
        ask(&app.channel, &key, "f", "u", revision).await.experiment,
        Some(before.clone())
    );
    let sql = app.database.client().await;
    sql.batch_execute("update store_identity set generation = generation + 1")
        .await
        .unwrap();
    eventually("the arm of the new history", async || {
        let part = ask(&app.channel, &key, "f", "u", revision).await.experiment?;
        (part.assignment_stored && part.arm != before.arm).then_some(())
    })
    .await;
}
