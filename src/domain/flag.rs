//! Flags: the definition, once per project, and the configuration, once per environment.

use serde::{Deserialize, Serialize};

use super::invalid::Violations;
use super::key;
use super::rule::{Condition, Rule, Serve};
use super::value::{Value, ValueType};

/// A named value of the flag's type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Unique in the flag.
    pub key: key::Variant,
    /// What is served.
    pub value: Value,
    /// For people. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The part of a flag that can alter an answer, the same in every environment of its project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Unique in the project.
    pub key: key::Flag,
    /// The type of every variant.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// In their written order; at least one.
    pub variants: Vec<Variant>,
    /// Served while the flag is off. `None`: no value, the caller's own default applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_variant: Option<key::Variant>,
    /// Served by an enabled configuration that has no default of its own. `None`: the off variant; so a configuration that
    /// says nothing serves nothing to anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_variant: Option<key::Variant>,
    /// Whether client keys may evaluate it.
    pub client_visible: bool,
}

impl Definition {
    /// The variant of a key.
    pub fn variant(&self, key: &key::Variant) -> Option<&Variant> {
        self.variants.iter().find(|variant| variant.key == *key)
    }
}

/// The state of a flag in one environment. A flag without one is off.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// Whether the flag is on.
    pub enabled: bool,
    /// Other flags that must serve certain variants, asked in order before the rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prerequisites: Vec<Prerequisite>,
    /// Asked in order; the first whose conditions all hold serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Served when no rule holds. `None`: the flag's default variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Serve>,
    /// What splits are salted with. `None`: the flag's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
}

/// Another flag of the project, and what it must serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prerequisite {
    /// The other flag.
    pub flag: key::Flag,
    /// It must be on and serve one of these; at least one.
    pub variants: Vec<key::Variant>,
}

impl Configuration {
    /// The keys of the segments that its rules ask about, some perhaps more than once.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        let conditions = self.rules.iter().flat_map(|rule| &rule.conditions);
        conditions.flat_map(Condition::segments)
    }
}

/// How long a flag is meant to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// For good: an operational switch, a permission.
    #[default]
    Permanent,
    /// Until a release or an experiment is through.
    Temporary {
        /// When it is expected to be removed. `None`: nobody has said.
        #[serde(skip_serializing_if = "Option::is_none")]
        expected_removal: Option<jiff::Timestamp>,
    },
}

/// Which of the two a lifecycle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifespan {
    /// For good.
    Permanent,
    /// Until it is removed.
    Temporary,
}

impl Lifespan {
    /// The name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Temporary => "temporary",
        }
    }

    /// The lifespan of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Permanent, Self::Temporary]
            .into_iter()
            .find(|lifespan| lifespan.name() == name)
    }
}

impl Lifecycle {
    /// A lifecycle; what is permanent has no date.
    pub fn new(lifespan: Lifespan, expected_removal: Option<jiff::Timestamp>) -> Result<Self, Violations> {
        match (lifespan, expected_removal) {
            (Lifespan::Temporary, expected_removal) => Ok(Self::Temporary { expected_removal }),
            (Lifespan::Permanent, None) => Ok(Self::Permanent),
            (Lifespan::Permanent, Some(_)) => Err(Violations::one(
                "expected_removal_time",
                "is given for a permanent flag; only a temporary one is removed",
            )),
        }
    }

    /// Which of the two it is.
    pub fn lifespan(self) -> Lifespan {
        match self {
            Self::Permanent => Lifespan::Permanent,
            Self::Temporary { .. } => Lifespan::Temporary,
        }
    }

    /// When it is expected to be removed. `None`: never, or nobody has said.
    pub fn expected_removal(self) -> Option<jiff::Timestamp> {
        match self {
            Self::Permanent => None,
            Self::Temporary { expected_removal } => expected_removal,
        }
    }
}

/// What people know of a flag; nothing here alters an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// A name.
    pub name: String,
    /// Empty: none.
    pub description: String,
    /// Sorted, without repetition.
    pub tags: Vec<String>,
    /// Empty: nobody in particular.
    pub owner: String,
    /// How long it is meant to live.
    pub lifecycle: Lifecycle,
}
