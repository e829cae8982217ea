//! What the fuzzer's bytes stand for.
//!
//! Pieces separated by the byte 0xFF, which no UTF-8 text holds. The last is a context: `{"targeting_key", "attributes"}`. Each
//! piece before is an item: the name of its kind, a space, its key, a line break, and its stored form.

use std::collections::BTreeMap;

use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::form::{ItemId, Kind};
use serde_json::{Map, Value};

/// What separates the pieces.
pub const SEPARATOR: u8 = 0xFF;
/// More items than this only cost time.
const MOST_ITEMS: usize = 64;

/// An item and its stored form.
pub type Stored = (ItemId, Vec<u8>);

/// An environment and who asks.
pub struct Input {
    pub items: Vec<Stored>,
    pub context: Context,
}

impl Input {
    /// Reads any bytes: what cannot be read is passed over.
    pub fn read(bytes: &[u8]) -> Self {
        let mut pieces: Vec<_> = bytes.split(|byte| *byte == SEPARATOR).collect();
        let context = pieces.pop().map(context).unwrap_or_default();
        // Of two items with one name the later counts, whatever the order in which they are taken.
        let items: BTreeMap<_, _> = pieces.into_iter().take(MOST_ITEMS).filter_map(item).collect();
        Self {
            items: items.into_iter().collect(),
            context,
        }
    }
}

fn item(piece: &[u8]) -> Option<Stored> {
    let line = piece.iter().position(|byte| *byte == b'\n')?;
    let (head, form) = piece.split_at(line);
    let (kind, key) = std::str::from_utf8(head).ok()?.split_once(' ')?;
    let kind = Kind::from_name(kind)?;
    Some((ItemId { kind, key: key.into() }, form[1..].to_vec()))
}

fn context(piece: &[u8]) -> Context {
    let mut fields: Map<String, Value> = serde_json::from_slice(piece).unwrap_or_default();
    let key = match fields.remove("targeting_key") {
        Some(Value::String(key)) => key,
        _ => String::new(),
    };
    let attributes = match fields.remove("attributes") {
        Some(Value::Object(attributes)) => object(attributes),
        _ => Object::default(),
    };
    Context::new(key, attributes)
}

fn object(fields: Map<String, Value>) -> Object {
    let present = |(name, value)| attribute(value).map(|attribute| (name, attribute));
    fields.into_iter().filter_map(present).collect()
}

/// `None`: null, an absent attribute.
fn attribute(value: Value) -> Option<Attribute> {
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(Attribute::Bool(value)),
        Value::Number(number) => number.as_f64().map(Attribute::Number),
        Value::String(text) => Some(Attribute::String(text)),
        Value::Array(elements) => Some(Attribute::List(elements.into_iter().filter_map(attribute).collect())),
        Value::Object(fields) => Some(Attribute::Object(object(fields))),
    }
}
