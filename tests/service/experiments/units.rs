//! What a unit can be, from its answer to its results: whatever evaluation takes, everything else takes.

use std::collections::BTreeMap;

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1 as evaluation;
use prost_types::value::Kind;
use tonic::Code;
use uuid::Uuid;

use super::{create, experiment, rows, run, shop};
use crate::app::{self, App};
use crate::metrics::{measured, scrape};
use crate::refusals::refused;
use crate::support::database;

/// A context with nothing but this company.
fn company(value: Kind) -> evaluation::Context {
    let value = prost_types::Value { kind: Some(value) };
    evaluation::Context {
        targeting_key: String::new(),
        attributes: Some(prost_types::Struct {
            fields: BTreeMap::from([("company".to_owned(), value)]),
        }),
    }
}

async fn ask(app: &App, key: &str, context: evaluation::Context, min_revision: u64) -> evaluation::Evaluation {
    let request = evaluation::EvaluateRequest {
        flag: "f".into(),
        context: Some(context),
        min_revision,
        explain: false,
    };
    let response = app::evaluation(&app.channel, key).evaluate(request).await;
    response.unwrap().into_inner().evaluation.unwrap()
}

async fn track(
    app: &App,
    key: &str,
    events: Vec<evaluation::event::What>,
    unit: &str,
) -> Vec<evaluation::EventOutcome> {
    let event = |what| evaluation::Event {
        id: Uuid::now_v7().to_string(),
        unit: unit.into(),
        occur_time: None,
        what: Some(what),
    };
    let request = evaluation::TrackRequest {
        events: events.into_iter().map(event).collect(),
        as_client: false,
    };
    let answered = app::evaluation(&app.channel, key).track(request).await.unwrap();
    let answers = answered.into_inner().answers;
    answers.iter().map(evaluation::EventAnswer::outcome).collect()
}

/// That a unit saw what it was answered.
fn exposure(answer: &evaluation::Evaluation) -> evaluation::event::What {
    let part = answer.experiment.clone().unwrap();
    evaluation::event::What::Exposure(evaluation::Exposure {
        experiment: part.experiment,
        iteration: part.iteration,
        arm: part.arm,
        assignment_stored: part.assignment_stored,
    })
}

fn bought(unit_attribute: &str) -> evaluation::event::What {
    evaluation::event::What::Metric(evaluation::MetricEvent {
        metric: "bought".into(),
        amount: None,
        unit_attribute: unit_attribute.into(),
    })
}

/// Of this unit, with the conversion metric `bought`.
fn of(unit_attribute: &str) -> pb::Experiment {
    pb::Experiment {
        unit_attribute: unit_attribute.into(),
        primary_metric: Some(pb::Metric {
            key: "bought".into(),
            kind: pb::MetricKind::Conversion.into(),
            goal: pb::MetricGoal::Increase.into(),
        }),
        ..experiment("x")
    }
}

