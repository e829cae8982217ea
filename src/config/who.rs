//! Who is asking, as `evaluate` is told it: a targeting key and attributes.

use serde_json::{Map, Value};

use super::reader::{Noted, Reader};
use super::setting::Setting;
use crate::domain::context::TARGETING_KEY;

pub(super) const TARGETING_KEY_OPTION: Setting =
    Setting::value("targeting-key", "TEXT", "Who is asking").argument_only();
pub(super) const ATTRIBUTE: Setting = Setting::values(
    "attribute",
    "NAME=VALUE",
    "An attribute of who is asking, as JSON or else as text; may be repeated",
);
pub(super) const CONTEXT: Setting = Setting::value(
    "context",
    "JSON",
    "All attributes of who is asking, an object; targeting_key in it is the targeting key",
)
.argument_only();

/// The targeting key and the attributes: those of the context, then the single ones over them.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<(String, Map<String, Value>), Noted> {
    let targeting_key = reader.optional(TARGETING_KEY_OPTION, |text| Ok(text.to_owned()));
    let context = reader.optional(CONTEXT, |text| match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err("is not a JSON object".to_owned()),
    });
    let single = attributes(reader);
    let mut attributes = context?.unwrap_or_default();
    let in_context = match attributes.shift_remove(TARGETING_KEY) {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err(reader.refuse(CONTEXT.argument(), "has a targeting_key that is not a string")),
    };
    attributes.extend(single?);
    Ok((targeting_key?.or(in_context).unwrap_or_default(), attributes))
}

pub(super) fn attributes(reader: &mut Reader<'_>) -> Result<Map<String, Value>, Noted> {
    let mut attributes = Map::new();
    let mut outcome = Ok(());
    for given in reader.all(ATTRIBUTE.name) {
        if let Some((name, value)) = attribute(&given) {
            attributes.insert(name, value);
        } else {
            let description = format!("is not a name and a value, as in country=DE: {given:?}");
            outcome = Err(reader.refuse(ATTRIBUTE.argument(), description));
        }
    }
    outcome.map(|()| attributes)
}

/// `name=value`, the value being JSON or else text: `age=42` is a number, `version=1.2.3` and `country=DE` are text, and so is
/// `zip="01234"`.
fn attribute(given: &str) -> Option<(String, Value)> {
    let (name, value) = given.split_once('=')?;
    if name.is_empty() {
        return None;
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Some((name.to_owned(), value))
}
