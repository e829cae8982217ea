//! The values that flags serve, and their types.

use serde::{Deserialize, Serialize};

/// The type that every variant of a flag has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// true or false.
    Bool,
    /// UTF-8 text.
    String,
    /// A signed whole number of 64 bits.
    Integer,
    /// A finite number of double precision.
    Double,
    /// A JSON object.
    Object,
}

/// A value that a variant stands for. The JSON form names the type (`{"integer":5}`), so that 1 and 1.0 stay apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Of a flag of type Bool.
    Bool(bool),
    /// Of a flag of type String.
    String(String),
    /// Of a flag of type Integer.
    Integer(i64),
    /// Of a flag of type Double; finite.
    Double(f64),
    /// Of a flag of type Object.
    Object(serde_json::Map<String, serde_json::Value>),
}

impl Value {
    /// The type of flag that this is a value of.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Integer(_) => ValueType::Integer,
            Self::Double(_) => ValueType::Double,
            Self::Object(_) => ValueType::Object,
        }
    }
}

impl ValueType {
    /// The name in lower case, as it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Object => "object",
        }
    }

    /// The type of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Bool, Self::String, Self::Integer, Self::Double, Self::Object]
            .into_iter()
            .find(|value_type| value_type.name() == name)
    }
}
