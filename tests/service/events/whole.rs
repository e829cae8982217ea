//! From an experiment's start to its results, as applications and people go through it.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::EventOutcome::Accepted;

use super::{conversion, event, track, value};
use crate::app::App;
use crate::experiments::{arms, ask, experiment, run, shop, stop, units, update};
use crate::support::eventually;

fn metric(key: &str, kind: admin::MetricKind) -> admin::Metric {
    admin::Metric {
        key: key.into(),
        kind: kind.into(),
        goal: admin::MetricGoal::Increase.into(),
    }
}

/// Asks for each unit and tells that it saw its arm; returns the units by iteration and arm.
async fn expose(app: &App, key: &str, units: &[String], revision: u64) -> Vec<(u32, String)> {
    let (mut events, mut seen) = (Vec::new(), Vec::new());
    for unit in units {
        // On a machine that does other things too it may not be stored in time at first.
        let part = eventually("a stored arm", async || {
            let part = ask(&app.channel, key, "f", unit, revision).await.experiment.unwrap();
            part.assignment_stored.then_some(part)
        })
        .await;
        seen.push((part.iteration, part.arm.clone()));
        let exposure = pb::Exposure {
            experiment: part.experiment,
            iteration: part.iteration,
            arm: part.arm,
            assignment_stored: part.assignment_stored,
        };
        events.push(event(unit, pb::event::What::Exposure(exposure)));
    }
    assert_eq!(
        track(&app.channel, key, events).await.unwrap(),
        vec![Accepted; units.len()]
    );
    seen
}

async fn results(app: &App) -> Vec<admin::IterationResults> {
    let request = admin::GetResultsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "e".into(),
    };
    app.experiments()
        .get_results(request)
        .await
        .unwrap()
        .into_inner()
        .iterations
}

/// Of each arm of an iteration: assigned, exposed.
fn counted(iteration: &admin::IterationResults) -> Vec<(&str, u64, u64)> {
    let arms = iteration.arms.iter();
    arms.map(|arm| (arm.variant.as_str(), arm.assigned, arm.exposed))
        .collect()
}

fn of(seen: &[(u32, String)], iteration: u32, arm: &str) -> u64 {
    seen.iter().filter(|seen| **seen == (iteration, arm.to_owned())).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_told_and_counted_fits_together() {
    let app = App::start().await;
    let key = shop(&app).await;
    let designed = admin::Experiment {
        primary_metric: Some(metric("bought", admin::MetricKind::Conversion)),
        guardrail_metrics: vec![metric("revenue", admin::MetricKind::Value)],
        ..experiment("e")
    };
    let revision = run(&app, designed).await;
    let everyone = units(80);
    let (early, late) = everyone.split_at(40);
    let first = expose(&app, &key, early, revision).await;
    assert!(first.iter().all(|(iteration, _)| *iteration == 1));

    let reweighted = admin::Experiment {
        arms: arms(3, 1),
        ..experiment("e")
    };
    let changed = update(&app, reweighted, &["arms"]).await;
    let revision = changed.revisions[0].revision;
    // Who has an arm keeps it, and the iteration that gave it.
    assert_eq!(expose(&app, &key, early, revision).await, first);
    let second = expose(&app, &key, late, revision).await;
    assert!(second.iter().all(|(iteration, _)| *iteration == 2));
    let buy = everyone.iter().step_by(2);
    let events: Vec<_> = buy
        .flat_map(|unit| [conversion(unit, "bought"), value(unit, "revenue", 2.5)])
        .collect();
    assert_eq!(track(&app.channel, &key, events).await.unwrap(), [Accepted; 80]);

    let found = results(&app).await;
    assert_eq!(found.len(), 2);
    for (iteration, seen) in found.iter().zip([&first, &second]) {
        let number = iteration.iteration;
        let [on, off] = ["on", "off"].map(|arm| of(seen, number, arm));
        assert_eq!(counted(iteration), [("on", on, on), ("off", off, off)]);
        let sum = |metric: usize| iteration.arms.iter().map(|arm| arm.metrics[metric].sum).sum::<f64>();
        assert_eq!([sum(0), sum(1)].map(f64::to_bits), [20.0, 50.0].map(f64::to_bits));
        // Salts are made anew: once in a thousand times it is suspicious.
        assert!(iteration.sample_ratio.is_some());
        assert_eq!((iteration.excluded_exposures, iteration.torn_units), (0, 0));
    }
    let weights: Vec<_> = found.iter().map(|iteration| iteration.arms[0].expected_share).collect();
    assert_eq!(weights, [0.5, 0.75]);

    // What they do later counts as long as it goes on, and what is told late counts after the end.
    let later = conversion(&everyone[1], "bought");
    let pause = admin::PauseExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "e".into(),
        ..admin::PauseExperimentRequest::default()
    };
    app.experiments().pause_experiment(pause).await.unwrap();
    let before_the_end = super::at(conversion(&everyone[3], "bought"), 0);
    assert_eq!(track(&app.channel, &key, vec![later]).await.unwrap(), [Accepted]);
    app.experiments().stop_experiment(stop("e")).await.unwrap();
    let after_the_end = conversion(&everyone[5], "bought");
    let outcomes = track(&app.channel, &key, vec![before_the_end, after_the_end]).await;
    assert_eq!(outcomes.unwrap(), [Accepted; 2]);
    let converted = |iteration: &admin::IterationResults| {
        let arms = iteration.arms.iter();
        arms.map(|arm| arm.metrics[0].converted).sum::<u64>()
    };
    let found = results(&app).await;
    assert_eq!(found.iter().map(converted).collect::<Vec<_>>(), [22, 20]);
}
