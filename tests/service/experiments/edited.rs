//! Experiments edited by hand: their forms, which every replica, stream and answer learns of as of any other change, and what the
//! interface makes of what was edited.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::Reason;
use tokio_postgres::Client;
use tonic::Code;

use super::{arms, ask, changing, experiment, rows, run, shop, stop, stored, units, update};
use crate::app::App;
use crate::audit::{found, intact, of, verify};
use crate::follower::Follower;
use crate::refusals::refused;
use crate::support::eventually;

/// Nobody new takes part: in the form alone.
const CLOSE: &str = r#"update experiments set form =
    convert_to(replace(convert_from(form, 'UTF8'), '"allocation":1000000', '"allocation":0'), 'UTF8') where key = 'x'"#;

/// Has everyone of the audience take part, by what is evaluated alone.
const WIDENED: &str = r#"
    update experiments
    set form = convert_to(replace(convert_from(form, 'UTF8'), '"allocation":500000', '"allocation":1000000'), 'UTF8')"#;

async fn form(app: &App) -> Option<Vec<u8>> {
    let sql = app.database.client().await;
    sql.query_one("select form from experiments", &[]).await.unwrap().get(0)
}

/// Pauses the experiment `x` and resumes it: from then on it is evaluated as it is designed.
async fn resumed(app: &App) -> admin::ResumeExperimentResponse {
    let pause = admin::PauseExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
        ..Default::default()
    };
    app.experiments().pause_experiment(pause).await.unwrap();
    let resume = admin::ResumeExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
        ..Default::default()
    };
    app.experiments().resume_experiment(resume).await.unwrap().into_inner()
}

async fn edit(sql: &Client, sql_text: &str) {
    sql.batch_execute(sql_text).await.unwrap();
}

