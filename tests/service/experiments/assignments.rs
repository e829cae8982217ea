//! Stored assignments: one answer for each unit, whatever happens to weights, replicas and memory.

use std::sync::Arc;

use futures_util::future::join_all;
use halyard::domain::experiment::{Running, WHOLE, item};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::domain::rule::Weighted;
use halyard::evaluate::{Assigned, Freshness, Need, Snapshot};
use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1 as evaluation;
use halyard::server::Server;
use halyard::store;
use halyard::store::assignments::Assignments;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{arms, ask, create, experiment, rows, run, shop, start, stored, units, update};
use crate::app::{self, App, connect, options};
use crate::refusals::refused;
use crate::support::within;
use crate::words::{configuration, configured, who};

#[tokio::test(flavor = "multi_thread")]
async fn arms_stay_when_weights_and_allocation_change_and_wherever_they_are_asked_for() {
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let units = units(200);
    let before = stored(&app.channel, &key, &units, revision).await;
    let on = before.values().filter(|(arm, _)| arm == "on").count();
    assert!((70..130).contains(&on), "{on} of 200 for one half");
    assert_eq!(rows(&app, "x").await, before);

    let moved = pb::Experiment {
        arms: arms(1, 99),
        allocation_millionths: 10_000,
        ..experiment("x")
    };
    let updated = update(&app, moved, &["arms", "allocation_millionths"]).await;
    let revision = updated.revisions[0].revision;
    assert_eq!(stored(&app.channel, &key, &units, revision).await, before);
    let newcomer = ask(&app.channel, &key, "f", "newcomer", revision).await;
    assert_eq!(
        newcomer.reason(),
        evaluation::Reason::Default,
        "not among the one in a hundred"
    );

    let (replica, channel) = app.replica().await;
    assert_eq!(
        stored(&channel, &key, &units, revision).await,
        before,
        "a replica that never met them"
    );
    replica.stop().await.unwrap();
    // Memory for a handful.
    let mut forgetful = options(&app.database);
    forgetful.store.assignments.cache_bytes = 2_000;
    let server = Server::start(forgetful).await.unwrap();
    within("the first state", server.ready()).await;
    let channel = connect(&server).await;
    for _ in 0..2 {
        assert_eq!(
            stored(&channel, &key, &units, revision).await,
            before,
            "one that forgets them"
        );
    }
    server.stop().await.unwrap();

    let back = pb::Experiment {
        arms: arms(99, 1),
        allocation_millionths: 1_000_000,
        ..experiment("x")
    };
    let revision = update(&app, back, &["arms", "allocation_millionths"]).await.revisions[0].revision;
    assert_eq!(stored(&app.channel, &key, &units, revision).await, before);
    let newcomer = ask(&app.channel, &key, "f", "newcomer", revision)
        .await
        .experiment
        .unwrap();
    assert_eq!(
        (newcomer.iteration, newcomer.assignment_stored),
        (3, true),
        "what was looked up in vain is asked again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_holds_as_long_as_the_unit_is_in_the_audience() {
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let unit = ["user-0".to_owned()];
    let before = stored(&app.channel, &key, &unit, revision).await;
    let nobody = evaluation::Condition {
        attribute: "country".into(),
        operator: evaluation::Operator::Exists.into(),
        ..Default::default()
    };
    let narrowed = pb::Experiment {
        audience: vec![nobody],
        ..experiment("x")
    };
    let revision = update(&app, narrowed, &["audience"]).await.revisions[0].revision;
    let answer = ask(&app.channel, &key, "f", "user-0", revision).await;
    assert_eq!(
        (answer.reason(), answer.experiment),
        (evaluation::Reason::Default, None)
    );
    let revision = update(&app, experiment("x"), &["audience"]).await.revisions[0].revision;
    assert_eq!(
        stored(&app.channel, &key, &unit, revision).await,
        before,
        "back, and as it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_first_requests_at_two_replicas_get_one_answer() {
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let (replica, channel) = app.replica().await;
    for unit in units(20) {
        let asked = (0..64).map(|n| {
            let channel = if n % 2 == 0 { &app.channel } else { &channel };
            ask(channel, &key, "f", &unit, revision)
        });
        let mut answers: Vec<_> = join_all(asked)
            .await
            .into_iter()
            .map(|it| it.experiment.unwrap())
            .collect();
        assert!(answers.iter().all(|part| part.assignment_stored), "{answers:?}");
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
    }
    assert_eq!(rows(&app, "x").await.len(), 20);
    replica.stop().await.unwrap();
}

/// What a replica needs that knows the experiment with these weights: of every unit that hashes to it.
pub(super) fn needs(salt: uuid::Uuid, [on, off]: [u32; 2], units: &[String]) -> Vec<Need> {
    let arm = |variant: &str, weight| Weighted {
        variant: variant.parse().unwrap(),
        weight,
    };
    let running = Running {
        flag: "f".parse().unwrap(),
        salt,
        iteration: 1,
        arms: vec![arm("on", on), arm("off", off)],
        audience: Vec::new(),
        allocation: WHOLE,
        largest_allocation: WHOLE,
        attribute: None,
        sticky: true,
        layer: None,
        before_rule: None,
    };
    let mut snapshot = Snapshot::default();
    let mut put = |kind, key: &str, form: &[u8]| snapshot.put(&ItemId { kind, key: key.into() }, form);
    let definition = br#"{"format":1,"key":"f","type":"bool","variants":[{"key":"on","value":{"bool":true}},
        {"key":"off","value":{"bool":false}}],"off_variant":"off","client_visible":true}"#;
    put(Kind::FlagDefinition, "f", definition);
    put(Kind::FlagConfiguration, "f", br#"{"format":1,"enabled":true}"#);
    put(Kind::Experiment, &item("f", "x"), &form::write_experiment(&running));
    let need = |unit: &String| {
        let context = halyard::domain::context::Context::new(unit.clone(), std::iter::empty().collect());
        let flag = snapshot.get("f").unwrap();
        let asked = flag.evaluate_knowing(&context, &snapshot, Freshness::ANY, &|_: &_, _: &_| Assigned::Unknown);
        *asked.unwrap_err()
    };
    units.iter().map(need).collect()
}

/// Two replicas of which one has not heard of new weights yet want different arms for the same units, at the same instant; whatever
/// isolation the database has by default.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_want_different_arms_agree_on_the_first() {
    let app = App::start().await;
    shop(&app).await;
    run(&app, experiment("x")).await;
    let sql = app.database.client().await;
    let salt: uuid::Uuid = sql.query_one("select salt from experiments", &[]).await.unwrap().get(0);
    let settings = store::Settings::new(app.database.config.clone());
    let stop = CancellationToken::new();
    let replica = || {
        let (assignments, writer) = Assignments::new(&settings).unwrap();
        tokio::spawn(writer.run(stop.clone()));
        Arc::new(assignments)
    };
    for isolation in ["read committed", "serializable"] {
        let by_default = format!(
            "do $$ begin
                execute format('alter database %I set default_transaction_isolation = %L', current_database(), '{isolation}');
            end $$"
        );
        sql.batch_execute(&by_default).await.unwrap();
        let (one, other) = (replica(), replica());
        for lot in 0..20 {
            let units: Vec<_> = (0..50).map(|n| format!("{isolation}-{lot}-{n}")).collect();
            let (wants_on, wants_off) = (needs(salt, [999_999, 1], &units), needs(salt, [1, 999_999], &units));
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
            let (of_one, of_other) = tokio::join!(one.settle(&wants_on, deadline), other.settle(&wants_off, deadline));
            assert_eq!(of_one, of_other, "{isolation} {lot}");
            assert!(of_one.iter().all(|it| matches!(it, Assigned::Arm { .. })), "{of_one:?}");
        }
    }
    assert_eq!(rows(&app, "x").await.len(), 2_000);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_flags_of_one_question_are_settled_by_one_statement() {
    let app = App::start().await;
    let key = shop(&app).await;
    let mut revision = 0;
    for n in 0..12 {
        let flag = format!("f-{n}");
        app.flag(&flag).await;
        configured(&app, configuration(&flag)).await;
        let on_it = pb::Experiment {
            flag,
            ..experiment(&format!("x-{n}"))
        };
        revision = run(&app, on_it).await;
    }
    let request = evaluation::EvaluateAllRequest {
        context: who("u"),
        flags: Vec::new(),
        min_revision: revision,
    };
    let mut client = app::evaluation(&app.channel, &key);
    let first = client.evaluate_all(request.clone()).await.unwrap().into_inner();
    let parts = first.evaluations.iter().filter_map(|it| it.experiment.as_ref());
    assert_eq!(parts.filter(|part| part.assignment_stored).count(), 12);
    assert_eq!(client.evaluate_all(request).await.unwrap().into_inner(), first);
    let sql = app.database.client().await;
    let written = "select count(*), count(distinct xmin::text) from experiment_assignments";
    let row = sql.query_one(written, &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (12, 1),
        "one transaction wrote all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_storage_stores_nothing() {
    let app = App::start().await;
    let key = shop(&app).await;
    let hashed = pb::Experiment {
        without_storage: true,
        ..experiment("x")
    };
    let revision = run(&app, hashed).await;
    let answer = ask(&app.channel, &key, "f", "u", revision).await.experiment.unwrap();
    assert_eq!((answer.assignment_stored, answer.sticky), (false, false));
    assert!(rows(&app, "x").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_is_asked_alone() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.experiments()
        .create_experiment(create(experiment("x")))
        .await
        .unwrap();
    let ask = async |unit: &str, min_revision| {
        let request = evaluation::GetAssignmentRequest {
            experiment: "x".into(),
            context: who(unit),
            min_revision,
        };
        app::evaluation(&app.channel, &keys.server)
            .get_assignment(request)
            .await
    };
    refused(ask("u", 0).await, Code::NotFound);
    let started = app
        .experiments()
        .start_experiment(start("x"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(started.warnings.len(), 1, "its flag is off: {:?}", started.warnings);
    let answer = ask("u", started.revisions[0].revision).await.unwrap().into_inner();
    assert_eq!(answer.outcome(), evaluation::ExperimentOutcome::Served);
    let part = answer.participation.unwrap();
    assert_eq!((answer.flag.as_str(), part.assignment_stored), ("f", true));
    assert_eq!(rows(&app, "x").await["u"], (part.arm, 1));
    let nobody = ask("", 0).await.unwrap().into_inner();
    assert_eq!(
        (nobody.outcome(), nobody.participation),
        (evaluation::ExperimentOutcome::NoUnit, None)
    );
}
