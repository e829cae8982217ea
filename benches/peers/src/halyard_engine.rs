//! Halyard: from the key to the answer, as a request is answered once it is decoded.

use std::hint::black_box;
use std::sync::Arc;

use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::form::{ItemId, Kind};
use halyard::evaluate::{Reason, Snapshot};
use halyard::pb::evaluation::v1 as pb;
use halyard::rpc::convert;
use prost::Message as _;
use prost_types::value::Kind as ValueKind;
use prost_types::{Struct, Value as ProtoValue};
use serde_json::{Map, Value, json};

use crate::Contender;
use crate::question::{CONTEXT, FLAG, Rules};

pub fn contenders(rules: Rules) -> (Vec<Contender>, Vec<Contender>) {
    let snapshot = Arc::new(snapshot(rules));
    let context = read_json(CONTEXT);
    let message = message(CONTEXT).encode_to_vec();
    assert_eq!(context, read_message(&message));
    let reason = snapshot.get(FLAG).map(|flag| flag.evaluate(&context, &snapshot).reason);
    assert_eq!(reason, Some(Reason::Split));
    let (of_parsed, of_message, of_json) = (snapshot.clone(), snapshot.clone(), snapshot);
    let parsed = Contender::new("Halyard", move || is_on(&of_parsed, &context));
    let message = Contender::new("Halyard, from protobuf as its API has it", move || {
        is_on(&of_message, &read_message(black_box(&message)))
    });
    let json = Contender::new("Halyard, from JSON by way of serde_json's `Map`", move || {
        is_on(&of_json, &read_json(black_box(CONTEXT)))
    });
    (vec![parsed], vec![message, json])
}

fn is_on(snapshot: &Snapshot, context: &Context) -> bool {
    let answer = snapshot
        .get(black_box(FLAG))
        .map(|flag| flag.evaluate(context, snapshot));
    answer
        .and_then(|answer| answer.variant)
        .is_some_and(|variant| variant.key.as_str() == "on")
}

fn snapshot(rules: Rules) -> Snapshot {
    let variants = ["on", "off"].map(|key| json!({ "key": key, "value": { "bool": key == "on" } }));
    let definition = json!({
        "format": 1, "key": FLAG, "type": "bool", "variants": variants, "off_variant": "off", "client_visible": true,
    });
    let configuration = json!({ "format": 1, "enabled": true, "rules": forms(rules) });
    let mut snapshot = Snapshot::default();
    for (kind, form) in [
        (Kind::FlagDefinition, definition),
        (Kind::FlagConfiguration, configuration),
    ] {
        snapshot.put(&ItemId { kind, key: FLAG.into() }, form.to_string().as_bytes());
    }
    snapshot
}

fn forms(rules: Rules) -> Vec<Value> {
    let country = json!({ "attribute": "country", "operator": "one_of", "values": ["NO", "SE", "DK"] });
    let age = json!({ "attribute": "age", "operator": "number_greater_or_equal", "values": [65] });
    let email = json!({ "attribute": "email", "operator": "ends_with", "values": ["@example.com"] });
    let plan = json!({ "attribute": "plan", "operator": "equals", "values": ["free"], "negated": true });
    let halves = json!({ "split": { "variants": [
        { "variant": "on", "weight": 50 }, { "variant": "off", "weight": 50 },
    ] } });
    let rule = |key: &str, conditions: &[&Value], serve: Value| json!({ "key": key, "conditions": conditions, "serve": serve });
    match rules {
        Rules::One => vec![rule("only", &[&country], halves)],
        Rules::Three => vec![
            rule("first", &[&country, &age], json!({ "variant": "on" })),
            rule("second", &[&email, &age], json!({ "variant": "off" })),
            rule("third", &[&country, &plan], halves),
        ],
    }
}

fn read_json(text: &str) -> Context {
    let mut fields: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let key = match fields.remove("targetingKey") {
        Some(Value::String(key)) => key,
        _ => String::new(),
    };
    Context::new(
        key,
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, attribute(value)?)))
            .collect::<Object>(),
    )
}

/// The context has text and numbers only.
fn attribute(value: Value) -> Option<Attribute> {
    match value {
        Value::String(text) => Some(Attribute::String(text)),
        Value::Number(number) => number.as_f64().map(Attribute::Number),
        _ => None,
    }
}

/// The same context as the message that a client sends.
fn message(text: &str) -> pb::Context {
    let mut fields: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let targeting_key = fields.remove("targetingKey");
    let value = |value: Value| match value {
        Value::String(text) => ValueKind::StringValue(text),
        other => ValueKind::NumberValue(other.as_f64().unwrap_or_default()),
    };
    let fields = fields.into_iter().map(|(name, field)| {
        (
            name,
            ProtoValue {
                kind: Some(value(field)),
            },
        )
    });
    pb::Context {
        targeting_key: targeting_key
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        attributes: Some(Struct {
            fields: fields.collect(),
        }),
    }
}

fn read_message(bytes: &[u8]) -> Context {
    let message = pb::Context::decode(bytes).ok();
    convert::context::read(message).unwrap_or_default()
}
