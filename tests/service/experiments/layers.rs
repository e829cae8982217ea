//! Layers: a unit takes part in one experiment of a layer at most, and no more is given out than there is.

use futures_util::future::join_all;
use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1::Reason;
use tonic::Code;

use super::{arms, ask, create, experiment, run, shop, stop, units};
use crate::app::App;
use crate::audit::{found, of};
use crate::refusals::refused;
use crate::words::{configuration, configured};

async fn layer(app: &App, key: &str) {
    let layer = pb::Layer {
        project: "shop".into(),
        environment: "dev".into(),
        key: key.into(),
        ..Default::default()
    };
    let request = pb::CreateLayerRequest {
        layer: Some(layer),
        ..Default::default()
    };
    app.experiments().create_layer(request).await.unwrap();
}

fn sharing(key: &str, flag: &str, share: u32) -> pb::Experiment {
    pb::Experiment {
        flag: flag.into(),
        arms: arms(1, 1),
        layer: "checkout".into(),
        layer_share_millionths: share,
        ..experiment(key)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unit_takes_part_in_one_of_two_that_fill_their_layer() {
    let app = App::start().await;
    let key = shop(&app).await;
    app.flag("g").await;
    configured(&app, configuration("g")).await;
    layer(&app, "checkout").await;
    run(&app, sharing("x", "f", 600_000)).await;
    let too_much = sharing("y", "g", 400_001);
    refused(
        app.experiments().create_experiment(create(too_much)).await,
        Code::InvalidArgument,
    );
    let revision = run(&app, sharing("y", "g", 400_000)).await;
    let mut in_first = 0;
    for unit in units(300) {
        let mut taken = 0;
        for flag in ["f", "g"] {
            let answer = ask(&app.channel, &key, flag, &unit, revision).await;
            let takes_part = answer.reason() == Reason::Experiment;
            taken += usize::from(takes_part);
            in_first += usize::from(takes_part && flag == "f");
        }
        assert_eq!(taken, 1, "{unit}");
    }
    assert!((140..220).contains(&in_first), "{in_first} of 300 for 60 %");

    let list = pb::ListLayersRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    let listed = app
        .experiments()
        .list_layers(list.clone())
        .await
        .unwrap()
        .into_inner()
        .layers;
    let shares: Vec<_> = listed[0]
        .shares
        .iter()
        .map(|it| (it.experiment.as_str(), it.start, it.end))
        .collect();
    assert_eq!(shares, [("x", 0, 600_000), ("y", 600_000, 1_000_000)]);
    assert_eq!(listed[0].free_millionths, 0);
    let delete = || pb::DeleteLayerRequest {
        project: "shop".into(),
        environment: "dev".into(),
        layer: "checkout".into(),
        ..Default::default()
    };
    refused(app.experiments().delete_layer(delete()).await, Code::FailedPrecondition);
    app.experiments().stop_experiment(stop("x")).await.unwrap();
    let listed = app.experiments().list_layers(list).await.unwrap().into_inner().layers;
    assert_eq!(listed[0].free_millionths, 600_000, "what is stopped is given back");
    app.experiments().stop_experiment(stop("y")).await.unwrap();
    app.experiments().delete_layer(delete()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_that_is_over_tells_that_its_layer_is_gone() {
    let app = App::start().await;
    shop(&app).await;
    layer(&app, "checkout").await;
    run(&app, sharing("x", "f", 600_000)).await;
    app.experiments().stop_experiment(stop("x")).await.unwrap();
    let get = async || {
        let request = pb::GetExperimentRequest {
            project: "shop".into(),
            environment: "dev".into(),
            experiment: "x".into(),
        };
        let response = app.experiments().get_experiment(request).await;
        response.unwrap().into_inner().experiment.unwrap()
    };
    let before = get().await;
    assert_eq!(before.layer, "checkout");
    let delete = pb::DeleteLayerRequest {
        project: "shop".into(),
        environment: "dev".into(),
        layer: "checkout".into(),
        ..Default::default()
    };
    app.experiments().delete_layer(delete).await.unwrap();
    let after = get().await;
    assert_eq!(after.layer, "");
    assert_ne!(after.etag, before.etag);
    let entries = found(&app, &of("shop")).await;
    let actions = entries.iter().map(|it| (it.action.as_str(), it.entity_key.as_str()));
    let told: Vec<_> = actions.take(2).collect();
    assert_eq!(told, [("layer.delete", "checkout"), ("experiment.update", "x")]);
    let entry = &entries[1];
    assert!(
        entry.before().contains("checkout") && !entry.after().contains("checkout"),
        "{entry:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn experiments_that_are_created_at_once_share_a_layer_without_overlap() {
    let app = App::start().await;
    shop(&app).await;
    layer(&app, "checkout").await;
    let made = (0..8).map(async |n| {
        let share = sharing(&format!("x-{n}"), "f", 200_000);
        app.experiments().create_experiment(create(share)).await
    });
    let made = join_all(made).await;
    let refusals: Vec<_> = made.into_iter().filter_map(Result::err).collect();
    assert!(
        refusals.len() == 3 && refusals.iter().all(|it| it.code() == Code::InvalidArgument),
        "{refusals:?}"
    );
    let list = pb::ListLayersRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    let listed = app.experiments().list_layers(list).await.unwrap().into_inner().layers;
    let shares: Vec<_> = listed[0].shares.iter().map(|it| (it.start, it.end)).collect();
    let fifths = (0..5).map(|n| (n * 200_000, (n + 1) * 200_000));
    assert_eq!(shares, fifths.collect::<Vec<_>>());
}
