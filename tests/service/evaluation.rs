//! Evaluation, through the public interface. What is right for every combination is in `tests/vectors`.

use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::evaluation::Value;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use tonic::{Code, Request};

use crate::app::{App, bool_flag, evaluate, evaluation};
use crate::refusals::{by_server, invalid, refused};
use crate::support::eventually;

fn variant(key: &str, value: pb::variant::Value) -> pb::Variant {
    pb::Variant {
        key: key.into(),
        value: Some(value),
        description: String::new(),
    }
}

fn value(kind: Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

fn context(targeting_key: &str, attributes: &[(&str, Kind)]) -> Option<pb::Context> {
    let fields = attributes
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), value(kind.clone())))
        .collect();
    Some(pb::Context {
        targeting_key: targeting_key.into(),
        attributes: Some(Struct { fields }),
    })
}

fn ask(flag: &str, context: Option<pb::Context>, min_revision: u64) -> pb::EvaluateRequest {
    pb::EvaluateRequest {
        flag: flag.into(),
        context,
        min_revision,
        explain: false,
    }
}

fn text(text: &str) -> Kind {
    Kind::StringValue(text.into())
}

fn condition(attribute: &str, operator: pb::Operator, values: &[Kind]) -> pb::Condition {
    pb::Condition {
        attribute: attribute.into(),
        operator: operator.into(),
        values: values.iter().cloned().map(value).collect(),
        negated: false,
    }
}

fn only(variant: &str) -> pb::Serve {
    pb::Serve {
        serve: Some(pb::serve::Serve::Variant(variant.into())),
    }
}

fn split(weights: &[(&str, u32)]) -> pb::Serve {
    let variants = weights.iter().map(|&(variant, weight)| pb::WeightedVariant {
        variant: variant.into(),
        weight,
    });
    pb::Serve {
        serve: Some(pb::serve::Serve::Split(pb::Split {
            variants: variants.collect(),
            attribute: String::new(),
        })),
    }
}

fn rule(key: &str, conditions: Vec<pb::Condition>, serve: pb::Serve) -> pb::Rule {
    pb::Rule {
        key: key.into(),
        description: String::new(),
        conditions,
        serve: Some(serve),
    }
}

