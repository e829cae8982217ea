//! Experiments, through the public interface.

mod assignments;
mod edited;
mod elsewhere;
mod layers;
mod lifecycle;
mod outages;
mod privacy;

use std::collections::BTreeMap;

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1 as evaluation;
use tonic::transport::Channel;

use crate::app::{self, App};
use crate::words::{configuration, configured, who};

/// On the flag `f` of `shop` in `dev`: `on` and `off` in equal parts, for everyone.
pub fn experiment(key: &str) -> pb::Experiment {
    pb::Experiment {
        project: "shop".into(),
        environment: "dev".into(),
        key: key.into(),
        flag: "f".into(),
        arms: arms(1, 1),
        allocation_millionths: 1_000_000,
        ..Default::default()
    }
}

pub fn arms(on: u32, off: u32) -> Vec<pb::Arm> {
    let arm = |variant: &str, weight, control| pb::Arm {
        variant: variant.into(),
        weight,
        control,
    };
    vec![arm("on", on, false), arm("off", off, true)]
}

pub fn create(experiment: pb::Experiment) -> pb::CreateExperimentRequest {
    pb::CreateExperimentRequest {
        experiment: Some(experiment),
        ..Default::default()
    }
}

pub fn start(experiment: &str) -> pb::StartExperimentRequest {
    pb::StartExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: experiment.into(),
        ..Default::default()
    }
}

pub fn stop(experiment: &str) -> pb::StopExperimentRequest {
    pb::StopExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: experiment.into(),
        ..Default::default()
    }
}

/// Writes these fields of an experiment, and returns what came of it.
pub async fn update(app: &App, experiment: pb::Experiment, fields: &[&str]) -> pb::UpdateExperimentResponse {
    let response = app.experiments().update_experiment(changing(experiment, fields)).await;
    response.unwrap().into_inner()
}

pub fn changing(experiment: pb::Experiment, fields: &[&str]) -> pb::UpdateExperimentRequest {
    pb::UpdateExperimentRequest {
        experiment: Some(experiment),
        update_mask: Some(prost_types::FieldMask {
            paths: fields.iter().map(ToString::to_string).collect(),
        }),
        ..Default::default()
    }
}

/// Creates an experiment and starts it; returns the revision.
pub async fn run(app: &App, experiment: pb::Experiment) -> u64 {
    let key = experiment.key.clone();
    app.experiments().create_experiment(create(experiment)).await.unwrap();
    let started = app
        .experiments()
        .start_experiment(start(&key))
        .await
        .unwrap()
        .into_inner();
    started.revisions[0].revision
}

/// A service with the flag `f`, which is on and has no rules, and the key of an application.
pub async fn shop(app: &App) -> String {
    let keys = app.shop().await;
    app.flag("f").await;
    configured(app, configuration("f")).await;
    keys.server
}

/// What a unit is answered about a flag.
pub async fn ask(channel: &Channel, key: &str, flag: &str, unit: &str, min_revision: u64) -> evaluation::Evaluation {
    let request = evaluation::EvaluateRequest {
        flag: flag.into(),
        context: who(unit),
        min_revision,
        explain: false,
    };
    let response = app::evaluation(channel, key).evaluate(request).await;
    response.unwrap().into_inner().evaluation.unwrap()
}

/// Arms and iterations by unit: each is stored, and the reason is EXPERIMENT.
pub type Stored = BTreeMap<String, (String, u32)>;

/// What these units are answered about `f`; all of them take part, and are stored.
pub async fn stored(channel: &Channel, key: &str, units: &[String], min_revision: u64) -> Stored {
    let mut stored = Stored::new();
    for unit in units {
        let answer = ask(channel, key, "f", unit, min_revision).await;
        assert_eq!(answer.reason(), evaluation::Reason::Experiment, "{unit}: {answer:?}");
        let part = answer.experiment.unwrap();
        assert!(part.assignment_stored && part.sticky, "{unit}: {part:?}");
        assert_eq!(part.arm, answer.variant);
        stored.insert(unit.clone(), (part.arm, part.iteration));
    }
    stored
}

pub fn units(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user-{n}")).collect()
}

/// What the table has of an experiment.
pub async fn rows(app: &App, experiment: &str) -> Stored {
    let sql = app.database.client().await;
    let rows = "
        select a.unit, a.arm, a.iteration from experiment_assignments a join experiments e on e.id = a.experiment_id
        where e.key = $1";
    let rows = sql.query(rows, &[&experiment]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), (row.get(1), u32::try_from(row.get::<_, i32>(2)).unwrap())))
        .collect()
}
