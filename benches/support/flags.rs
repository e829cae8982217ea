//! What flags are made of, and the question that is put.

use halyard::pb::evaluation::v1 as pb;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::world::FLAG;

/// Three rules of two conditions.
pub fn rules() -> Vec<pb::Rule> {
    use pb::Operator::{Equals, NumberGreaterOrEqual, OneOf};
    let nordic = || condition("country", OneOf, vec![text("NO"), text("SE"), text("DK")]);
    let senior = || condition("age", NumberGreaterOrEqual, vec![number(65.0)]);
    let free = || condition("plan", Equals, vec![text("free")]);
    let only = |variant: &str| pb::serve::Serve::Variant(variant.into());
    let share = |variant: &str, weight| pb::WeightedVariant {
        variant: variant.into(),
        weight,
    };
    let split = pb::serve::Serve::Split(pb::Split {
        variants: vec![share("on", 25), share("off", 75)],
        attribute: String::new(),
    });
    let not_free = pb::Condition {
        negated: true,
        ..free()
    };
    vec![
        rule("first", vec![nordic(), senior()], only("on")),
        rule("second", vec![senior(), free()], only("off")),
        rule("third", vec![nordic(), not_free], split),
    ]
}

fn rule(key: &str, conditions: Vec<pb::Condition>, serve: pb::serve::Serve) -> pb::Rule {
    pb::Rule {
        key: key.into(),
        conditions,
        serve: Some(pb::Serve { serve: Some(serve) }),
        description: String::new(),
    }
}

fn condition(attribute: &str, operator: pb::Operator, values: Vec<Value>) -> pb::Condition {
    pb::Condition {
        attribute: attribute.into(),
        operator: operator.into(),
        values,
        negated: false,
    }
}

fn text(text: &str) -> Value {
    let kind = Some(Kind::StringValue(text.into()));
    Value { kind }
}

fn number(number: f64) -> Value {
    let kind = Some(Kind::NumberValue(number));
    Value { kind }
}

/// The question about [`FLAG`]: three attributes, for which the third rule serves.
pub fn question() -> pb::EvaluateRequest {
    let attributes = [("country", text("NO")), ("age", number(36.0)), ("plan", text("pro"))];
    let fields = attributes.into_iter().map(|(name, value)| (name.to_owned(), value));
    pb::EvaluateRequest {
        flag: FLAG.into(),
        context: Some(pb::Context {
            targeting_key: "3b9f6f0e-52c1-4d0f-a7ab-0c5b8d7a1e44".into(),
            attributes: Some(Struct {
                fields: fields.collect(),
            }),
        }),
        min_revision: 0,
        explain: false,
    }
}
