//! JSON to and from protobuf's form of it.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Number, Value};

/// Whole numbers up to here are exact in double precision.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) fn to_struct(object: Map<String, Value>) -> Struct {
    let fields = object.into_iter().map(|(name, value)| (name, to_value(value)));
    Struct {
        fields: fields.collect(),
    }
}

fn to_value(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(to_value).collect(),
        }),
        Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    prost_types::Value { kind: Some(kind) }
}

pub(super) fn from_struct(object: Struct) -> Value {
    let Struct { fields } = object;
    let fields = fields.into_iter().map(|(name, value)| (name, from_value(value)));
    Value::Object(fields.collect())
}

pub(super) fn from_value(value: prost_types::Value) -> Value {
    let prost_types::Value { kind } = value;
    match kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(number)) => from_number(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(ListValue { values })) => values.into_iter().map(from_value).collect(),
        Some(Kind::StructValue(object)) => from_struct(object),
    }
}

/// Whole numbers without a fraction, as people write them.
pub(super) fn from_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and exact")]
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_comes_back_as_it_went() {
        let object = json!({
            "null": null, "bool": true, "whole": 42, "negative": -1, "fraction": 1.5, "large": 1e300,
            "text": "ä", "list": [1, ["a"], {}], "object": { "deep": { "er": false } },
        });
        let Value::Object(map) = object.clone() else {
            panic!("not an object");
        };
        // Protobuf keeps no order of fields; neither does the comparison.
        let back = from_struct(to_struct(map));
        assert_eq!(back.as_object().unwrap().len(), 9);
        for (name, value) in object.as_object().unwrap() {
            assert_eq!(&back[name], value, "{name}");
        }
    }

    #[test]
    fn numbers_that_json_lacks_are_null() {
        assert_eq!(from_number(f64::NAN), Value::Null);
        assert_eq!(from_number(f64::INFINITY), Value::Null);
    }
}
