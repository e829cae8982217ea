//! Which events are taken, and what is said of those that are not.

use futures_util::future::join_all;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::EventOutcome::{
    Accepted, Duplicate, Early, Excluded, Late, Malformed, UnknownArm, UnknownExperiment, UnknownIteration,
    UnknownMetric, WrongMeasure,
};
use tonic::Code;

use super::{World, at, conversion, count, event, experiment, exposed, exposure, track, value};
use crate::app::{bool_flag, evaluation};
use crate::refusals::refused;
use crate::support::eventually;

const DAY: i64 = 24 * 60 * 60;

/// Somebody edited them by hand: their experiment has no metrics then, and nobody else is harmed.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_make_no_sense_harm_no_other_experiment() {
    let world = World::new().await;
    experiment(&world.sql, "broken", "running").await;
    let damage =
        "update experiments set guardrail_metrics = '{\"key\": 7}', primary_metric = '[]' where key = 'broken'";
    world.sql.batch_execute(damage).await.unwrap();
    let events = vec![
        exposure("ada"),
        conversion("ada", "bought"),
        exposed("ada", "broken", 2, "on", true),
        conversion("ada", "unheard-of"),
    ];
    assert_eq!(world.track(events).await, [Accepted, Accepted, Accepted, UnknownMetric]);
}

