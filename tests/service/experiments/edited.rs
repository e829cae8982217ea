//! Experiments beside rows that somebody edits by hand.

use halyard::pb::admin::v1 as pb;
use tonic::Code;

use super::{arms, ask, changing, experiment, run, shop, stop, stored, units, update};
use crate::app::App;
use crate::refusals::refused;

/// Has everyone of the audience take part, by what is evaluated alone.
const WIDENED: &str = r#"
    update experiments
    set form = convert_to(replace(convert_from(form, 'UTF8'), '"allocation":500000', '"allocation":1000000'), 'UTF8')"#;

async fn form(app: &App) -> Option<Vec<u8>> {
    let sql = app.database.client().await;
    sql.query_one("select form from experiments", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_form_stays_until_the_experiment_is_resumed_and_so_do_the_arms_that_it_gave() {
    let app = App::start().await;
    let key = shop(&app).await;
    let half = || pb::Experiment {
        allocation_millionths: 500_000,
        ..experiment("x")
    };
    let revision = run(&app, half()).await;
    let sql = app.database.client().await;
    assert_eq!(sql.execute(WIDENED, &[]).await.unwrap(), 1);
    let all = units(40);
    let before = stored(&app.channel, &key, &all, revision + 1).await;
    let edited = form(&app).await;

    let renamed = pb::Experiment {
        name: "another name".into(),
        ..half()
    };
    let written = update(&app, renamed, &["name"]).await;
    assert_eq!((written.changed, written.revisions.len()), (true, 0));
    assert_eq!(form(&app).await, edited, "as it was edited");
    for changed in [
        ("arms", arms(1, 3), 500_000),
        ("allocation_millionths", arms(1, 1), 700_000),
    ] {
        let (field, arms, allocation_millionths) = changed;
        let other = pb::Experiment {
            arms,
            allocation_millionths,
            ..half()
        };
        refused(
            app.experiments().update_experiment(changing(other, &[field])).await,
            Code::FailedPrecondition,
        );
    }
    let pause = pb::PauseExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
        ..Default::default()
    };
    app.experiments().pause_experiment(pause).await.unwrap();
    let resume = pb::ResumeExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
        ..Default::default()
    };
    let resumed = app.experiments().resume_experiment(resume).await.unwrap().into_inner();
    let revision = resumed.revisions[0].revision;
    assert_eq!(
        resumed.experiment.unwrap().largest_allocation_millionths,
        1_000_000,
        "units were assigned as far out"
    );
    let (replica, channel) = app.replica().await;
    assert_eq!(
        stored(&channel, &key, &all, revision).await,
        before,
        "whoever was assigned"
    );
    let mut outside = 0;
    for n in 0..40 {
        let newcomer = ask(&channel, &key, "f", &format!("newcomer-{n}"), revision).await;
        outside += usize::from(newcomer.experiment.is_none());
    }
    assert!((5..35).contains(&outside), "{outside} of 40 for one half");
    replica.stop().await.unwrap();
    let wider = pb::Experiment {
        allocation_millionths: 700_000,
        ..half()
    };
    update(&app, wider, &["allocation_millionths"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_the_default_stands_beside_what_was_edited_a_moment_before() {
    let app = App::start().await;
    let key = shop(&app).await;
    let revision = run(&app, experiment("x")).await;
    let sql = app.database.client().await;
    let edit = "update flag_configurations set salt = 'by hand'";
    assert_eq!(sql.execute(edit, &[]).await.unwrap(), 1);
    let decided = pb::StopExperimentRequest {
        winner: "off".into(),
        make_default: true,
        ..stop("x")
    };
    let stopped = app.experiments().stop_experiment(decided).await.unwrap().into_inner();
    assert_eq!(
        stopped.revisions[0].revision,
        revision + 2,
        "the edit is one of its own"
    );
    let get = pb::GetFlagConfigurationRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "f".into(),
    };
    let read = app.flags().get_flag_configuration(get).await.unwrap().into_inner();
    let configuration = read.configuration.unwrap();
    assert_eq!(
        (configuration.salt.as_str(), configuration.default_serve),
        ("by hand", Some(crate::words::only("off")))
    );
    let answer = ask(&app.channel, &key, "f", "u", revision + 2).await;
    assert_eq!((answer.variant.as_str(), answer.experiment), ("off", None));
}
