//! unleash-yggdrasil, the engine of Unleash's SDKs: whether a feature is on for half of the users, and which of two variants they
//! get. The former is the least it can be asked.

use serde_json::{Value, json};
use unleash_types::client_features::ClientFeatures;
use unleash_yggdrasil::{Context, EngineState, UpdateMessage};

use crate::Contender;
use crate::question::{CONTEXT, FLAG, Rules};

pub fn contenders(rules: Rules) -> (Vec<Contender>, Vec<Contender>) {
    let (enabled, variant) = (rollout(), variants());
    let (enabled_engine, variant_engine) = (engine(rules, &enabled), engine(rules, &variant));
    let written = context();
    let context = read(&written);
    let variant = variant_engine.get_variant(FLAG, &context, &None);
    assert!(["on", "off"].contains(&variant.name.as_str()), "{variant:?}");
    let text_engine = engine(rules, &enabled);
    let (for_enabled, for_variant) = (context.clone(), context);
    let parsed = vec![
        Contender::new("unleash-yggdrasil 0.21, `is_enabled`", move || {
            enabled_engine.is_enabled(std::hint::black_box(FLAG), &for_enabled, &None)
        }),
        Contender::new("unleash-yggdrasil 0.21, `get_variant`", move || {
            variant_engine
                .get_variant(std::hint::black_box(FLAG), &for_variant, &None)
                .name
                == "on"
        }),
    ];
    let text = Contender::new("unleash-yggdrasil 0.21, `is_enabled`", move || {
        text_engine.is_enabled(FLAG, &read(std::hint::black_box(&written)), &None)
    });
    (parsed, vec![text])
}

/// A strategy that is on for half of the users.
fn rollout() -> Value {
    json!({ "name": "flexibleRollout", "parameters": { "rollout": "50", "stickiness": "userId", "groupId": FLAG } })
}

/// A strategy that gives one of two variants.
fn variants() -> Value {
    let half = |name: &str| json!({ "name": name, "weight": 500, "stickiness": "userId" });
    json!({ "name": "default", "parameters": {}, "variants": [half("on"), half("off")] })
}

fn engine(rules: Rules, split: &Value) -> EngineState {
    let country = json!({ "contextName": "country", "operator": "IN", "values": ["NO", "SE", "DK"] });
    let age = json!({ "contextName": "age", "operator": "NUM_GTE", "value": "65" });
    let email = json!({ "contextName": "email", "operator": "STR_ENDS_WITH", "values": ["@example.com"] });
    let plan = json!({ "contextName": "plan", "operator": "NOT_IN", "values": ["free"] });
    let with = |constraints: &[&Value], mut strategy: Value| {
        strategy["constraints"] = json!(constraints);
        strategy
    };
    let default = || json!({ "name": "default", "parameters": {} });
    let strategies = match rules {
        Rules::One => vec![with(&[&country], split.clone())],
        Rules::Three => vec![
            with(&[&country, &age], default()),
            with(&[&email, &age], default()),
            with(&[&country, &plan], split.clone()),
        ],
    };
    let feature = json!({ "name": FLAG, "enabled": true, "strategies": strategies });
    let features = serde_json::from_value::<ClientFeatures>(json!({ "version": 2, "features": [feature] }));
    let engine = EngineState::default();
    let warnings = features
        .ok()
        .and_then(|features| engine.take_state(UpdateMessage::FullResponse(features)));
    assert!(warnings.is_none(), "the rules do not compile");
    engine
}

/// The same context in the engine's own names. Its properties are text: it turns numbers into it.
fn context() -> String {
    CONTEXT.replacen("targetingKey", "userId", 1)
}

fn read(text: &str) -> Context {
    serde_json::from_str(text).unwrap_or_default()
}
