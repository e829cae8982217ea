//! Values of variants, and JSON as protobuf writes it.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};

use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::domain::value::{Value, ValueType};
use crate::pb::evaluation::v1 as pb;

/// Reads the value of a variant.
pub fn read(value: pb::variant::Value) -> Result<Value, Violations> {
    Ok(match value {
        pb::variant::Value::BoolValue(value) => Value::Bool(value),
        pb::variant::Value::StringValue(value) => Value::String(value),
        pb::variant::Value::IntegerValue(value) => Value::Integer(value),
        pb::variant::Value::DoubleValue(value) => Value::Double(value),
        pb::variant::Value::ObjectValue(object) => Value::Object(read_object(object, limits::DEPTH)?),
    })
}

/// The value of a variant as its message.
pub fn write(value: &Value) -> pb::variant::Value {
    match value {
        Value::Bool(value) => pb::variant::Value::BoolValue(*value),
        Value::String(value) => pb::variant::Value::StringValue(value.clone()),
        Value::Integer(value) => pb::variant::Value::IntegerValue(*value),
        Value::Double(value) => pb::variant::Value::DoubleValue(*value),
        Value::Object(object) => pb::variant::Value::ObjectValue(write_object(object)),
    }
}

/// The value of an answer as its message.
pub fn write_answer(value: &Value) -> pb::evaluation::Value {
    match value {
        Value::Bool(value) => pb::evaluation::Value::BoolValue(*value),
        Value::String(value) => pb::evaluation::Value::StringValue(value.clone()),
        Value::Integer(value) => pb::evaluation::Value::IntegerValue(*value),
        Value::Double(value) => pb::evaluation::Value::DoubleValue(*value),
        Value::Object(object) => pb::evaluation::Value::ObjectValue(write_object(object)),
    }
}

/// Reads a type; unspecified is `None`.
pub fn read_type(value_type: pb::ValueType) -> Option<ValueType> {
    match value_type {
        pb::ValueType::Unspecified => None,
        pb::ValueType::Bool => Some(ValueType::Bool),
        pb::ValueType::String => Some(ValueType::String),
        pb::ValueType::Integer => Some(ValueType::Integer),
        pb::ValueType::Double => Some(ValueType::Double),
        pb::ValueType::Object => Some(ValueType::Object),
    }
}

/// A type as its message.
pub fn write_type(value_type: ValueType) -> pb::ValueType {
    match value_type {
        ValueType::Bool => pb::ValueType::Bool,
        ValueType::String => pb::ValueType::String,
        ValueType::Integer => pb::ValueType::Integer,
        ValueType::Double => pb::ValueType::Double,
        ValueType::Object => pb::ValueType::Object,
    }
}

fn read_object(object: Struct, depth: usize) -> Result<serde_json::Map<String, serde_json::Value>, Violations> {
    let fields = object.fields.into_iter();
    fields
        .map(|(name, value)| Ok((name, read_json(value, depth)?)))
        .collect()
}

fn read_json(value: prost_types::Value, depth: usize) -> Result<serde_json::Value, Violations> {
    let below = || {
        depth.checked_sub(1).ok_or_else(|| {
            Violations::one(
                "object_value",
                format!("is nested more than {} levels deep", limits::DEPTH),
            )
        })
    };
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) if value.is_finite() => number(value),
        Some(Kind::NumberValue(_)) => return Err(Violations::one("object_value", "holds a number that is not finite")),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::StructValue(object)) => read_object(object, below()?)?.into(),
        Some(Kind::ListValue(ListValue { values })) => {
            let depth = below()?;
            let items = values.into_iter().map(|value| read_json(value, depth));
            items.collect::<Result<Vec<_>, _>>()?.into()
        }
    })
}

/// Whole numbers that a double holds exactly are written without a fraction, as JSON does.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only for whole numbers within the range that doubles hold exactly"
)]
fn number(value: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT && !(value == 0.0 && value.is_sign_negative()) {
        (value as i64).into()
    } else {
        value.into()
    }
}

fn write_object(object: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct {
        fields: object
            .iter()
            .map(|(name, value)| (name.clone(), write_json(value)))
            .collect(),
    }
}

fn write_json(value: &serde_json::Value) -> prost_types::Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        serde_json::Value::String(value) => Kind::StringValue(value.clone()),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(write_json).collect(),
        }),
        serde_json::Value::Object(fields) => Kind::StructValue(write_object(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Struct {
        let mut value = prost_types::Value {
            kind: Some(Kind::BoolValue(true)),
        };
        for _ in 1..levels {
            let fields = [("x".to_owned(), value)].into();
            value = prost_types::Value {
                kind: Some(Kind::StructValue(Struct { fields })),
            };
        }
        Struct {
            fields: [("x".to_owned(), value)].into(),
        }
    }

    #[test]
    fn objects_come_back_as_they_went_in() {
        let json = serde_json::json!({"a": 1, "b": [0.5, "x", null, {"c": true}], "d": {}});
        let object = json.as_object().unwrap();
        assert_eq!(&read_object(write_object(object), 16).unwrap(), object);
    }

    #[test]
    fn objects_nested_too_deeply_are_refused() {
        let deep = |levels| read(pb::variant::Value::ObjectValue(nested(levels)));
        assert!(deep(limits::DEPTH).is_ok());
        assert!(deep(limits::DEPTH + 2).is_err());
    }
}
