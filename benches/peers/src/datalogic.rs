//! datalogic-rs with its `flagd` operators, as an in-process provider of OpenFeature would use it. Looking the rule up by the
//! flag's key is left out, which is in its favour.

use bumpalo::Bump;
use datalogic_rs::datavalue::OwnedDataValue;
use datalogic_rs::{Engine, Logic};

use crate::Contender;
use crate::question::{CONTEXT, FLAG, Rules};

const COUNTRY: &str = r#"{"in":[{"var":"country"},["NO","SE","DK"]]}"#;
const AGE: &str = r#"{">=":[{"var":"age"},65]}"#;
const EMAIL: &str = r#"{"ends_with":[{"var":"email"},"@example.com"]}"#;
const PLAN: &str = r#"{"!=":[{"var":"plan"},"free"]}"#;
const HALVES: &str = r#"{"fractional":[["on",50],["off",50]]}"#;

pub fn contenders(rules: Rules) -> (Vec<Contender>, Vec<Contender>) {
    let (engine, logic) = compile(rules);
    let context: &'static str = Box::leak(enveloped().into_boxed_str());
    // For the length of the program, so that what was parsed can be lent to every evaluation.
    let owned: &'static OwnedDataValue = Box::leak(Box::new(OwnedDataValue::from_json(context).unwrap_or_default()));
    let input = &*Box::leak(Box::new(owned.to_arena(Box::leak(Box::new(Bump::new())))));
    let mut arena = Bump::new();
    let served = engine
        .evaluate(&logic, input, &arena)
        .ok()
        .and_then(|variant| variant.as_str());
    assert!(
        served.is_some_and(|variant| ["on", "off"].contains(&variant)),
        "{served:?}"
    );
    let parsed = Contender::new("datalogic-rs 5.4, `flagd`", move || {
        arena.reset();
        let variant = engine.evaluate(&logic, input, &arena);
        variant.is_ok_and(|variant| variant.as_str() == Some("on"))
    });
    let (engine, logic) = compile(rules);
    let mut arena = Bump::new();
    let text = Contender::new("datalogic-rs 5.4, `flagd`", move || {
        arena.reset();
        let variant = engine.evaluate(&logic, std::hint::black_box(context), &arena);
        variant.is_ok_and(|variant| variant.as_str() == Some("on"))
    });
    (vec![parsed], vec![text])
}

/// The context with what flagd adds to it.
fn enveloped() -> String {
    CONTEXT.replacen('{', &format!(r#"{{"$flagd":{{"flagKey":"{FLAG}"}},"#), 1)
}

#[expect(clippy::expect_used, reason = "a rule that does not compile ends the measurement")]
fn compile(rules: Rules) -> (Engine, Logic) {
    let rule = match rules {
        Rules::One => format!(r#"{{"if":[{COUNTRY},{HALVES},"off"]}}"#),
        Rules::Three => format!(
            r#"{{"if":[{{"and":[{COUNTRY},{AGE}]}},"on",{{"and":[{EMAIL},{AGE}]}},"off",{{"and":[{COUNTRY},{PLAN}]}},{HALVES},"off"]}}"#
        ),
    };
    let engine = Engine::new();
    let logic = engine.compile(rule.as_str()).expect("the rule compiles");
    (engine, logic)
}
