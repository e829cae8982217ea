//! Streams of answers that depend on assignments: whatever changes is told, also to who has another arm than the hash says, or none.

use std::time::Duration;

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1 as evaluation;
use halyard::pb::evaluation::v1::variant::Value;

use super::{ask, experiment, run, update};
use crate::app::{App, Keys};
use crate::listener::{Listener, question};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{database, within};
use crate::words::{configuration, configured, needing, only, who};

/// A flag of strings, with these values.
fn flag(key: &str, values: &[(&str, &str)], off_variant: &str) -> pb::Flag {
    let variant = |(key, value): &(&str, &str)| evaluation::Variant {
        key: (*key).into(),
        value: Some(Value::StringValue((*value).into())),
        ..Default::default()
    };
    pb::Flag {
        project: "shop".into(),
        key: key.into(),
        r#type: evaluation::ValueType::String.into(),
        variants: values.iter().map(variant).collect(),
        off_variant: off_variant.into(),
        ..Default::default()
    }
}

const VALUES: [(&str, &str); 3] = [("a", "value of a"), ("b", "value of b"), ("off", "nothing")];

/// The flag `f` of strings, which is on and serves `off` by default.
async fn shop(app: &App) -> Keys {
    let keys = app.shop().await;
    app.create_flag(flag("f", &VALUES, "off")).await;
    let plain = pb::FlagConfiguration {
        default_serve: Some(only("off")),
        ..configuration("f")
    };
    configured(app, plain).await;
    keys
}

fn arms(a: u32, b: u32) -> Vec<pb::Arm> {
    let arm = |variant: &str, weight, control| pb::Arm {
        variant: variant.into(),
        weight,
        control,
    };
    vec![arm("a", a, true), arm("b", b, false)]
}

fn of_strings() -> pb::Experiment {
    pb::Experiment {
        arms: arms(1, 1),
        ..experiment("x")
    }
}

/// Writes these fields of a flag, and returns the revision.
async fn redefined(app: &App, flag: pb::Flag, field: &str) -> u64 {
    let request = pb::UpdateFlagRequest {
        flag: Some(flag),
        update_mask: Some(prost_types::FieldMask {
            paths: vec![field.into()],
        }),
        ..Default::default()
    };
    let response = app.flags().update_flag(request).await.unwrap().into_inner();
    response.revisions[0].revision
}

async fn listening(app: &App, key: &str) -> Listener {
    let mut listener = Listener::new(&app.channel, key, question(who("u"))).await.unwrap();
    listener.batch().await.unwrap();
    listener
}

