//! What is checked when flags and rules are written, as callers are told it.

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1::{self as evaluation, Operator, serve, variant};
use prost_types::{FieldMask, Value, value::Kind};

use crate::app::{App, bool_flag};
use crate::refusals::invalid;

fn text(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.into())),
    }
}

fn number(number: f64) -> Value {
    Value {
        kind: Some(Kind::NumberValue(number)),
    }
}

fn condition<const N: usize>(attribute: &str, operator: Operator, values: [Value; N]) -> evaluation::Condition {
    evaluation::Condition {
        attribute: attribute.into(),
        operator: operator.into(),
        values: values.into(),
        negated: false,
    }
}

fn only(variant: &str) -> Option<evaluation::Serve> {
    Some(evaluation::Serve {
        serve: Some(serve::Serve::Variant(variant.into())),
    })
}

fn rule(key: &str, conditions: Vec<evaluation::Condition>) -> evaluation::Rule {
    evaluation::Rule {
        key: key.into(),
        conditions,
        serve: only("on"),
        ..Default::default()
    }
}

fn writing(rules: Vec<evaluation::Rule>) -> pb::FlagConfiguration {
    pb::FlagConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "f".into(),
        enabled: true,
        rules,
        ..Default::default()
    }
}

fn request(configuration: pb::FlagConfiguration) -> pb::UpdateFlagConfigurationRequest {
    pb::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_faults_of_one_configuration_are_told_at_once() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let conditions = vec![
        condition("x", Operator::OneOf, [text("a"), number(1.0), Value { kind: None }]),
        condition("version", Operator::VersionLess, [text("1.2")]),
        condition("since", Operator::After, [text("yesterday")]),
        condition("ip", Operator::IpInRange, [text("10.0.0.0/8"), text("10.0.0.0/99")]),
        condition("mail", Operator::Matches, [text("(")]),
        condition("x", Operator::Exists, [text("a")]),
        condition("x", Operator::InSegment, [text("nobody-knows")]),
    ];
    let bad = pb::FlagConfiguration {
        prerequisites: vec![evaluation::Prerequisite {
            flag: "f".into(),
            variants: vec!["on".into()],
        }],
        default_serve: only("maybe"),
        ..writing(vec![
            rule("", vec![condition("x", Operator::Exists, [])]),
            rule("rule-1", conditions),
        ])
    };
    let fields = [
        "configuration.prerequisites[0].flag",
        "configuration.rules[1].conditions[0].values[2]",
        "configuration.rules[1].conditions[1].values[0]",
        "configuration.rules[1].conditions[2].values[0]",
        "configuration.rules[1].conditions[3].values[1]",
        "configuration.rules[1].conditions[4].values[0]",
        "configuration.rules[1].conditions[5].values",
        "configuration.rules[1].conditions[6].attribute",
        "configuration.rules[1].conditions[6].values[0]",
        "configuration.default_serve.variant",
    ];
    invalid(app.flags().update_flag_configuration(request(bad)).await, &fields);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_is_written_and_told_or_refused() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let europeans = condition("country", Operator::OneOf, [text("de"), text("fr")]);
    let germans = condition("country", Operator::Equals, [text("de")]);
    let key = |key: &str| condition("targeting_key", Operator::Equals, [text(key)]);
    let odd = writing(vec![
        rule("europe", vec![europeans]),
        rule("germany", vec![germans]),
        rule("nobody", vec![key("a"), key("b")]),
    ]);
    let strict = pb::UpdateFlagConfigurationRequest {
        strict: true,
        validate_only: true,
        ..request(odd.clone())
    };
    let fields = ["configuration.rules[1]", "configuration.rules[2].conditions[1]"];
    invalid(app.flags().update_flag_configuration(strict).await, &fields);
    let written = app
        .flags()
        .update_flag_configuration(request(odd))
        .await
        .unwrap()
        .into_inner();
    assert!(written.changed);
    let warned: Vec<_> = written.warnings.iter().map(|warning| warning.field.as_str()).collect();
    assert_eq!(warned, fields);
    assert_eq!(
        written.warnings[0].description,
        "is never reached: whoever satisfies it satisfies rules[0], which is asked before"
    );
    // They are told of what stands, whatever is written.
    let off = pb::UpdateFlagConfigurationRequest {
        update_mask: Some(FieldMask {
            paths: vec!["enabled".into()],
        }),
        ..request(writing(vec![]))
    };
    let written = app.flags().update_flag_configuration(off).await.unwrap().into_inner();
    assert_eq!((written.changed, written.warnings.len()), (false, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_changed_definition_is_told_at_once() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let variant = |key: &str, value| evaluation::Variant {
        key: key.into(),
        value: Some(value),
        description: String::new(),
    };
    let flag = pb::Flag {
        name: "n".repeat(201),
        variants: vec![
            variant("on", variant::Value::BoolValue(true)),
            variant("No", variant::Value::BoolValue(false)),
            variant("other", variant::Value::IntegerValue(1)),
        ],
        off_variant: "off".into(),
        ..bool_flag("f")
    };
    let update = pb::UpdateFlagRequest {
        flag: Some(flag),
        ..Default::default()
    };
    let fields = [
        "flag.name",
        "flag.variants[1].key",
        "flag.variants[2]",
        "flag.off_variant",
    ];
    invalid(app.flags().update_flag(update).await, &fields);
}
