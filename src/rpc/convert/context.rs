//! Who is asking.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};

use crate::domain::context::{Attribute, Context, Object};
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::pb::evaluation::v1 as pb;

/// Reads a context; absent is empty. Nulls are left out: a null attribute is an absent one.
pub fn read(context: Option<pb::Context>) -> Result<Context, Violations> {
    let pb::Context {
        targeting_key,
        attributes,
    } = context.unwrap_or_default();
    let mut budget = Budget {
        values: limits::CONTEXT_VALUES,
        bytes: limits::CONTEXT_BYTES,
    };
    if targeting_key.len() > limits::TARGETING_KEY_BYTES {
        return Err(Violations::one(
            "context.targeting_key",
            format!("is longer than {} bytes", limits::TARGETING_KEY_BYTES),
        ));
    }
    budget.text(&targeting_key)?;
    let attributes = match attributes {
        Some(object) => read_object(object, limits::DEPTH, &mut budget)?,
        None => Object::default(),
    };
    Ok(Context::new(targeting_key, attributes))
}

/// What a context may still bring: every flag looks at it, so that its size is what a request costs.
struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    fn value(&mut self) -> Result<(), Violations> {
        self.values = self.values.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Violations> {
        self.bytes = self.bytes.checked_sub(text.len()).ok_or_else(too_large)?;
        Ok(())
    }
}

fn read_object(object: Struct, depth: usize, budget: &mut Budget) -> Result<Object, Violations> {
    let Struct { fields } = object;
    let mut attributes = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        budget.text(&name)?;
        if let Some(attribute) = read_attribute(value, depth, budget)? {
            attributes.push((name, attribute));
        }
    }
    Ok(attributes.into_iter().collect())
}

fn read_attribute(
    value: prost_types::Value,
    depth: usize,
    budget: &mut Budget,
) -> Result<Option<Attribute>, Violations> {
    budget.value()?;
    Ok(Some(match value.kind {
        None | Some(Kind::NullValue(_)) => return Ok(None),
        Some(Kind::BoolValue(value)) => Attribute::Bool(value),
        Some(Kind::NumberValue(value)) if value.is_finite() => Attribute::Number(value),
        Some(Kind::NumberValue(_)) => {
            return Err(Violations::one(
                "context.attributes",
                "hold a number that is not finite",
            ));
        }
        Some(Kind::StringValue(value)) => {
            budget.text(&value)?;
            Attribute::String(value)
        }
        Some(Kind::StructValue(object)) => Attribute::Object(read_object(object, below(depth)?, budget)?),
        Some(Kind::ListValue(ListValue { values })) => {
            let depth = below(depth)?;
            let mut items = Vec::with_capacity(values.len());
            for value in values {
                items.extend(read_attribute(value, depth, budget)?);
            }
            Attribute::List(items)
        }
    }))
}

/// A context as its message.
pub fn write(context: &Context) -> pb::Context {
    let targeting_key = match context.targeting_key() {
        Some(Attribute::String(key)) => key.clone(),
        Some(Attribute::Bool(_) | Attribute::Number(_) | Attribute::List(_) | Attribute::Object(_)) | None => {
            String::new()
        }
    };
    let fields = context.attributes().iter();
    let fields = fields.map(|(name, value)| (name.to_owned(), write_attribute(value)));
    pb::Context {
        targeting_key,
        attributes: Some(Struct {
            fields: fields.collect(),
        }),
    }
}

/// An attribute as its message.
pub fn write_attribute(attribute: &Attribute) -> prost_types::Value {
    let kind = match attribute {
        Attribute::Bool(value) => Kind::BoolValue(*value),
        Attribute::Number(value) => Kind::NumberValue(*value),
        Attribute::String(text) => Kind::StringValue(text.clone()),
        Attribute::List(elements) => Kind::ListValue(ListValue {
            values: elements.iter().map(write_attribute).collect(),
        }),
        Attribute::Object(object) => {
            let fields = object
                .iter()
                .map(|(name, value)| (name.to_owned(), write_attribute(value)));
            Kind::StructValue(Struct {
                fields: fields.collect(),
            })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

fn below(depth: usize) -> Result<usize, Violations> {
    depth.checked_sub(1).ok_or_else(|| {
        Violations::one(
            "context.attributes",
            format!("are nested more than {} levels deep", limits::DEPTH),
        )
    })
}

fn too_large() -> Violations {
    Violations::one(
        "context",
        format!("holds more than {} bytes of text", limits::CONTEXT_BYTES),
    )
}

fn too_many() -> Violations {
    Violations::one(
        "context.attributes",
        format!("hold more than {} values", limits::CONTEXT_VALUES),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind) -> prost_types::Value {
        prost_types::Value { kind: Some(kind) }
    }

    fn of(attribute: prost_types::Value) -> Result<Context, Violations> {
        read(Some(pb::Context {
            targeting_key: "u".into(),
            attributes: Some(Struct {
                fields: [("a".to_owned(), attribute)].into(),
            }),
        }))
    }

    #[test]
    fn nulls_are_absent() {
        let list = value(Kind::ListValue(ListValue {
            values: vec![value(Kind::NullValue(0)), value(Kind::BoolValue(true))],
        }));
        let context = of(list).unwrap();
        assert_eq!(
            context.attributes().get("a"),
            Some(&Attribute::List(vec![Attribute::Bool(true)]))
        );
        assert!(of(value(Kind::NullValue(0))).unwrap().attributes().is_empty());
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let mut deep = value(Kind::BoolValue(true));
        for _ in 0..limits::DEPTH {
            deep = value(Kind::ListValue(ListValue { values: vec![deep] }));
        }
        assert!(of(deep.clone()).is_ok());
        assert!(of(value(Kind::ListValue(ListValue { values: vec![deep] }))).is_err());
        let wide = vec![value(Kind::BoolValue(true)); limits::CONTEXT_VALUES];
        assert!(of(value(Kind::ListValue(ListValue { values: wide }))).is_err());
        assert!(of(value(Kind::NumberValue(f64::NAN))).is_err());
    }

    #[test]
    fn texts_are_bounded() {
        let names = "u".len() + "a".len();
        let long = |bytes: usize| of(value(Kind::StringValue("x".repeat(bytes))));
        assert!(long(limits::CONTEXT_BYTES - names).is_ok());
        assert!(long(limits::CONTEXT_BYTES - names + 1).is_err());
        let asked_by = |bytes: usize| {
            read(Some(pb::Context {
                targeting_key: "x".repeat(bytes),
                attributes: None,
            }))
        };
        assert!(asked_by(limits::TARGETING_KEY_BYTES).is_ok());
        assert!(asked_by(limits::TARGETING_KEY_BYTES + 1).is_err());
    }
}
