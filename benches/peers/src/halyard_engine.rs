//! Halyard: from the key to the answer, as a request is answered once it is decoded.

use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::form::{ItemId, Kind};
use halyard::evaluate::{Reason, Snapshot};
use serde_json::{Map, Value, json};

use crate::Contender;
use crate::question::{CONTEXT, FLAG, Rules};

pub fn contenders(rules: Rules) -> (Vec<Contender>, Vec<Contender>) {
    let (for_parsed, for_text) = (snapshot(rules), snapshot(rules));
    let context = read(CONTEXT);
    let reason = for_parsed
        .get(FLAG)
        .map(|flag| flag.evaluate(&context, &for_parsed).reason);
    assert_eq!(reason, Some(Reason::Split));
    let parsed = Contender::new("Halyard", move || is_on(&for_parsed, &context));
    let text = Contender::new("Halyard", move || {
        is_on(&for_text, &read(std::hint::black_box(CONTEXT)))
    });
    (vec![parsed], vec![text])
}

fn is_on(snapshot: &Snapshot, context: &Context) -> bool {
    let answer = snapshot
        .get(std::hint::black_box(FLAG))
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

fn read(text: &str) -> Context {
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
