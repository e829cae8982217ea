//! What the tests of sidecars follow.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use serde_json::json;

use crate::app::{App, Keys, bool_flag};

/// A shop with flags of several kinds, rules, a split and a segment; and the last revision.
pub async fn stocked(app: &App) -> (Keys, u64) {
    let keys = app.shop().await;
    app.flag("plain").await;
    app.flag("targeted").await;
    let mut hidden = bool_flag("hidden");
    hidden.client_visible = false;
    app.create_flag(hidden).await;
    app.create_flag(object_flag("object")).await;
    let segment = admin::Segment {
        project: "shop".into(),
        key: "germans".into(),
        ..admin::Segment::default()
    };
    let request = admin::CreateSegmentRequest {
        segment: Some(segment),
        ..admin::CreateSegmentRequest::default()
    };
    app.segments().create_segment(request).await.unwrap();
    let request = admin::UpdateSegmentConfigurationRequest {
        configuration: Some(germans()),
        ..admin::UpdateSegmentConfigurationRequest::default()
    };
    app.segments().update_segment_configuration(request).await.unwrap();
    configure(app, targeted()).await;
    (keys, app.toggle("object", true).await)
}

fn object_flag(key: &str) -> admin::Flag {
    let variant = |name: &str, value: serde_json::Value| pb::Variant {
        key: name.to_owned(),
        value: Some(pb::variant::Value::ObjectValue(prost_types::Struct {
            fields: value
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| {
                    let kind = value.as_f64().map(prost_types::value::Kind::NumberValue);
                    (name.clone(), prost_types::Value { kind })
                })
                .collect(),
        })),
        description: String::new(),
    };
    admin::Flag {
        project: "shop".into(),
        key: key.into(),
        r#type: pb::ValueType::Object.into(),
        variants: vec![
            variant("small", json!({"z": 1, "a": 0.5, "m": -0.0})),
            variant("large", json!({"z": 1e300})),
        ],
        off_variant: "small".into(),
        default_variant: "large".into(),
        client_visible: true,
        ..admin::Flag::default()
    }
}

fn equals(attribute: &str, value: &str) -> pb::Condition {
    let kind = Some(prost_types::value::Kind::StringValue(value.to_owned()));
    pb::Condition {
        attribute: attribute.to_owned(),
        operator: pb::Operator::Equals.into(),
        values: vec![prost_types::Value { kind }],
        negated: false,
    }
}

fn germans() -> admin::SegmentConfiguration {
    admin::SegmentConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        segment: "germans".into(),
        conditions: vec![equals("country", "DE")],
        ..admin::SegmentConfiguration::default()
    }
}

fn targeted() -> admin::FlagConfiguration {
    let mut in_segment = equals("", "germans");
    in_segment.operator = pb::Operator::InSegment.into();
    let share = |variant: &str, weight| pb::WeightedVariant {
        variant: variant.to_owned(),
        weight,
    };
    let split = pb::Split {
        variants: vec![share("on", 1), share("off", 2)],
        attribute: String::new(),
    };
    admin::FlagConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "targeted".into(),
        enabled: true,
        rules: vec![pb::Rule {
            conditions: vec![in_segment],
            serve: Some(pb::Serve {
                serve: Some(pb::serve::Serve::Split(split)),
            }),
            ..pb::Rule::default()
        }],
        ..admin::FlagConfiguration::default()
    }
}

async fn configure(app: &App, configuration: admin::FlagConfiguration) {
    let request = admin::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        ..admin::UpdateFlagConfigurationRequest::default()
    };
    app.flags().update_flag_configuration(request).await.unwrap();
}
