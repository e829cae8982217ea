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
    let mut budget = limits::CONTEXT_VALUES;
    let attributes = match attributes {
        Some(object) => read_object(object, limits::DEPTH, &mut budget)?,
        None => Object::default(),
    };
    Ok(Context::new(targeting_key, attributes))
}

fn read_object(object: Struct, depth: usize, budget: &mut usize) -> Result<Object, Violations> {
    let Struct { fields } = object;
    let mut attributes = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        if let Some(attribute) = read_attribute(value, depth, budget)? {
            attributes.push((name, attribute));
        }
    }
    Ok(attributes.into_iter().collect())
}

fn read_attribute(
    value: prost_types::Value,
    depth: usize,
    budget: &mut usize,
) -> Result<Option<Attribute>, Violations> {
    *budget = budget.checked_sub(1).ok_or_else(too_many)?;
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
        Some(Kind::StringValue(value)) => Attribute::String(value),
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
}