/// What a stream holds of the experiment `x`; `None`: nothing.
fn held(follower: &Follower) -> Option<&pb::Experiment> {
    let put = follower.held.items.get(&("experiment".to_owned(), "f/x".to_owned()))?;
    match &put.item {
        Some(pb::put::Item::Experiment(experiment)) => Some(experiment),
        Some(
            pb::put::Item::FlagDefinition(_)
            | pb::put::Item::FlagConfiguration(_)
            | pb::put::Item::SegmentConfiguration(_)
            | pb::put::Item::SegmentKeys(_),
        )
        | None => panic!("an item of another kind"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiments_form_is_adopted_and_reaches_every_stream_and_answer() {
    let app = App::start().await;
    let key = shop(&app).await;
    let on = run(&app, experiment("x")).await;
    let (replica, channel) = app.replica().await;
    let mut followers = [
        Follower::new(&app.channel, &key).await.unwrap(),
        Follower::new(&channel, &key).await.unwrap(),
    ];
    let known = units(5);
    let before = stored(&app.channel, &key, &known, on).await;
    let sql = app.database.client().await;
    edit(&sql, CLOSE).await;
    for follower in &mut followers {
        follower.until(on + 1).await.unwrap();
        let held = held(follower).unwrap();
        assert_eq!(
            (held.allocation_millionths, held.largest_allocation_millionths),
            (0, 1_000_000)
        );
    }
    for channel in [&app.channel, &channel] {
        assert_eq!(
            stored(channel, &key, &known, on + 1).await,
            before,
            "who has an arm keeps it"
        );
        let answer = ask(channel, &key, "f", "newcomer", on + 1).await;
        assert_eq!((answer.reason(), answer.experiment), (Reason::Default, None));
    }
    assert_eq!(rows(&app, "x").await.len(), known.len());

    let entry = &found(&app, &of("shop")).await[0];
    assert_eq!(
        (
            entry.actor.as_str(),
            entry.action.as_str(),
            entry.entity_key.as_str(),
            entry.environment.as_str()
        ),
        ("database", "experiment.hand_edit", "x", "dev")
    );
    assert!(
        entry.before().contains(r#""allocation":1000000"#) && entry.after().contains(r#""allocation":0"#),
        "{entry:?}"
    );
    intact(&app, verify("shop")).await;

    // Resumed, it is what its design says.
    let revision = resumed(&app).await.revisions[0].revision;
    assert_eq!(revision, on + 3);
    for follower in &mut followers {
        follower.until(revision).await.unwrap();
        assert_eq!(held(follower).unwrap().allocation_millionths, 1_000_000);
    }
    // Of the newcomer it is believed for a moment that nothing is stored.
    stored(&channel, &key, &["another".to_owned()], revision).await;
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_taken_away_by_hand_is_asked_no_more() {
    let app = App::start().await;
    let key = shop(&app).await;
    let on = run(&app, experiment("x")).await;
    let mut follower = Follower::new(&app.channel, &key).await.unwrap();
    stored(&app.channel, &key, &units(1), on).await;
    let sql = app.database.client().await;
    for (edited, text) in [
        (
            on + 1,
            "create table kept as select * from experiments; update experiments set form = null",
        ),
        (
            on + 2,
            "update experiments e set form = k.form from kept k where k.id = e.id",
        ),
        (on + 3, "delete from experiments"),
    ] {
        edit(&sql, text).await;
        follower.until(edited).await.unwrap();
        let asked = edited == on + 2;
        assert_eq!(held(&follower).is_some(), asked, "{text}");
        let answer = ask(&app.channel, &key, "f", &units(1)[0], edited).await;
        assert_eq!(answer.experiment.is_some(), asked, "{text}: {answer:?}");
    }
    intact(&app, verify("shop")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_edited_beside_the_form_alters_no_answer() {
    let app = App::start().await;
    let key = shop(&app).await;
    let on = run(&app, experiment("x")).await;
    let before = stored(&app.channel, &key, &units(10), on).await;
    let sql = app.database.client().await;
    edit(
        &sql,
        "update experiments set allocation = 0, sticky = false; update experiment_arms set weight = 1000",
    )
    .await;
    // What follows is adopted after it.
    edit(&sql, "update flag_configurations set enabled = enabled, salt = 'other'").await;
    eventually("the adoption", async || {
        let notes = sql.query_one("select count(*) from hand_edits", &[]).await.unwrap();
        (notes.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    assert_eq!(stored(&app.channel, &key, &units(10), on + 1).await, before);
    stored(&app.channel, &key, &["newcomer".to_owned()], on + 1).await;
    let log = "select count(*) from change_items where kind = 'experiment'";
    assert_eq!(sql.query_one(log, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_cannot_be_read_takes_its_experiment_away_and_nothing_else() {
    let app = App::start().await;
    let key = shop(&app).await;
    run(&app, experiment("x")).await;
    let on = run(&app, experiment("y")).await;
    let answer = ask(&app.channel, &key, "f", "u", on).await;
    assert_eq!(answer.experiment.unwrap().experiment, "x");
    let sql = app.database.client().await;
    edit(&sql, "update experiments set form = 'nonsense' where key = 'x'").await;
    let answer = ask(&app.channel, &key, "f", "u", on + 1).await;
    assert_eq!(answer.reason(), Reason::Experiment);
    assert_eq!(answer.experiment.unwrap().experiment, "y");
    intact(&app, verify("shop")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_form_stays_until_the_experiment_is_resumed_and_so_do_the_arms_that_it_gave() {
    let app = App::start().await;
    let key = shop(&app).await;
    let half = || admin::Experiment {
        allocation_millionths: 500_000,
        ..experiment("x")
    };
    let revision = run(&app, half()).await;
    let sql = app.database.client().await;
    assert_eq!(sql.execute(WIDENED, &[]).await.unwrap(), 1);
    let all = units(40);
    let before = stored(&app.channel, &key, &all, revision + 1).await;
    let edited = form(&app).await;

    let renamed = admin::Experiment {
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
        let other = admin::Experiment {
            arms,
            allocation_millionths,
            ..half()
        };
        refused(
            app.experiments().update_experiment(changing(other, &[field])).await,
            Code::FailedPrecondition,
        );
    }
    let resumed = resumed(&app).await;
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
    let wider = admin::Experiment {
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
    let decided = admin::StopExperimentRequest {
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
    let get = admin::GetFlagConfigurationRequest {
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