/// Runs the experiment, has `u` assigned, and gives nearly everyone the other arm from then on. Returns the arm of `u`, and the other.
async fn assigned(app: &App, key: &str) -> (&'static str, &'static str) {
    let revision = run(app, of_strings()).await;
    let answer = ask(&app.channel, key, "f", "u", revision).await;
    assert!(answer.experiment.unwrap().assignment_stored);
    let (own, other, weights) = match answer.variant.as_str() {
        "a" => ("a", "b", arms(1, 999_999)),
        "b" => ("b", "a", arms(999_999, 1)),
        variant => panic!("{variant}"),
    };
    let moved = pb::Experiment {
        arms: weights,
        ..of_strings()
    };
    let revision = update(app, moved, &["arms"]).await.revisions[0].revision;
    let newcomers = (0..5).map(async |n| {
        ask(&app.channel, key, "f", &format!("newcomer-{n}"), revision)
            .await
            .variant
    });
    let newcomers = futures_util::future::join_all(newcomers).await;
    assert!(newcomers.iter().all(|variant| variant == other), "{newcomers:?}");
    (own, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_assignment_outside_of_the_allocation_is_told_of_another_default() {
    let app = App::start().await;
    let keys = shop(&app).await;
    run(&app, of_strings()).await;
    let narrowed = pb::Experiment {
        allocation_millionths: 1,
        ..of_strings()
    };
    let revision = update(&app, narrowed, &["allocation_millionths"]).await.revisions[0].revision;
    // Before that is heard of, `u` would be assigned.
    ask(&app.channel, &keys.server, "f", "somebody", revision).await;
    let mut listener = listening(&app, &keys.server).await;
    assert_eq!(listener.variant("f"), Some("off"), "not one in a million");
    let another = pb::FlagConfiguration {
        default_serve: Some(only("b")),
        ..configuration("f")
    };
    let revision = configured(&app, another).await;
    listener.until(revision).await.unwrap();
    assert_eq!(listener.variant("f"), Some("b"));
    listener.check(&app.channel, &keys.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_arm_than_the_hash_says_is_told_of_its_new_value() {
    let app = App::start().await;
    let keys = shop(&app).await;
    let (own, _) = assigned(&app, &keys.server).await;
    let mut listener = listening(&app, &keys.server).await;
    assert_eq!(listener.variant("f"), Some(own));
    let values = VALUES.map(|(key, value)| (key, if key == own { "another" } else { value }));
    let revision = redefined(&app, flag("f", &values, "off"), "variants").await;
    listener.until(revision).await.unwrap();
    let value = listener.held["f"].value.clone();
    assert_eq!(
        value,
        Some(evaluation::evaluation::Value::StringValue("another".into()))
    );
    listener.check(&app.channel, &keys.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_arm_than_the_hash_says_is_told_of_flags_that_need_it() {
    let app = App::start().await;
    let keys = shop(&app).await;
    let (_, other) = assigned(&app, &keys.server).await;
    app.create_flag(flag("g", &VALUES, "off")).await;
    let needs = pb::FlagConfiguration {
        prerequisites: vec![needing("f", other)],
        default_serve: Some(only("b")),
        ..configuration("g")
    };
    let revision = configured(&app, needs).await;
    ask(&app.channel, &keys.server, "g", "somebody", revision).await;
    let mut listener = listening(&app, &keys.server).await;
    listener.check(&app.channel, &keys.server).await;
    assert_eq!(listener.variant("g"), Some("off"), "its own arm is not what g needs");
    let revision = redefined(&app, flag("g", &VALUES, "a"), "off_variant").await;
    listener.until(revision).await.unwrap();
    assert_eq!(listener.variant("g"), Some("a"));
    listener.check(&app.channel, &keys.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_could_not_be_stored_is_corrected_and_till_then_its_token_is_no_proof() {
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    let through = proxy.config.clone();
    let app = App::start_with(database, |options| {
        options.store.target = through.into();
        options.store.assignments.patience = Duration::from_millis(300);
    })
    .await;
    let keys = shop(&app).await;
    let weighted = pb::Experiment {
        arms: arms(999_999, 1),
        ..of_strings()
    };
    run(&app, weighted).await;
    // `g` has no part in an experiment, but needs a flag that has.
    app.create_flag(flag("g", &VALUES, "off")).await;
    let needs = pb::FlagConfiguration {
        prerequisites: vec![needing("f", "a")],
        default_serve: Some(only("b")),
        ..configuration("g")
    };
    let revision = configured(&app, needs).await;
    ask(&app.channel, &keys.server, "g", "somebody", revision).await;
    // Stored when the weights were others, and not known here.
    let sql = app.database.client().await;
    let stored = "
        insert into experiment_assignments (experiment_id, unit, arm, iteration, assigned_at)
        select id, 'u', 'b', 1, now() from experiments";
    assert_eq!(sql.execute(stored, &[]).await.unwrap(), 1);

    proxy.set(Mode::Hold);
    let listener = listening(&app, &keys.server).await;
    let is_stored = |listener: &Listener| listener.held["f"].experiment.as_ref().unwrap().assignment_stored;
    let told = |listener: &Listener| ["f", "g"].map(|flag| listener.variant(flag).unwrap().to_owned());
    assert!(!is_stored(&listener));
    assert_eq!(told(&listener), ["a", "b"], "as the hash says");
    // A client that comes back with what it has is sent everything again, rather than told that it is up to date.
    let mut back = listener.reconnect(&app.channel, &keys.server).await.unwrap();
    let first = back.batch().await.unwrap();
    assert_eq!(
        (first.intent, first.reason, is_stored(&back)),
        (
            evaluation::Intent::Snapshot,
            evaluation::SnapshotReason::OtherQuestion,
            false
        )
    );
    // Heartbeats go on, and nothing is told that is not new.
    for _ in 0..3 {
        assert!(back.next().await.unwrap().is_none());
    }

    proxy.set(Mode::Pass);
    within("what is stored", async {
        while told(&back) != ["b", "off"] {
            back.next().await.unwrap();
        }
    })
    .await;
    assert!(is_stored(&back));
    back.check(&app.channel, &keys.server).await;
    let mut settled = back.reconnect(&app.channel, &keys.server).await.unwrap();
    let first = settled.batch().await.unwrap();
    assert_eq!((first.intent, first.answered.len()), (evaluation::Intent::None, 0));
    app.server.stop().await.unwrap();
}