async fn configure(app: &App, flag: &str, rules: Vec<pb::Rule>, default_serve: Option<pb::Serve>) -> u64 {
    let configuration = admin::FlagConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        flag: flag.into(),
        enabled: true,
        rules,
        default_serve,
        ..Default::default()
    };
    let request = admin::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        ..Default::default()
    };
    app.flags()
        .update_flag_configuration(request)
        .await
        .unwrap()
        .into_inner()
        .revisions[0]
        .revision
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_of_every_type_answer_with_their_values() {
    let app = App::start().await;
    let keys = app.shop().await;
    let object = Struct {
        fields: [(
            "n".to_owned(),
            value(Kind::ListValue(ListValue {
                values: vec![value(Kind::NumberValue(1.5)), value(Kind::NullValue(0))],
            })),
        )]
        .into(),
    };
    let cases = [
        (
            "b",
            pb::ValueType::Bool,
            pb::variant::Value::BoolValue(true),
            Value::BoolValue(true),
        ),
        (
            "s",
            pb::ValueType::String,
            pb::variant::Value::StringValue("é".into()),
            Value::StringValue("é".into()),
        ),
        (
            "i",
            pb::ValueType::Integer,
            pb::variant::Value::IntegerValue(i64::MIN),
            Value::IntegerValue(i64::MIN),
        ),
        (
            "d",
            pb::ValueType::Double,
            pb::variant::Value::DoubleValue(0.1),
            Value::DoubleValue(0.1),
        ),
        (
            "o",
            pb::ValueType::Object,
            pb::variant::Value::ObjectValue(object.clone()),
            Value::ObjectValue(object),
        ),
    ];
    for (key, value_type, value, expected) in cases {
        let flag = admin::Flag {
            r#type: value_type.into(),
            variants: vec![variant("v", value)],
            default_variant: "v".into(),
            ..bool_flag(key)
        };
        app.create_flag(flag).await;
        let revision = app.toggle(key, true).await;
        let answer = evaluate(&app.channel, &keys.server, key, revision).await.unwrap();
        assert_eq!(answer.value, Some(expected));
        assert_eq!(
            (answer.variant.as_str(), answer.reason(), answer.revision),
            ("v", pb::Reason::Static, revision)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_that_is_off_serves_its_off_variant_or_nothing() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let nothing = admin::Flag {
        r#type: pb::ValueType::String.into(),
        variants: vec![variant("v", pb::variant::Value::StringValue("x".into()))],
        ..bool_flag("g")
    };
    app.create_flag(nothing).await;
    let off = evaluate(&app.channel, &keys.server, "f", 3).await.unwrap();
    assert_eq!(
        (off.value.clone(), off.reason()),
        (Some(Value::BoolValue(false)), pb::Reason::Disabled)
    );
    let none = evaluate(&app.channel, &keys.server, "g", 3).await.unwrap();
    assert_eq!(
        (none.value.clone(), none.variant.as_str(), none.reason()),
        (None, "", pb::Reason::Disabled)
    );
    let revision = app.toggle("g", true).await;
    let still_none = evaluate(&app.channel, &keys.server, "g", revision).await.unwrap();
    assert_eq!(
        (still_none.value.clone(), still_none.reason()),
        (None, pb::Reason::Static),
        "nothing said means nothing served"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_asked_in_order_and_named_in_the_answer() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let rules = vec![
        rule(
            "staff",
            vec![condition("email", pb::Operator::EndsWith, &[text("@example.com")])],
            only("on"),
        ),
        rule(
            "adults",
            vec![
                condition("age", pb::Operator::NumberGreaterOrEqual, &[Kind::NumberValue(18.0)]),
                condition("address.country", pb::Operator::OneOf, &[text("AT"), text("CH")]),
            ],
            split(&[("on", 1)]),
        ),
    ];
    let revision = configure(&app, "f", rules, Some(only("off"))).await;
    let country = |code: &str| {
        Kind::StructValue(Struct {
            fields: [("country".to_owned(), value(text(code)))].into(),
        })
    };
    let check = async |context, expected: (&str, pb::Reason, &str)| {
        let answer = evaluation(&app.channel, &keys.server)
            .evaluate(ask("f", context, revision))
            .await
            .unwrap()
            .into_inner()
            .evaluation
            .unwrap();
        assert_eq!(
            (answer.variant.as_str(), answer.reason(), answer.rule.as_str()),
            expected
        );
        let client = evaluation(&app.channel, &keys.client)
            .evaluate(ask("f", None, revision))
            .await
            .unwrap()
            .into_inner()
            .evaluation
            .unwrap();
        assert_eq!(client.rule, "", "client keys never see a rule");
    };
    check(
        context("u", &[("email", text("a@example.com"))]),
        ("on", pb::Reason::TargetingMatch, "staff"),
    )
    .await;
    check(
        context("u", &[("age", Kind::NumberValue(18.0)), ("address", country("CH"))]),
        ("on", pb::Reason::Split, "adults"),
    )
    .await;
    check(
        context("u", &[("age", Kind::NumberValue(17.0)), ("address", country("CH"))]),
        ("off", pb::Reason::Default, ""),
    )
    .await;
    check(
        context("", &[("age", Kind::NumberValue(18.0)), ("address", country("CH"))]),
        ("off", pb::Reason::Default, ""),
    )
    .await;
    check(None, ("off", pb::Reason::Default, "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explanations_are_for_server_keys() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let country = condition("country", pb::Operator::StartsWith, &[text("D")]);
    let revision = configure(
        &app,
        "f",
        vec![rule("german", vec![country], only("on"))],
        Some(split(&[("off", 3)])),
    )
    .await;
    let explain = |country: &str| pb::EvaluateRequest {
        explain: true,
        ..ask("f", context("u", &[("country", text(country))]), revision)
    };

    let answer = evaluation(&app.channel, &keys.server)
        .evaluate(explain("FR"))
        .await
        .unwrap()
        .into_inner();
    let (served, explanation) = (answer.evaluation.unwrap(), answer.explanation.unwrap());
    assert_eq!(
        (explanation.variant.as_str(), explanation.reason()),
        (served.variant.as_str(), served.reason())
    );
    let rule = &explanation.rules[0];
    assert_eq!(
        (rule.rule.as_str(), rule.outcome()),
        ("german", pb::RuleOutcome::NotMatched)
    );
    let condition = &rule.conditions[0];
    assert_eq!(condition.value, Some(value(text("FR"))));
    assert_eq!(condition.outcome(), pb::ConditionOutcome::Fails);
    assert_eq!(explanation.default_split.unwrap().total_weight, 3);

    let plain = ask("f", context("u", &[]), revision);
    let answer = evaluation(&app.channel, &keys.server)
        .evaluate(plain)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.explanation, None, "only whoever asks is told");

    let refusal = refused(
        evaluation(&app.channel, &keys.client).evaluate(explain("DE")).await,
        Code::PermissionDenied,
    );
    assert!(refusal.message().contains("server key"), "{refusal:?}");
    let mut unknown = explain("DE");
    unknown.flag = "unknown".into();
    refused(
        evaluation(&app.channel, &keys.client).evaluate(unknown).await,
        Code::PermissionDenied,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_without_a_targeting_key_says_so() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let revision = configure(&app, "f", vec![], Some(split(&[("on", 50), ("off", 50)]))).await;
    let answer = evaluate(&app.channel, &keys.server, "f", revision).await.unwrap();
    assert_eq!(
        (answer.variant.as_str(), answer.reason(), answer.error()),
        ("off", pb::Reason::Error, pb::EvaluationError::TargetingKeyMissing)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_keeps_everyone_it_has_reached() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let served = async |share: u32| {
        let revision = configure(&app, "f", vec![], Some(split(&[("on", share), ("off", 100 - share)]))).await;
        let mut on = Vec::new();
        for user in 0..200 {
            let request = ask("f", context(&format!("user-{user}"), &[]), revision);
            let answer = evaluation(&app.channel, &keys.server)
                .evaluate(request)
                .await
                .unwrap()
                .into_inner()
                .evaluation
                .unwrap();
            on.push(answer.variant == "on");
        }
        on
    };
    let (tenth, half, none, all) = (served(10).await, served(50).await, served(0).await, served(100).await);
    assert!(tenth.iter().zip(&half).all(|(before, after)| !before || *after));
    assert!(
        (5..=40).contains(&tenth.iter().filter(|on| **on).count())
            && (70..=130).contains(&half.iter().filter(|on| **on).count())
    );
    assert!(none.iter().all(|on| !on) && all.iter().all(|on| *on));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_flags_come_from_one_revision_in_order() {
    let app = App::start().await;
    let keys = app.shop().await;
    for key in ["b", "a", "c"] {
        app.flag(key).await;
    }
    let ask = |flags: &[&str]| pb::EvaluateAllRequest {
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        min_revision: 4,
        context: None,
    };
    let all = evaluation(&app.channel, &keys.server)
        .evaluate_all(ask(&[]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        all.evaluations.iter().map(|it| it.flag.as_str()).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert!(all.revision == 4 && all.evaluations.iter().all(|it| it.revision == 4));
    let some = evaluation(&app.channel, &keys.server)
        .evaluate_all(ask(&["c", "unknown", "a", "c"]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        some.evaluations.iter().map(|it| it.flag.as_str()).collect::<Vec<_>>(),
        ["c", "a"]
    );
    let many = pb::EvaluateAllRequest {
        flags: vec!["a".into(); 10_001],
        ..ask(&[])
    };
    invalid(
        evaluation(&app.channel, &keys.server).evaluate_all(many).await,
        &["flags"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_does_not_come_is_unavailable_with_a_time_to_retry() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let told = by_server(async || {
        let mut request = Request::new(ask("f", None, 1_000));
        request.set_timeout(Duration::from_millis(300));
        evaluation(&app.channel, &keys.server).evaluate(request).await
    });
    let status = refused(told.await, Code::Unavailable);
    assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_on_its_way_is_waited_for() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let waiting = tokio::spawn({
        let (channel, key) = (app.channel.clone(), keys.server.clone());
        async move { evaluate(&channel, &key, "f", 3).await }
    });
    assert_eq!(app.toggle("f", true).await, 3);
    assert_eq!(waiting.await.unwrap().unwrap().variant, "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_flags_are_not_found_and_missing_names_invalid() {
    let app = App::start().await;
    let keys = app.shop().await;
    refused(evaluate(&app.channel, &keys.server, "unknown", 0).await, Code::NotFound);
    invalid(evaluate(&app.channel, &keys.server, "", 0).await, &["flag"]);
    invalid(
        evaluate(&app.channel, &keys.server, &"f".repeat(10_000), 0).await,
        &["flag"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_evaluates_without_a_key() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let altered = format!("{}0", keys.server.get(..keys.server.len() - 1).unwrap());
    let other = App::start().await;
    let foreign = other.shop().await;
    for key in ["", "x", &altered, &app.token, &foreign.server, &"k".repeat(4_000)] {
        if key != keys.server {
            refused(evaluate(&app.channel, key, "f", 0).await, Code::Unauthenticated);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_edited_by_hand_harms_no_other_flag() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("good").await;
    app.flag("bad").await;
    let created = evaluate(&app.channel, &keys.server, "bad", 0).await.unwrap().revision;
    let client = app.database.client().await;
    client
        .batch_execute("update flags set form = 'nonsense' where key = 'bad'")
        .await
        .unwrap();
    let (replica, channel) = app.replica().await;
    // The row counts once it was adopted: until then the flag answers as the change log has it.
    let bad = eventually("the adoption", async || {
        let bad = evaluate(&channel, &keys.server, "bad", 0).await.unwrap();
        (bad.revision > created).then_some(bad)
    })
    .await;
    assert_eq!(
        (bad.value.clone(), bad.reason(), bad.error()),
        (None, pb::Reason::Error, pb::EvaluationError::FlagMalformed)
    );
    assert_eq!(
        evaluate(&channel, &keys.server, "good", 0).await.unwrap().variant,
        "off"
    );
    replica.stop().await.unwrap();
}