/// How many units were assigned, exposed, and converted.
async fn results(app: &App) -> [u64; 3] {
    let request = pb::GetResultsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
    };
    let results = app.experiments().get_results(request).await.unwrap().into_inner();
    let [iteration] = results.iterations.as_slice() else {
        panic!("{results:?}")
    };
    let sum = |count: fn(&pb::ArmResults) -> u64| iteration.arms.iter().map(count).sum();
    [
        sum(|arm| arm.assigned),
        sum(|arm| arm.exposed),
        sum(|arm| arm.metrics[0].converted),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_targeting_key_counts_by_its_name_too() {
    use evaluation::EventOutcome::Accepted;
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, of("targeting_key")).await;
    for (unit, metrics) in [("by its name", "targeting_key"), ("by none", "")] {
        let answer = super::ask(&app.channel, &key, "f", unit, revision).await;
        let events = vec![exposure(&answer), bought(metrics)];
        assert_eq!(track(&app, &key, events, unit).await, [Accepted; 2]);
    }
    assert_eq!(results(&app).await, [2, 2, 2]);

    for (layer, unit) in [("people", "targeting_key"), ("companies", "company")] {
        let layer = pb::Layer {
            project: "shop".into(),
            environment: "dev".into(),
            key: layer.into(),
            unit_attribute: unit.into(),
            ..Default::default()
        };
        let request = pb::CreateLayerRequest {
            layer: Some(layer),
            ..Default::default()
        };
        app.experiments().create_layer(request).await.unwrap();
    }
    let within = async |key: &str, layer: &str, unit: &str| {
        let share = pb::Experiment {
            key: key.into(),
            layer: layer.into(),
            layer_share_millionths: 100_000,
            ..of(unit)
        };
        app.experiments().create_experiment(create(share)).await
    };
    for (key, unit) in [("a", ""), ("b", "targeting_key")] {
        let made = within(key, "people", unit).await.unwrap().into_inner();
        assert_eq!(made.experiment.unwrap().unit_attribute, "");
    }
    refused(within("c", "people", "company").await, Code::InvalidArgument);
    refused(within("d", "companies", "targeting_key").await, Code::InvalidArgument);
    let made = within("e", "companies", "").await.unwrap().into_inner();
    assert_eq!(made.experiment.unwrap().unit_attribute, "company");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_text_is_no_unit() {
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, of("company")).await;
    let nobody = || company(Kind::StringValue(String::new()));
    let answer = ask(&app, &key, nobody(), revision).await;
    assert_eq!(
        (answer.reason(), answer.experiment),
        (evaluation::Reason::Default, None)
    );
    let request = evaluation::GetAssignmentRequest {
        experiment: "x".into(),
        context: Some(nobody()),
        min_revision: revision,
    };
    let asked = app::evaluation(&app.channel, &key).get_assignment(request).await;
    assert_eq!(
        asked.unwrap().into_inner().outcome(),
        evaluation::ExperimentOutcome::NoUnit
    );
    assert!(rows(&app, "x").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_bools_and_long_texts_are_units_like_others() {
    use evaluation::EventOutcome::Accepted;
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, of("company")).await;
    let long = "k".repeat(60_000);
    let units = [
        (Kind::NumberValue(42.5), "42.5"),
        (Kind::BoolValue(true), "true"),
        (Kind::StringValue("a\0b".into()), "a\0b"),
        (Kind::StringValue(long.clone()), long.as_str()),
    ];
    for (value, unit) in units {
        let answer = ask(&app, &key, company(value), revision).await;
        assert!(answer.experiment.as_ref().unwrap().assignment_stored, "{answer:?}");
        let events = vec![exposure(&answer), bought("company")];
        assert_eq!(track(&app, &key, events, unit).await, [Accepted; 2]);
        let list = pb::ListUnitAssignmentsRequest {
            project: "shop".into(),
            environment: "dev".into(),
            unit: unit.into(),
        };
        let listed = app.experiments().list_unit_assignments(list).await.unwrap();
        assert_eq!(listed.into_inner().assignments.len(), 1);
    }
    assert_eq!(results(&app).await, [4, 4, 4]);
    let stored = rows(&app, "x").await;
    assert!(stored.contains_key("42.5") && stored.contains_key("true"), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_cannot_be_stored_is_malformed_and_keeps_no_other_event_back() {
    use evaluation::EventOutcome::{Accepted, Malformed};
    let app = App::start().await;
    let key = shop(&app).await;
    run(&app, of("")).await;
    let events = vec![bought(""), bought("com\0pany"), bought("company")];
    assert_eq!(track(&app, &key, events, "ada").await, [Accepted, Malformed, Accepted]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_outside_of_the_audience_is_not_looked_up() {
    let app = App::start_with(database().await, measured).await;
    let key = shop(&app).await;
    let large = evaluation::Condition {
        attribute: "company".into(),
        operator: evaluation::Operator::StartsWith.into(),
        values: vec![prost_types::Value {
            kind: Some(Kind::StringValue("large".into())),
        }],
        ..Default::default()
    };
    let of_large = pb::Experiment {
        audience: vec![large],
        ..of("company")
    };
    let revision = run(&app, of_large).await;
    for (unit, looked_up) in [("small", 0), ("large", 1), ("tiny", 1)] {
        let asked = company(Kind::StringValue(unit.into()));
        let answer = ask(&app, &key, asked, revision).await;
        assert_eq!(answer.experiment.is_some(), unit == "large");
        let counted = scrape(&app).await.count("halyard_assignment_units_total");
        assert_eq!(counted, looked_up, "{unit}");
    }
}