/// Whoever read the other experiment again would know that it stores nothing now: so only what is named is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_has_nothing_else_read_again() {
    let world = World::new().await;
    experiment(&world.sql, "other", "running").await;
    let (channel, key) = (&world.app.channel, &world.keys.server);
    let set = async |sticky: bool| {
        let set = format!("update experiments set sticky = {sticky} where key = 'other'");
        world.sql.batch_execute(&set).await.unwrap();
    };
    // What was read is believed for a second, by each of those who write.
    eventually(
        "an unknown name to be looked for while the rest is believed",
        async || {
            set(true).await;
            let known = (0..4).map(|n| track(channel, key, vec![exposure(&format!("u{n}"))]));
            for answered in join_all(known).await {
                assert_eq!(answered.unwrap(), [Accepted]);
            }
            set(false).await;
            let unknown = vec![
                exposed("u", "unheard-of", 1, "on", true),
                conversion("u", "unheard-of"),
                exposed("u", "other", 2, "on", false),
            ];
            let answered = track(channel, key, unknown).await.unwrap();
            assert_eq!(answered[..2], [UnknownExperiment, UnknownMetric]);
            (answered[2] == Excluded).then_some(())
        },
    )
    .await;
    experiment(&world.sql, "begun", "running").await;
    let begun = world.track(vec![exposed("u", "begun", 1, "on", true)]).await;
    assert_eq!(begun, [Accepted], "it is found at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_batch_is_answered_by_itself() {
    let world = World::new().await;
    let nameless = pb::Event {
        id: "17".into(),
        ..exposure("u")
    };
    let batch = vec![
        (exposure("u"), Accepted),
        (exposed("v", "checkout", 1, "off", true), Accepted),
        (exposed("u", "checkout", 2, "on", false), Excluded),
        (nameless, Malformed),
        (exposure(""), Malformed),
        (exposed("u", "checkout", 0, "on", true), Malformed),
        (
            event("u", pb::event::What::Metric(pb::MetricEvent::default())),
            Malformed,
        ),
        (value("u", "revenue", f64::NAN), Malformed),
        (value("u", "revenue", 1e16), Malformed),
        (exposed("u", "unheard-of", 1, "on", true), UnknownExperiment),
        (exposed("u", "checkout", 3, "on", true), UnknownIteration),
        (exposed("u", "checkout", 2, "neither", true), UnknownArm),
        (conversion("u", "unheard-of"), UnknownMetric),
        (conversion("u", "revenue"), WrongMeasure),
        (count("u", "revenue", 2), WrongMeasure),
        (value("u", "clicks", 2.0), WrongMeasure),
        (conversion("u", "bought"), Accepted),
        (value("u", "bought", 3.0), Accepted),
        (value("u", "revenue", -19.99), Accepted),
        (conversion("u", "clicks"), Accepted),
        (count("u", "clicks", 3), Accepted),
        (at(exposure("u"), -4 * DAY), Late),
        (at(exposure("u"), -3 * DAY + 60), Accepted),
        (at(exposure("u"), 290), Accepted),
        (at(exposure("u"), 310), Early),
    ];
    let (events, expected): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    assert_eq!(world.track(events).await, expected);
    assert_eq!(world.rows("exposures").await, 5);
    assert_eq!(world.rows("exposures where counts").await, 4);
    assert_eq!(world.rows("metric_events").await, 5);
    assert_eq!(world.rows("event_ids").await, 10);
    let revenue = "select value::text, measure from metric_events where metric = 'revenue'";
    let row = world.sql.query_one(revenue, &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i16>(1)), ("-19.99", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_event_is_said_at_once() {
    let world = World::new().await;
    let wrong = pb::Event {
        id: String::new(),
        ..exposed("", "", 1, "on", true)
    };
    let request = pb::TrackRequest {
        events: vec![wrong],
        as_client: false,
    };
    let answered = evaluation(&world.app.channel, &world.keys.client)
        .track(request)
        .await
        .unwrap();
    let [answer] = &answered.into_inner().answers[..] else {
        panic!("not one answer")
    };
    for part in ["id: is not a UUID", "unit: is empty", "exposure.experiment: is empty"] {
        assert!(answer.description.contains(part), "{}", answer.description);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_at_most_a_thousand_events() {
    let world = World::new().await;
    let (channel, key) = (&world.app.channel, &world.keys.server);
    let events = |count| vec![exposure("u"); count];
    refused(track(channel, key, events(1_001)).await, Code::InvalidArgument);
    let outcomes = world.track(events(1_000)).await;
    assert_eq!((outcomes[0], &outcomes[1..]), (Accepted, &[Duplicate; 999][..]));
    assert_eq!(world.track(Vec::new()).await, Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn any_string_is_a_unit() {
    let world = World::new().await;
    let units = ["\0", "日本 🎌", " ", "sha256:", "a'b\"c\\"].map(str::to_owned);
    let units = units.into_iter().chain(["x".repeat(1_000)]);
    let events: Vec<_> = units.map(|unit| exposure(&unit)).collect();
    assert_eq!(world.track(events).await, [Accepted; 6]);
    let units = world.rows("(select distinct unit from exposures) units").await;
    assert_eq!(units, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_experiments_that_are_not_running_are_taken_if_they_ran() {
    let world = World::new().await;
    for (key, state, expected) in [
        ("later", "draft", UnknownExperiment),
        ("resting", "paused", Accepted),
        ("over", "stopped", Accepted),
    ] {
        assert_eq!(
            world.track(vec![exposed("u", key, 1, "on", true)]).await,
            [UnknownExperiment]
        );
        experiment(&world.sql, key, state).await;
        let outcomes = world.track(vec![exposed("u", key, 1, "on", true)]).await;
        assert_eq!(outcomes, [expected], "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_without_stored_assignments_counts_every_exposure() {
    let world = World::new().await;
    let hashing = "update experiments set sticky = false where id = $1";
    world.sql.execute(hashing, &[&world.experiment]).await.unwrap();
    assert_eq!(
        world.track(vec![exposed("u", "checkout", 1, "on", false)]).await,
        [Accepted]
    );
    assert_eq!(world.rows("exposures where counts").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_may_not_see_does_not_exist_for_their_keys() {
    let world = World::new().await;
    let (channel, keys) = (&world.app.channel, &world.keys);
    let outcomes = track(channel, &keys.client, vec![exposure("u")]).await.unwrap();
    assert_eq!(outcomes, [Accepted]);
    let hidden = halyard::pb::admin::v1::Flag {
        client_visible: false,
        ..bool_flag("hidden")
    };
    world.app.create_flag(hidden).await;
    let sql = "update experiments set flag_id = (select id from flags where key = 'hidden')";
    world.sql.execute(sql, &[]).await.unwrap();
    // What is known is believed for a second; another experiment is looked for at once.
    experiment(&world.sql, "other", "running").await;
    let events = || vec![exposure("u"), exposed("u", "unheard-of", 1, "on", true)];
    let outcomes = track(channel, &keys.client, events()).await.unwrap();
    assert_eq!(outcomes, [UnknownExperiment; 2]);
    let outcomes = track(channel, &keys.server, events()).await.unwrap();
    assert_eq!(outcomes, [Accepted, UnknownExperiment]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_belong_to_the_environment_of_their_key() {
    let world = World::new().await;
    let other = world.app.environment("shop", "prod").await;
    let same = exposure("u");
    let outcomes = track(
        &world.app.channel,
        &other.server,
        vec![same.clone(), conversion("u", "bought")],
    )
    .await;
    assert_eq!(outcomes.unwrap(), [UnknownExperiment, UnknownMetric]);
    // And so does an id: what was refused there may be sent here.
    assert_eq!(world.track(vec![same]).await, [Accepted]);
}
